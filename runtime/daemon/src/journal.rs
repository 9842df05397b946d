//! What an execution leaves in its tenant's chain: that it was started, before it is; how it ended, before anybody hears.

use remand_authority::permit::{Permit, Settlement};
use remand_engine::events::scheduled;
use remand_engine::scheduler::Placed;
use remand_ledger::blob::{BlobError, Stored};
use remand_ledger::provenance::Seen;
use remand_ledger::store::{Filter, StateScan};
use remand_ledger::{Started, StateKey, StateOp, Transaction};
use remand_model::canonical::{self, Object, Value};
use remand_model::event::{Cause, EventType, NewEvent, Phase};
use remand_model::outcome::{Cause as Ended, ExecutionResult, RecordReference};
use remand_model::refusal::{Code, Refusal};
use remand_model::run::RunRequest;
use remand_model::{Digest, ExecutionId, TenantId};

use crate::node::Node;
use crate::order::Order;
use crate::run::Prepared;
use crate::statement::{self, Begun};
use crate::threads::blocking;
use crate::{limits, plans};

/// Where the results of executions are kept.
const RESULTS: &str = "executions.results";
/// Where their requests are kept, for a replay.
const REQUESTS: &str = "executions.requests";
/// Those that were promised to run once it is their turn.
const QUEUED: &str = "executions.queued";

/// The canonical bytes of a request.
///
/// # Errors
/// A refusal where it is no canonical document or too long to be kept.
pub fn request_bytes(request: &RunRequest) -> Result<Vec<u8>, Refusal> {
    let value = canonical::from_serialize(request).map_err(|error| Refusal::new(Code::Malformed, error.to_string()))?;
    Ok(canonical::to_bytes(&value))
}

/// The claims of a request: what makes it this one and no other. Their digest is the execution's id.
#[must_use]
pub fn claims(tenant: &TenantId, request: &[u8], order: &Order) -> Object {
    let mut claims = Object::new();
    claims.insert("tenant_id".into(), tenant.as_str().into());
    claims.insert("request_sha256".into(), Digest::of(request).into());
    claims.insert("policy_sha256".into(), order.compiled().policy_hash.into());
    claims
}

/// The execution that these claims name.
#[must_use]
pub fn execution_id(claims: &Object) -> ExecutionId {
    ExecutionId::from_claims(&canonical::hash(&Value::Object(claims.clone())))
}

fn key(namespace: &str, id: &ExecutionId) -> Result<StateKey, Refusal> {
    StateKey::new(namespace, id.as_str()).map_err(internal)
}

impl Node {
    /// Begins to record that an execution starts; what was begun goes on by itself and gives the receipt, without which the
    /// execution may not be started.
    ///
    /// # Errors
    /// A refusal, from either: it is not recorded, so it must not run.
    pub fn record_start(
        &self,
        tenant: &TenantId,
        prepared: &Prepared,
        permit: &Permit,
        placed: &Placed,
    ) -> Result<impl Future<Output = Result<Started, Refusal>> + use<>, Refusal> {
        let Prepared { order, request, claims, id, contract, .. } = prepared;
        let mut event = NewEvent::new(EventType::EXECUTION_STARTED, id);
        event.payload.claims.clone_from(claims);
        let limits = canonical::from_serialize(&order.limits).map_err(internal)?;
        let event = event
            .claim("limits", limits)
            .claim("policy", order.policy_name())
            .claim("confinement_sha256", order.compiled().confinement_hash)
            .claim("contract_id", contract.contract().contract_id.as_str())
            .claim("contract_hash", contract.hash())
            .claim("token_id", permit.token_id().as_str())
            .claim("execution_seed", statement::seed(contract.contract().execution_seed));
        let event = scheduled(event, placed);
        let keep = StateOp::Set { key: key(REQUESTS, id)?, value: request.clone() };
        let mut transaction = Transaction::new(tenant.clone()).event(event).op(keep);
        if prepared.is_promised {
            transaction.ops.push(StateOp::Delete { key: key(QUEUED, id)? });
        }
        transaction.ops.extend(plans::charge_ops(permit.charges())?);
        let (durable, id) = (self.append_charged(transaction, permit.charges()), id.clone());
        Ok(async move {
            let mut ack = durable.await?;
            ack.take_started(&id).ok_or_else(|| Refusal::new(Code::Internal, "no receipt came with a durable start"))
        })
    }

    /// Records how an execution ended, with the statement about it; its result may only be told afterwards. The receipt of the
    /// start is used up. Blocks until it is durable.
    ///
    /// # Errors
    /// A refusal: it is not recorded, so the result must not be told.
    pub fn record_end(
        &self,
        started: Started,
        result: &mut ExecutionResult,
        mut stored: Vec<Stored>,
        settlement: &Settlement,
    ) -> Result<(), Refusal> {
        let started_event = started.event_id();
        let because = Cause::Event(started_event);
        let subject = started.execution();
        let usage = canonical::from_serialize(&result.usage).map_err(internal)?;
        let usage = NewEvent::new(EventType::RESOURCE_USAGE_RECORDED, subject).observe("usage", usage).because(because);
        let ended = ended_event(EventType::EXECUTION_COMPLETED, result)?.because(because);
        let transaction = Transaction::new(started.tenant().clone()).event(usage).event(ended);
        let place = transaction.events.len() - 1;
        let mut transaction = self.with_result(transaction, result, &mut stored, Some(started_event))?;
        transaction.ops.extend(stored.iter().flat_map(|blob| blob.keep_ops(limits::TENANT_BLOB_BYTES_MAX)));
        transaction.ops.extend(plans::settle_ops(settlement)?);
        let ack = blocking(|| self.ledger.append(transaction)).map_err(|error| plans::refusal_of(error, &[]))?;
        drop(stored);
        let completed_event = ack.events.get(place).map_or(started_event, |receipt| receipt.event_id);
        let (tree_size, root_hash) = (Some(ack.tree_size), Some(ack.root.to_hex()));
        result.record = Some(RecordReference { started_event, completed_event, tree_size, root_hash });
        Ok(())
    }

    /// Records that an execution waits for its turn: whoever is told so can rely on it being answered for, whatever happens.
    ///
    /// # Errors
    /// A refusal: it does not wait.
    pub async fn record_queued(&self, tenant: &TenantId, prepared: &Prepared) -> Result<(), Refusal> {
        let kind: EventType = "EXECUTION_QUEUED".parse().map_err(internal)?;
        let mut event = NewEvent::new(kind, &prepared.id);
        event.payload.claims.clone_from(&prepared.claims);
        let promised = StateOp::Set { key: key(QUEUED, &prepared.id)?, value: prepared.request.clone() };
        self.append(Transaction::new(tenant.clone()).event(event).op(promised)).await.map(drop)
    }

    /// Records that an execution ended before its turn came.
    ///
    /// # Errors
    /// A refusal: it is not recorded.
    pub async fn record_denied(&self, result: &ExecutionResult, code: Code) -> Result<(), Refusal> {
        let denied = ended_event(EventType::EXECUTION_DENIED, result)?.claim("verdict", code.name());
        let transaction = Transaction::new(result.tenant_id.clone()).event(denied);
        let promise = StateOp::Delete { key: key(QUEUED, &result.execution_id)? };
        let transaction = self.with_result(transaction, result, &mut Vec::new(), None)?.op(promise);
        self.append(transaction).await.map(drop)
    }

    /// Executions of a tenant that were promised to run and have not started.
    ///
    /// # Errors
    /// The store's.
    pub fn promised(&self, tenant: &TenantId) -> Result<Vec<ExecutionId>, Refusal> {
        let scan = StateScan { namespace: QUEUED, prefix: "", after: "", limit: usize::MAX };
        let found = self.ledger.state_list(tenant, &scan).map_err(internal)?;
        found.into_iter().map(|(id, _)| id.parse().map_err(internal)).collect()
    }

    /// Records that an execution of an earlier life of the daemon is lost.
    ///
    /// # Errors
    /// A refusal: it is still open.
    pub async fn record_lost(&self, started_event: u64, result: &ExecutionResult) -> Result<(), Refusal> {
        let lost = ended_event(EventType::EXECUTION_LOST, result)?.because(Cause::Event(started_event));
        let mut stored = Vec::new();
        let transaction = self.with_result(
            Transaction::new(result.tenant_id.clone()).event(lost),
            result,
            &mut stored,
            Some(started_event),
        )?;
        let ack = self.append(transaction).await?;
        drop((ack, stored));
        Ok(())
    }

    /// Adds the result as it is kept, and the statement about it where it had started, to the transaction that ends it.
    fn with_result(
        &self,
        transaction: Transaction,
        result: &ExecutionResult,
        stored: &mut Vec<Stored>,
        started_event: Option<u64>,
    ) -> Result<Transaction, Refusal> {
        let (tenant, id) = (&result.tenant_id, &result.execution_id);
        let value = self.kept_value(tenant, result, stored)?;
        let transaction = transaction.op(StateOp::Set { key: key(RESULTS, id)?, value });
        let Some(started_event) = started_event else { return Ok(transaction) };
        let started = self.ledger.event(tenant, started_event).map_err(internal)?;
        let started = started.ok_or_else(|| internal(format!("the start of {id} is missing")))?;
        let (claims, seen) = Begun::read(&started.payload)?.boxed(result)?;
        self.notary.state(&self.ledger, transaction, claims, self.among_members(seen))
    }

    /// Adds the cluster's members to what was seen.
    #[must_use]
    pub fn among_members(&self, seen: Seen) -> Seen {
        Seen { membership_hash: Some(self.membership.hash), ..seen }
    }

    /// What keeps the result of a plan's step, together with the event that ends it.
    ///
    /// # Errors
    /// The store's.
    pub fn result_ops(&self, result: &ExecutionResult, stored: &mut Vec<Stored>) -> Result<Vec<StateOp>, Refusal> {
        let value = self.kept_value(&result.tenant_id, result, stored)?;
        let mut ops = vec![StateOp::Set { key: key(RESULTS, &result.execution_id)?, value }];
        ops.extend(stored.iter().flat_map(|blob| blob.keep_ops(limits::TENANT_BLOB_BYTES_MAX)));
        Ok(ops)
    }

    /// A result as it is kept: itself, or the digest of a blob where it is long.
    fn kept_value(
        &self,
        tenant: &TenantId,
        result: &ExecutionResult,
        stored: &mut Vec<Stored>,
    ) -> Result<Vec<u8>, Refusal> {
        let bytes = canonical::to_bytes(&canonical::from_serialize(result).map_err(internal)?);
        if bytes.len() <= limits::RESULT_BYTES_INLINE {
            return Ok(bytes);
        }
        let blob = self.workshop.blobs.put(tenant, &bytes, limits::DOCUMENT_BYTES_MAX).map_err(internal)?;
        let digest = blob.digest().to_hex();
        stored.push(blob);
        Ok(digest.into_bytes())
    }
}

/// A blob of the tenant, whole and checked.
///
/// # Errors
/// A refusal where it is missing, damaged or too long.
pub fn blob(node: &Node, tenant: &TenantId, digest: &Digest) -> Result<Vec<u8>, Refusal> {
    if *digest == Digest::of(b"") {
        return Ok(Vec::new());
    }
    let read = node.workshop.blobs.read(tenant, digest, limits::TENANT_BLOB_BYTES_MAX);
    read.map_err(|error| match error {
        BlobError::Missing { .. } => Refusal::new(Code::NotFound, error.to_string()),
        other => internal(other),
    })
}

/// The result of an execution that has ended, or nothing where none is recorded.
///
/// # Errors
/// A refusal where the record cannot be read.
pub fn kept_result(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<Option<ExecutionResult>, Refusal> {
    let Some(mut bytes) = node.ledger.state(tenant, &key(RESULTS, id)?).map_err(internal)? else { return Ok(None) };
    if let Some(digest) = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok()) {
        bytes = blob(node, tenant, &digest)?;
    }
    let mut result: ExecutionResult = serde_json::from_slice(&bytes).map_err(internal)?;
    result.record = place(node, tenant, id)?;
    Ok(Some(result))
}

/// The result that answers the same request again: not that of an execution which was refused before it started.
///
/// # Errors
/// As [`kept_result`].
pub fn final_result(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<Option<ExecutionResult>, Refusal> {
    let kept = kept_result(node, tenant, id)?;
    Ok(kept.filter(|kept| !matches!(kept.cause, Ended::Refused { .. })))
}

/// The request of an execution, as it was kept.
///
/// # Errors
/// A refusal where it cannot be read.
pub fn kept_request(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<Option<RunRequest>, Refusal> {
    let bytes = node.ledger.state(tenant, &key(REQUESTS, id)?).map_err(internal)?;
    bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(internal)).transpose()
}

/// Where an execution's events are in the chain.
fn place(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<Option<RecordReference>, Refusal> {
    let filter = Filter { subject: Some(id.into()), ..Filter::default() };
    let events = node.ledger.query(tenant, &filter).map_err(internal)?;
    let of = |kind: EventType| events.iter().find(|event| event.event_type == kind).map(|event| event.event_id);
    let ends = events.iter().find(|event| event.event_type.phase() == Phase::Ends).map(|event| event.event_id);
    let (Some(started_event), Some(completed_event)) = (of(EventType::EXECUTION_STARTED), ends) else {
        return Ok(None);
    };
    Ok(Some(RecordReference { started_event, completed_event, tree_size: None, root_hash: None }))
}

/// The kind of a recorded cause.
#[must_use]
pub fn kind_of(cause: &Value) -> Option<String> {
    match cause {
        Value::Object(members) => match members.get("kind") {
            Some(Value::Text(kind)) => Some(kind.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

/// The claims of an end: why, and digests of what came out. The enforced set, times and numbers of namespaces are what was
/// seen this time.
fn ended_event(kind: EventType, result: &ExecutionResult) -> Result<NewEvent, Refusal> {
    let files = canonical::from_serialize(&result.outputs.files).map_err(internal)?;
    let cause = canonical::from_serialize(&result.cause).map_err(internal)?;
    let enforced = canonical::from_serialize(&result.enforced).map_err(internal)?;
    Ok(NewEvent::new(kind, &result.execution_id)
        .claim("cause", cause)
        .claim("exit_code", result.exit_code)
        .claim("input_sha256", result.input.sha256)
        .claim("stdout_sha256", result.outputs.stdout.sha256)
        .claim("stderr_sha256", result.outputs.stderr.sha256)
        .claim("files_sha256", canonical::hash(&files))
        .claim("files", u32::try_from(result.outputs.files.len()).unwrap_or(u32::MAX))
        .observe("enforced", enforced))
}
