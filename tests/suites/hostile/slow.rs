//! Clients that are silent, half open, dribble byte by byte, or are too many: nobody else waits for them.

use crate::memory_kib;
use remand_model::envelope::{Command, HEADER_BYTES};
use remand_tests::cases;
use remand_tests::kit::{PATIENCE, Raw};
use remand_tests::stage::{stage, status};
use remand_tests::suite::{Case, Verdict};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = cases![
    a_hundred_connections_that_hang_hold_up_nobody,
    a_client_that_never_greets_is_let_go,
    more_connections_than_there_may_be_are_closed_and_nobody_is_lost,
];

/// A request beside a hundred connections that hang is served within this many times what it takes without them, and
/// within the floor where that is nothing.
const SLOWER: u32 = 5;
const FLOOR: Duration = Duration::from_millis(100);

/// The median time of a request that only asks, and of an execution.
fn served() -> (Duration, Duration) {
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let mut raw = crate::local();
    let asked = (0..40).map(|_| {
        let began = Instant::now();
        raw.ask(Command::Ping, &json!({})).expect("it is there");
        began.elapsed()
    });
    let asked = median(asked.collect());
    let ran = (0..9).map(|_| {
        let began = Instant::now();
        assert_eq!(stage().run(&["--", "echo", "served"]).expect(0).text(), "served\n");
        began.elapsed()
    });
    (asked, median(ran.collect()))
}

/// One byte after the other of a frame that never ends.
fn dribble(raw: &mut Raw, over: &AtomicBool) {
    let bytes = raw.next(Command::Run).encode(1 << 20);
    for number in 0..usize::MAX {
        if over.load(Ordering::Relaxed) {
            return;
        }
        raw.bytes(&[bytes.get(number).copied().unwrap_or(b'x')]);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_hundred_connections_that_hang_hold_up_nobody() -> Verdict {
    let place = &stage().place;
    let (alone, memory) = (served(), memory_kib().0);
    let silent: Vec<Raw> = (0..30).map(|_| Raw::silent(place)).collect();
    let mut half: Vec<Raw> = (0..50).map(|_| Raw::attached(place, "local", None)).collect();
    for (number, raw) in half.iter_mut().enumerate() {
        let bytes = raw.next(Command::Run).encode(1 << 20);
        raw.bytes(&bytes[..1 + number % HEADER_BYTES]);
        if number % 2 == 0 {
            raw.bytes(&bytes[1 + number % HEADER_BYTES..]);
            raw.close_writing();
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| dribble(&mut Raw::attached(place, "local", None), &over));
        }
        let beside = std::panic::catch_unwind(served);
        over.store(true, Ordering::Relaxed);
        let (alone, beside) = ([alone.0, alone.1], beside.map(|beside| [beside.0, beside.1]).expect("it is served"));
        for (alone, beside) in alone.iter().zip(beside) {
            assert!(beside <= (*alone * SLOWER).max(FLOOR), "{alone:?} alone, {beside:?} beside them");
        }
    });
    let now = memory_kib().0;
    assert!(now < memory + (64 << 10), "{memory} KiB before, {now} KiB now");
    drop((silent, half));
    Verdict::Proved
}

fn a_client_that_never_greets_is_let_go() -> Verdict {
    let began = Instant::now();
    let mut raw = Raw::silent(&stage().place);
    raw.assert_ended();
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
    Verdict::Proved
}

fn processor_ticks() -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", stage().daemon())).expect("the daemon lives");
    let fields: Vec<&str> = text.rsplit(") ").next().expect("fields").split(' ').collect();
    fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
}

fn more_connections_than_there_may_be_are_closed_and_nobody_is_lost() -> Verdict {
    let place = &stage().place;
    let (_, hard) = descriptors();
    if hard < 1400 {
        return Verdict::Skipped(format!("only {hard} descriptors for this process"));
    }
    let mut early = Raw::attached(place, "local", None);
    let many: Vec<Raw> = (0..1000).map(|_| Raw::greeted(place)).collect();
    let too_many: Vec<Raw> = (0..200).map(|_| Raw::silent(place)).collect();
    crate::goes_on(&mut early);
    let spent_within_half_a_second = || {
        let before = processor_ticks();
        std::thread::sleep(Duration::from_millis(500));
        processor_ticks() - before
    };
    // A hundred ticks are a second. It may have work with so many for a while, and none once that is done.
    let least = (0..40).map(|_| spent_within_half_a_second()).find(|spent| *spent < 10);
    assert!(least.is_some(), "it spins");
    drop((many, too_many));
    let freed = Instant::now();
    while freed.elapsed() < PATIENCE {
        let mut raw = Raw::silent(place);
        let header = raw.next(Command::Hello);
        raw.frame(&header, br#"{"client":"late","protocol_version":"1.0"}"#);
        if raw.reply().is_some() {
            break;
        }
    }
    assert!(freed.elapsed() < Duration::from_secs(3), "served again after {:?}", freed.elapsed());
    assert_eq!(stage().run(&["--", "echo", "served"]).expect(0).text(), "served\n");
    assert!(status(stage().daemon(), "State").is_some());
    Verdict::Proved
}

/// The soft and the hard bound on this process's descriptors; the soft one is raised to the hard one.
fn descriptors() -> (u64, u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be asked for");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("it may be raised so far");
    (soft, hard)
}
