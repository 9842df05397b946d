//! One descriptor that wakes its holder when a cell hits a limit or becomes empty.
//!
//! The kernel's notifications differ (POLLPRI on version 2's event files and on `pids.events`, an eventfd for version 1's
//! out-of-memory), so they are gathered in an epoll set, which is itself a descriptor that polls as readable.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cell::populated_in;
use crate::dir::{Dir, read_short};
use crate::error::{CgroupError, Result};

/// What has happened since the last look. Several in one look are given in no particular order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The memory is used up and the kernel ends a process (version 2: has ended, version 1: is about to). This is
    /// evidence by itself: who kills the cell at once may find that [`crate::Events::oom_kills`] never counts it.
    OutOfMemory,
    /// The memory limit was reached and the kernel reclaims; only on version 2.
    MemoryMax,
    /// A fork was refused. Version 1 on newer kernels counts this without a notification: read [`crate::Cell::events`]
    /// at the cell's end in any case.
    PidsMax,
    /// The first process came or the last one went; only where version 2 is mounted.
    Populated(bool),
}

/// The notifications of one cell. Its descriptor polls as *readable* (`tokio::io::Interest::READABLE`) when [`Watch::take`]
/// has something to give.
#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Pids,
    Populated,
    /// Version 1's eventfd: an 8-byte counter instead of a file.
    OutOfMemory,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Watch {
    pub(crate) fn new<'a>(find: &dyn Fn(&str) -> Option<&'a Dir>, unified: Option<&Dir>) -> Result<Self> {
        let mut sources = Vec::new();
        if let Some(dir) = find("memory") {
            let v2 = dir.has("memory.events");
            sources.push(if v2 { event_file(dir, "memory.events", Kind::Memory)? } else { out_of_memory(dir)? });
        }
        if let Some(dir) = find("pids") {
            sources.push(event_file(dir, "pids.events", Kind::Pids)?);
        }
        if let Some(dir) = unified {
            sources.push(event_file(dir, "cgroup.events", Kind::Populated)?);
        }
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(watch_error)?;
        for (index, source) in sources.iter().enumerate() {
            let wake = if source.kind == Kind::OutOfMemory { EventFlags::IN } else { EventFlags::PRI };
            epoll::add(&epoll, &source.fd, EventData::new_u64(index as u64), wake).map_err(watch_error)?;
        }
        Ok(Self { epoll, sources })
    }

    /// What has happened since the last call; empty when nothing has. Never blocks. Afterwards the descriptor is quiet
    /// until the next event.
    ///
    /// # Errors
    /// A notification that cannot be read.
    pub fn take(&self) -> Result<Vec<Signal>> {
        let mut signals = Vec::new();
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(self.sources.len().max(1));
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&now)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(watch_error(errno)),
        }
        for event in ready {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if let Some(source) = self.sources.get(index) {
                signals.push(source.signal()?);
            }
        }
        Ok(signals)
    }
}

impl Source {
    /// Reads the source, which also arms its next notification.
    fn signal(&self) -> Result<Signal> {
        if self.kind == Kind::OutOfMemory {
            let mut count = [0u8; 8];
            return match rustix::io::read(&self.fd, &mut count) {
                Ok(_) | Err(Errno::AGAIN) => Ok(Signal::OutOfMemory),
                Err(errno) => Err(watch_error(errno)),
            };
        }
        // ENODEV: the group was removed under the watch; it is empty then.
        let text = match read_short(&self.fd) {
            Ok(text) => text,
            Err(Errno::NODEV) => String::new(),
            Err(errno) => return Err(watch_error(errno)),
        };
        Ok(match self.kind {
            Kind::Pids => Signal::PidsMax,
            Kind::Populated => Signal::Populated(populated_in(&text)),
            Kind::Memory if text.lines().any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0") => {
                Signal::OutOfMemory
            }
            Kind::Memory => Signal::MemoryMax,
            Kind::OutOfMemory => Signal::OutOfMemory,
        })
    }
}

fn event_file(dir: &Dir, file: &str, kind: Kind) -> Result<Source> {
    let fd = dir.open_file(file, OFlags::RDONLY)?;
    // kernfs notifies only what was read: what happened before now is for the caller's first look at the counters.
    read_short(&fd).map_err(|errno| CgroupError::io("read", dir.path().join(file), errno))?;
    Ok(Source { fd, kind })
}

/// Registers an eventfd for version 1's out-of-memory (cgroup-v1/memory.rst, section 10).
fn out_of_memory(dir: &Dir) -> Result<Source> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(watch_error)?;
    let control = dir.open_file("memory.oom_control", OFlags::RDONLY)?;
    dir.write("cgroup.event_control", &format!("{} {}", fd.as_raw_fd(), control.as_raw_fd()))?;
    Ok(Source { fd, kind: Kind::OutOfMemory })
}

fn watch_error(errno: Errno) -> CgroupError {
    CgroupError::io("watch", "the cell's events".into(), errno)
}
