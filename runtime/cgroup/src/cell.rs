//! One cell: the control group of one execution, from its limits to its removal.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::apply::{Enforced, apply, host_has_swap};
use crate::dir::{Dir, read_short};
use crate::error::{CgroupError, Result};
use crate::layout::Version;
use crate::limits::Setting;
use crate::prepare::copy_cpuset;
use crate::tree::Branch;
use crate::usage::{Events, Usage, read_events, read_usage};
use crate::watch::Watch;

/// How many processes of a dying version 1 group are waited for at once; the others' turn comes after these.
const WAITS_MAX: usize = 64;

/// The control group of one execution in every hierarchy that its limits and counters need.
#[derive(Debug)]
pub struct Cell {
    relative: String,
    parts: Vec<(Arc<Branch>, Dir)>,
    enforced: Vec<Enforced>,
}

/// A cell whose limits are known to be possible but not set: nothing that must be limited may run in it.
#[derive(Debug)]
#[must_use]
pub struct BareCell {
    cell: Cell,
    settings: Vec<Setting>,
}

impl BareCell {
    pub(crate) const fn new(cell: Cell, settings: Vec<Setting>) -> Self {
        Self { cell, settings }
    }

    /// The cell's path below each hierarchy's root, as [`Cell::relative`].
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.cell.relative
    }

    /// Sets the limits and reads each one back.
    ///
    /// # Errors
    /// The cell, to be ended and removed, with the limit that cannot be set.
    pub fn limit(self) -> std::result::Result<Cell, Box<(Cell, CgroupError)>> {
        let Self { mut cell, settings } = self;
        match cell.limit(&settings) {
            Ok(()) => Ok(cell),
            Err(error) => Err(Box::new((cell, error))),
        }
    }

    /// The cell as it is, to be ended and removed.
    #[must_use]
    pub fn give_up(self) -> Cell {
        self.cell
    }
}

/// One hierarchy in which a cell has a folder, for whoever attaches processes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CellHierarchy {
    /// Version 2 is entered by `CLONE_INTO_CGROUP`, version 1 by writing to `tasks`.
    pub version: Version,
    /// The folder below which [`Cell::relative`] lies.
    pub root: PathBuf,
    /// The controllers that remand uses here; empty where the hierarchy serves only to kill and to wait.
    pub controllers: Vec<&'static str>,
}

/// What became of a request to kill.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kill {
    /// The kernel has sent SIGKILL to every process of the cell, forks in flight included.
    Sent,
    /// These processes are outside what `cgroup.kill` reaches: somebody who may (the spawner) must kill them, and ask
    /// again until nothing is left.
    ByCaller(Vec<i32>),
}

impl Cell {
    pub(crate) fn new(relative: String, parts: Vec<(Arc<Branch>, Dir)>) -> Self {
        Self { relative, parts, enforced: Vec::new() }
    }

    /// The cell's path below each hierarchy's root: `<name>/t-<tenant>/c-<cell>`.
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// The hierarchies in which whoever starts the cell's first process must put it: all of them.
    #[must_use]
    pub fn hierarchies(&self) -> Vec<CellHierarchy> {
        let list = self.parts.iter().map(|(branch, _)| CellHierarchy {
            version: branch.place.version,
            root: branch.place.base.clone(),
            controllers: branch.place.controllers.clone(),
        });
        list.collect()
    }

    /// The limits as read back when they were set; empty for a cell that was found, not made.
    #[must_use]
    pub fn enforced(&self) -> &[Enforced] {
        &self.enforced
    }

    /// What the cell has used until now. Read it before [`Cell::remove`].
    ///
    /// # Errors
    /// A counter that cannot be read or understood.
    pub fn usage(&self) -> Result<Usage> {
        read_usage(&|controller| self.controller(controller), self.unified())
    }

    /// Which limits the cell has hit until now. Read it before [`Cell::remove`].
    ///
    /// # Errors
    /// A counter that cannot be read or understood.
    pub fn events(&self) -> Result<Events> {
        read_events(&|controller| self.controller(controller))
    }

    /// A descriptor that becomes readable when the cell runs into a limit or becomes empty.
    ///
    /// # Errors
    /// The kernel refuses a notification, for example for want of descriptors.
    pub fn watch(&self) -> Result<Watch> {
        Watch::new(&|controller| self.controller(controller), self.unified())
    }

    /// Kills every process of the cell.
    ///
    /// # Errors
    /// A refused operation.
    pub fn kill(&self) -> Result<Kill> {
        let Some(unified) = self.unified().filter(|dir| dir.has("cgroup.kill")) else {
            return Ok(by_caller(self.pids()?));
        };
        unified.write("cgroup.kill", "1")?;
        if self.parts.len() == 1 {
            return Ok(Kill::Sent);
        }
        // A process that entered version 1 groups but not the version 2 group is beyond the kernel's reach. The group is
        // read on both sides of the others, so that a child born in between is not taken for such a one.
        let mut reached: BTreeSet<i32> = unified.pids_below()?.into_iter().collect();
        let pids = self.pids()?;
        reached.extend(unified.pids_below()?);
        Ok(by_caller(pids.into_iter().filter(|pid| !reached.contains(pid)).collect()))
    }

    /// Whether any process lives in the cell.
    ///
    /// # Errors
    /// A refused operation.
    pub fn populated(&self) -> Result<bool> {
        if let Some(unified) = self.unified()
            && let Some(text) = unified.read_if_there("cgroup.events")?
            && populated_in(&text)
        {
            return Ok(true);
        }
        Ok(!self.pids()?.is_empty())
    }

    /// The processes of the cell in any hierarchy, as this process's pid namespace numbers them.
    ///
    /// # Errors
    /// A refused operation.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = BTreeSet::new();
        for (_, dir) in &self.parts {
            pids.extend(dir.pids_below()?);
        }
        Ok(pids.into_iter().collect())
    }

    /// Removes the cell once it is empty, waiting for that at most `wait`; blocks, woken by the kernel.
    /// `Duration::ZERO` never blocks. Removing a removed cell is no error.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] when processes are left after `wait`, or a refused operation.
    pub fn remove(&self, wait: Duration) -> Result<()> {
        // The kernel removes only what is empty, so that a plain cell needs no looking into.
        if self.parts.iter().rev().try_fold(true, |all, (_, dir)| Ok(all && dir.remove_alone()?))? {
            return Ok(());
        }
        let deadline = Instant::now() + wait;
        self.wait_empty(deadline)?;
        // The version 2 folder goes last: it is what a later sweep kills by.
        for (_, dir) in self.parts.iter().rev() {
            if !dir.remove()? {
                return Err(CgroupError::Busy { path: dir.path(), pids: dir.pids_below()? });
            }
        }
        Ok(())
    }

    pub(crate) fn create(&self) -> Result<()> {
        let mut made: Vec<&Dir> = Vec::new();
        for (branch, dir) in &self.parts {
            let result = create_one(branch, dir);
            if result.is_ok() {
                made.push(dir);
                continue;
            }
            for dir in made {
                dir.remove()?;
            }
            return result;
        }
        Ok(())
    }

    /// A version 1 cpuset takes no process before it has processors and memory nodes.
    pub(crate) fn open_cpuset(&self) -> Result<()> {
        let own = self.controller("cpuset").filter(|dir| dir.has("cpuset.effective_cpus"));
        own.map_or(Ok(()), |dir| copy_cpuset(&self.parent_of("cpuset"), dir))
    }

    fn limit(&mut self, settings: &[Setting]) -> Result<()> {
        self.enforced = apply(settings, &|controller| self.controller(controller), &host_has_swap)?;
        Ok(())
    }

    pub(crate) fn exists(&self) -> Result<bool> {
        for (_, dir) in &self.parts {
            if dir.exists()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn controller(&self, controller: &str) -> Option<&Dir> {
        self.parts.iter().find(|(branch, _)| branch.place.has(controller)).map(|(_, dir)| dir)
    }

    fn unified(&self) -> Option<&Dir> {
        self.parts.iter().find(|(branch, _)| branch.place.version == Version::V2).map(|(_, dir)| dir)
    }

    fn wait_empty(&self, deadline: Instant) -> Result<()> {
        loop {
            let gate = self.gate()?;
            let pids = self.pids()?;
            if pids.is_empty() && gate.as_ref().is_none_or(|gate| !gate.populated) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CgroupError::Busy { path: self.path(), pids });
            }
            self.wait_change(gate.as_ref().filter(|gate| gate.populated), &pids, left)?;
        }
    }

    /// The version 2 group's own notification, armed before the lists are read so that no end is missed.
    fn gate(&self) -> Result<Option<Gate>> {
        let Some(dir) = self.unified() else { return Ok(None) };
        if !dir.exists()? {
            return Ok(None);
        }
        let fd = dir.open_file("cgroup.events", OFlags::RDONLY)?;
        let text = read_short(&fd).map_err(|errno| CgroupError::io("read", dir.path().join("cgroup.events"), errno))?;
        Ok(Some(Gate { populated: populated_in(&text), fd }))
    }

    /// Sleeps until the version 2 group changes or, where there is none or it is empty already, a process ends.
    fn wait_change(&self, gate: Option<&Gate>, pids: &[i32], left: Duration) -> Result<()> {
        let ends: Vec<OwnedFd> = if gate.is_some() { Vec::new() } else { self.ends(pids)? };
        let mut fds: Vec<PollFd<'_>> = ends.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        fds.extend(gate.map(|gate| PollFd::new(&gate.fd, PollFlags::PRI)));
        if fds.is_empty() {
            return Ok(());
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(CgroupError::io("watch", self.path(), errno)),
        }
    }

    fn ends(&self, pids: &[i32]) -> Result<Vec<OwnedFd>> {
        let mut ends = Vec::new();
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)).take(WAITS_MAX) {
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(fd) => ends.push(fd),
                Err(Errno::SRCH) => {}
                Err(errno) => return Err(CgroupError::io("watch", self.path(), errno)),
            }
        }
        Ok(ends)
    }

    fn path(&self) -> PathBuf {
        self.parts.first().map_or_else(|| PathBuf::from(&self.relative), |(_, dir)| dir.path())
    }

    fn parent_of(&self, controller: &str) -> Dir {
        let tenant = Path::new(&self.relative).parent().and_then(Path::file_name).unwrap_or_default();
        let branch = self.parts.iter().find(|(branch, _)| branch.place.has(controller));
        branch.expect("the caller found the controller in this cell").0.top.child(&tenant.to_string_lossy())
    }
}

struct Gate {
    fd: OwnedFd,
    populated: bool,
}

fn create_one(branch: &Branch, dir: &Dir) -> Result<()> {
    match dir.create() {
        Ok(true) => Ok(()),
        Ok(false) => Err(CgroupError::Exists { path: dir.path() }),
        Err(error) if error.is_errno(2) => {
            let path = dir.path().parent().map_or_else(|| branch.top.path(), Path::to_owned);
            Err(CgroupError::NoTenant { path })
        }
        Err(error) => Err(error),
    }
}

fn by_caller(pids: Vec<i32>) -> Kill {
    if pids.is_empty() { Kill::Sent } else { Kill::ByCaller(pids) }
}

pub(crate) fn populated_in(text: &str) -> bool {
    text.lines().any(|line| line == "populated 1")
}
