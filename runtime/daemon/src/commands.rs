//! Which action a command is, and what carries it out.

use remand_authority::table::Action;
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

/// The action that a command with this payload is.
///
/// # Errors
/// [`Code::CommandUnknown`] where there is none.
pub fn action(command: Command, payload: &Value) -> Result<Action, Refusal> {
    use Action as A;
    Ok(match (command, what(payload)) {
        (Command::Hello, _) => A::Handshake,
        (Command::Attach, _) => A::Attach,
        (Command::Renew, _) => A::RenewLease,
        (Command::Detach, _) => A::Detach,
        (Command::Ping, _) => A::Ping,
        (Command::Run | Command::Submit, _) => A::ExecutionSubmit,
        (Command::Status, _) => A::ExecutionStatus,
        (Command::Wait, _) => A::ExecutionWait,
        (Command::Logs, _) => A::ExecutionLogs,
        (Command::Kill, _) => A::ExecutionKill,
        (Command::List, _) => A::ExecutionList,
        (Command::Node | Command::Nodes, _) => A::NodeList,
        (other, what) => {
            let detail = format!("{} {what}", other.name());
            return Err(Refusal::new(Code::CommandUnknown, detail));
        }
    })
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
        Command::Run => run::run(node, call, reply).await,
        Command::Node | Command::Nodes => {
            reply.answer(&serde_json::json!({"nodes": [{"node_id": node.config.arguments.node_id}]})).await;
            Ok(())
        }
        other => Err(Refusal::new(Code::CommandUnknown, other.name())),
    }
}
