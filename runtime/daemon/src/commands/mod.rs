//! Which action a command is, and what carries it out.

mod audit;
pub(crate) mod blob;
mod cluster;
mod contract;
mod domain;
mod execution;
mod node;
mod plan;
mod proof;
mod quota;
pub(crate) mod state;
mod tenant;
mod token;

use remand_authority::table::Action;
use remand_model::TenantId;
use remand_model::canonical::Value;
use remand_model::envelope::Command;
use remand_model::refusal::{Code, Refusal};
use serde::de::DeserializeOwned;

use crate::conversation::{Call, Reply};
use crate::node::Node;
use crate::run;

/// The `what` of a payload.
fn what(payload: &Value) -> &str {
    match payload {
        Value::Object(members) => match members.get("what") {
            Some(Value::Text(text)) => text,
            _ => "",
        },
        _ => "",
    }
}

/// The action that a command with this payload is. Each group of commands says so itself.
///
/// # Errors
/// [`Code::CommandUnknown`] where there is none.
pub fn action(command: Command, payload: &Value) -> Result<Action, Refusal> {
    use Action as A;
    let what = what(payload);
    let found = match command {
        Command::Hello => Some(A::Handshake),
        Command::Attach => Some(A::Attach),
        Command::Renew => Some(A::RenewLease),
        Command::Detach => Some(A::Detach),
        Command::Ping => Some(A::Ping),
        Command::Run | Command::Submit => Some(A::ExecutionSubmit),
        other => execution::action(other)
            .or_else(|| proof::action(other))
            .or_else(|| audit::action(other, what))
            .or_else(|| blob::action(other, what))
            .or_else(|| tenant::action(other, what))
            .or_else(|| quota::action(other, what))
            .or_else(|| token::action(other, what))
            .or_else(|| domain::action(other, what))
            .or_else(|| contract::action(other, what))
            .or_else(|| plan::action(other, what))
            .or_else(|| state::action(other, what))
            .or_else(|| cluster::action(other))
            .or_else(|| node::action(other, what)),
    };
    found.ok_or_else(|| Refusal::new(Code::CommandUnknown, format!("{} {what}", command.name())))
}

/// Reads a payload as what a command takes.
///
/// # Errors
/// [`Code::Malformed`] names the field.
pub fn read<T: DeserializeOwned>(payload: &Value) -> Result<T, Refusal> {
    let bytes = remand_model::canonical::to_bytes(payload);
    serde_json::from_slice(&bytes).map_err(|error| Refusal::new(Code::Malformed, error.to_string()))
}

/// Carries an admitted request out.
///
/// # Errors
/// The refusal that the client gets.
pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    match call.header.command {
        Command::Run | Command::Submit => run::run(node, call, reply).await,
        Command::Status | Command::Wait | Command::Logs | Command::Kill | Command::List => {
            execution::carry_out(node, call, reply).await
        }
        Command::Audit => audit::carry_out(node, call, reply).await,
        Command::Blob => blob::carry_out(node, call, reply).await,
        Command::Proof | Command::Replay => proof::carry_out(node, call, reply).await,
        Command::Tenant => tenant::carry_out(node, call, reply).await,
        Command::Quota => quota::carry_out(node, call, reply).await,
        Command::Token => token::carry_out(node, call, reply).await,
        Command::Domain => domain::carry_out(node, call, reply).await,
        Command::Contract => contract::carry_out(node, call, reply).await,
        Command::Plan => plan::carry_out(node, call, reply).await,
        Command::State => state::carry_out(node, call, reply).await,
        Command::Nodes | Command::ClusterRoot => cluster::carry_out(node, call, reply).await,
        Command::Node | Command::Sweep => node::carry_out(node, call, reply).await,
        other => Err(Refusal::new(Code::CommandUnknown, other.name())),
    }
}

/// The tenant that a call is attached to.
///
/// # Errors
/// [`Code::AttachRequired`].
pub fn tenant(call: &Call) -> Result<TenantId, Refusal> {
    call.tenant.clone().ok_or_else(|| Refusal::new(Code::AttachRequired, call.header.command.name()))
}
