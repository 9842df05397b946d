//! Executions after they were asked for: how they stand, their output, their end.

use remand_authority::table::Action;
use remand_ledger::store::Filter;
use remand_model::envelope::Command;
use remand_model::event::{Phase, Subject};
use remand_model::outcome::ExecutionResult;
use remand_model::refusal::{Code, Refusal};
use remand_model::{ExecutionId, PROTOCOL_VERSION, TenantId};
use serde::Deserialize;
use serde_json::json;

use crate::conversation::{Call, Reply};
use crate::journal;
use crate::node::Node;

pub fn action(command: Command) -> Option<Action> {
    match command {
        Command::Status => Some(Action::ExecutionStatus),
        Command::Wait => Some(Action::ExecutionWait),
        Command::Logs => Some(Action::ExecutionLogs),
        Command::Kill => Some(Action::ExecutionKill),
        Command::List => Some(Action::ExecutionList),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Named {
    execution_id: ExecutionId,
    #[serde(default)]
    follow: bool,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let tenant = super::tenant(call)?;
    if call.header.command == Command::List {
        reply.answer(&list(node, &tenant)?).await;
        return Ok(());
    }
    let named: Named = super::read(&call.payload)?;
    let id = &named.execution_id;
    match call.header.command {
        Command::Status => drop(reply.answer(&status(node, &tenant, id)?).await),
        Command::Wait => drop(reply.answer(&wait(node, &tenant, id).await?).await),
        Command::Kill => {
            let running = node.running(&tenant, id).ok_or_else(|| unknown(id, "it neither waits nor runs"))?;
            running.cancel.notify_one();
            // Whoever holds it would wait for ever for a result that could not be recorded.
            drop(running);
            reply.answer(&wait(node, &tenant, id).await?).await;
        }
        _ => logs(node, &tenant, &named, reply).await?,
    }
    Ok(())
}

/// How an execution of the table stands.
fn state(node: &Node, id: &ExecutionId) -> &'static str {
    if node.admission.is_waiting(id) { "queued" } else { "running" }
}

fn unknown(id: &ExecutionId, why: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("{id}: {why}"))
}

/// How an execution stands: it runs, or its record says how it ended.
fn status(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<serde_json::Value, Refusal> {
    if node.running(tenant, id).is_some() {
        return Ok(json!({"protocol_version": PROTOCOL_VERSION, "execution_id": id, "state": state(node, id)}));
    }
    let result = recorded(node, tenant, id)?;
    let (cause, exit_code) = (result.cause.name(), result.exit_code);
    Ok(json!({
        "protocol_version": PROTOCOL_VERSION, "execution_id": id, "state": "ended", "cause": cause,
        "exit_code": exit_code, "result": result,
    }))
}

/// The result of an execution that has ended, as it was kept.
pub fn recorded(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<ExecutionResult, Refusal> {
    journal::kept_result(node, tenant, id)?.ok_or_else(|| unknown(id, "no execution of this tenant has this id"))
}

async fn wait(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<ExecutionResult, Refusal> {
    if let Some(running) = node.running(tenant, id) {
        let mut result = running.result.subscribe();
        drop(running);
        // An error means that it left the table meanwhile; its record is there then.
        if let Ok(found) = result.wait_for(Option::is_some).await
            && let Some(found) = found.as_ref()
        {
            return Ok(ExecutionResult::clone(found));
        }
    }
    recorded(node, tenant, id)
}

/// Executions of the tenant: those that wait or run, then those that ended, latest first.
fn list(node: &Node, tenant: &TenantId) -> Result<serde_json::Value, Refusal> {
    const SHOWN: usize = 100;
    const LOOKED_AT: u64 = 5000;
    let running = node.running_of(tenant).into_iter();
    let mut rows: Vec<_> = running.map(|id| json!({"execution_id": id, "state": state(node, &id)})).collect();
    let size = node.ledger.head(tenant).map_or(0, |head| head.size);
    let filter = Filter { from_id: size.saturating_sub(LOOKED_AT), ..Filter::default() };
    let ended = node.ledger.query(tenant, &filter).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    for event in ended.iter().rev().filter(|event| event.event_type.phase() == Phase::Ends).take(SHOWN) {
        let Some(id) = Subject::execution(&event.subject) else { continue };
        let cause = event.payload.claims.get("cause").and_then(journal::kind_of);
        let cause = cause.unwrap_or_else(|| event.event_type.as_str().to_lowercase().replace("execution_", ""));
        rows.push(json!({
            "execution_id": id, "state": "ended", "cause": cause, "event_id": event.event_id,
            "ended_us": event.wall_clock_us,
        }));
    }
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "executions": rows}))
}

/// What an execution printed. With `follow` it waits for the end of one that runs; the whole output is sent then.
async fn logs(node: &Node, tenant: &TenantId, named: &Named, reply: &Reply) -> Result<(), Refusal> {
    if node.running(tenant, &named.execution_id).is_some() && !named.follow {
        return Err(Refusal::new(Code::Conflict, "it still runs: ask with follow").retry_after(500));
    }
    let result = wait(node, tenant, &named.execution_id).await?;
    let streams = [(Command::Stdout, &result.outputs.stdout), (Command::Stderr, &result.outputs.stderr)];
    for (command, stream) in streams {
        if !reply.stream(command, &journal::blob(node, tenant, &stream.sha256)?).await {
            return Ok(());
        }
    }
    reply.answer(&json!({"execution_id": named.execution_id, "cause": result.cause.name()})).await;
    Ok(())
}
