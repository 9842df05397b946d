//! The events of a plan, exactly: one for the token, then five for each step, and one for each step that was not reached.

use remand_authority::permit::Settlement;
use remand_model::canonical::{Object, Value};
use remand_model::event::{Cause, EventType, NewEvent, Subject};
use remand_model::grant::TokenId;
use remand_model::plan::{Plan, Step};
use remand_model::quota::{Charge, Dimension, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, RequestId, TenantId};

use crate::scheduler::Placed;

/// One event, with the state that must move in its transaction or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what is not recorded must not happen"]
pub struct Entry {
    /// Whose log.
    pub tenant_id: TenantId,
    /// The event.
    pub event: NewEvent,
    /// Counters that must move with it; where one cannot, nothing is recorded and its `refused_as` is the answer.
    pub charges: Vec<Charge>,
    /// What a settled permit gives back and adds up.
    pub settlement: Option<Settlement>,
}

/// The id of a plan's step: the same request of the same plan has the same executions.
#[must_use]
pub fn execution_id(tenant_id: &TenantId, request_id: &RequestId, plan_hash: &Digest, step: usize) -> ExecutionId {
    let claims = [
        ("tenant_id", tenant_id.as_str().into()),
        ("request_id", request_id.as_str().into()),
        ("plan_hash", Value::from(*plan_hash)),
        ("step", number(step as u64)),
    ];
    let claims: Object = claims.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ExecutionId::from_claims(&remand_model::canonical::hash(&Value::Object(claims)))
}

/// A number for an event. What is beyond 2^53 - 1 is recorded as 2^53 - 1: the log holds no larger one.
#[must_use]
pub fn number(value: u64) -> Value {
    let bounded = value.min(remand_model::quota::VALUE_MAX);
    Value::try_from(bounded).expect("bounded to what the log holds")
}

/// Amounts for an event, by name.
#[must_use]
pub fn amounts(usage: &Usage) -> Value {
    let name = |dimension| match dimension {
        Dimension::Cpu => "cpu_ms",
        Dimension::Memory => "memory_bytes",
        Dimension::Disk => "disk_bytes",
        Dimension::Network => "network_bytes",
        Dimension::Tasks => "tasks",
        Dimension::Pids => "pids",
        Dimension::Output => "output_bytes",
    };
    let entries = Dimension::ALL.map(|dimension| (name(dimension).to_owned(), number(usage.get(dimension))));
    Value::Object(entries.into_iter().collect())
}

/// Writes a plan's events.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) plan: Plan,
    pub(crate) request_id: RequestId,
    /// The id of the last event.
    pub(crate) cause: Option<u64>,
}

impl Writer {
    pub(crate) fn execution_id(&self, step: usize) -> ExecutionId {
        execution_id(self.plan.tenant_id(), &self.request_id, &self.plan.hash(), step)
    }

    pub(crate) fn token_validation(&self, verdict: Result<(&TokenId, usize), &Refusal>) -> Entry {
        let subject: Subject =
            format!("plan:{}", self.plan.plan_id()).parse().expect("a plan's id is printable and short");
        let mut event = NewEvent::new(EventType::TOKEN_VALIDATION, subject)
            .claim("plan_hash", self.plan.hash())
            .claim("request_id", self.request_id.as_str())
            .claim("steps", number(self.plan.steps().len() as u64));
        if let Ok((token_id, blocks)) = verdict {
            event = event.claim("token_id", token_id.as_str()).claim("token_blocks", number(blocks as u64));
        }
        self.entry(judged(event, verdict.map(drop)))
    }

    pub(crate) fn scope_check(&self, step: usize, verdict: Result<(), &Refusal>) -> Entry {
        self.entry(judged(self.step_event(EventType::AUTHORIZATION_SCOPE_CHECK, step), verdict))
    }

    pub(crate) fn limit_check(&self, step: usize, verdict: Result<(&Usage, Vec<Charge>), &Refusal>) -> Entry {
        let mut event = self.step_event(EventType::RESOURCE_LIMIT_CHECK, step);
        let charges = match &verdict {
            Ok((reserved, charges)) => {
                event = event.claim("reserved", amounts(reserved));
                charges.clone()
            }
            Err(_) => Vec::new(),
        };
        Entry { charges, ..self.entry(judged(event, verdict.map(drop))) }
    }

    pub(crate) fn started(&self, step: usize, contract_hash: Option<Digest>, placed: Option<Placed>) -> Entry {
        let mut event = self.step_event(EventType::EXECUTION_STARTED, step);
        if let Some(hash) = contract_hash {
            event = event.claim("contract_hash", hash);
        }
        if let Some(placed) = placed {
            event = scheduled(event, &placed);
        }
        self.entry(event)
    }

    pub(crate) fn usage(&self, step: usize, usage: &Usage, settlement: Settlement) -> Entry {
        let event = self.step_event(EventType::RESOURCE_USAGE_RECORDED, step).observe("usage", amounts(usage));
        Entry { settlement: Some(settlement), ..self.entry(event) }
    }

    pub(crate) fn completed(&self, step: usize, verdict: Result<(), &Refusal>, claims: Object, seen: Object) -> Entry {
        let event = self
            .step_event(EventType::EXECUTION_COMPLETED, step)
            .claim("result", Value::Object(claims))
            .observe("result", Value::Object(seen));
        self.entry(judged(event, verdict))
    }

    pub(crate) fn denied(&self, step: usize, refusal: &Refusal) -> Entry {
        self.entry(judged(self.step_event(EventType::EXECUTION_DENIED, step), Err(refusal)))
    }

    pub(crate) fn aborted(&self, step: usize, failed: Option<usize>) -> Entry {
        let event = self.step_event(EventType::EXECUTION_ABORTED, step);
        let event = event.claim("verdict", Code::PlanAborted.name());
        self.entry(match failed {
            Some(failed) => event.claim("failed_step", number(failed as u64)),
            None => event,
        })
    }

    fn step_event(&self, event_type: EventType, index: usize) -> NewEvent {
        let step: &Step = &self.plan.steps()[index];
        NewEvent::new(event_type, &self.execution_id(index))
            .claim("plan_hash", self.plan.hash())
            .claim("step", number(index as u64))
            .claim("scope", step.scope().to_string())
            .claim("resource", step.resource().as_str())
            .claim("params_digest", step.params().digest())
    }

    fn entry(&self, event: NewEvent) -> Entry {
        let event = match self.cause {
            Some(id) => event.because(Cause::Event(id)),
            None => event,
        };
        Entry { tenant_id: self.plan.tenant_id().clone(), event, charges: Vec::new(), settlement: None }
    }
}

/// Notes when it was an execution's turn: another run of the same request may wait among others.
#[must_use]
pub fn scheduled(event: NewEvent, placed: &Placed) -> NewEvent {
    event.observe("schedule_hash", placed.schedule_hash).observe("schedule_order", number(placed.order))
}

/// The code of a refusal is a claim; its words, which may hold numbers of the moment, are an observation.
fn judged(event: NewEvent, verdict: Result<(), &Refusal>) -> NewEvent {
    match verdict {
        Ok(()) => event.claim("verdict", "allow"),
        Err(refusal) => event.claim("verdict", refusal.code.name()).observe("detail", refusal.detail.as_str()),
    }
}
