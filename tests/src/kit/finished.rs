//! A command that has ended, with all that it printed.

use super::wait_readable;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The most that is kept of one stream; a flood beyond it is read and dropped.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// How a command ended and what it printed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// As wait(2) gave it.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// The exit code as a shell would see it: 128 and more for a signal.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as one JSON document.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}\nstdout: {}\nstderr: {}", self.text(), self.complaint()))
    }

    /// Fails the test unless the command ended with `code`; returns itself.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout: {}\nstderr: {}", self.text(), self.complaint());
        self
    }
}

/// Starts a command, gives it `input`, and waits for its end; panics, after killing it, when `patience` is over.
///
/// The output of processes that it leaves behind is waited for as well: who must not do that must not be left behind.
pub fn finish(command: &mut Command, input: &[u8], patience: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    let handle = pidfd_open(pid, PidfdFlags::empty()).expect("a child that nobody has reaped");
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let written = stdin.take().expect("a pipe").write_all(input);
            drop(written); // a program may end without reading all of its input
        });
        let out = scope.spawn(|| keep(stdout.expect("a pipe")));
        let err = scope.spawn(|| keep(stderr.expect("a pipe")));
        let ended = wait_readable(&handle, patience);
        if !ended {
            pidfd_send_signal(&handle, Signal::KILL).expect("it has not been reaped");
        }
        let status = child.wait().expect("our own child");
        let (stdout, stderr) = (out.join().expect("a reader"), err.join().expect("a reader"));
        assert!(ended, "no end within {patience:?}; stderr: {}", String::from_utf8_lossy(&stderr));
        Finished { status, stdout, stderr }
    })
}

fn keep(mut stream: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    stream.by_ref().take(KEPT_BYTES_MAX).read_to_end(&mut kept).expect("a pipe can be read");
    std::io::copy(&mut stream, &mut std::io::sink()).expect("a pipe can be read");
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_and_both_outputs_and_the_code_come_through() {
        let done = finish(&mut shell("cat; echo wrong >&2; exit 7"), b"hello", super::super::PATIENCE).expect(7);
        assert_eq!((done.text().as_str(), done.complaint().as_str()), ("hello", "wrong\n"));
    }

    #[test]
    fn a_signal_reads_as_a_shell_would_say_it() {
        assert_eq!(finish(&mut shell("kill -KILL $$"), b"", super::super::PATIENCE).code(), 137);
    }

    #[test]
    #[should_panic(expected = "no end within")]
    fn a_command_that_hangs_fails_the_test() {
        drop(finish(&mut shell("exec sleep 1000"), b"", Duration::from_millis(100)));
    }
}
