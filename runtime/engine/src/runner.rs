//! A plan's run as a table `(State, Answer) -> (State, Ask)`. It decides what comes next and acts on nothing.
//!
//! Every check is followed by the event that records it, and nothing follows an event that was not recorded. The first
//! failure of anything ends the run; steps that were not reached are recorded as aborted. Where the log itself failed, nothing
//! more can be recorded: the log's recovery closes what is open as lost.

use remand_authority::permit::Settlement;
use remand_model::canonical::Object;
use remand_model::grant::TokenId;
use remand_model::plan::Plan;
use remand_model::quota::{Charge, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, RequestId};

use crate::events::{Entry, Writer};
use crate::scheduler::Placed;

/// What the runner wants next. The answer to each is the [`Answer`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a run stands still until it is answered"]
pub enum Ask {
    /// Validate the plan's token.
    Token,
    /// Check the scope of this step.
    Scope(usize),
    /// Check the limits of this step.
    Limit(usize),
    /// Record this, durably.
    Record(Entry),
    /// Execute this step.
    Execute(usize, ExecutionId),
    /// Nothing: the run is over.
    Ended(Ending),
}

/// What the rim found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The token is valid, with its number of blocks, or not.
    Token(Result<(TokenId, usize), Refusal>),
    /// The scope is allowed or not.
    Scope(Result<(), Refusal>),
    /// The limits allow it, with what was set aside, or not.
    Limit(Result<Room, Refusal>),
    /// It is durable, under this event id, or it is not.
    Record(Result<u64, Refusal>),
    /// What came of the step.
    Execute(Ran),
}

/// Room that was set aside for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What is set aside.
    pub reserved: Usage,
    /// Counters that must move with the limit check's event.
    pub charges: Vec<Charge>,
    /// The contract, where the step executes one.
    pub contract_hash: Option<Digest>,
    /// Its place in the order of the node, where the step had to wait for one.
    pub placed: Option<Placed>,
}

/// What came of a step that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Whether it counts as done.
    pub verdict: Result<(), Refusal>,
    /// What replay would give again.
    pub claims: Object,
    /// What was seen.
    pub observations: Object,
    /// What was used.
    pub usage: Usage,
    /// What the settled permit gives back and adds up.
    pub settlement: Settlement,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Every step was completed.
    Completed,
    /// This refusal ended it, at this step, or at the token where there is none. All of it is recorded.
    Failed(Option<usize>, Refusal),
    /// The log did not take an event. What was open is closed as lost when the log is recovered.
    Unrecorded(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Token,
    TokenNoted(Result<(), Refusal>),
    Scope(usize),
    ScopeNoted(usize, Result<(), Refusal>),
    Limit(usize),
    LimitNoted(usize, Option<Digest>, Option<Placed>),
    LimitDenied(usize, Refusal),
    Started(usize),
    Execute(usize),
    UsageNoted(usize, Box<Ran>),
    Completed(usize, Result<(), Refusal>),
    Denied(usize, Refusal),
    /// This step's abort is being recorded; the run failed at the second, for the third.
    Aborting(usize, Option<usize>, Refusal),
    Ended(Ending),
}

/// One run of one plan.
#[derive(Debug)]
pub struct Runner {
    writer: Writer,
    state: State,
}

impl Runner {
    /// The run of a plan under a request's id. Nothing happens yet.
    #[must_use]
    pub const fn new(plan: Plan, request_id: RequestId) -> Self {
        Self { writer: Writer { plan, request_id, cause: None }, state: State::Token }
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.writer.plan
    }

    /// The id of a step's execution.
    #[must_use]
    pub fn execution_id(&self, step: usize) -> ExecutionId {
        self.writer.execution_id(step)
    }

    /// The first question.
    pub const fn start(&self) -> Ask {
        Ask::Token
    }

    /// Takes the answer to the last question and asks the next one.
    ///
    /// # Panics
    /// Where the answer is to another question: the rim's mistake, and no run can go on after it.
    pub fn answer(&mut self, answer: Answer) -> Ask {
        if let Answer::Record(Ok(event_id)) = &answer {
            self.writer.cause = Some(*event_id);
        }
        let state = std::mem::replace(&mut self.state, State::Token);
        let (state, ask) = match (state, answer) {
            (State::LimitNoted(step, ..), Answer::Record(Err(refusal))) if is_exhausted(&refusal) => {
                self.deny_limit(step, refusal)
            }
            (_, Answer::Record(Err(refusal))) => end(Ending::Unrecorded(refusal)),
            (state, Answer::Record(Ok(_))) => self.recorded(state),
            (state, answer) => self.checked(state, answer),
        };
        self.state = state;
        ask
    }

    /// A check was made: its event is next.
    fn checked(&self, state: State, answer: Answer) -> (State, Ask) {
        match (state, answer) {
            (State::Token, Answer::Token(verdict)) => {
                let entry = self.writer.token_validation(verdict.as_ref().map(|(id, blocks)| (id, *blocks)));
                (State::TokenNoted(verdict.map(drop)), Ask::Record(entry))
            }
            (State::Scope(step), Answer::Scope(verdict)) => {
                let entry = self.writer.scope_check(step, verdict.as_ref().copied());
                (State::ScopeNoted(step, verdict), Ask::Record(entry))
            }
            (State::Limit(step), Answer::Limit(Ok(room))) => {
                let entry = self.writer.limit_check(step, Ok((&room.reserved, room.charges)));
                (State::LimitNoted(step, room.contract_hash, room.placed), Ask::Record(entry))
            }
            (State::Limit(step), Answer::Limit(Err(refusal))) => self.deny_limit(step, refusal),
            (State::Execute(step), Answer::Execute(ran)) => {
                let entry = self.writer.usage(step, &ran.usage, ran.settlement.clone());
                (State::UsageNoted(step, Box::new(ran)), Ask::Record(entry))
            }
            (state, answer) => panic!("{answer:?} is no answer in {state:?}"),
        }
    }

    /// An event is durable: what it recorded may take effect.
    fn recorded(&self, state: State) -> (State, Ask) {
        match state {
            State::TokenNoted(Ok(())) => (State::Scope(0), Ask::Scope(0)),
            State::TokenNoted(Err(refusal)) => self.abort(0, None, refusal),
            State::ScopeNoted(step, Ok(())) => (State::Limit(step), Ask::Limit(step)),
            State::ScopeNoted(step, Err(refusal)) | State::LimitDenied(step, refusal) => {
                let entry = self.writer.denied(step, &refusal);
                (State::Denied(step, refusal), Ask::Record(entry))
            }
            State::LimitNoted(step, contract_hash, placed) => {
                (State::Started(step), Ask::Record(self.writer.started(step, contract_hash, placed)))
            }
            State::Started(step) => (State::Execute(step), Ask::Execute(step, self.execution_id(step))),
            State::UsageNoted(step, ran) => {
                let Ran { verdict, claims, observations, .. } = *ran;
                let entry = self.writer.completed(step, verdict.as_ref().copied(), claims, observations);
                (State::Completed(step, verdict), Ask::Record(entry))
            }
            State::Completed(step, Ok(())) if step + 1 == self.plan().steps().len() => end(Ending::Completed),
            State::Completed(step, Ok(())) => (State::Scope(step + 1), Ask::Scope(step + 1)),
            State::Completed(step, Err(refusal)) | State::Denied(step, refusal) => {
                self.abort(step + 1, Some(step), refusal)
            }
            State::Aborting(step, failed, refusal) => self.abort(step + 1, failed, refusal),
            state => panic!("nothing was to be recorded in {state:?}"),
        }
    }

    fn deny_limit(&self, step: usize, refusal: Refusal) -> (State, Ask) {
        let entry = self.writer.limit_check(step, Err(&refusal));
        (State::LimitDenied(step, refusal), Ask::Record(entry))
    }

    fn abort(&self, step: usize, failed: Option<usize>, refusal: Refusal) -> (State, Ask) {
        if step >= self.plan().steps().len() {
            return end(Ending::Failed(failed, refusal));
        }
        let entry = self.writer.aborted(step, failed);
        (State::Aborting(step, failed, refusal), Ask::Record(entry))
    }
}

fn end(ending: Ending) -> (State, Ask) {
    (State::Ended(ending.clone()), Ask::Ended(ending))
}

/// Whether the store refused because a counter is used up, and not because it cannot record.
fn is_exhausted(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::CallsExhausted | Code::BudgetExhausted)
}
