//! What must be on record before anything runs: the database is held by somebody else meanwhile.

use remand_tests::cases;
use remand_tests::kit::{Daemon, Place, Traces};
use remand_tests::stage::{boxed, cells, status, wait_until};
use remand_tests::suite::{Case, Verdict};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

pub const CASES: &[Case] =
    cases![nothing_of_a_job_exists_before_its_start_is_on_record, a_start_that_cannot_be_recorded_leaves_no_cell,];

/// read(2) from descriptor 4, as proc_pid_syscall(5) shows it: the keeper waits for the daemon's word.
const WAITS_FOR_LEAVE: &str = "0 0x4 ";

/// Begins to write, says so, and holds until nobody talks to it any more.
const HOLD: &str = "import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()";

/// Somebody who writes to the ledger's database and does not come to an end.
struct Holder(Child);

impl Holder {
    fn hold(place: &Place) -> Self {
        let database = place.state().join("ledger/ledger.db");
        let mut command = Command::new("python3");
        command.args(["-c", HOLD]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it is installed");
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut said).expect("it prints");
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("python3: {error}");
        }
    }
}

fn ready() -> (Place, Daemon) {
    let place = Place::find().expect("the suite has one");
    fs::create_dir(place.path().join("shown")).expect("ours");
    let daemon = Daemon::start(&place, &["--allow-root", "/", "--allow-writable-root", "/"]);
    assert_eq!(place.remand(&["run", "-q", "--", "echo", "before"]).expect(0).text(), "before\n");
    (place, daemon)
}

fn leaving_a_mark(place: &Place) -> Command {
    let volume = format!("{}:/data:rw", place.path().join("shown").display());
    place.command(&["run", "-q", "-v", &volume, "--", "/bin/sh", "-c", ": >/data/ran"])
}

fn has_run(place: &Place) -> bool {
    place.path().join("shown/ran").exists()
}

fn nothing_of_a_job_exists_before_its_start_is_on_record() -> Verdict {
    let (place, daemon) = ready();
    let holder = Holder::hold(&place);
    let mut run = leaving_a_mark(&place).spawn().expect("it starts");
    let waits = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with(WAITS_FOR_LEAVE))
    };
    wait_until(|| match boxed(&place.group()).iter().find(|pid| waits(pid)) {
        Some(_) => Ok(()),
        None => Err("no keeper waits for leave".to_owned()),
    });
    let inside = boxed(&place.group());
    let is_keeper = |pid: &u32| status(*pid, "NSpid").is_some_and(|pids| pids.ends_with("\t1"));
    assert!(inside.len() == 1 && inside.iter().all(is_keeper) && !has_run(&place), "{inside:?}");
    drop(holder);
    assert!(run.wait().expect("our own child").success() && has_run(&place));
    assert!(daemon.stop().success());
    Verdict::Proved
}

fn a_start_that_cannot_be_recorded_leaves_no_cell() -> Verdict {
    let (place, daemon) = ready();
    let holder = Holder::hold(&place);
    let refused = leaving_a_mark(&place).status().expect("it starts");
    assert_eq!((refused.code(), has_run(&place)), (Some(125), false));
    wait_until(|| {
        let left = (cells(&place.group()), boxed(&place.group()));
        if left.0.is_empty() && left.1.is_empty() { Ok(()) } else { Err(format!("left: {left:?}")) }
    });
    let zombies = daemon.children().into_iter().filter(|pid| status(*pid, "State").is_some_and(|s| s.starts_with('Z')));
    assert_eq!(zombies.collect::<Vec<_>>(), Vec::<u32>::new());
    drop(holder);
    assert!(daemon.stop().success());
    assert_eq!(place.remand(&["run", "-q", "--", "echo", "after"]).expect(0).text(), "after\n");
    Traces::assert_gone(|| Traces { mounts: BTreeSet::new(), ..place.traces() });
    Verdict::Proved
}
