//! Executions that are open in the chain and that nobody attends: left by an earlier life of the daemon, or by a failed write.

use std::collections::BTreeMap;

use remand_ledger::store::OpenExecution;
use remand_model::canonical::Value;
use remand_model::event::EventType;
use remand_model::outcome::{Cause, Enforced, ExecutionResult, InputRecord, Outputs, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Event, ExecutionId, PROTOCOL_VERSION, TenantId};

use crate::node::Node;

/// Why nobody attends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// They are of an earlier life of the daemon.
    Restarted,
    /// Their end could not be recorded.
    Unrecorded,
}

impl Why {
    const fn reason(self) -> &'static str {
        match self {
            Self::Restarted => "the runtime went down while it ran; what it did until then is not known",
            Self::Unrecorded => "the ledger could not be written when it ended; what it did is not known",
        }
    }

    const fn reason_before_start(self) -> &'static str {
        match self {
            Self::Restarted => "the runtime went down before its turn came; it never started",
            Self::Unrecorded => "the ledger could not be written when its turn came; it never started",
        }
    }
}

/// Closes every open execution that is not `attended` as lost, with what its start says of it, and denies those that wait
/// for a turn which nobody gives them any more.
///
/// # Errors
/// A refusal: one could not be closed; after a start nothing may be served.
pub async fn close_open(
    node: &Node,
    why: Why,
    attended: impl Fn(&TenantId, &ExecutionId) -> bool,
) -> Result<(), Refusal> {
    let internal = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, error.to_string());
    let open = node.ledger.open_executions().map_err(|error| internal(&error))?;
    for execution in open.iter().filter(|open| !attended(&open.tenant, &open.execution)) {
        let started = node.ledger.event(&execution.tenant, execution.started_event_id);
        let started = started.map_err(|error| internal(&error))?;
        let started = started.ok_or_else(|| internal(&format!("the start of {} is missing", execution.execution)))?;
        match node.record_lost(execution.started_event_id, &result(execution, &started, why)).await {
            Ok(()) => tracing::warn!(execution = %execution.execution, reason = why.reason(), "closed as lost"),
            // It ended between the look and now.
            Err(refusal) if refusal.code == Code::Conflict => {}
            Err(refusal) => return Err(refusal),
        }
    }
    deny_promised(node, why, attended).await
}

/// Those that waited for their turn have done nothing: the same request may come again.
async fn deny_promised(
    node: &Node,
    why: Why,
    attended: impl Fn(&TenantId, &ExecutionId) -> bool,
) -> Result<(), Refusal> {
    for tenant in node.ledger.heads().into_iter().map(|head| head.tenant) {
        for id in node.promised(&tenant)?.into_iter().filter(|id| !attended(&tenant, id)) {
            let cause = Cause::Refused { reason: why.reason_before_start().to_owned() };
            node.record_denied(&bare(id, tenant.clone(), cause, Enforced::default()), Code::Draining).await?;
        }
    }
    Ok(())
}

/// What is known of one that had started.
fn result(open: &OpenExecution, started: &Event, why: Why) -> ExecutionResult {
    assert_eq!(started.event_type, EventType::EXECUTION_STARTED, "what opens an execution is its start");
    let claim = |name: &str| started.payload.claims.get(name).and_then(Value::as_text).unwrap_or_default().to_owned();
    let enforced = Enforced {
        policy_sha256: claim("policy_sha256"),
        confinement_sha256: claim("confinement_sha256"),
        ..Enforced::default()
    };
    let cause = Cause::Lost { reason: why.reason().to_owned() };
    bare(open.execution.clone(), open.tenant.clone(), cause, enforced)
}

/// The result of an execution of which nothing was seen but why it ended.
pub fn bare(execution_id: ExecutionId, tenant_id: TenantId, cause: Cause, enforced: Enforced) -> ExecutionResult {
    ExecutionResult {
        protocol_version: PROTOCOL_VERSION.into(),
        execution_id,
        tenant_id,
        exit_code: cause.exit_code(),
        hint: crate::hint::of(&cause, &[]),
        cause,
        limits_hit: Vec::new(),
        usage: Usage::default(),
        input: InputRecord::none(),
        outputs: Outputs::none(),
        denials: Vec::new(),
        enforced,
        timing_us: BTreeMap::new(),
        record: None,
    }
}
