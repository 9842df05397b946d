//! The bounded queue before the writer: it pushes back, takes turns between tenants, and gathers groups.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use remand_model::TenantId;

/// Bounds of the queue and of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub queued_max: usize,
    pub queued_per_tenant_max: usize,
    pub batch_max: usize,
    pub gather: Duration,
}

/// Why a job was not taken; the job comes back.
#[derive(Debug)]
pub(super) enum Declined<J> {
    Full(J),
    Closed(J),
}

pub(super) struct Queue<J> {
    bounds: Bounds,
    inner: Mutex<Inner<J>>,
    work: Condvar,
    room: Condvar,
}

struct Inner<J> {
    lines: HashMap<TenantId, VecDeque<J>>,
    turns: VecDeque<TenantId>,
    queued: usize,
    /// The writer sleeps until so many jobs wait.
    wake_at: usize,
    /// Jobs of the last batch: how many to expect of the next.
    last: usize,
    closed: bool,
}

impl<J> Queue<J> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let inner =
            Inner { lines: HashMap::new(), turns: VecDeque::new(), queued: 0, wake_at: 1, last: 0, closed: false };
        Self { bounds, inner: Mutex::new(inner), work: Condvar::new(), room: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<J>> {
        self.inner.lock().expect("no thread panics while it holds the queue")
    }

    /// Puts a job into its tenant's line; waits for room.
    pub(super) fn push(&self, tenant: &TenantId, job: J) -> Result<(), Declined<J>> {
        let full = |inner: &mut Inner<J>| !inner.closed && inner.is_full(tenant, &self.bounds);
        let mut inner = self.room.wait_while(self.lock(), full).expect("no thread panics while it holds the queue");
        self.place(&mut inner, tenant, job)
    }

    /// Puts a job into its tenant's line where there is room.
    pub(super) fn try_push(&self, tenant: &TenantId, job: J) -> Result<(), Declined<J>> {
        let mut inner = self.lock();
        if !inner.closed && inner.is_full(tenant, &self.bounds) {
            return Err(Declined::Full(job));
        }
        self.place(&mut inner, tenant, job)
    }

    fn place(&self, inner: &mut Inner<J>, tenant: &TenantId, job: J) -> Result<(), Declined<J>> {
        if inner.closed {
            return Err(Declined::Closed(job));
        }
        match inner.lines.get_mut(tenant) {
            Some(line) => line.push_back(job),
            None => {
                inner.lines.insert(tenant.clone(), VecDeque::from([job]));
                inner.turns.push_back(tenant.clone());
            }
        }
        inner.queued += 1;
        if inner.queued == inner.wake_at {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits until there is a job, and says whether there will ever be one.
    pub(super) fn wait_for_work(&self) -> bool {
        self.wait(self.lock(), 1, None).queued > 0
    }

    /// Whether jobs come one at a time and none waits: then whoever has one loses nothing by doing it at once.
    pub(super) fn is_quiet(&self) -> bool {
        let inner = self.lock();
        inner.queued == 0 && inner.last <= 1 && !inner.closed
    }

    /// The next batch, one job of each tenant by turns; nothing when the queue is closed and empty.
    ///
    /// Where the last batch had many jobs, as many are waited for (they come from the same appenders, whose last batch was
    /// acknowledged just now), but never longer than the bound: a group costs one sync, whatever its size.
    pub(super) fn take(&self) -> Option<Vec<J>> {
        let expected = |inner: &Inner<J>| inner.last.min(self.bounds.batch_max).max(1);
        let mut inner = self.wait(self.lock(), 1, None);
        let many = expected(&inner);
        if inner.queued < many {
            inner = self.wait(inner, many, Some(self.bounds.gather));
        }
        let batch = inner.take(self.bounds.batch_max);
        inner.last = batch.len();
        drop(inner);
        self.room.notify_all();
        if batch.is_empty() { None } else { Some(batch) }
    }

    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner<J>>,
        many: usize,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Inner<J>> {
        let until = limit.map(|limit| Instant::now() + limit);
        let mut inner = inner;
        while inner.queued < many && !inner.closed {
            inner.wake_at = many;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            inner = match left {
                Some(Duration::ZERO) => break,
                Some(left) => self.work.wait_timeout(inner, left).expect("no thread panics with the queue").0,
                None => self.work.wait(inner).expect("no thread panics while it holds the queue"),
            };
        }
        inner.wake_at = 0;
        inner
    }

    /// Takes no more jobs; what waits is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Takes out everything that waits.
    pub(super) fn drain(&self) -> Vec<J> {
        let mut inner = self.lock();
        let all = inner.queued;
        inner.take(all)
    }
}

impl<J> Inner<J> {
    fn is_full(&self, tenant: &TenantId, bounds: &Bounds) -> bool {
        self.queued >= bounds.queued_max
            || self.lines.get(tenant).is_some_and(|line| line.len() >= bounds.queued_per_tenant_max)
    }

    fn take(&mut self, many: usize) -> Vec<J> {
        let mut batch = Vec::with_capacity(many.min(self.queued));
        while batch.len() < many {
            let Some(tenant) = self.turns.pop_front() else { break };
            let line = self.lines.get_mut(&tenant).expect("a tenant with a turn has a line");
            batch.extend(line.pop_front());
            if line.is_empty() {
                self.lines.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        self.queued -= batch.len();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(batch_max: usize) -> Queue<u32> {
        Queue::new(Bounds { queued_max: 8, queued_per_tenant_max: 5, batch_max, gather: Duration::ZERO })
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn tenants_take_turns_within_a_batch() {
        let queue = queue(4);
        for job in 0..5 {
            queue.try_push(&tenant("loud"), job).unwrap();
        }
        queue.try_push(&tenant("quiet"), 10).unwrap();
        assert_eq!(queue.take(), Some(vec![0, 10, 1, 2]));
        assert_eq!(queue.take(), Some(vec![3, 4]));
    }

    #[test]
    fn a_full_line_pushes_back_and_leaves_room_for_other_tenants() {
        let queue = queue(8);
        for job in 0..5 {
            queue.try_push(&tenant("loud"), job).unwrap();
        }
        assert!(matches!(queue.try_push(&tenant("loud"), 5), Err(Declined::Full(5))));
        for job in 0..3 {
            queue.try_push(&tenant("quiet"), job).unwrap();
        }
        assert!(matches!(queue.try_push(&tenant("other"), 1), Err(Declined::Full(1))));
    }

    #[test]
    fn a_closed_queue_hands_out_what_waits_and_takes_no_more() {
        let queue = queue(8);
        queue.try_push(&tenant("a"), 1).unwrap();
        queue.close();
        assert!(matches!(queue.push(&tenant("a"), 2), Err(Declined::Closed(2))));
        assert_eq!(queue.take(), Some(vec![1]));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn who_waits_for_room_gets_it_when_a_batch_is_taken() {
        let queue = queue(8);
        for job in 0..5 {
            queue.try_push(&tenant("loud"), job).unwrap();
        }
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.push(&tenant("loud"), 5).is_ok());
            assert_eq!(queue.take().map(|batch| batch.len() >= 5), Some(true));
            assert!(waiter.join().unwrap());
        });
    }
}
