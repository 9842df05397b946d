//! Takes the measurements: interleaved single runs for latency and processor time, then blocks of parallel launchers.

use super::peers::{Ground, PROBE_CODE, Peer, UNIFIED, Workload};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::wait;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static RUNS: AtomicU64 = AtomicU64::new(0);

/// What was measured of one peer with one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// From before the start to after the reaping, one per run.
    pub latency: Vec<Duration>,
    /// Processor time of everything that was started and reaped, all runs of `latency` together.
    pub processor: Duration,
    /// Runs that ended inside the parallel blocks.
    pub parallel_runs: u64,
    /// How long these blocks took together.
    pub parallel_time: Duration,
}

/// A peer that takes part, or why it does not.
pub type Admission = Result<Samples, String>;

/// Runs a workload once in a peer's box and says why it did not work, if so.
///
/// A box that runs nothing would be the fastest of all: the rehearsal makes the program return a code that only it knows.
pub fn rehearse(ground: &Ground, peer: Peer, workload: Workload) -> Result<(), String> {
    let attempt = |workload| on_its_ground(peer, || command(ground, peer, workload).output());
    let output = attempt(workload).map_err(|error| format!("cannot start: {error}"))?;
    let probe = attempt(Workload::Probe).map_err(|error| format!("cannot start: {error}"))?;
    reap_orphans();
    if output.status.success() && output.stdout == workload.stdout() {
        return match probe.status.code() {
            Some(PROBE_CODE) => Ok(()),
            _ => Err(format!("it says that all went well, but the program's own exit code is lost: {}", probe.status)),
        };
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    let short: String = last.chars().filter(|c| !c.is_control() && *c != '|').take(160).collect();
    Err(format!("{}: {short}", output.status))
}

fn command(ground: &Ground, peer: Peer, workload: Workload) -> Command {
    let id = format!("remand-bench-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let mut command = ground.command(peer, workload, &id);
    command.stdin(Stdio::null());
    command
}

/// One timed run; a run that fails in the middle of a measurement makes the measurement worthless.
fn timed(ground: &Ground, peer: Peer, workload: Workload) -> Duration {
    let mut command = command(ground, peer, workload);
    command.stdout(Stdio::null()).stderr(Stdio::null()); // pipes to read would slow the plain spawn most
    let began = Instant::now();
    let status = command.status().expect("it started in the rehearsal");
    let latency = began.elapsed();
    assert!(status.success(), "{}: {status}", peer.name());
    latency
}

/// Calls `start` on a thread that sees what the peer wants to see; such a thread is not used for anything else.
fn on_its_ground<T: Send>(peer: Peer, start: impl FnOnce() -> T + Send) -> T {
    if !peer.wants_no_hybrid() {
        return start();
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            hide_unified();
            start()
        });
        thread.join().expect("the measurement ends well")
    })
}

/// Gives this thread a mount namespace of its own, in which the unified hierarchy is not mounted. The host's stays.
fn hide_unified() {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace of its own needs root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("nothing done here shows outside");
    umount2(UNIFIED, MntFlags::MNT_DETACH).expect("it was mounted");
}

/// Makes this process the one that reaps what a box leaves to its parents' parents (prctl(2), `PR_SET_CHILD_SUBREAPER`);
/// without it the processor time of such processes would be nobody's.
pub fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("this call has no way to fail");
}

/// Waits for all that is left of a run. Only where no other thread waits for children of its own.
fn reap_orphans() {
    while wait().is_ok() {}
}

/// Processor time of all reaped children and theirs (getrusage(2), `RUSAGE_CHILDREN`).
fn children_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage has no way to fail");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
            Duration::from_micros(u64::try_from(micros).expect("time is positive"))
        })
        .sum()
}

/// `rounds` runs of every peer in turn: whatever disturbs the machine disturbs all alike.
pub fn interleave(ground: &Ground, workload: Workload, peers: &mut [(Peer, Samples)], rounds: usize) {
    for _ in 0..rounds {
        for (peer, samples) in peers.iter_mut() {
            let before = children_time();
            samples.latency.push(on_its_ground(*peer, || timed(ground, *peer, workload)));
            reap_orphans();
            samples.processor += children_time() - before;
        }
    }
}

/// `launchers` threads start runs of one peer as fast as they can for `time`, peer after peer, `blocks` times over.
pub fn saturate(ground: &Ground, workload: Workload, peers: &mut [(Peer, Samples)], load: &Load) {
    for _ in 0..load.blocks {
        for (peer, samples) in peers.iter_mut() {
            let began = Instant::now();
            let runs: u64 = std::thread::scope(|scope| {
                let launcher = || on_its_ground(*peer, || launch_until(ground, *peer, workload, began + load.time));
                let threads: Vec<_> = (0..load.launchers).map(|_| scope.spawn(launcher)).collect();
                threads.into_iter().map(|thread| thread.join().expect("a launcher ends well")).sum()
            });
            samples.parallel_runs += runs;
            samples.parallel_time += began.elapsed();
            reap_orphans();
        }
    }
}

/// How the parallel part is run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Threads that start runs.
    pub launchers: usize,
    /// Length of a block.
    pub time: Duration,
    /// Blocks of each peer.
    pub blocks: usize,
}

fn launch_until(ground: &Ground, peer: Peer, workload: Workload, end: Instant) -> u64 {
    let mut runs = 0;
    while Instant::now() < end {
        timed(ground, peer, workload);
        runs += 1;
    }
    runs
}
