//! Which task runs next: bounded queues, one lane for each tenant, and a strategy that picks the lane.
//!
//! What is scheduled together is a set: its hash and its order do not depend on the order in which it came. A full lane
//! refuses; a full node takes room from the tenant that holds most beyond its share, so that nobody can fill it for others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use remand_authority::quota::QuotaRegistry;
use remand_model::canonical::{self, Object, Value};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION, TenantId};

use crate::events::{amounts, number};
use crate::strategy::{Lanes, Strategy, behind};

/// Tasks that wait in one tenant's lane, where nothing else is said.
pub const LANE_MAX: usize = 1024;
/// Tasks that wait on one node, where nothing else is said.
pub const QUEUE_MAX: usize = 16_384;
/// The longest hint, in milliseconds.
pub const RETRY_MS_MAX: u64 = 60_000;

/// One thing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The execution: unique on its node.
    pub task_id: ExecutionId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What it is served as: processor time that it may use, in milliseconds.
    pub cost_ms: u64,
    /// More is more urgent, within the tenant, and with strict priority on the node.
    pub priority: u8,
    /// What it asks of the quota.
    pub demand: Usage,
}

/// A task whose turn it is.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket's task was taken from its queue"]
pub struct Ticket {
    /// The task.
    pub task: Task,
    /// Its place in the order of this node, from 0.
    pub order: u64,
    /// The hash of the set that it was scheduled with.
    pub schedule_hash: Digest,
}

/// Where a task came in the order of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its place in the order of this node, from 0.
    pub order: u64,
    /// The hash of the set that it was scheduled with.
    pub schedule_hash: Digest,
}

/// A task that gave way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shed {
    /// The task.
    pub task: Task,
    /// Why, and when to try again.
    pub refusal: Refusal,
}

/// What became of a set of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// The hash of the set, the refused ones included.
    pub schedule_hash: Digest,
    /// Those that wait now, in canonical order.
    pub queued: Vec<ExecutionId>,
    /// Those that do not, of this set or of another that gave way to it.
    pub shed: Vec<Shed>,
}

/// The hash of a set of tasks: SHA-256 over its canonical form, sorted by tenant and task.
///
/// # Errors
/// `conflict` where a task is in it twice.
pub fn compute_schedule_hash(tasks: &[Task]) -> Result<Digest, Refusal> {
    Ok(hash_of(&sorted(tasks)?))
}

fn sorted(tasks: &[Task]) -> Result<Vec<&Task>, Refusal> {
    let mut sorted: Vec<&Task> = tasks.iter().collect();
    sorted.sort_by_key(|task| (&task.tenant_id, &task.task_id));
    match sorted.windows(2).find(|pair| pair[0].task_id == pair[1].task_id) {
        Some(pair) => Err(Refusal::new(Code::Conflict, format!("{} twice", pair[0].task_id))),
        None => Ok(sorted),
    }
}

fn hash_of(sorted: &[&Task]) -> Digest {
    let object = |members: [(&str, Value); 5]| -> Object {
        members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let task = |task: &&Task| {
        Value::Object(object([
            ("task_id", task.task_id.as_str().into()),
            ("tenant_id", task.tenant_id.as_str().into()),
            ("cost_ms", number(task.cost_ms)),
            ("priority", task.priority.into()),
            ("demand", amounts(&task.demand)),
        ]))
    };
    let set: Object = [
        ("protocol_version".to_owned(), PROTOCOL_VERSION.into()),
        ("tasks".to_owned(), Value::List(sorted.iter().map(task).collect())),
    ]
    .into();
    canonical::hash(&Value::Object(set))
}

/// Place in a lane: urgent first, then the set that came earlier, then the name.
type Rank = (Reverse<u8>, u64, ExecutionId);

#[derive(Default)]
struct Lane {
    tasks: BTreeMap<Rank, (Task, Digest)>,
    cost_ms: u64,
    weight: u64,
}

impl Lane {
    fn remove(&mut self, rank: &Rank) -> Option<(Task, Digest)> {
        let (task, hash) = self.tasks.remove(rank)?;
        self.cost_ms = self.cost_ms.saturating_sub(task.cost_ms);
        Some((task, hash))
    }
}

/// The scheduler of one node.
pub struct Scheduler {
    strategy: Box<dyn Strategy>,
    lanes: BTreeMap<TenantId, Lane>,
    waiting: BTreeMap<ExecutionId, (TenantId, Rank)>,
    sets: u64,
    served: u64,
    /// Executions that run at once; hints are reckoned with it.
    slots: u64,
    lane_max: usize,
    queue_max: usize,
}

struct View<'a> {
    lanes: &'a BTreeMap<TenantId, Lane>,
    may_run: &'a dyn Fn(&Task) -> bool,
}

impl<'a> View<'a> {
    fn first(&self, lane: &'a Lane) -> Option<(u64, &'a Task)> {
        let (task, _) = lane.tasks.values().next()?;
        (self.may_run)(task).then_some((lane.weight, task))
    }
}

impl Lanes for View<'_> {
    fn ready_after(&self, after: Option<&TenantId>) -> Option<(&TenantId, u64, &Task)> {
        let mut rest = self.lanes.range::<TenantId, _>(behind(after));
        rest.find_map(|(tenant_id, lane)| self.first(lane).map(|(weight, task)| (tenant_id, weight, task)))
    }

    fn ready(&self, tenant_id: &TenantId) -> Option<(u64, &Task)> {
        self.lanes.get(tenant_id).and_then(|lane| self.first(lane))
    }
}

impl Scheduler {
    /// An empty scheduler for a node that runs `slots` executions at once.
    #[must_use]
    pub fn new(strategy: Box<dyn Strategy>, slots: u64) -> Self {
        let (lanes, waiting) = Default::default();
        let (lane_max, queue_max) = (LANE_MAX, QUEUE_MAX);
        Self { strategy, lanes, waiting, sets: 0, served: 0, slots: slots.max(1), lane_max, queue_max }
    }

    /// The same with other bounds: tasks that wait in one tenant's lane, and on the node.
    #[must_use]
    pub fn bounded(self, lane_max: usize, queue_max: usize) -> Self {
        Self { lane_max, queue_max, ..self }
    }

    /// The strategy's name.
    #[must_use]
    pub fn strategy(&self) -> &'static str {
        self.strategy.name()
    }

    /// Number of tasks that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Schedules a set of one tenant's tasks: those that its quota could never allow are refused first, then those that find
    /// no room.
    ///
    /// # Errors
    /// For the whole set: `conflict` where a task is in it twice or waits already, `tenant_mismatch` where one is another
    /// tenant's, `quota_missing`.
    pub fn schedule(
        &mut self,
        tenant_id: &TenantId,
        tasks: &[Task],
        quotas: &QuotaRegistry,
    ) -> Result<Scheduled, Refusal> {
        let set = sorted(tasks)?;
        self.check_set(tenant_id, &set)?;
        let weight = quotas.get_quota(tenant_id)?.quota.weight;
        let schedule_hash = hash_of(&set);
        let (mut queued, mut shed) = (Vec::new(), Vec::new());
        for task in set {
            let admitted =
                quotas.check_ceiling(tenant_id, &task.demand).and_then(|()| self.make_room(tenant_id, weight));
            match admitted {
                Ok(evicted) => {
                    shed.extend(evicted);
                    self.push(task.clone(), schedule_hash, weight);
                    queued.push(task.task_id.clone());
                }
                Err(refusal) => shed.push(Shed { task: task.clone(), refusal }),
            }
        }
        self.sets += 1;
        Ok(Scheduled { schedule_hash, queued, shed })
    }

    /// Whether this task waits.
    #[must_use]
    pub fn is_waiting(&self, task_id: &ExecutionId) -> bool {
        self.waiting.contains_key(task_id)
    }

    /// The next task, of those that may run now. A tenant whose first task may not is passed over and keeps its turn's
    /// savings.
    pub fn next(&mut self, may_run: impl Fn(&Task) -> bool) -> Option<Ticket> {
        let tenant_id = self.strategy.pick(&View { lanes: &self.lanes, may_run: &may_run })?;
        let rank = self.lanes.get(&tenant_id)?.tasks.keys().next()?.clone();
        let (task, schedule_hash) = self.take(&tenant_id, &rank)?;
        let order = self.served;
        self.served += 1;
        Some(Ticket { task, order, schedule_hash })
    }

    /// Takes one waiting task out.
    ///
    /// # Errors
    /// `not_found` where the tenant has no such task waiting.
    pub fn cancel(&mut self, tenant_id: &TenantId, task_id: &ExecutionId) -> Result<Task, Refusal> {
        let unknown = || Refusal::new(Code::NotFound, task_id.as_str());
        let (_, rank) =
            self.waiting.get(task_id).filter(|(owner, _)| owner == tenant_id).cloned().ok_or_else(unknown)?;
        self.take(tenant_id, &rank).map(|(task, _)| task).ok_or_else(unknown)
    }

    /// Takes all waiting tasks of a tenant out.
    pub fn remove_tenant(&mut self, tenant_id: &TenantId) -> Vec<Task> {
        let lane = self.lanes.remove(tenant_id).unwrap_or_default();
        self.strategy.idle(tenant_id);
        let tasks: Vec<Task> = lane.tasks.into_values().map(|(task, _)| task).collect();
        tasks.iter().for_each(|task| drop(self.waiting.remove(&task.task_id)));
        tasks
    }

    fn check_set(&self, tenant_id: &TenantId, set: &[&Task]) -> Result<(), Refusal> {
        for task in set {
            if task.tenant_id != *tenant_id {
                return Err(Refusal::new(Code::TenantMismatch, format!("{} is another tenant's", task.task_id)));
            }
            if self.waiting.contains_key(&task.task_id) {
                return Err(Refusal::new(Code::Conflict, format!("{} waits already", task.task_id)));
            }
        }
        Ok(())
    }

    fn push(&mut self, task: Task, schedule_hash: Digest, weight: u64) {
        let rank = (Reverse(task.priority), self.sets, task.task_id.clone());
        self.waiting.insert(task.task_id.clone(), (task.tenant_id.clone(), rank.clone()));
        let lane = self.lanes.entry(task.tenant_id.clone()).or_default();
        lane.weight = weight;
        lane.cost_ms = lane.cost_ms.saturating_add(task.cost_ms);
        lane.tasks.insert(rank, (task, schedule_hash));
    }

    fn take(&mut self, tenant_id: &TenantId, rank: &Rank) -> Option<(Task, Digest)> {
        let lane = self.lanes.get_mut(tenant_id)?;
        let taken = lane.remove(rank)?;
        if lane.tasks.is_empty() {
            self.lanes.remove(tenant_id);
            self.strategy.idle(tenant_id);
        }
        self.waiting.remove(&taken.0.task_id);
        Some(taken)
    }

    /// Room for one more task of this tenant, taken from another where the node is full.
    fn make_room(&mut self, tenant_id: &TenantId, weight: u64) -> Result<Option<Shed>, Refusal> {
        let own = self.lanes.get(tenant_id).map_or(0, |lane| lane.tasks.len());
        if own >= self.lane_max {
            let detail = format!("{own} tasks of this tenant wait; {} at most", self.lane_max);
            return Err(Refusal::new(Code::QueueFull, detail).retry_after(self.drain_ms(tenant_id)));
        }
        if self.waiting.len() < self.queue_max {
            return Ok(None);
        }
        // Tasks per weight, cross-multiplied: only a tenant that holds more than this one would gives way.
        let load = |lane: &Lane| (lane.tasks.len() as u64, lane.weight.max(1));
        let above =
            |a: (u64, u64), b: (u64, u64)| u128::from(a.0) * u128::from(b.1) > u128::from(b.0) * u128::from(a.1);
        let most = self.lanes.iter().reduce(|most, next| if above(load(next.1), load(most.1)) { next } else { most });
        let mine = (own as u64 + 1, weight.max(1));
        let Some((victim, lane)) = most.filter(|(_, lane)| above(load(lane), mine)) else {
            let detail = format!("{} tasks wait on this node", self.queue_max);
            return Err(Refusal::new(Code::QueueFull, detail).retry_after(self.drain_ms(tenant_id)));
        };
        let (victim, last) = (victim.clone(), lane.tasks.keys().next_back().cloned());
        let detail = format!("{} tasks wait on this node, most of them this tenant's", self.queue_max);
        let refusal = Refusal::new(Code::TaskShed, detail).retry_after(self.drain_ms(&victim));
        Ok(last.and_then(|rank| self.take(&victim, &rank)).map(|(task, _)| Shed { task, refusal }))
    }

    /// How long the tenant's lane takes to drain at its share of the node's slots; 100 ms to one minute.
    fn drain_ms(&self, tenant_id: &TenantId) -> u64 {
        let total: u128 = self.lanes.values().map(|lane| u128::from(lane.weight.max(1))).sum();
        let (cost, weight) = self.lanes.get(tenant_id).map_or((0, 1), |lane| (lane.cost_ms, lane.weight.max(1)));
        let drain = u128::from(cost) * total.max(1) / u128::from(weight) / u128::from(self.slots);
        u64::try_from(drain).unwrap_or(u64::MAX).clamp(100, RETRY_MS_MAX)
    }
}
