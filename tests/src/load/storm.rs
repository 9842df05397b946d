//! The phases of a load: who is killed while clients work, and what is held before and after.

use super::client::Worker;
use super::processes::start_and_kill;
use super::{Count, Dice, Tenant};
use crate::kit::{Daemon, Place};
use crate::stage::{boxed, cells, status};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Killed spawners must be made good within this, and what was killed must be gone.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
/// Pauses between two kills of spawners: an heir is made by the one that is left, and must be in its place by then.
const SPAWNER_LIFE: Duration = Duration::from_millis(1000);
const HEIR_MADE: Duration = Duration::from_millis(500);
/// How long a daemon lives in the second phase.
const DAEMON_LIFE: Duration = Duration::from_secs(3);
/// Connections of the ledger to its database: those that it keeps, and those of reads under way, whose descriptors SQLite keeps.
const READERS_MAX: usize = 24;
/// Real processes at once.
const PROCESSES: usize = 4;

/// What a daemon holds of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Open descriptors, by what they are.
    pub descriptors: BTreeMap<String, usize>,
    /// Threads.
    pub threads: u64,
    /// Memory of its own, in KiB.
    pub memory_kib: u64,
}

/// What was started and killed.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Spawners killed.
    pub spawners: u64,
    /// Client processes killed.
    pub processes: u64,
    /// Daemons killed, and how long each next one took to serve.
    pub restarts: Vec<Duration>,
    /// What the daemon held before and after the first phase.
    pub holdings: (Holdings, Holdings),
}

/// Every tenant does one of each, and nobody is killed.
pub fn calm(place: &Place, tenants: &[Tenant], clients: usize) -> Count {
    let mut count = Count::default();
    for number in 0..clients {
        count.add(Worker::new(place, &tenants[number % tenants.len()], 1_000_000 + number).work_once());
    }
    count
}

/// Says that it is over when dropped, also by a panic: nobody may work on for ever.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many work in a phase, and which numbers they have.
struct Crowd {
    clients: usize,
    processes: usize,
    first: usize,
}

/// A crowd works while `kill` does its part, and is told when it is over.
fn phase(place: &Place, tenants: &[Tenant], crowd: &Crowd, kill: impl FnOnce()) -> (Count, u64) {
    let over = AtomicBool::new(false);
    let first = crowd.first;
    std::thread::scope(|scope| {
        let over = &over;
        let end = End(over);
        let of = |number: usize| &tenants[number % tenants.len()];
        let workers: Vec<_> = (0..crowd.clients)
            .map(|number| scope.spawn(move || Worker::new(place, of(number), first + number).work(over)))
            .collect();
        let processes: Vec<_> = (0..crowd.processes)
            .map(|number| scope.spawn(move || start_and_kill(place, of(number), (first + number) as u64, over)))
            .collect();
        kill();
        drop(end);
        let (mut count, mut killed) = (Count::default(), 0);
        workers.into_iter().for_each(|worker| count.add(worker.join().expect("a client does not panic")));
        for process in processes {
            let (of_processes, victims) = process.join().expect("a starter does not panic");
            // Their tenants have more clients than the others: what they do says nothing about fairness.
            count.add(Count { executions: BTreeMap::new(), ..of_processes });
            killed += victims;
        }
        (count, killed)
    })
}

/// Spawners are killed, one at a time.
pub fn of_spawners(
    place: &Place,
    daemon: &Daemon,
    tenants: &[Tenant],
    clients: usize,
    length: Duration,
    numbers: &mut Numbers,
) -> Count {
    let (end, mut dice, mut spawners) = (Instant::now() + length, Dice::new(99), 0);
    let (count, processes) = phase(place, tenants, &Crowd { clients, processes: PROCESSES, first: 0 }, || {
        while Instant::now() < end {
            std::thread::sleep(HEIR_MADE + dice.pause(SPAWNER_LIFE));
            let alive = living_spawners(daemon);
            // With none of them the daemon ends, as it should.
            if let [victim, _, ..] = alive[..] {
                let pid = Pid::from_raw(victim.cast_signed()).expect("a pid");
                kill_process(pid, Signal::KILL).expect("it lived a moment ago, and is the daemon's to reap");
                spawners += 1;
            }
        }
    });
    (numbers.spawners, numbers.processes) = (spawners, processes);
    count
}

fn living_spawners(daemon: &Daemon) -> Vec<u32> {
    let is = |pid: &u32| {
        status(*pid, "Name").is_some_and(|name| name == "remand-spawner")
            && status(*pid, "State").is_some_and(|state| !state.starts_with('Z'))
    };
    daemon.children().into_iter().filter(is).collect()
}

/// Daemons are killed, and others take their place.
pub fn of_daemons(
    place: &Place,
    daemon: Daemon,
    tenants: &[Tenant],
    clients: usize,
    length: Duration,
    numbers: &mut Numbers,
) -> (Count, Daemon) {
    let (end, mut dice) = (Instant::now() + length, Dice::new(77));
    let (mut current, mut restarts) = (Some(daemon), Vec::new());
    // No processes: `remand` that finds no daemon starts one of its own.
    let crowd = Crowd { clients, processes: 0, first: 500_000 };
    let (count, _) = phase(place, tenants, &crowd, || {
        while Instant::now() < end {
            std::thread::sleep(dice.pause(DAEMON_LIFE));
            current.take().expect("one serves").kill();
            let killed = Instant::now();
            current = Some(place.daemon());
            restarts.push(killed.elapsed());
        }
    });
    numbers.restarts = restarts;
    (count, current.expect("one serves"))
}

/// What a daemon holds now.
#[must_use]
pub fn holdings(daemon: &Daemon) -> Holdings {
    let pid = daemon.pid();
    let mut descriptors: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("it has not been reaped").flatten() {
        // A descriptor may have been closed since it was listed.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let what = target.display().to_string();
        *descriptors.entry(what.split(":[").next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let number = |key: &str| {
        let text = status(pid, key).unwrap_or_default();
        text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    Holdings { descriptors, threads: number("Threads"), memory_kib: number("RssAnon") }
}

/// What the daemon still holds after a phase, beyond what it held before; in words, once it had time to let go.
pub fn held(place: &Place, daemon: &Daemon, before: &Holdings) -> Vec<String> {
    settled(|| {
        let now = holdings(daemon).descriptors;
        let was = |what: &String| before.descriptors.get(what).copied().unwrap_or_default();
        let room = |what: &String| if what.contains("/ledger/ledger.db") { READERS_MAX } else { 0 };
        let more = now.iter().filter(|(what, count)| **count > was(what) + room(what));
        let more = more.map(|(what, count)| format!("descriptor {what}: {} before, {count} now", was(what)));
        more.chain(living(place)).collect()
    })
}

/// What still runs of a load that is over, in words, once it had time to end.
pub fn running(place: &Place) -> Vec<String> {
    settled(|| living(place).collect())
}

fn living(place: &Place) -> impl Iterator<Item = String> {
    let group = place.group();
    let processes = boxed(&group).into_iter().map(|pid| format!("process {pid}"));
    processes.chain(cells(&group).into_iter().map(|cell| format!("group {cell}")))
}

/// Looks again until there is nothing to say, or the time is over.
pub fn settled(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let end = Instant::now() + SETTLED_WITHIN;
    loop {
        let left = look();
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::yield_now();
    }
}
