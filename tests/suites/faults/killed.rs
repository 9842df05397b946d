//! Our processes killed or stopped, at chosen and at arbitrary moments: one verdict, nothing left, the next start works.

use remand_tests::cases;
use remand_tests::kit::{Daemon, PATIENCE, Place, Traces, wait_readable};
use remand_tests::stage::{Live, boxed, cells, known, stage, status, wait_until};
use remand_tests::suite::{Case, Verdict};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub const CASES: &[Case] = cases![
    a_killed_keeper_is_reported_as_lost_and_takes_its_box_along,
    a_stopped_keeper_does_not_stop_the_wall_limit,
    a_stopped_keeper_does_not_stop_a_cancel,
    a_killed_spawner_has_an_heir,
    dead_spawners_do_not_stay,
    the_loss_of_all_spawners_is_said_and_starts_nothing,
    the_loss_of_all_spawners_ends_the_daemon,
    a_killed_daemon_leaves_nothing_and_the_next_one_starts,
    a_killed_daemon_of_one_command_leaves_nothing,
    a_stopped_client_holds_up_no_limit,
    an_interrupted_client_ends_its_box,
    whoever_is_killed_whenever_nothing_is_left_and_the_next_start_works,
];

const READY: &str = "trap '' HUP INT TERM; (sleep 300 & sleep 300) & echo ready; read line; exit 0";

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    // It may have ended a moment ago: that is what these cases are about.
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("kill {pid:?}: {error}"),
    }
}

fn named(pids: Vec<u32>, name: &str) -> Vec<u32> {
    let lives = |pid: &u32| status(*pid, "State").is_some_and(|state| !state.starts_with('Z'));
    pids.into_iter().filter(|pid| lives(pid) && status(*pid, "Name").is_some_and(|found| found == name)).collect()
}

fn spawners_of(daemon: &Daemon) -> Vec<u32> {
    named(daemon.children(), "remand-spawner")
}

fn works(place: &Place) {
    assert_eq!(place.remand(&["run", "-q", "--", "echo", "next"]).expect(0).text(), "next\n");
}

fn a_killed_keeper_is_reported_as_lost_and_takes_its_box_along() -> Verdict {
    let mut live = stage().live(&[], READY);
    signal(live.keeper(), Signal::KILL);
    assert_eq!(live.wait(), 125);
    stage().assert_empty();
    works(&stage().place);
    Verdict::Proved
}

fn a_stopped_keeper_does_not_stop_the_wall_limit() -> Verdict {
    let mut live = stage().live(&["--wall", "1s"], READY);
    signal(live.keeper(), Signal::STOP);
    assert_eq!(live.wait(), 124);
    stage().assert_empty();
    Verdict::Proved
}

fn a_stopped_keeper_does_not_stop_a_cancel() -> Verdict {
    let live = stage().live(&[], READY);
    signal(live.keeper(), Signal::STOP);
    signal(live.command(), Signal::KILL);
    stage().assert_empty();
    Verdict::Proved
}

fn a_killed_spawner_has_an_heir() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let daemon = place.daemon();
    for _ in 0..6 {
        let spawners = spawners_of(&daemon);
        assert!(!spawners.is_empty());
        signal(spawners[0], Signal::KILL);
        works(&place);
    }
    assert_eq!(spawners_of(&daemon).len(), 2, "the loss was made good");
    assert!(daemon.stop().success());
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}

fn dead_spawners_do_not_stay() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let daemon = place.daemon();
    for _ in 0..5 {
        signal(spawners_of(&daemon)[0], Signal::KILL);
        works(&place);
    }
    let end = Instant::now() + Duration::from_secs(30);
    while daemon.children().len() > 2 {
        assert!(Instant::now() < end, "of {:?} only two live", daemon.children());
        std::thread::yield_now();
    }
    works(&place);
    assert!(daemon.stop().success());
    Verdict::Proved
}

fn the_loss_of_all_spawners_is_said_and_starts_nothing() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let daemon = place.daemon();
    spawners_of(&daemon).into_iter().for_each(|pid| signal(pid, Signal::KILL));
    let done = place.remand(&["run", "-q", "--", "echo", "RAN"]);
    assert_eq!((done.code(), done.text().as_str()), (125, ""), "{}", done.complaint());
    assert!(done.complaint().contains("spawner"), "{}", done.complaint());
    drop(daemon);
    // Nobody is left who could remove the groups: that is the next start's part.
    works(&place);
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}

fn the_loss_of_all_spawners_ends_the_daemon() -> Verdict {
    known("it serves on without any", try_the_loss_of_all_spawners_ends_the_daemon)
}

fn try_the_loss_of_all_spawners_ends_the_daemon() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let daemon = place.daemon();
    spawners_of(&daemon).into_iter().for_each(|pid| signal(pid, Signal::KILL));
    drop(place.remand(&["run", "-q", "--", "echo", "RAN"]));
    let pid = daemon.pid();
    let ends = || status(pid, "State").is_none_or(|state| state.starts_with('Z'));
    let began = Instant::now();
    while !ends() && began.elapsed() < Duration::from_secs(3) {
        std::thread::yield_now();
    }
    let ended = ends();
    drop(daemon);
    works(&place);
    assert!(ended, "it serves on, and can run nothing");
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}

fn a_killed_daemon_leaves_nothing_and_the_next_one_starts() -> Verdict {
    let place = Place::find().expect("the suite has one");
    for _ in 0..3 {
        let daemon = place.daemon();
        let mut lives: Vec<Live> = (0..3).map(|_| Live::start(&place, &[], READY)).collect();
        daemon.kill();
        for live in &mut lives {
            assert_eq!(live.wait(), 125, "a lost daemon is no success");
        }
        Traces::assert_gone(|| place.traces());
    }
    let daemon = place.daemon();
    works(&place);
    assert!(daemon.stop().success());
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}

fn remandd_of(place: &Place) -> Vec<u32> {
    let traces = place.traces().processes.into_iter().collect();
    named(traces, "remandd")
}

fn a_killed_daemon_of_one_command_leaves_nothing() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let mut live = Live::start(&place, &[], READY);
    for pid in remandd_of(&place) {
        signal(pid, Signal::KILL);
    }
    assert_eq!(live.wait(), 125);
    Traces::assert_gone(|| place.traces());
    works(&place);
    Verdict::Proved
}

fn a_stopped_client_holds_up_no_limit() -> Verdict {
    known("the groups of its box stay for five seconds", try_a_stopped_client_holds_up_no_limit)
}

fn try_a_stopped_client_holds_up_no_limit() -> Verdict {
    let flood = "echo ready; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
    let mut live = stage().live(&["--wall", "1s", "--output-max", "1G"], flood);
    signal(live.command(), Signal::STOP);
    let group = stage().place.group();
    let began = Instant::now();
    while !boxed(&group).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(5), "the box outlives its wall limit");
        std::thread::yield_now();
    }
    stage().assert_empty();
    works(&stage().place);
    signal(live.command(), Signal::KILL);
    signal(live.command(), Signal::CONT);
    assert_eq!(live.wait(), -1);
    Verdict::Proved
}

fn an_interrupted_client_ends_its_box() -> Verdict {
    for how in [Signal::INT, Signal::TERM] {
        let mut live = stage().live(&[], READY);
        signal(live.command(), how);
        let code = live.wait();
        assert!(code != 0, "code {code} after {how:?}");
        stage().assert_empty();
    }
    Verdict::Proved
}

/// Starts a command whose daemon lives as long as it, kills one of its processes after a while, looks what is left.
fn round(place: &Place, victim: &str, after: Duration) {
    let mut command =
        place.command(&["run", "-q", "--", "/bin/sh", "-c", "(setsid sleep 300 &); echo ready; sleep 0.02"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let pause = Instant::now();
    while pause.elapsed() < after {
        std::hint::spin_loop();
    }
    let victims = match victim {
        "remand" => vec![child.id()],
        name => named(place.traces().processes.into_iter().collect(), name),
    };
    victims.into_iter().for_each(|pid| signal(pid, Signal::KILL));
    let stdout = child.stdout.take().expect("a pipe");
    assert!(wait_readable(&stdout, PATIENCE), "{victim} after {after:?}: neither output nor end");
    drop(stdout);
    let code = child.wait().expect("our own child").code();
    assert!(victim == "remand" || matches!(code, Some(0 | 125 | 137 | 141)), "{victim} after {after:?}: {code:?}");
    let group = place.group();
    wait_until(|| {
        let (boxes, cells) = (boxed(&group), cells(&group));
        if boxes.is_empty() && cells.is_empty() {
            Ok(())
        } else {
            Err(format!("{victim} after {after:?} left {boxes:?} {cells:?}"))
        }
    });
    let scratch = fs::read_dir(place.state().join("scratch")).map_or(0, Iterator::count);
    assert!(scratch < 8, "scratch files pile up: {scratch}");
}

fn whoever_is_killed_whenever_nothing_is_left_and_the_next_start_works() -> Verdict {
    let place = Place::find().expect("the suite has one");
    for step in 0..14 {
        for victim in ["remand", "remandd", "remand-spawner", "remand-shim"] {
            round(&place, victim, Duration::from_micros(1500 + 4700 * step));
        }
    }
    // A daemon that was started for a command that was killed before it came waits for it a while.
    let end = Instant::now() + Duration::from_secs(15);
    while !place.traces().processes.is_empty() {
        assert!(Instant::now() < end, "left: {:?}", place.traces());
        std::thread::yield_now();
    }
    works(&place);
    Traces::assert_gone(|| place.traces());
    let scratch = fs::read_dir(place.state().join("scratch")).map_or(0, Iterator::count);
    assert_eq!(scratch, 0, "files of executions that ended badly");
    Verdict::Proved
}
