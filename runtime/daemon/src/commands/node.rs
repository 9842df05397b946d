//! The node itself: who it is, and what earlier lives left behind.

use std::sync::atomic::Ordering;

use remand_authority::table::Action;
use remand_ledger::blob::Collected;
use remand_model::PROTOCOL_VERSION;
use remand_model::envelope::Command;
use remand_model::event::Subject;
use remand_model::refusal::{Code, Refusal};
use serde::Deserialize;
use serde_json::json;

use crate::conversation::{Call, Reply};
use crate::images;
use crate::node::Node;
use crate::notary::chain;
use crate::threads::blocking;

pub fn action(command: Command, _what: &str) -> Option<Action> {
    match command {
        Command::Node => Some(Action::NodeList),
        Command::Sweep => Some(Action::NodeDrain),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Sweep {
    #[serde(default)]
    dry_run: bool,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    match call.header.command {
        Command::Sweep => {
            let wanted: Sweep = super::read(&call.payload)?;
            reply.answer(&blocking(|| sweep(node, wanted.dry_run))?).await;
        }
        _ => {
            let (all, queued) = (node.running_count(), node.admission.waiting_count());
            let refuses = node.ledger.poisoned().map(|cause| chain(&*cause));
            let it = json!({
                "protocol_version": PROTOCOL_VERSION, "node_id": node.config.node_id,
                "executions": all.saturating_sub(queued), "queued": queued,
                "connections": node.connections.load(Ordering::Relaxed), "strategy": node.admission.strategy(),
                "ledger_refuses": refuses,
            });
            reply.answer(&it).await;
        }
    }
    Ok(())
}

/// Cells that no running execution claims, blobs that nothing refers to, and images and programs that were long not used.
fn sweep(node: &Node, dry_run: bool) -> Result<serde_json::Value, Refusal> {
    let internal = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, error.to_string());
    let claimed = node.claimed();
    let keep = |cell: &str| claimed.iter().any(|prefix| cell.starts_with(prefix));
    let cells = node.workshop.tree.sweep(&keep, dry_run).map_err(|error| internal(&error))?;
    let cells = serde_json::to_value(&cells).map_err(|error| internal(&error))?;
    let tenants: Vec<_> = node.registries.tenants().keys().cloned().collect();
    let mut blobs = Collected::default();
    for tenant in tenants {
        let about = Subject::from(&tenant);
        let store = &node.workshop.blobs;
        let of = if dry_run { store.unreferenced(&tenant) } else { store.collect(&tenant, &about) };
        let of = of.map_err(|error| internal(&chain(&error)))?;
        (blobs.blobs, blobs.bytes) = (blobs.blobs + of.blobs, blobs.bytes + of.bytes);
    }
    let images = images::collect(node, dry_run)?;
    Ok(json!({
        "protocol_version": PROTOCOL_VERSION, "dry_run": dry_run, "cells": cells, "images": images,
        "blobs": blobs.blobs, "blobs_bytes": blobs.bytes,
    }))
}
