//! The handle that rooms hold: appends through the one writer, reads what is durable.
//!
//! Between an opening of the store and the next one lies a [`Life`]; a failed write ends it for appenders, see [`super::reopen`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remand_model::{ExecutionId, TenantId};

use super::queue::{Bounds, Declined, Queue};
use super::sqlite::SqliteStore;
use super::tree::{TileCache, View};
use super::writer::{self, Desk, Job, OPEN_NAMESPACE, Writer, number};
use super::{
    Ack, AppendError, AuditReader, AuditStore, Chain, Head, LogTree, StateKey, StateScan, StoreError, Transaction,
};
use crate::recovery;

pub use crate::recovery::OpenError;

/// Told the outcome of a transaction, on the writer's thread: it must be quick and must not wait for the ledger.
pub type Completion = Box<dyn FnOnce(Result<Ack, AppendError>) + Send>;

/// Where the wall clock comes from.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970 (UTC). It may jump; nothing but the observation depends on it.
    fn wall_clock_us(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_clock_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX).min(1 << 53).min((1 << 53) - 1)
    }
}

/// Bounds of a ledger.
#[derive(Clone)]
pub struct Options {
    /// Transactions that may wait, of all tenants together.
    pub queued_max: usize,
    /// Transactions of one tenant that may wait.
    pub queued_per_tenant_max: usize,
    /// Transactions of one commit.
    pub batch_max: usize,
    /// The longest wait for a group to gather. A lone appender never waits.
    pub gather: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queued_max: 4096,
            queued_per_tenant_max: 1024,
            batch_max: 512,
            gather: Duration::from_micros(800),
            clock: Arc::new(SystemClock),
        }
    }
}

/// An execution whose start is durable and whose end is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenExecution {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub execution: ExecutionId,
    /// The event that started it.
    pub started_event_id: u64,
}

/// Opens a backend's store: once at the start, and anew after a failed write.
pub type OpenStore = Box<dyn Fn() -> Result<Box<dyn AuditStore>, StoreError> + Send + Sync>;

/// One node's logs and the state that changes with them. Clones share it; the last one's drop ends the writer.
#[derive(Clone)]
pub struct Ledger {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    life: RwLock<Arc<Life>>,
    pub(super) open_store: OpenStore,
    pub(super) options: Options,
    /// Held while the store is opened anew, and by an orderly end.
    pub(super) reopening: Mutex<()>,
    pub(super) closed: AtomicBool,
}

/// The ledger between two openings of its store.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) desk: Arc<Desk>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct Shared {
    pub queue: Queue<Job>,
    views: RwLock<HashMap<TenantId, Arc<View>>>,
    poison: RwLock<Option<Arc<StoreError>>>,
    pub reader: Arc<dyn AuditReader>,
    tiles: Arc<TileCache>,
    commits: AtomicU64,
    events: AtomicU64,
}

/// What the writer has done since the ledger was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Durable commits: one sync each.
    pub commits: u64,
    /// Durable events.
    pub events: u64,
}

impl Shared {
    pub(super) fn publish(&self, views: impl Iterator<Item = View>) {
        let mut all = self.views.write().expect("no thread panics while it holds the views");
        views.for_each(|view| {
            all.insert(view.head.tenant.clone(), Arc::new(view));
        });
    }

    pub(super) fn count(&self, events: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    /// Refuses everything from now on; the first cause stays.
    pub(super) fn poison(&self, error: StoreError) -> Arc<StoreError> {
        let mut poison = self.poison.write().expect("no thread panics while it holds the cause");
        poison.get_or_insert_with(|| Arc::new(error)).clone()
    }

    /// Says from now on that this is why everything is refused.
    pub(super) fn poison_anew(&self, error: StoreError) -> Arc<StoreError> {
        let error = Arc::new(error);
        *self.poison.write().expect("no thread panics while it holds the cause") = Some(error.clone());
        error
    }

    pub(super) fn poisoned(&self) -> Option<Arc<StoreError>> {
        self.poison.read().expect("no thread panics while it holds the cause").clone()
    }

    pub(super) fn refusal(&self) -> AppendError {
        self.poisoned().map_or(AppendError::Closed, AppendError::Poisoned)
    }

    pub(super) fn heads(&self) -> Vec<Head> {
        let views = self.views.read().expect("no thread panics while it holds the views");
        views.values().map(|view| view.head.clone()).collect()
    }

    fn view(&self, tenant: &TenantId) -> Option<Arc<View>> {
        self.views.read().expect("no thread panics while it holds the views").get(tenant).cloned()
    }

    pub(super) fn tree(&self, tenant: &TenantId) -> Option<LogTree> {
        Some(LogTree::new(self.reader.clone(), self.view(tenant)?, self.tiles.clone()))
    }
}

impl Ledger {
    /// Opens the ledger in the folder `dir`, made where it is missing: an `SQLite` database with one writer.
    ///
    /// Every log's tree is computed anew from its tiles and last entries and compared with its head.
    ///
    /// # Errors
    /// [`OpenError`]: the store cannot be read, is in use, or holds what was never written; it names the first bad event.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let dir = dir.to_owned();
        Self::open_with(Box::new(move || Ok(Box::new(SqliteStore::open(&dir)?))), options)
    }

    /// Opens a ledger over another backend.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_with(open_store: OpenStore, options: Options) -> Result<Self, OpenError> {
        let life = RwLock::new(Arc::new(Life::begin(open_store()?, &options)?));
        let (reopening, closed) = Default::default();
        Ok(Self { inner: Arc::new(Inner { life, open_store, options, reopening, closed }) })
    }

    pub(super) fn life(&self) -> Arc<Life> {
        self.inner.life.read().expect("no thread panics while it holds the life").clone()
    }

    /// Makes a transaction durable and waits until it is. Blocks: from asynchronous code use [`Ledger::submit`].
    ///
    /// Where nobody else appends the caller does the writer's work itself: waking another thread and being woken by it may
    /// cost more than the sync.
    ///
    /// # Errors
    /// [`AppendError`]: nothing of it is acknowledged.
    pub fn append(&self, transaction: Transaction) -> Result<Ack, AppendError> {
        let (send, receive) = sync_channel(1);
        let done = move |outcome| drop(send.send(outcome));
        let life = self.life();
        life.offer(transaction, Box::new(done), |queue, tenant, job| match life.desk.try_lock() {
            Ok(mut desk) if queue.is_quiet() => {
                Writer::serve_at(&mut desk, vec![job]);
                Ok(())
            }
            busy => {
                drop(busy);
                queue.push(tenant, job)
            }
        });
        receive.recv().unwrap_or_else(|_| Err(life.shared.refusal()))
    }

    /// Hands a transaction to the writer; `done` hears the outcome once it is durable or refused. Waits only where the
    /// queue is full.
    pub fn submit(&self, transaction: Transaction, done: Completion) {
        self.life().offer(transaction, done, Queue::push);
    }

    /// As [`Ledger::submit`], but where the queue is full `done` hears [`AppendError::Busy`] at once.
    pub fn try_submit(&self, transaction: Transaction, done: Completion) {
        self.life().offer(transaction, done, Queue::try_push);
    }

    /// What the writer has done since the ledger was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let life = self.life();
        let shared = &life.shared;
        Stats { commits: shared.commits.load(Ordering::Relaxed), events: shared.events.load(Ordering::Relaxed) }
    }

    /// Why everything is refused, where it is.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<StoreError>> {
        self.life().shared.poisoned()
    }

    /// Every tenant's log as of its last durable commit, by name.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        let mut heads = self.life().shared.heads();
        heads.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        heads
    }

    /// A tenant's log as of its last durable commit.
    #[must_use]
    pub fn head(&self, tenant: &TenantId) -> Option<Head> {
        self.view(tenant).map(|view| view.head.clone())
    }

    /// The nodes, tiles and entries of a tenant's log as of its last durable commit.
    #[must_use]
    pub fn tree(&self, tenant: &TenantId) -> Option<LogTree> {
        self.life().shared.tree(tenant)
    }

    pub(crate) fn view(&self, tenant: &TenantId) -> Option<Arc<View>> {
        self.life().shared.view(tenant)
    }

    pub(crate) fn reader(&self) -> Arc<dyn AuditReader> {
        self.life().shared.reader.clone()
    }

    /// A durable state value.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state(&self, tenant: &TenantId, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.view(tenant).map_or(Ok(None), |view| self.reader().state(view.head.number, key))
    }

    /// Durable keys and values of one namespace in key order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state_list(&self, tenant: &TenantId, scan: &StateScan<'_>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.view(tenant).map_or(Ok(Vec::new()), |view| self.reader().state_list(view.head.number, scan))
    }

    /// The durable value of a counter; 0 where it was never used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn counter(&self, tenant: &TenantId, key: &StateKey) -> Result<u64, StoreError> {
        self.state(tenant, key)?.map_or(Ok(0), |value| number(&value))
    }

    /// Executions that have started and not ended: at boot and after a reopening those that nobody attends any
    /// more are to be closed as lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_executions(&self) -> Result<Vec<OpenExecution>, StoreError> {
        let scan = StateScan { namespace: OPEN_NAMESPACE, prefix: "", after: "", limit: usize::MAX };
        let mut open = Vec::new();
        for head in self.heads() {
            for (subject, value) in self.reader().state_list(head.number, &scan)? {
                let execution = subject.strip_prefix("execution:").and_then(|id| id.parse().ok());
                let execution = execution.ok_or_else(|| StoreError::damaged(format!("{subject:?} is no execution")))?;
                let started_event_id = number(&value)?;
                open.push(OpenExecution { tenant: head.tenant.clone(), execution, started_event_id });
            }
        }
        Ok(open)
    }

    /// Refuses new transactions, finishes those that wait, and ends the writer.
    ///
    /// # Errors
    /// The cause where the ledger is poisoned.
    pub fn close(&self) -> Result<(), Arc<StoreError>> {
        let alone = self.inner.reopening.lock().expect("no thread panics while it opens a store");
        self.inner.closed.store(true, Ordering::Relaxed);
        self.life().stop();
        drop(alone);
        self.poisoned().map_or(Ok(()), Err)
    }
}

impl Inner {
    /// Puts another life in the place of the one that a failed write has ended.
    pub(super) fn begin_anew(&self, life: Life) {
        *self.life.write().expect("no thread panics while it holds the life") = Arc::new(life);
    }
}

impl Life {
    /// Computes every chain of a store anew, and starts a writer for it.
    pub(super) fn begin(store: Box<dyn AuditStore>, options: &Options) -> Result<Self, OpenError> {
        let reader = store.reader();
        let chains = recovery::rebuild_all(reader.as_ref())?;
        let bounds = Bounds {
            queued_max: options.queued_max,
            queued_per_tenant_max: options.queued_per_tenant_max,
            batch_max: options.batch_max,
            gather: options.gather,
        };
        let (views, poison) = Default::default();
        let (tiles, commits, events) = Default::default();
        let shared = Arc::new(Shared { queue: Queue::new(bounds), views, poison, reader, tiles, commits, events });
        shared.publish(chains.values().map(Chain::view));
        let writer = Writer::new(store, chains, options.clock.clone(), shared.clone());
        let desk = Arc::new(Desk::new(Some(writer)));
        let (at, with) = (desk.clone(), shared.clone());
        let thread = std::thread::Builder::new().name("ledger-writer".into()).spawn(move || writer::work(&at, &with));
        let thread = thread.map_err(StoreError::io("start the writer of", "the ledger"))?;
        Ok(Self { shared, desk, writer: Mutex::new(Some(thread)) })
    }

    fn offer(
        &self,
        transaction: Transaction,
        done: Completion,
        push: impl FnOnce(&Queue<Job>, &TenantId, Job) -> Result<(), Declined<Job>>,
    ) {
        let shared = &self.shared;
        if shared.poisoned().is_some() {
            return done(Err(shared.refusal()));
        }
        let job = match Job::new(transaction, done) {
            Ok(job) => job,
            Err((error, done)) => return done(Err(error)),
        };
        let tenant = job.tenant.clone();
        match push(&shared.queue, &tenant, job) {
            Ok(()) => {}
            Err(Declined::Full(job)) => (job.done)(Err(AppendError::Busy)),
            Err(Declined::Closed(job)) => (job.done)(Err(shared.refusal())),
        }
    }

    /// Takes no more work, and waits until the writer has ended.
    pub(super) fn stop(&self) {
        self.shared.queue.close();
        let thread = self.writer.lock().expect("no thread panics while it holds the handle").take();
        if let Some(Err(panic)) = thread.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.shared.queue.close();
        let thread = self.writer.get_mut().ok().and_then(Option::take);
        // A completion that drops the last handle runs on the writer itself, which then ends by its own.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            drop(thread.join());
        }
    }
}
