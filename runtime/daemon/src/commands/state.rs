//! The tenant's keys and values.

use remand_authority::table::Action;
use remand_ledger::state::{DEFAULT_QUOTA, Expected, StateError, TenantState};
use remand_model::PROTOCOL_VERSION;
use remand_model::envelope::Command;
use remand_model::event::Subject;
use remand_model::refusal::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::conversation::{Call, Reply};
use crate::direct;
use crate::node::Node;
use crate::unrecorded;

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::State, "get") => Some(Action::StateGet),
        (Command::State, "list") => Some(Action::StateList),
        (Command::State, "set") => Some(Action::StateSet),
        (Command::State, "delete") => Some(Action::StateDelete),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: String,
}

/// What a refused operation on state means to whoever asked.
pub fn refusal(error: StateError) -> Refusal {
    match error {
        StateError::Key(error) => Refusal::new(Code::Malformed, error.to_string()),
        StateError::Append(error) => unrecorded::refusal(&error),
        StateError::Contended { .. } => Refusal::new(Code::Conflict, error.to_string()).retry_after(100),
        StateError::Store(_) | StateError::Damaged { .. } => Refusal::new(Code::Internal, error.to_string()),
    }
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    let tenant = super::tenant(call)?;
    // A list is of what starts with its prefix.
    let resource = if asked.what == "list" { &asked.prefix } else { &asked.key };
    direct::authorize(node, call, &format!("state.{}", asked.what), resource).await?;
    let about = Subject::from(&tenant);
    let state = TenantState::new(node.ledger.clone(), tenant, DEFAULT_QUOTA);
    let answer = crate::threads::blocking(|| act(&state, &about, &asked)).map_err(refusal)?;
    let answer = answer.ok_or_else(|| Refusal::new(Code::NotFound, format!("key {:?}", asked.key)))?;
    reply.answer(&answer).await;
    Ok(())
}

fn act(state: &TenantState, about: &Subject, asked: &Asked) -> Result<Option<Value>, StateError> {
    let Asked { key, value, prefix, after, .. } = asked;
    let version = PROTOCOL_VERSION;
    Ok(match asked.what.as_str() {
        "get" => state
            .get(about, key)?
            .map(|value| json!({"protocol_version": version, "key": key, "value": String::from_utf8_lossy(&value)})),
        "set" => {
            let receipt = state.set(about, key, value.as_bytes(), Expected::Anything)?;
            Some(json!({"protocol_version": version, "key": key, "event_id": receipt.event_id}))
        }
        "delete" => Some(json!({"protocol_version": version, "key": key, "existed": state.delete(about, key)?})),
        _ => Some(json!({"protocol_version": version, "keys": state.list(about, prefix, after)?})),
    })
}
