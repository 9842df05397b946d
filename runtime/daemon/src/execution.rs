//! One execution in one cell, from the order to the result: make the cell, watch it, end it, read what it used, clear up.
//!
//! The cell is made while its start becomes durable. Its keeper then waits for leave, which takes the receipt of the start:
//! before that no process of the program exists.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use remand_authority::permit::Permit;
use remand_cgroup::{BareCell, Cell, CgroupError, Kill, TenantLimits, Tree, Watch};
use remand_ledger::Started;
use remand_ledger::blob::{BlobStore, Stored};
use remand_model::outcome::{Cause, Enforced, EnforcedLimit, ExecutionResult, InputRecord, Outputs, Usage};
use remand_model::refusal::Refusal;
use remand_model::{ExecutionId, PROTOCOL_VERSION, TenantId};
use remand_spec::{Fact, SpawnSpec};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::attend::Attendant;
use crate::capture::Watcher;
use crate::cells::Cells;
use crate::control::Control;
use crate::limits;
use crate::measured::Measured;
use crate::order::Order;
use crate::slots::{Slot, Slots};
use crate::spawner::{CellFds, SpawnError, Spawners};

/// What executions need of the node.
#[derive(Clone)]
pub struct Workshop {
    /// The spawners.
    pub spawners: Arc<Spawners>,
    /// The delegated control groups.
    pub tree: Tree,
    /// The pool of ids.
    pub slots: Slots,
    /// Inputs and outputs by their digest.
    pub blobs: BlobStore,
    /// How control groups are driven, as results name it.
    pub backend: String,
    /// Tenants that have a group.
    pub housed: Arc<std::sync::Mutex<HashSet<TenantId>>>,
    /// What each tenant is held to as a whole.
    pub walls: Arc<std::sync::Mutex<HashMap<TenantId, TenantLimits>>>,
    /// What holds for every cell.
    pub cells: Cells,
    /// The common threads, for what outlives a connection.
    pub common: tokio::runtime::Handle,
    /// Counts cells, so that no two ever share a name.
    pub counter: Arc<AtomicU64>,
}

/// What the client sends while the program runs.
#[derive(Debug)]
pub enum Input {
    /// Bytes of standard input.
    Bytes(Vec<u8>),
    /// The end of standard input.
    End,
    /// A new size of the caller's window: rows, columns.
    Window(u16, u16),
}

/// Whom an execution is for and who watches it.
#[derive(Debug)]
pub struct Ticket {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What the client sends to the program; its end is the end of standard input.
    pub input: mpsc::Receiver<Input>,
    /// Rung to end it.
    pub cancel: Arc<Notify>,
    /// Who watches what is printed.
    pub watcher: Option<Watcher>,
}

pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

pub(crate) fn failed(stage: &str, errno: u32, reason: impl Into<String>) -> Cause {
    Cause::SetupFailed { stage: stage.into(), errno, reason: reason.into() }
}

impl Workshop {
    /// Runs an order to its end, once `start` gives the receipt that its start is durable. Whatever goes wrong is in the
    /// result; nothing is left behind. With the result come the receipt and the blobs that the result names, held until a
    /// transaction refers to them.
    ///
    /// The permit says that token, contract and quota allowed it; the receipt, that its start cannot be denied.
    ///
    /// # Errors
    /// `start`'s: the program was not run.
    pub async fn execute(
        &self,
        order: &Order,
        ticket: Ticket,
        start: impl Future<Output = Result<Started, Refusal>>,
        permit: &Permit,
    ) -> Result<Executed, Refusal> {
        assert_eq!(*permit.tenant_id(), ticket.tenant, "the permit is of this tenant");
        assert!(permit.contract().is_some(), "nothing runs without a validated contract");
        let asked_ns = now_ns();
        let mut result = blank(&ticket, order, &self.backend);
        let standing = self.stand(order, &ticket, asked_ns, &mut result);
        let started = match start.await {
            Ok(started) => started,
            Err(refusal) => {
                let given_up = |Standing { cell, slot, process, .. }| self.clear_later(cell, slot, Some(process));
                standing.into_iter().for_each(given_up);
                return Err(refusal);
            }
        };
        assert_eq!(*started.execution(), ticket.execution_id, "the receipt is for this execution");
        result.timing_us.insert("durable".into(), now_ns().saturating_sub(asked_ns) / 1000);
        let started_ns = now_ns();
        let stored = match standing {
            Ok(Standing { cell, slot, process, live }) => {
                let times = [asked_ns, started_ns];
                let ran = self.run(order, ticket, (&cell, process), live, &started, times, &mut result).await;
                self.clear_later(cell, slot, None);
                ran
            }
            Err(cause) => Err(cause),
        };
        let stored = stored.unwrap_or_else(|cause| {
            result.cause = cause;
            Vec::new()
        });
        Ok(Executed { result: seal(result, started_ns), stored, started })
    }

    /// Makes everything of the cell that does not need the program to run.
    fn stand(
        &self,
        order: &Order,
        ticket: &Ticket,
        asked_ns: u64,
        result: &mut ExecutionResult,
    ) -> Result<Standing, Cause> {
        let all_taken = || Cause::Refused { reason: "every range of host ids is in use; try again".into() };
        let slot = self.slots.take().ok_or_else(all_taken)?;
        result.enforced.ids_first = slot.first();
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", &ticket.execution_id.as_str()[5..21]);
        let limits = self.cells.limits(&order.limits);
        let made = self.house(&ticket.tenant).and_then(|()| self.tree.bare_cell(&ticket.tenant, &name, &limits));
        let bare = made.map_err(|error| failed("cgroup", 0, error.to_string()))?;
        result.timing_us.insert("group".into(), now_ns().saturating_sub(asked_ns) / 1000);
        let mut spec = order.spec.clone();
        spec.ids_first = slot.first();
        spec.cgroup = bare.relative().as_bytes().to_vec();
        let (cell, process, live) = self.clone_cell(&spec, bare, asked_ns, result);
        match (live, process) {
            (Ok(live), Some(process)) => {
                result.enforced.limits = cell.enforced().iter().map(enforced_limit).collect();
                Ok(Standing { cell, slot, process, live })
            }
            (live, process) => {
                self.clear_later(cell, slot, process);
                Err(live.err().unwrap_or_else(|| failed("spawner", 0, "there is no process")))
            }
        }
    }

    /// Has the cell cloned, and sets its limits meanwhile: the keeper needs none to make ready what it then waits with.
    fn clone_cell(
        &self,
        spec: &SpawnSpec,
        bare: BareCell,
        asked_ns: u64,
        result: &mut ExecutionResult,
    ) -> (Cell, Option<OwnedFd>, Result<Live, Cause>) {
        let pairs = streams().and_then(|streams| Ok((streams, control_pair()?)));
        let ((streams, ends), (ours, theirs)) = match pairs {
            Ok(pairs) => pairs,
            Err(error) => return (bare.give_up(), None, Err(internal(error))),
        };
        let (mut bare, mut limited) = (Some(bare), None);
        let fds = CellFds { control: theirs, streams };
        let spawned = self.spawners.spawn(&spec.encode(), fds, || limited = bare.take().map(limit_and_watch));
        let (cell, watch) = match (limited, bare) {
            (Some(limited), _) => limited,
            (None, bare) => (bare.expect("it was not limited").give_up(), Err(failed("spawner", 0, "not asked"))),
        };
        let spawned = match spawned {
            Ok(spawned) => spawned,
            Err(SpawnError::Refused { stage, errno, reason }) => {
                return (cell, None, Err(failed(stage, errno, reason)));
            }
            Err(lost @ SpawnError::Unanswered) => return (cell, None, Err(Cause::Lost { reason: lost.to_string() })),
            Err(other) => return (cell, None, Err(failed("spawner", 0, other.to_string()))),
        };
        if !spawned.template_made {
            result.enforced.recycled.push("template".into());
        }
        result.timing_us.insert("clone".into(), spawned.cloned_ns.saturating_sub(asked_ns) / 1000);
        let live = watch.and_then(|watch| Ok(Live { control: Control::new(ours).map_err(internal)?, watch, ends }));
        (cell, Some(spawned.process), live)
    }

    /// Nobody waits for this; the range of ids rests until it is done.
    fn clear_later(&self, cell: Cell, slot: Slot, process: Option<OwnedFd>) {
        self.common.spawn(async move {
            if let Some(process) = process {
                hard_kill(&cell);
                reap(process, &cell).await;
            }
            clear(&cell).await;
            drop(slot);
        });
    }

    /// Sets what a tenant is held to as a whole: at once where it has cells, else from its next cell on.
    pub fn set_walls(&self, tenant: &TenantId, walls: TenantLimits) {
        let mut housed = self.housed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let has_cells = housed.remove(tenant);
        match has_cells.then(|| self.tree.tenant(tenant, &walls)) {
            Some(Ok(_)) => drop(housed.insert(tenant.clone())),
            // What runs holds more than the kernel can take back; nothing starts until it can.
            Some(Err(error)) => tracing::warn!(%error, %tenant, "a tenant's new limits wait for its next cell"),
            None => {}
        }
        self.walls.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(tenant.clone(), walls);
    }

    /// Removes a tenant's group, whose cells are gone.
    ///
    /// # Errors
    /// A cell is still there, or the kernel refused.
    pub fn unhouse(&self, tenant: &TenantId) -> remand_cgroup::Result<()> {
        let mut housed = self.housed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        housed.remove(tenant);
        self.tree.remove_tenant(tenant)
    }

    /// The tenant's own group, made at its first cell.
    fn house(&self, tenant: &TenantId) -> remand_cgroup::Result<()> {
        let mut housed = self.housed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !housed.contains(tenant) {
            let walls = self.walls.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.tree.tenant(tenant, &walls.get(tenant).cloned().unwrap_or_default())?;
            housed.insert(tenant.clone());
        }
        Ok(())
    }

    /// From the leave to run until nothing of the box lives. `times`: when it was asked for, when its start was durable.
    #[expect(clippy::too_many_arguments, reason = "each is another thing, and all of them come together only here")]
    async fn run(
        &self,
        order: &Order,
        ticket: Ticket,
        (cell, process): (&Cell, OwnedFd),
        live: Live,
        started: &Started,
        times: [u64; 2],
        result: &mut ExecutionResult,
    ) -> Result<Vec<Stored>, Cause> {
        let Live { control, watch, ends } = live;
        if let Err(error) = control.give_leave(started) {
            tracing::debug!(%error, "the keeper ended before it had leave to go on");
        }
        let attendant = Attendant::new(self, order, cell, control, watch, ticket.tenant.clone());
        let mut attendant = attendant.map_err(internal)?;
        let outcome = attendant.attend(ticket, ends, times[1], result).await;
        // Once the keeper has reported everything it is alone and only ends: nothing more is used, and the two go together.
        let measured = attendant.is_finished().then(|| Measured::of(cell));
        reap(process, cell).await;
        let stored = attendant.settle(result, times[0]).map_err(|error| failed("store", 0, error.to_string()));
        measured.unwrap_or_else(|| Measured::of(cell)).tell(&order.limits, result);
        outcome.map_err(internal).and(stored)
    }
}

/// Waits for pid 1 of the box, whose end is the end of all its processes.
async fn reap(process: OwnedFd, cell: &Cell) {
    let gone = async {
        let process = crate::ready::register_for(process, Interest::READABLE)?;
        let ready = process.readable().await?;
        drop(ready);
        rustix::process::waitid(rustix::process::WaitId::PidFd(process.as_fd()), rustix::process::WaitIdOptions::EXITED)
            .map_err(std::io::Error::from)
    };
    match timeout(limits::REAP_WAIT, gone).await {
        Ok(Ok(_)) => {}
        // Dead for longer than anybody is waited for: it is gone already.
        Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error()) => {}
        Ok(Err(error)) => tracing::error!(%error, "a cell's pid 1 could not be waited for"),
        Err(_elapsed) => {
            hard_kill(cell);
            tracing::error!(cell = cell.relative(), "a cell's pid 1 does not end");
        }
    }
}

/// What came of an order.
pub struct Executed {
    /// The result.
    pub result: ExecutionResult,
    /// The blobs that it names.
    pub stored: Vec<Stored>,
    /// The receipt of its start.
    pub started: Started,
}

/// A cell in which everything stands but the program.
struct Standing {
    cell: Cell,
    slot: Slot,
    /// Process descriptor of its pid 1.
    process: OwnedFd,
    live: Live,
}

/// What the daemon holds of a cell that was cloned.
struct Live {
    control: Control,
    watch: Watch,
    ends: Ends,
}

fn internal(error: std::io::Error) -> Cause {
    failed("daemon", error.raw_os_error().unwrap_or(0).unsigned_abs(), error.to_string())
}

fn limit_and_watch(bare: BareCell) -> (Cell, Result<Watch, Cause>) {
    let in_words = |error: CgroupError| failed("cgroup", 0, error.to_string());
    match bare.limit() {
        Ok(cell) => {
            let watch = cell.watch().map_err(in_words);
            (cell, watch)
        }
        Err(limit) => (limit.0, Err(in_words(limit.1))),
    }
}

/// Kills what is left and removes the groups; what cannot be removed is the sweep's.
async fn clear(cell: &Cell) {
    match cell.remove(Duration::ZERO) {
        Ok(()) => return,
        Err(error) => tracing::debug!(%error, "a cell is not empty yet"),
    }
    hard_kill(cell);
    for _ in 0..limits::CLEAR_TRIES {
        if cell.remove(Duration::ZERO).is_ok() {
            return;
        }
        tokio::time::sleep(limits::CLEAR_PAUSE).await;
    }
    tracing::error!(cell = cell.relative(), "a cell could not be removed; the next sweep tries again");
}

pub(crate) fn hard_kill(cell: &Cell) {
    match cell.kill() {
        Ok(Kill::Sent) => {}
        Ok(Kill::ByCaller(pids)) => tracing::error!(?pids, "these could not be killed by group"),
        Err(error) => tracing::error!(%error, "a cell could not be killed by group"),
    }
}

/// The daemon's ends of the payload's streams.
pub(crate) struct Ends {
    pub(crate) stdin: pipe::Sender,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

fn streams() -> std::io::Result<([OwnedFd; 3], Ends)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, stdin_end), (stdout_end, stdout), (stderr_end, stderr)) = (pipe()?, pipe()?, pipe()?);
    let ends = Ends {
        stdin: pipe::Sender::from_owned_fd(stdin_end)?,
        stdout: pipe::Receiver::from_owned_fd(stdout_end)?,
        stderr: pipe::Receiver::from_owned_fd(stderr_end)?,
    };
    Ok(([stdin, stdout, stderr], ends))
}

fn control_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn enforced_limit(limit: &remand_cgroup::Enforced) -> EnforcedLimit {
    let file = limit.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    EnforcedLimit { name: limit.name.into(), file, wanted: limit.wanted.clone(), found: limit.found.clone() }
}

/// A result before anything happened.
fn blank(ticket: &Ticket, order: &Order, backend: &str) -> ExecutionResult {
    let compiled = order.compiled();
    ExecutionResult {
        protocol_version: PROTOCOL_VERSION.into(),
        execution_id: ticket.execution_id.clone(),
        tenant_id: ticket.tenant.clone(),
        cause: Cause::Lost { reason: "nothing is known".into() },
        limits_hit: Vec::new(),
        exit_code: 125,
        usage: Usage::default(),
        input: InputRecord::none(),
        outputs: Outputs::none(),
        denials: Vec::new(),
        enforced: Enforced {
            cgroup_backend: backend.into(),
            policy_sha256: compiled.policy_hash.to_hex(),
            confinement_sha256: compiled.confinement_hash.to_hex(),
            filters: compiled.filters.iter().map(|filter| filter.sha256.to_hex()).collect(),
            ..Enforced::default()
        },
        timing_us: BTreeMap::new(),
        hint: None,
        record: None,
    }
}

/// What follows from the cause: exit code, hint, wall time.
fn seal(mut result: ExecutionResult, started_ns: u64) -> ExecutionResult {
    let free = |fact: Fact| result.enforced.facts.get(fact.name()).copied();
    let full_bytes = free(Fact::ScratchBytesFree) == Some(0);
    let full_inodes = free(Fact::ScratchInodesFree) == Some(0);
    for (full, name) in [(full_bytes, "disk"), (full_inodes, "inodes")] {
        if full {
            result.limits_hit.push(name.into());
        }
    }
    let failed = !matches!(result.cause, Cause::Exited { code: 0 });
    let own_code = result.cause.exit_code();
    if (full_bytes || full_inodes) && failed && matches!(result.cause, Cause::Exited { .. } | Cause::Signaled { .. }) {
        result.cause = Cause::DiskQuota;
    }
    result.usage.disk_free_bytes = result.enforced.facts.get(Fact::ScratchBytesFree.name()).copied();
    result.usage.wall_us = now_ns().saturating_sub(started_ns) / 1000;
    // A full disk ends nobody: the code is the one that the program made of it.
    result.exit_code = if result.cause == Cause::DiskQuota { own_code } else { result.cause.exit_code() };
    result.hint = crate::hint::of(&result.cause, &result.limits_hit);
    result
}
