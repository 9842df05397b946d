//! The audit log: events, checkpoints, proofs, exports, and whether all of it still holds.

use remand_authority::table::Action;
use remand_ledger::checkpoint::SignedCheckpoint;
use remand_ledger::merkle::leaf_hash;
use remand_ledger::store::Filter;
use remand_model::envelope::Command;
use remand_model::event::{EventType, Subject};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Event, PROTOCOL_VERSION, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::conversation::{Call, Reply};
use crate::cosign;
use crate::export;
use crate::limits;
use crate::node::Node;
use crate::notary::{chain, refusal};

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Audit, "log" | "show" | "query" | "root" | "proof") => Some(Action::EventsQuery),
        (Command::Audit, "checkpoint") => Some(Action::AuditCheckpoint),
        (Command::Audit, "verify" | "fsck") => Some(Action::AuditVerify),
        (Command::Audit, "export") => Some(Action::AuditExport),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    tenant_id: Option<TenantId>,
    event_id: Option<u64>,
    event_type: Option<EventType>,
    subject: Option<Subject>,
    since_us: Option<u64>,
    until_us: Option<u64>,
    /// Only ids from this one on: the next page begins after the last id of the one before.
    from_id: Option<u64>,
    limit: Option<usize>,
}

impl Asked {
    fn event(&self) -> Result<u64, Refusal> {
        self.event_id.ok_or_else(|| Refusal::new(Code::Malformed, "which event: event_id is missing"))
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, limits::EVENTS_SHOWN_MAX)
    }
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let tenant = super::tenant(call)?;
    let asked: Asked = super::read(&call.payload)?;
    if asked.tenant_id.as_ref().is_some_and(|named| *named != tenant) {
        return Err(Refusal::new(Code::TenantMismatch, format!("attached to {tenant}")));
    }
    if asked.what == "export" {
        return export::send(node, &tenant, reply).await;
    }
    if matches!(asked.what.as_str(), "checkpoint" | "proof") {
        let signed = cosign::checkpoint(node, &tenant).await?;
        let answer = crate::threads::blocking(|| signed_answer(node, &tenant, &asked, &signed))?;
        reply.answer(&answer).await;
        return Ok(());
    }
    let answer = crate::threads::blocking(|| answer(node, &tenant, &asked))?;
    reply.answer(&answer).await;
    Ok(())
}

fn answer(node: &Node, tenant: &TenantId, asked: &Asked) -> Result<Value, Refusal> {
    match asked.what.as_str() {
        "log" => log(node, tenant, asked),
        "show" => show(node, tenant, asked.event()?),
        "query" => query(node, tenant, asked),
        "root" => Ok(root(node, tenant)),
        "fsck" => fsck(node, tenant),
        _ => verify(node, tenant),
    }
}

/// What stands under a checkpoint of now.
fn signed_answer(node: &Node, tenant: &TenantId, asked: &Asked, signed: &SignedCheckpoint) -> Result<Value, Refusal> {
    match asked.what.as_str() {
        "proof" => inclusion(node, tenant, asked.event()?, signed),
        _ => checkpoint(node, tenant, signed),
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Internal, chain(error))
}

/// The newest events, or those from an id on, oldest first, without what they say.
fn log(node: &Node, tenant: &TenantId, asked: &Asked) -> Result<Value, Refusal> {
    let size = node.ledger.head(tenant).map_or(0, |head| head.size);
    let from_id = asked.from_id.unwrap_or_else(|| size.saturating_sub(asked.limit() as u64));
    let filter = Filter { from_id, limit: asked.limit(), ..Filter::default() };
    let events = node.ledger.query(tenant, &filter).map_err(|error| internal(&error))?;
    let row = |event: &Event| {
        json!({
            "causation_id": event.causation_id, "event_id": event.event_id, "event_type": event.event_type,
            "subject": event.subject, "wall_clock_us": event.wall_clock_us,
        })
    };
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "events": events.iter().map(row).collect::<Vec<_>>()}))
}

fn show(node: &Node, tenant: &TenantId, event_id: u64) -> Result<Value, Refusal> {
    let event = node.ledger.event(tenant, event_id).map_err(|error| internal(&error))?;
    let event = event.ok_or_else(|| Refusal::new(Code::NotFound, format!("the log has no event {event_id}")))?;
    let leaf = leaf_hash(&event.to_entry().map_err(|error| internal(&error))?);
    let mut shown = serde_json::to_value(&event).map_err(|error| internal(&error))?;
    shown["leaf_hash"] = json!(leaf);
    Ok(shown)
}

fn query(node: &Node, tenant: &TenantId, asked: &Asked) -> Result<Value, Refusal> {
    let filter = Filter {
        kind: asked.event_type.clone(),
        subject: asked.subject.clone(),
        from_us: asked.since_us,
        until_us: asked.until_us,
        from_id: asked.from_id.unwrap_or(0),
        limit: asked.limit(),
    };
    let events = node.ledger.query(tenant, &filter).map_err(|error| internal(&error))?;
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "events": events}))
}

/// The root, and the keys under which its log is verified.
fn root(node: &Node, tenant: &TenantId) -> Value {
    json!({
        "protocol_version": PROTOCOL_VERSION,
        "origin": node.notary.origin(tenant).to_string(),
        "root_hash": node.ledger.get_merkle_root(tenant),
        "tree_size": node.ledger.head(tenant).map_or(0, |head| head.size),
        "log_key": node.notary.log_key(tenant).to_string(),
        "attest_key": node.notary.attest().key().to_string(),
        "witness_key": node.notary.witness_signer().key().to_string(),
    })
}

fn checkpoint(node: &Node, tenant: &TenantId, signed: &SignedCheckpoint) -> Result<Value, Refusal> {
    node.ledger.keep_checkpoint(tenant, signed).map_err(refusal)?;
    let mut answer = root(node, tenant);
    (answer["tree_size"], answer["root_hash"]) = (json!(signed.checkpoint().size), json!(signed.checkpoint().root));
    answer["text"] = json!(signed.to_string());
    Ok(answer)
}

/// The inclusion proof of an event, and the entry that it is about.
fn inclusion(node: &Node, tenant: &TenantId, event_id: u64, signed: &SignedCheckpoint) -> Result<Value, Refusal> {
    let event = node.ledger.event(tenant, event_id).map_err(|error| internal(&error))?;
    let event = event.ok_or_else(|| Refusal::new(Code::NotFound, format!("the log has no event {event_id}")))?;
    let proof = node.ledger.inclusion_proof(tenant, event_id, signed).map_err(refusal)?;
    let entry = event.to_entry().map_err(|error| internal(&error))?;
    let entry = String::from_utf8(entry).map_err(|error| internal(&error))?;
    Ok(json!({
        "protocol_version": PROTOCOL_VERSION, "entry": entry, "event_id": event_id, "text": proof.to_string(),
    }))
}

/// Reads the whole chain anew, and every statement in it.
fn verify(node: &Node, tenant: &TenantId) -> Result<Value, Refusal> {
    let keys = [node.notary.attest().key().clone()];
    let found = node.ledger.verify_provenance_chain(tenant, Some(&keys));
    let found = found.map_err(|error| Refusal::new(Code::AuditUnavailable, chain(&error)))?;
    Ok(json!({
        "protocol_version": PROTOCOL_VERSION, "ok": true, "events": found.size, "executions": found.records,
        "root_hash": found.root,
    }))
}

/// As [`verify`], and the blobs that the chain refers to; everything that is wrong is listed.
fn fsck(node: &Node, tenant: &TenantId) -> Result<Value, Refusal> {
    let mut faults = Vec::new();
    let keys = [node.notary.attest().key().clone()];
    if let Err(error) = node.ledger.verify_provenance_chain(tenant, Some(&keys)) {
        faults.push(chain(&error));
    }
    match node.ledger.kept_checkpoint(tenant, &node.notary.log_key(tenant)) {
        Ok(Some(kept)) => faults.extend(node.ledger.check_extends(tenant, &kept).err().map(|error| chain(&error))),
        Ok(None) => {}
        Err(error) => faults.push(chain(&error)),
    }
    let blobs = node.workshop.blobs.check(tenant).map_err(|error| internal(&error))?;
    faults.extend(blobs.iter().map(|error| chain(error)));
    let size = node.ledger.head(tenant).map_or(0, |head| head.size);
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "ok": faults.is_empty(), "events": size, "faults": faults}))
}
