//! A daemon that a test has started and can stop, or kill at any moment.

use super::{PATIENCE, Place, wait_readable};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running `remandd`. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    handle: OwnedFd,
}

impl Daemon {
    /// Starts one at a place and waits until it says that it is ready.
    #[must_use]
    pub fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = Command::new(place.binary("remandd"))
            .args(["--state".as_ref(), place.state().as_os_str(), "--run".as_ref(), place.run_folder().as_os_str()])
            .args(arguments)
            .env("REMAND_BIN_DIR", place.binary(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("remandd starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
        let handle = pidfd_open(pid, PidfdFlags::empty()).expect("a child that nobody has reaped");
        let mut said = [0; 6];
        let mut stdout = child.stdout.take().expect("a pipe");
        assert!(wait_readable(&stdout, PATIENCE), "remandd neither serves nor ends");
        stdout.read_exact(&mut said).expect("remandd ended before it was ready: its message is above");
        assert_eq!(&said, b"ready\n");
        Self { child, handle }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its children: the spawners, and the keepers of what runs.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it has not been reaped");
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        pidfd_send_signal(&self.handle, Signal::KILL).expect("it has not been reaped");
        self.wait();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        pidfd_send_signal(&self.handle, Signal::TERM).expect("it has not been reaped");
        self.wait()
    }

    fn wait(&mut self) -> ExitStatus {
        assert!(wait_readable(&self.handle, PATIENCE), "remandd does not end");
        self.child.wait().expect("our own child")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Reaped already where `kill` or `stop` came first; `Child` remembers that.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("remandd {}: {error}", self.pid());
        }
    }
}
