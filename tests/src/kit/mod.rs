//! Drives the product from outside, as its users do: a daemon on folders of its own, the command, and what they leave.
//!
//! A test that needs root and real binaries starts with [`Place::find`]; a host that lacks something gives a reason to
//! skip, never a pass.

mod daemon;
mod finished;
mod place;
mod raw;
mod traces;

pub use daemon::Daemon;
pub use finished::{Finished, finish};
pub use place::Place;
pub use raw::{Raw, Reply};
pub use traces::Traces;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The longest that a test waits for anything: far above what is right, so that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a descriptor can be read (a process's descriptor: until it has ended); false when `patience` is over.
pub fn wait_readable(fd: &impl AsFd, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return true,
            Err(error) => panic!("poll: {error}"),
        }
    }
}
