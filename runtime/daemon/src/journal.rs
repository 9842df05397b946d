//! What an execution leaves in its tenant's chain: that it was started, before it is; how it ended, before anybody hears.

use remand_ledger::{Started, Transaction};
use remand_model::canonical::{self, Object, Value};
use remand_model::event::{EventType, NewEvent};
use remand_model::outcome::{ExecutionResult, RecordReference};
use remand_model::refusal::{Code, Refusal};
use remand_model::run::RunRequest;
use remand_model::{ExecutionId, TenantId};

use crate::node::Node;
use crate::order::Order;

/// The claims of a request: what makes it this one and no other. Their digest is the execution's id.
///
/// # Errors
/// A refusal where the request is no canonical document.
pub fn claims(tenant: &TenantId, request: &RunRequest, order: &Order) -> Result<Object, Refusal> {
    let value = canonical::from_serialize(request).map_err(|error| Refusal::new(Code::Malformed, error.to_string()))?;
    let mut claims = Object::new();
    claims.insert("tenant_id".into(), tenant.as_str().into());
    claims.insert("request_id".into(), request.request_id.as_str().into());
    claims.insert("request_sha256".into(), canonical::hash(&value).to_hex().into());
    claims.insert("policy_sha256".into(), order.compiled.policy_hash.to_hex().into());
    claims.insert("execution_seed".into(), request.execution_seed.to_string().into());
    Ok(claims)
}

/// The execution that these claims name.
#[must_use]
pub fn execution_id(claims: &Object) -> ExecutionId {
    ExecutionId::from_claims(&canonical::hash(&Value::Object(claims.clone())))
}

impl Node {
    /// Records that an execution starts; it may only be started with what this gives.
    ///
    /// # Errors
    /// A refusal: it is not recorded, so it must not run.
    pub async fn record_start(
        &self,
        tenant: &TenantId,
        id: &ExecutionId,
        claims: &Object,
        order: &Order,
    ) -> Result<Started, Refusal> {
        let mut event = NewEvent::new(EventType::EXECUTION_STARTED, id);
        event.payload.claims.clone_from(claims);
        let event = event
            .claim("limits", limits_value(order)?)
            .claim("confinement_sha256", order.compiled.confinement_hash.to_hex());
        let mut ack = self.append(Transaction::new(tenant.clone()).event(event)).await?;
        ack.take_started(id).ok_or_else(|| Refusal::new(Code::Internal, "no receipt came with a durable start"))
    }

    /// Records how an execution ended; its result may only be told afterwards. The receipt of the start is used up.
    ///
    /// # Errors
    /// A refusal: it is not recorded, so the result must not be told.
    pub async fn record_end(&self, started: Started, result: &mut ExecutionResult) -> Result<(), Refusal> {
        let started_event = started.event_id();
        let because = remand_model::event::Cause::Event(started_event);
        let subject = started.execution();
        let usage = canonical::from_serialize(&result.usage).map_err(internal)?;
        let usage = NewEvent::new(EventType::RESOURCE_USAGE_RECORDED, subject).observe("usage", usage).because(because);
        let ended = ended_event(result)?.because(because);
        let transaction = Transaction::new(started.tenant().clone()).event(usage).event(ended);
        let ack = self.append(transaction).await?;
        let completed_event = ack.events.last().map_or(started_event, |receipt| receipt.event_id);
        let (tree_size, root_hash) = (ack.tree_size, ack.root.to_hex());
        result.record = Some(RecordReference { started_event, completed_event, tree_size, root_hash });
        Ok(())
    }
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

fn limits_value(order: &Order) -> Result<Value, Refusal> {
    canonical::from_serialize(&order.limits).map_err(|error| Refusal::new(Code::Malformed, error.to_string()))
}

/// The claims of an end: why, and digests of what came out. The enforced set, times and numbers of namespaces are what was
/// seen this time.
fn ended_event(result: &ExecutionResult) -> Result<NewEvent, Refusal> {
    let files = canonical::from_serialize(&result.outputs.files).map_err(internal)?;
    let cause = canonical::from_serialize(&result.cause).map_err(internal)?;
    let enforced = canonical::from_serialize(&result.enforced).map_err(internal)?;
    Ok(NewEvent::new(EventType::EXECUTION_COMPLETED, &result.execution_id)
        .claim("cause", cause)
        .claim("exit_code", result.exit_code)
        .claim("stdout_sha256", result.outputs.stdout.sha256.to_hex())
        .claim("stderr_sha256", result.outputs.stderr.sha256.to_hex())
        .claim("files_sha256", canonical::hash(&files).to_hex())
        .claim("files", u32::try_from(result.outputs.files.len()).unwrap_or(u32::MAX))
        .observe("enforced", enforced))
}
