//! Takes the measurements: interleaved single runs for latency and processor time, then blocks of parallel launchers.

use super::peers::{Ground, PROBE_CODE, Peer, UNIFIED, Workload};
use super::starter::Starter;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::wait;
use std::time::{Duration, Instant};

/// What was measured of one peer with one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// From before the start to after the reaping, one per run.
    pub latency: Vec<Duration>,
    /// Processor time of everything that worked for these runs, all of them together.
    pub processor: Duration,
    /// Runs that ended inside the parallel blocks.
    pub parallel_runs: u64,
    /// How long these blocks took together.
    pub parallel_time: Duration,
}

/// A peer that takes part, or why it does not.
pub type Admission = Result<Samples, String>;

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

/// Runs a workload once in a peer's box and says why it did not work, if so.
///
/// A box that runs nothing would be the fastest of all: the rehearsal makes the program return a code that only it knows.
pub fn rehearse(ground: &Ground, peer: Peer, workload: Workload) -> Result<(), String> {
    let attempt = |workload| on_its_ground(peer, || Starter::of(ground, peer)?.rehearse(ground, workload));
    let (real, probe) = (attempt(workload)?, attempt(Workload::Probe)?);
    reap_orphans();
    if real.code != Some(0) || real.stdout != workload.stdout() {
        return Err(real.message);
    }
    if probe.code != Some(PROBE_CODE) {
        return Err(format!("it says that all went well, but the program's own exit code is lost: {}", probe.message));
    }
    Ok(())
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

/// Processor time of the daemon, its living children, and all that they have reaped (proc_pid_stat(5)).
fn daemon_time(pid: u32) -> Duration {
    const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 everywhere that Debian runs
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon lives").flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    children.iter().chain([&pid]).map(|pid| TICK * ticks(*pid)).sum()
}

/// `utime + stime + cutime + cstime`; nothing for a process that has just ended.
fn ticks(pid: u32) -> u32 {
    const UTIME: usize = 11; // counted from the field after the name, which may hold spaces
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(UTIME).take(4);
    fields.filter_map(|field| field.parse::<u32>().ok()).sum()
}

/// `rounds` runs of every peer in turn: whatever disturbs the machine disturbs all alike.
///
/// What a daemon does for a run it may do before and after it, so its time is taken over runs in a row, afterwards.
pub fn interleave(ground: &Ground, workload: Workload, peers: &mut [(Peer, Samples)], rounds: usize) {
    let mut starters: Vec<Starter> = peers.iter().map(|(peer, _)| starter(ground, *peer)).collect();
    for _ in 0..rounds {
        for ((peer, samples), starter) in peers.iter_mut().zip(&mut starters) {
            let before = children_time();
            samples.latency.push(on_its_ground(*peer, || starter.timed(ground, workload)));
            reap_orphans();
            samples.processor += children_time() - before;
        }
    }
    let Some(served) = &ground.served else { return };
    for ((_, samples), starter) in peers.iter_mut().zip(&mut starters).filter(|((peer, _), _)| peer.is_served()) {
        let before = daemon_time(served.pid);
        for _ in 0..rounds {
            starter.timed(ground, workload);
        }
        reap_orphans();
        samples.processor += daemon_time(served.pid) - before;
    }
}

fn starter(ground: &Ground, peer: Peer) -> Starter {
    Starter::of(ground, peer).expect("there was one in the rehearsal")
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

fn launch_until(ground: &Ground, peer: Peer, workload: Workload, end: Instant) -> u64 {
    let mut starter = starter(ground, peer);
    let mut runs = 0;
    while Instant::now() < end {
        starter.timed(ground, workload);
        runs += 1;
    }
    runs
}
