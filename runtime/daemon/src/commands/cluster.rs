//! The cluster: who its nodes are, and one root over all chains. One node is a cluster of one, asked in the same words.

use remand_authority::table::Action;
use remand_ledger::merkle::{MemoryTree, leaf_hash, prove_inclusion, root};
use remand_ledger::store::Head;
use remand_model::canonical;
use remand_model::envelope::Command;
use remand_model::refusal::Refusal;
use remand_model::role::Role;
use remand_model::{Digest, PROTOCOL_VERSION};
use serde_json::{Value, json};

use crate::authority::internal;
use crate::conversation::{Call, Reply};
use crate::node::Node;

pub fn action(command: Command) -> Option<Action> {
    match command {
        Command::Nodes => Some(Action::NodeList),
        Command::ClusterRoot => Some(Action::ClusterRoot),
        _ => None,
    }
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let answer = match call.header.command {
        Command::Nodes => json!({"protocol_version": PROTOCOL_VERSION, "nodes": [nodes_row(node)]}),
        _ => cluster_root(node, call)?,
    };
    reply.answer(&answer).await;
    Ok(())
}

fn nodes_row(node: &Node) -> Value {
    let queued = node.admission.waiting_count();
    let mut row = serde_json::to_value(&node.membership.descriptor).unwrap_or_default();
    row["executions"] = node.running_count().saturating_sub(queued).into();
    row["queued"] = queued.into();
    row["strategy"] = node.admission.strategy().into();
    row["version"] = env!("CARGO_PKG_VERSION").into();
    row
}

/// One head as a leaf of the cluster's tree, and the same for people.
fn leaf(node: &Node, head: &Head) -> Result<(Digest, Value), Refusal> {
    let origin = node.notary.origin(&head.tenant).to_string();
    let value = json!({"origin": origin, "root_hash": head.root, "tree_size": head.size});
    let bytes = canonical::to_bytes(&canonical::from_serialize(&value).map_err(internal)?);
    Ok((leaf_hash(&bytes), value))
}

/// RFC 6962 over the heads of all chains, by name. Whoever is attached learns its own chain's place and path, an
/// administrator every head; others' chains are nobody else's business.
fn cluster_root(node: &Node, call: &Call) -> Result<Value, Refusal> {
    let mut heads = node.ledger.heads();
    heads.sort_by(|one, other| one.tenant.cmp(&other.tenant));
    let leaves = heads.iter().map(|head| leaf(node, head)).collect::<Result<Vec<_>, _>>()?;
    let mut tree = MemoryTree::from_leaves(leaves.iter().map(|(hash, _)| *hash));
    let size = tree.size();
    let mut answer = json!({
        "protocol_version": PROTOCOL_VERSION,
        "cluster_root": root(&mut tree, size).map_err(internal)?,
        "chains": size,
        "membership_hash": node.membership.hash,
    });
    let own = heads.iter().position(|head| call.tenant.as_ref() == Some(&head.tenant));
    if let Some(place) = own {
        let path = prove_inclusion(&mut tree, place as u64, size).map_err(internal)?;
        answer["own"] = leaves[place].1.clone();
        answer["own"]["index"] = place.into();
        answer["own"]["path"] = json!(path);
    }
    if call.header.role == Role::Admin {
        answer["heads"] = leaves.into_iter().map(|(_, value)| value).collect();
    }
    Ok(answer)
}
