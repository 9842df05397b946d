//! Executions that an earlier life of the daemon left open in the chain: closed before anybody is served.

use std::collections::BTreeMap;

use remand_ledger::store::OpenExecution;
use remand_model::canonical::Value;
use remand_model::event::EventType;
use remand_model::outcome::{Cause, Enforced, ExecutionResult, InputRecord, Outputs, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Event, ExecutionId, PROTOCOL_VERSION, TenantId};

use crate::node::Node;

/// Closes every open execution as lost, with what its start says of it, and returns how many there were.
///
/// # Errors
/// A refusal: one could not be closed; nothing may be served.
pub async fn close_open(node: &Node) -> Result<usize, Refusal> {
    let internal = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, error.to_string());
    let open = node.ledger.open_executions().map_err(|error| internal(&error))?;
    for execution in &open {
        let started = node.ledger.event(&execution.tenant, execution.started_event_id);
        let started = started.map_err(|error| internal(&error))?;
        let started = started.ok_or_else(|| internal(&format!("the start of {} is missing", execution.execution)))?;
        node.record_lost(execution.started_event_id, &result(execution, &started)).await?;
        tracing::warn!(execution = %execution.execution, "it was open when the runtime went down; it is closed as lost");
    }
    Ok(open.len() + deny_promised(node).await?)
}

/// Those that waited for their turn have done nothing: the same request may come again.
async fn deny_promised(node: &Node) -> Result<usize, Refusal> {
    let mut count = 0;
    for tenant in node.ledger.heads().into_iter().map(|head| head.tenant) {
        for id in node.promised(&tenant)? {
            let reason = "the runtime went down before its turn came; it never started".to_owned();
            let result = bare(id, tenant.clone(), Cause::Refused { reason }, Enforced::default());
            node.record_denied(&result, Code::Draining).await?;
            count += 1;
        }
    }
    Ok(count)
}

/// What is known of one that had started.
fn result(open: &OpenExecution, started: &Event) -> ExecutionResult {
    assert_eq!(started.event_type, EventType::EXECUTION_STARTED, "what opens an execution is its start");
    let claim = |name: &str| started.payload.claims.get(name).and_then(Value::as_text).unwrap_or_default().to_owned();
    let reason = "the runtime went down while it ran; what it did until then is not known".to_owned();
    let enforced = Enforced {
        policy_sha256: claim("policy_sha256"),
        confinement_sha256: claim("confinement_sha256"),
        ..Enforced::default()
    };
    bare(open.execution.clone(), open.tenant.clone(), Cause::Lost { reason }, enforced)
}

/// The result of an execution of which nothing was seen but why it ended.
pub fn bare(execution_id: ExecutionId, tenant_id: TenantId, cause: Cause, enforced: Enforced) -> ExecutionResult {
    ExecutionResult {
        protocol_version: PROTOCOL_VERSION.into(),
        execution_id,
        tenant_id,
        exit_code: cause.exit_code(),
        hint: crate::hint::of(&cause),
        cause,
        limits_hit: Vec::new(),
        usage: Usage::default(),
        input: InputRecord::none(),
        outputs: Outputs::none(),
        enforced,
        timing_us: BTreeMap::new(),
        record: None,
    }
}
