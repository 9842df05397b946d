//! Runs a plan: asks the runner, does what it wants, answers. The permit lives here, between check and settlement.

use remand_authority::Clock;
use remand_authority::permit::{Authority, Call, Permit, Scoped, Settlement};
use remand_authority::token::{Presented, TokenBytes, VerifiedToken};
use remand_model::RequestId;
use remand_model::grant::{Trigger, UserId};
use remand_model::plan::{Plan, Step};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use remand_model::{ExecutionId, TenantId};

use crate::domain::{Domain, Domains, Done};
use crate::events::Entry;
use crate::runner::{Answer, Ask, Ending, Ran, Room, Runner};
use crate::scheduler::Placed;

/// What takes events, durably. `record` returns only when the event cannot be lost any more.
pub trait Journal {
    /// Records one entry and returns its event's id.
    ///
    /// # Errors
    /// A charge's `refused_as` where a counter cannot move; else `audit_unavailable`, which ends every run.
    fn record(&mut self, entry: Entry) -> Result<u64, Refusal>;
}

/// What decides: the authority, seen from one run.
pub trait Gate {
    /// Validates the run's token, once.
    ///
    /// # Errors
    /// Those of `TokenRegistry::validate`.
    fn validate(&mut self) -> Result<VerifiedToken, Refusal>;

    /// Checks a step's scope.
    ///
    /// # Errors
    /// Those of [`Domain::need`] and `Authority::authorize`.
    fn authorize(&mut self, token: &VerifiedToken, step: &Step, domain: &dyn Domain) -> Result<Scoped, Refusal>;

    /// Sets room aside.
    ///
    /// # Errors
    /// Those of `Authority::permit`.
    fn permit(&mut self, scoped: Scoped) -> Result<Permit, Refusal>;

    /// Waits until it is this execution's turn, where it is one that takes turns.
    ///
    /// # Errors
    /// `queue_full`, `task_shed`, `execution_cancelled`.
    fn place(&mut self, _permit: &Permit, _execution_id: &ExecutionId) -> Result<Option<Placed>, Refusal> {
        Ok(None)
    }

    /// Takes a permit back, and the turn with it.
    fn settle(&mut self, permit: Permit, used: &Usage) -> Settlement;
}

/// Who runs a plan, on what occasion.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The tenant attached to.
    pub tenant_id: &'a TenantId,
    /// The user of the session.
    pub user_id: &'a UserId,
    /// The role in which it acts.
    pub role: Role,
    /// What set it off.
    pub trigger: Trigger,
}

/// A gate over an authority that nobody else uses meanwhile. A daemon locks its authority in each method of its own gate.
pub struct Direct<'a, C: FnMut() -> Clock> {
    /// The registries.
    pub authority: &'a mut Authority,
    /// Who runs the plan.
    pub caller: Caller<'a>,
    /// The token that came with it.
    pub token: &'a TokenBytes,
    /// Reads the clocks.
    pub clock: C,
}

impl<C: FnMut() -> Clock> Gate for Direct<'_, C> {
    fn validate(&mut self) -> Result<VerifiedToken, Refusal> {
        let Caller { tenant_id, user_id, trigger, .. } = self.caller;
        let clock = (self.clock)();
        self.authority.tokens.validate(self.token, &Presented { tenant_id, user_id, trigger, clock })
    }

    fn authorize(&mut self, token: &VerifiedToken, step: &Step, domain: &dyn Domain) -> Result<Scoped, Refusal> {
        let clock = (self.clock)();
        authorize_step(self.authority, token, self.caller.role, step, domain, &clock)
    }

    fn permit(&mut self, scoped: Scoped) -> Result<Permit, Refusal> {
        self.authority.permit(scoped, &(self.clock)())
    }

    fn settle(&mut self, permit: Permit, used: &Usage) -> Settlement {
        self.authority.settle(permit, used, &(self.clock)())
    }
}

/// What a gate's `authorize` does once it holds the authority.
///
/// # Errors
/// Those of [`Domain::need`] and `Authority::authorize`.
pub fn authorize_step(
    authority: &mut Authority,
    token: &VerifiedToken,
    role: Role,
    step: &Step,
    domain: &dyn Domain,
    clock: &Clock,
) -> Result<Scoped, Refusal> {
    let need = domain.need(token.tenant_id(), step, &authority.contracts)?;
    let call = Call { scope: step.scope(), resource: step.resource(), contract: need.contract, demand: need.demand };
    authority.authorize(token, role, call, clock)
}

/// What is released of a step: only after its completion was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The execution.
    pub execution_id: ExecutionId,
    /// What it gave.
    pub output: Vec<u8>,
}

/// What came of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// Outputs of the steps whose completion was recorded, in order.
    pub released: Vec<Released>,
}

/// Runs a plan to its end. Blocks where journal, gate and domains block.
///
/// The plan's tenant must be the caller's; a gate refuses a token of another.
pub fn run(
    plan: Plan,
    request_id: RequestId,
    gate: &mut dyn Gate,
    domains: &Domains,
    journal: &mut dyn Journal,
) -> Report {
    let runner = Runner::new(plan, request_id);
    let mut ask = runner.start();
    let mut run =
        Run { runner, gate, domains, token: None, scoped: None, permit: None, pending: None, released: vec![] };
    loop {
        let answer = match ask {
            Ask::Token => Answer::Token(run.validate()),
            Ask::Scope(step) => Answer::Scope(run.authorize(step)),
            Ask::Limit(step) => Answer::Limit(run.limit(step)),
            Ask::Execute(step, id) => Answer::Execute(run.execute(step, id)),
            Ask::Record(entry) => Answer::Record(journal.record(entry)),
            Ask::Ended(ending) => return run.end(ending),
        };
        let was_recorded = matches!(answer, Answer::Record(Ok(_)));
        ask = run.runner.answer(answer);
        run.after(&ask, was_recorded);
    }
}

struct Run<'a> {
    runner: Runner,
    gate: &'a mut dyn Gate,
    domains: &'a Domains,
    token: Option<VerifiedToken>,
    scoped: Option<Scoped>,
    permit: Option<Permit>,
    /// An output whose completion is not recorded yet.
    pending: Option<(usize, Released)>,
    released: Vec<Released>,
}

impl Run<'_> {
    fn validate(&mut self) -> Result<(remand_model::grant::TokenId, usize), Refusal> {
        let token = self.gate.validate()?;
        if token.tenant_id() != self.runner.plan().tenant_id() {
            return Err(Refusal::new(Code::TokenTenantMismatch, "the plan is of another tenant than the token"));
        }
        let facts = (token.token_id().clone(), token.block_count());
        self.token = Some(token);
        Ok(facts)
    }

    fn authorize(&mut self, step: usize) -> Result<(), Refusal> {
        let step = &self.runner.plan().steps()[step];
        let domain = self.domains.get(&step.scope().domain)?;
        let token = self.token.as_ref().expect("a scope is checked only after its token");
        self.scoped = Some(self.gate.authorize(token, step, domain)?);
        Ok(())
    }

    fn limit(&mut self, step: usize) -> Result<Room, Refusal> {
        let scoped = self.scoped.take().expect("limits are checked only after the scope");
        let permit = self.gate.permit(scoped)?;
        let placed = match self.gate.place(&permit, &self.runner.execution_id(step)) {
            Ok(placed) => placed,
            Err(refusal) => {
                // The limit check is not recorded, so that no counter has moved and nothing is to be stored.
                drop(self.gate.settle(permit, &Usage::default()));
                return Err(refusal);
            }
        };
        let (reserved, charges) = (*permit.reserved(), permit.charges().to_vec());
        let room = Room { reserved, charges, contract_hash: permit.contract_hash(), placed };
        self.permit = Some(permit);
        Ok(room)
    }

    fn execute(&mut self, step: usize, execution_id: ExecutionId) -> Ran {
        let permit = self.permit.take().expect("nothing is executed without a permit");
        let call = &self.runner.plan().steps()[step];
        let done = match self.domains.get(&call.scope().domain) {
            Ok(domain) => domain.execute(&permit, &execution_id, call.params()),
            Err(refusal) => unavailable(refusal),
        };
        let Done { verdict, claims, observations, usage, output } = done;
        if verdict.is_ok() {
            self.pending = Some((step, Released { execution_id, output }));
        }
        Ran { verdict, claims, observations, usage, settlement: self.gate.settle(permit, &usage) }
    }

    /// Releases an output once the run has gone past its completion.
    fn after(&mut self, ask: &Ask, was_recorded: bool) {
        let step = match ask {
            Ask::Scope(next) if was_recorded => *next,
            Ask::Ended(Ending::Completed) => self.runner.plan().steps().len(),
            _ => return,
        };
        if let Some((_, released)) = self.pending.take_if(|(done, _)| *done < step) {
            self.released.push(released);
        }
    }

    /// A permit that was not used gives its room back, whatever ended the run.
    fn end(mut self, ending: Ending) -> Report {
        if let Some(permit) = self.permit.take() {
            // Nothing was used, so that there is nothing to store: the room is given back in memory, and the counters of a
            // limit check that was recorded stay charged, which costs the tenant a call and never the node.
            drop(self.gate.settle(permit, &Usage::default()));
        }
        Report { ending, released: self.released }
    }
}

fn unavailable(refusal: Refusal) -> Done {
    let (claims, observations) = Default::default();
    Done { verdict: Err(refusal), claims, observations, usage: Usage::default(), output: Vec::new() }
}
