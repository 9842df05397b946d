//! The daemon's side of the spawners: requests go to one at a time; the loss of one is made good by another.
//!
//! The daemon cannot start a root process any more. It starts with two spawners; when one is gone, the other one is asked
//! for an heir. When none is left, nothing can run, and the daemon says so and ends, for its supervisor to start it again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use remand_spec::{Answer, Request};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::Notify;

use crate::pass;
use crate::threads::blocking;

/// How many spawners there are.
pub const SPAWNERS: usize = 2;

/// Why a cell could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The spawner answered that it did not make the cell.
    #[error("{reason} (stage {stage}, errno {errno})")]
    Refused {
        /// Where it failed.
        stage: &'static str,
        /// The error number; 0 where the request was refused.
        errno: u32,
        /// Why.
        reason: String,
    },
    /// The spawner took the request and went away: whether it made the cell is not known, so nobody else is asked for it.
    #[error("the spawner was lost while it made the box; whether the program began is not known")]
    Unanswered,
    /// No spawner is left.
    #[error("no spawner is left; restart remandd")]
    Gone,
    /// The daemon's own preparation failed.
    #[error("cannot prepare the request: {0}")]
    Io(#[from] std::io::Error),
}

/// A cell that the spawner has made.
#[derive(Debug)]
pub struct Spawned {
    /// Process descriptor of the cell's pid 1, a child of this process.
    pub process: OwnedFd,
    /// When its namespaces were ready, on the monotonic clock in nanoseconds.
    pub cloned_ns: u64,
    /// Whether the template of its root had to be assembled.
    pub template_made: bool,
}

/// What goes with a spec.
#[derive(Debug)]
pub struct CellFds {
    /// The shim's end of the control socket.
    pub control: OwnedFd,
    /// The payload's streams.
    pub streams: [OwnedFd; 3],
}

/// The spawners, as sockets.
#[derive(Debug)]
pub struct Spawners {
    sockets: Mutex<VecDeque<OwnedFd>>,
    lost: Notify,
}

/// One SEQPACKET pair: (the daemon's end, the spawner's end).
///
/// # Errors
/// socketpair(2)'s.
pub fn pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A sealed memory file with these bytes.
///
/// # Errors
/// memfd_create(2)'s and its like.
pub fn sealed(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let base = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let created = rustix::fs::memfd_create("remand-spec", base | MemfdFlags::NOEXEC_SEAL);
    let fd = match created {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("remand-spec", base)?,
        other => other?,
    };
    let mut file = std::fs::File::from(fd);
    std::io::Write::write_all(&mut file, bytes)?;
    let fd = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(fd)
}

impl Spawners {
    /// Takes the daemon's ends over.
    #[must_use]
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Self { sockets: Mutex::new(sockets.into()), lost: Notify::new() }
    }

    /// Asks for a cell and does something else `meanwhile`. Blocks until the cell is cloned.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn(&self, spec: &[u8], fds: CellFds, meanwhile: impl FnOnce()) -> Result<Spawned, SpawnError> {
        let (spec, mut meanwhile) = (sealed(spec)?, Some(meanwhile));
        let [stdin, stdout, stderr] = &fds.streams;
        let handed = [&spec, &fds.control, stdin, stdout, stderr].map(AsFd::as_fd);
        blocking(|| {
            let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(socket) = sockets.front() {
                match ask(socket, Request::Spawn, &handed, || meanwhile.take().map_or((), |meanwhile| meanwhile())) {
                    Ok((Answer::Done { cloned_ns, template_made }, mut got)) => {
                        let process = got.pop_front().ok_or(SpawnError::Gone)?;
                        return Ok(Spawned { process, cloned_ns, template_made });
                    }
                    Ok((Answer::Refused { stage, errno, reason }, _)) => {
                        return Err(SpawnError::Refused { stage: stage.name(), errno, reason });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a spawner is gone; asking the other one for an heir");
                        sockets.pop_front();
                        replenish(&mut sockets);
                        if !was_unread(&error) {
                            return Err(SpawnError::Unanswered);
                        }
                    }
                }
            }
            self.lost.notify_one();
            Err(SpawnError::Gone)
        })
    }

    /// Returns when the last one is found to be gone: nothing can run any more.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

/// Whether a request was certainly not read: it could not be sent, or the connection was reset with it. One that was read
/// may have been carried out; asked for again, a program could run twice.
fn was_unread(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected)
}

/// Asks the survivors for heirs until there are as many as at the start. A survivor that cannot is dropped as well.
fn replenish(sockets: &mut VecDeque<OwnedFd>) {
    while let Some(socket) = sockets.front()
        && sockets.len() < SPAWNERS
    {
        let made = pair().and_then(|(ours, theirs)| {
            ask(socket, Request::Heir, &[theirs.as_fd()], || ())?;
            Ok(ours)
        });
        match made {
            Ok(heir) => sockets.push_back(heir),
            Err(error) => {
                tracing::error!(%error, "a spawner could not start an heir");
                sockets.pop_front();
            }
        }
    }
}

fn ask(
    socket: &OwnedFd,
    request: Request,
    fds: &[std::os::fd::BorrowedFd<'_>],
    meanwhile: impl FnOnce(),
) -> std::io::Result<(Answer, VecDeque<OwnedFd>)> {
    pass::send(socket, &request.encode(), fds)?;
    meanwhile();
    let (mut buffer, mut got) = ([0; 4096], VecDeque::new());
    match rustix::io::retry_on_intr(|| pass::receive(socket, &mut buffer, &mut got))? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        size => Ok((Answer::decode(&buffer[..size]).map_err(std::io::Error::other)?, got)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawners(count: usize) -> (Spawners, Vec<OwnedFd>) {
        let (ours, theirs) = (0..count).map(|_| pair().expect("sockets")).unzip();
        (Spawners::new(ours), theirs)
    }

    fn cell() -> CellFds {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("it is there"));
        CellFds { control: null(), streams: [null(), null(), null()] }
    }

    /// Reads one request without an answer, and is gone.
    fn reads_and_dies(socket: OwnedFd) -> std::thread::JoinHandle<Option<Request>> {
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            loop {
                match pass::receive(&socket, &mut buffer, &mut VecDeque::new()) {
                    Ok(size) => return Request::decode(&buffer[..size]).ok(),
                    Err(_nothing_yet) => std::thread::yield_now(),
                }
            }
        })
    }

    #[test]
    fn a_request_that_a_spawner_has_read_is_asked_of_no_other() {
        let (spawners, mut sockets) = spawners(2);
        let [other, first] = [sockets.pop(), sockets.pop()].map(|socket| reads_and_dies(socket.expect("two")));
        let mut meanwhile = 0;
        let lost = spawners.spawn(b"spec", cell(), || meanwhile += 1);
        assert_eq!(meanwhile, 1);
        assert!(matches!(lost, Err(SpawnError::Unanswered)), "{lost:?}");
        assert!(matches!(first.join(), Ok(Some(Request::Spawn))));
        assert!(matches!(other.join(), Ok(Some(Request::Heir))));
    }

    #[test]
    fn a_request_that_a_dead_spawner_never_read_is_asked_of_the_next() {
        let (spawners, sockets) = spawners(2);
        drop(sockets);
        assert!(matches!(spawners.spawn(b"spec", cell(), || ()), Err(SpawnError::Gone)));
    }
}
