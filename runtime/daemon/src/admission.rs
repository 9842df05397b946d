//! Who runs next: the scheduler of this node behind one lock. What finds room runs at once, without waking anybody; the rest
//! waits until a turn that ends passes it on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use remand_authority::quota::QuotaRegistry;
use remand_engine::scheduler::{Placed, Scheduler, Task};
use remand_engine::strategy::Strategy;
use remand_model::refusal::{Code, Refusal};
use remand_model::{ExecutionId, TenantId};
use tokio::sync::{Notify, oneshot};

/// How much may run and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Executions that run at once.
    pub executions_at_once: u64,
    /// Executions of one tenant that wait.
    pub queue_per_tenant: usize,
    /// Executions of all tenants that wait.
    pub queue_total: usize,
}

/// The line of a node. Clones share it.
#[derive(Clone)]
pub struct Admission(Arc<Mutex<Table>>);

type Told = Result<Turn, Refusal>;

struct Table {
    scheduler: Scheduler,
    /// Turns that nobody has.
    free: u64,
    callers: HashMap<ExecutionId, oneshot::Sender<Told>>,
}

/// Leave to run now; the next one's turn comes when it is dropped.
#[must_use = "a turn that is dropped is the next one's"]
pub struct Turn {
    admission: Admission,
    placed: Placed,
}

/// A place in the line; dropped, it is given up.
pub struct Waiting {
    admission: Admission,
    tenant: TenantId,
    id: ExecutionId,
    told: oneshot::Receiver<Told>,
}

/// What came of lining up.
#[must_use = "a place that is dropped is given up"]
pub enum Place {
    /// There was room.
    Now(Turn),
    /// It waits.
    Later(Waiting),
}

/// Why a turn never came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStarted {
    /// Somebody ended it.
    Cancelled,
    /// It had to give way, or may not run any more.
    Refused(Refusal),
}

impl Admission {
    /// A line in which nobody waits.
    #[must_use]
    pub fn new(strategy: Box<dyn Strategy>, bounds: Bounds) -> Self {
        let scheduler = Scheduler::new(strategy, bounds.executions_at_once);
        let scheduler = scheduler.bounded(bounds.queue_per_tenant, bounds.queue_total);
        let table = Table { scheduler, free: bounds.executions_at_once, callers: HashMap::new() };
        Self(Arc::new(Mutex::new(table)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines up one execution whose quota was checked.
    ///
    /// # Errors
    /// `queue_full` with a hint, and those of [`Scheduler::schedule`].
    pub fn line_up(&self, task: Task, quotas: &QuotaRegistry) -> Result<Place, Refusal> {
        let (tenant, id) = (task.tenant_id.clone(), task.task_id.clone());
        let (sender, mut told) = oneshot::channel();
        let mut table = self.table();
        let scheduled = table.scheduler.schedule(&tenant, &[task], quotas)?;
        table.callers.insert(id.clone(), sender);
        let shed: Vec<_> = scheduled.shed.into_iter().map(|shed| (shed.task.task_id, Err(shed.refusal))).collect();
        let mut news: Vec<_> =
            shed.into_iter().filter_map(|(id, told)| Some((table.callers.remove(&id)?, told))).collect();
        news.extend(table.turns().into_iter().map(|(caller, placed)| (caller, Ok(placed))));
        drop(table);
        self.tell(news);
        match told.try_recv() {
            Ok(Ok(turn)) => Ok(Place::Now(turn)),
            Ok(Err(refusal)) => Err(refusal),
            Err(_nothing_yet) => Ok(Place::Later(Waiting { admission: self.clone(), tenant, id, told })),
        }
    }

    /// Whether this execution waits for its turn.
    #[must_use]
    pub fn is_waiting(&self, id: &ExecutionId) -> bool {
        self.table().scheduler.is_waiting(id)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.table().scheduler.len()
    }

    /// The strategy's name.
    #[must_use]
    pub fn strategy(&self) -> &'static str {
        self.table().scheduler.strategy()
    }

    /// Outside of the lock: a caller that is gone gives its turn back here.
    fn tell(&self, news: Vec<(oneshot::Sender<Told>, Result<Placed, Refusal>)>) {
        for (caller, told) in news {
            let told = told.map(|placed| Turn { admission: self.clone(), placed });
            if let Err(unwanted) = caller.send(told) {
                drop(unwanted);
            }
        }
    }

    fn give_back(&self) {
        let mut table = self.table();
        table.free += 1;
        let news = table.turns().into_iter().map(|(caller, placed)| (caller, Ok(placed))).collect();
        drop(table);
        self.tell(news);
    }
}

impl Table {
    /// Gives every free turn to whoever is next.
    fn turns(&mut self) -> Vec<(oneshot::Sender<Told>, Placed)> {
        let mut turns = Vec::new();
        while self.free > 0
            && let Some(ticket) = self.scheduler.next(|_| true)
        {
            let placed = Placed { order: ticket.order, schedule_hash: ticket.schedule_hash };
            if let Some(caller) = self.callers.remove(&ticket.task.task_id) {
                self.free -= 1;
                turns.push((caller, placed));
            }
        }
        turns
    }
}

impl Turn {
    /// Where it came in the order of the node.
    #[must_use]
    pub const fn placed(&self) -> Placed {
        self.placed
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.admission.give_back();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        let waits = table.callers.remove(&self.id).is_some();
        if waits && let Err(refusal) = table.scheduler.cancel(&self.tenant, &self.id) {
            tracing::error!(%refusal, execution = %self.id, "who waited was not in the line");
        }
    }
}

impl Place {
    /// Whether it has to wait.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self, Self::Later(_))
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub async fn turn(self, cancel: &Notify) -> Result<Turn, NotStarted> {
        let mut waiting = match self {
            Self::Now(turn) => return Ok(turn),
            Self::Later(waiting) => waiting,
        };
        tokio::select! {
            told = &mut waiting.told => match told {
                Ok(told) => told.map_err(NotStarted::Refused),
                Err(_gone) => Err(NotStarted::Refused(Refusal::new(Code::Internal, "the line is gone"))),
            },
            () = cancel.notified() => Err(NotStarted::Cancelled),
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
