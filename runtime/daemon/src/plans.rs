//! Plans on this node: the gate that decides each step, and the journal that makes each event durable with its counters.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use remand_authority::permit::{Permit, Scoped, Settlement};
use remand_authority::token::VerifiedToken;
use remand_engine::domain::Domain;
use remand_engine::drive::{Gate, Journal, authorize_step};
use remand_engine::events::Entry;
use remand_engine::scheduler::Placed;
use remand_ledger::blob::Stored;
use remand_ledger::provenance::STATEMENT_MEMBER;
use remand_ledger::{Ack, AppendError, Started, StateKey, StateOp, Transaction};
use remand_model::canonical::Value;
use remand_model::event::{EventType, NewEvent, Phase, Subject};
use remand_model::outcome::ExecutionResult;
use remand_model::plan::Step;
use remand_model::quota::{Charge, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::{ExecutionId, TenantId};

use crate::admission::{NotStarted, Turn};
use crate::authority::{By, Credential, clock, internal};
use crate::node::Node;
use crate::registry::used_ops;
use crate::statement::{self, Begun};
use crate::unrecorded;

/// Where the counters of tokens are.
const TOKENS_USED: &str = "tokens.used";

/// A result that waits for the event that ends its step.
pub type Waiting = (ExecutionResult, Vec<Stored>);

/// What the steps of plans hand on by their execution's id.
#[derive(Default)]
pub struct StepTable {
    /// From before the event of their start to after that of their end.
    under_way: Mutex<HashSet<(TenantId, ExecutionId)>>,
    started: Mutex<HashMap<ExecutionId, Started>>,
    ended: Mutex<HashMap<ExecutionId, Waiting>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StepTable {
    /// The receipt of a step's start; once.
    pub fn take_started(&self, id: &ExecutionId) -> Option<Started> {
        locked(&self.started).remove(id)
    }

    /// Whether a plan attends this execution.
    #[must_use]
    pub fn is_under_way(&self, tenant: &TenantId, id: &ExecutionId) -> bool {
        locked(&self.under_way).contains(&(tenant.clone(), id.clone()))
    }

    /// Leaves a result for the journal.
    pub fn leave(&self, result: ExecutionResult, stored: Vec<Stored>) {
        locked(&self.ended).insert(result.execution_id.clone(), (result, stored));
    }
}

fn used_key(key: &str) -> Result<StateKey, Refusal> {
    StateKey::new(TOKENS_USED, key).map_err(internal)
}

/// The operations that move a token's counters.
///
/// # Errors
/// `internal`.
pub fn charge_ops(charges: &[Charge]) -> Result<Vec<StateOp>, Refusal> {
    let op = |charge: &Charge| {
        let add = i64::try_from(charge.add).map_err(internal)?;
        Ok(StateOp::Count { key: used_key(&charge.key)?, add, max: charge.max })
    };
    charges.iter().map(op).collect()
}

/// The operations of a settlement: what was used, and what goes back to the token.
///
/// # Errors
/// `internal`.
pub fn settle_ops(settlement: &Settlement) -> Result<Vec<StateOp>, Refusal> {
    let mut ops = settlement.window.as_ref().map_or(Ok(Vec::new()), used_ops)?;
    for (key, back) in &settlement.refunds {
        let add = i64::try_from(*back).map_err(internal)?;
        ops.push(StateOp::Count { key: used_key(key)?, add: -add, max: i64::MAX.unsigned_abs() });
    }
    Ok(ops)
}

/// What a refused transaction means to whoever asked.
#[must_use]
pub fn refusal_of(error: AppendError, charges: &[Charge]) -> Refusal {
    if let AppendError::Refused(remand_ledger::Refusal::Counter { key, .. }) = &error
        && let Some(charge) = charges.iter().find(|charge| key.namespace() == TOKENS_USED && charge.key == key.key())
    {
        return Refusal::new(charge.refused_as, error.to_string());
    }
    unrecorded::refusal(&error)
}

/// Decides each step of one plan, with the authority locked for as long as one decision takes.
pub struct PlanGate {
    /// The node.
    pub node: Node,
    /// Who runs the plan.
    pub who: Arc<Credential>,
    /// The turn of the step that executes a program, from its limit check to its settlement.
    pub turn: Option<(Turn, ExecutionId)>,
}

impl Gate for PlanGate {
    fn validate(&mut self) -> Result<VerifiedToken, Refusal> {
        self.node.registries.validate(&self.who, &self.node.ledger)
    }

    fn authorize(&mut self, token: &VerifiedToken, step: &Step, domain: &dyn Domain) -> Result<Scoped, Refusal> {
        self.node.active(&self.who.tenant)?;
        let clock = clock(&self.node.ledger, &self.who.tenant);
        let mut authority = self.node.registries.authority();
        authorize_step(&mut authority, token, self.who.role, step, domain, &clock)
    }

    fn permit(&mut self, scoped: Scoped) -> Result<Permit, Refusal> {
        let clock = clock(&self.node.ledger, &self.who.tenant);
        self.node.registries.authority().permit(scoped, &clock)
    }

    fn place(&mut self, permit: &Permit, execution_id: &ExecutionId) -> Result<Option<Placed>, Refusal> {
        if permit.contract().is_none() {
            return Ok(None);
        }
        let (node, tenant) = (&self.node, permit.tenant_id());
        let execution = node.enter(permit, execution_id)?;
        let place = node.line_up(permit, execution_id, 0).map_err(NotStarted::Refused);
        let handle = tokio::runtime::Handle::current();
        let turn = place.and_then(|place| handle.block_on(place.turn(&execution.cancel)));
        let still = |turn| node.still_permitted(permit).map(|()| turn).map_err(NotStarted::Refused);
        let turn = turn.and_then(still).map_err(|why| {
            node.leave(tenant, execution_id, None);
            match why {
                NotStarted::Refused(refusal) => refusal,
                NotStarted::Cancelled => Refusal::new(Code::ExecutionCancelled, execution_id.as_str()),
            }
        })?;
        let placed = turn.placed();
        self.turn = Some((turn, execution_id.clone()));
        Ok(Some(placed))
    }

    fn settle(&mut self, permit: Permit, used: &Usage) -> Settlement {
        if let Some((turn, id)) = self.turn.take() {
            self.node.leave(permit.tenant_id(), &id, None);
            drop(turn);
        }
        self.node.settle(permit, used)
    }
}

/// Writes the events of one plan into its tenant's chain.
pub struct PlanJournal {
    node: Node,
    by: By,
    token_id: Option<Value>,
    /// The start of the step that runs.
    begun: Option<Begun>,
    /// What the step used.
    usage: Value,
}

impl Journal for PlanJournal {
    fn record(&mut self, entry: Entry) -> Result<u64, Refusal> {
        let Entry { tenant_id, event, charges, settlement } = entry;
        let (phase, subject) = (event.event_type.phase(), event.subject.clone());
        let mut waiting = self.waiting(phase, &subject);
        let mut transaction = Transaction::new(tenant_id);
        let event = self.bound(event, &mut transaction, waiting.as_ref().map(|(result, _)| result))?;
        transaction.events.push(event);
        transaction.ops.extend(charge_ops(&charges)?);
        if let Some(settlement) = &settlement {
            transaction.ops.extend(settle_ops(settlement)?);
        }
        if let Some((result, stored)) = &mut waiting {
            transaction.ops.extend(self.node.result_ops(result, stored)?);
        }
        let appended = self.attended(phase, &subject, transaction);
        let mut ack = appended.map_err(|error| refusal_of(error, &charges))?;
        drop(waiting);
        self.receipt(phase, &subject, &mut ack);
        let receipt = ack.events.first().ok_or_else(|| internal("no receipt came with a durable event"))?;
        Ok(receipt.event_id)
    }
}

impl PlanJournal {
    /// A journal for the plan that somebody asked for.
    #[must_use]
    pub const fn new(node: Node, by: By) -> Self {
        Self { node, by, token_id: None, begun: None, usage: Value::Null }
    }

    /// Adds to an event what the statement about its step needs; to the one that completes it, the statement. A step has five
    /// events, so that the last of them binds it to the log, and no sixth.
    fn bound(
        &mut self,
        event: NewEvent,
        transaction: &mut Transaction,
        result: Option<&ExecutionResult>,
    ) -> Result<NewEvent, Refusal> {
        Ok(match &event.event_type {
            kind if *kind == EventType::TOKEN_VALIDATION => {
                self.token_id = event.payload.claims.get("token_id").cloned();
                self.by.mark(event)
            }
            kind if *kind == EventType::EXECUTION_STARTED => {
                let seed = self.seed_of(&transaction.tenant, &event);
                let mut event = event.claim("execution_seed", statement::seed(seed));
                event.payload.claims.extend(self.token_id.clone().map(|id| ("token_id".to_owned(), id)));
                self.begun = Some(Begun::read(&event.payload)?);
                event
            }
            kind if *kind == EventType::RESOURCE_USAGE_RECORDED => {
                self.usage = event.payload.observations.get("usage").cloned().unwrap_or(Value::Null);
                event
            }
            kind if *kind == EventType::EXECUTION_COMPLETED => self.stated(event, transaction, result)?,
            _ => event,
        })
    }

    fn stated(
        &mut self,
        event: NewEvent,
        transaction: &mut Transaction,
        result: Option<&ExecutionResult>,
    ) -> Result<NewEvent, Refusal> {
        let begun = self.begun.take().ok_or_else(|| internal("a step completes that has not started"))?;
        let id = event.subject.execution().ok_or_else(|| internal("a step without an execution"))?;
        let (claims, seen) = match result {
            Some(result) => begun.boxed(result)?,
            None => begun.called(&transaction.tenant, &id, &event.payload, &self.usage),
        };
        let signed = self.node.notary.sign(&self.node.ledger, claims, self.node.among_members(seen))?;
        transaction.ops.extend(signed.ops);
        Ok(event.observe(STATEMENT_MEMBER, signed.sha256))
    }

    /// The seed of the contract that a step executes; 0 where it executes none.
    fn seed_of(&self, tenant: &TenantId, started: &NewEvent) -> u64 {
        let text = |name: &str| started.payload.claims.get(name).and_then(Value::as_text);
        let id = text("resource").and_then(|id| id.parse().ok());
        let hash = text("contract_hash").and_then(|hash| hash.parse().ok());
        let Some((id, hash)) = id.zip(hash) else { return 0 };
        let authority = self.node.registries.authority();
        let contract = authority.contracts.get(tenant, &id, Some(hash));
        contract.map_or(0, |contract| contract.contract().execution_seed)
    }

    fn waiting(&self, phase: Phase, subject: &Subject) -> Option<Waiting> {
        let id = subject.execution().filter(|_| phase == Phase::Ends)?;
        drop(locked(&self.node.steps.started).remove(&id));
        locked(&self.node.steps.ended).remove(&id)
    }

    /// Appends, and keeps the list of what plans attend.
    fn attended(&self, phase: Phase, subject: &Subject, transaction: Transaction) -> Result<Ack, AppendError> {
        let Some(id) = subject.execution().filter(|_| phase != Phase::Within) else {
            return self.node.ledger.append(transaction);
        };
        let own = (transaction.tenant.clone(), id);
        if phase == Phase::Starts {
            locked(&self.node.steps.under_way).insert(own.clone());
        }
        let appended = self.node.ledger.append(transaction);
        if appended.is_err() {
            self.node.abandon(&own.0, &own.1);
        }
        if appended.is_err() || phase == Phase::Ends {
            locked(&self.node.steps.under_way).remove(&own);
        }
        appended
    }

    fn receipt(&self, phase: Phase, subject: &Subject, ack: &mut Ack) {
        if let Some(id) = subject.execution().filter(|_| phase == Phase::Starts)
            && let Some(started) = ack.take_started(&id)
        {
            locked(&self.node.steps.started).insert(id, started);
        }
    }
}

impl Node {
    /// Takes a permit back with what was used.
    pub fn settle(&self, permit: Permit, used: &Usage) -> Settlement {
        let clock = clock(&self.ledger, permit.tenant_id());
        self.registries.authority().settle(permit, used, &clock)
    }

    /// That there is such a tenant.
    ///
    /// # Errors
    /// `tenant_unknown`.
    pub fn known(&self, tenant: &TenantId) -> Result<(), Refusal> {
        use crate::authority::Standing;
        match self.registries.tenants().get(tenant) {
            Some(Standing::Active | Standing::Suspended) => Ok(()),
            Some(Standing::Deleted) | None => Err(Refusal::new(Code::TenantUnknown, tenant.as_str())),
        }
    }

    /// That the tenant can work at this moment.
    ///
    /// # Errors
    /// `tenant_suspended`, `tenant_unknown`.
    pub fn active(&self, tenant: &TenantId) -> Result<(), Refusal> {
        use remand_authority::session::Tenancy;
        match self.tenancy(tenant) {
            Tenancy::Active => Ok(()),
            Tenancy::Suspended => Err(Refusal::new(Code::TenantSuspended, tenant.as_str())),
            Tenancy::Unknown => Err(Refusal::new(Code::TenantUnknown, tenant.as_str())),
        }
    }
}
