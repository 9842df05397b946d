//! The short-lived children that try things: the same program again with a hidden argument, one line as its answer.
//!
//! A probe unshares, mounts, confines itself or enters a group; nothing of that may happen to the asking process.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::needs::find_probe;

/// The hidden argument before a probe's name.
pub const PROBE_ARGUMENT: &str = "--probe";
/// What a probe's answer starts with, so that other output is not taken for it.
const MARK: &str = "remand-probe ";
/// The longest a probe may take: a loaded machine is slow, a hanging probe is a finding.
const PROBE_WAIT: Duration = Duration::from_secs(20);
/// The longest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What a probe found: `Ok` when the need is met. The text is shown either way.
pub(crate) type Outcome = Result<String, String>;

/// How probes are started: `program arguments… NAME`.
#[derive(Debug, Clone)]
pub struct Prober {
    /// The program; by default this one.
    pub program: PathBuf,
    /// The arguments before the probe's name; by default [`PROBE_ARGUMENT`].
    pub arguments: Vec<OsString>,
}

impl Default for Prober {
    fn default() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec![PROBE_ARGUMENT.into()] }
    }
}

#[derive(Serialize, Deserialize)]
struct Answer {
    met: bool,
    found: String,
}

/// To be called first in the `main` of every program that asks [`crate::probe_all`]: when the program was started as a
/// probe, runs it, answers, and returns the exit code to leave with.
#[must_use]
pub fn answer_probe(arguments: &[OsString]) -> Option<u8> {
    let [mark, name] = arguments else { return None };
    if mark != PROBE_ARGUMENT {
        return None;
    }
    let outcome = match name.to_str().and_then(find_probe) {
        Some(probe) => probe(),
        None => return Some(2),
    };
    let (met, found) = match outcome {
        Ok(found) => (true, found),
        Err(found) => (false, found),
    };
    let text = serde_json::to_string(&Answer { met, found }).expect("text fields serialize");
    let mut out = std::io::stdout();
    let said = out.write_all(format!("\n{MARK}{text}\n").as_bytes()).and_then(|()| out.flush());
    Some(u8::from(said.is_err()))
}

impl Prober {
    /// Runs one probe in a child and takes its answer.
    pub(crate) fn run(&self, name: &str) -> Outcome {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(name);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("the probe cannot be started: {error}"))?;
        let said = listen(&mut child);
        let status = end(&mut child);
        let said = said?;
        match said.lines().find_map(|line| line.strip_prefix(MARK)).map(serde_json::from_str::<Answer>) {
            Some(Ok(Answer { met: true, found })) => Ok(found),
            Some(Ok(Answer { found, .. })) => Err(found),
            Some(Err(error)) => Err(format!("the probe's answer is garbled: {error}")),
            None => Err(format!("the probe died without an answer ({status})")),
        }
    }
}

/// Reads the child's output to its end, for a bounded time and to a bounded length.
fn listen(child: &mut Child) -> Result<String, String> {
    let mut out = child.stdout.take().expect("stdout was piped").take(ANSWER_BYTES_MAX);
    let deadline = Instant::now() + PROBE_WAIT;
    let mut said = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        if !readable(out.get_ref(), deadline) {
            return Err(format!("the probe did not answer within {} s", PROBE_WAIT.as_secs()));
        }
        match out.read(&mut chunk) {
            Ok(0) => return Ok(String::from_utf8_lossy(&said).into_owned()),
            Ok(count) => said.extend_from_slice(&chunk[..count]),
            Err(error) => return Err(format!("the probe's answer cannot be read: {error}")),
        }
    }
}

fn readable(fd: &impl std::os::fd::AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    !left.is_zero() && poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Ends the child, which is dead already unless it hung, and reaps it.
fn end(child: &mut Child) -> String {
    let killed = child.kill();
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => format!("{error}, {killed:?}"),
    }
}

/// A helper of a probe: this program as another probe, with pipes to talk through.
pub(crate) fn helper(name: &str) -> Result<Child, String> {
    let mut command = Command::new("/proc/self/exe");
    command.args([PROBE_ARGUMENT, name]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("the probe's helper cannot be started: {error}"))
}

/// Waits for a helper's answer.
pub(crate) fn helped(mut child: Child) -> Outcome {
    drop(child.stdin.take());
    let said = listen(&mut child)?;
    let status = end(&mut child);
    match said.lines().find_map(|line| line.strip_prefix(MARK)).and_then(|text| serde_json::from_str(text).ok()) {
        Some(Answer { met: true, found }) => Ok(found),
        Some(Answer { found, .. }) => Err(found),
        None => Err(format!("the helper died without an answer ({status})")),
    }
}
