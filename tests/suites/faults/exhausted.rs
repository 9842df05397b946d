//! A daemon that runs out of something: disk, descriptors, ids.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use remand_tests::cases;
use remand_tests::kit::{Daemon, Place, Traces};
use remand_tests::stage::{Live, wait_until};
use remand_tests::suite::{Case, Verdict};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

pub const CASES: &[Case] = cases![
    nothing_starts_unrecorded_on_a_full_disk,
    after_a_full_disk_the_daemon_goes_on,
    an_end_that_the_disk_could_not_take_is_closed_as_lost_by_the_next_request,
    an_end_after_a_full_disk_is_recorded,
    an_output_that_the_disk_cannot_take_is_no_success,
    a_daemon_without_descriptors_refuses_and_recovers,
    no_descriptor_and_no_memory_is_lost_with_each_run,
];

/// A place whose state lies on a small file system of its own.
struct Small {
    place: Place,
}

impl Small {
    fn new(megabytes: u32) -> Self {
        let place = Place::find().expect("the suite has one");
        fs::create_dir(place.state()).expect("ours");
        let options = format!("size={megabytes}m,mode=755");
        let made = mount(Some("remand-small"), &place.state(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()));
        assert_eq!(made, Ok(()));
        Self { place }
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.place.state().join("filler")).expect("ours");
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.place.state().join("filler")).expect("ours");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.place.state(), MntFlags::MNT_DETACH) {
            eprintln!("{}: {error}", self.place.state().display());
        }
    }
}

fn nothing_starts_unrecorded_on_a_full_disk() -> Verdict {
    let small = Small::new(64);
    let shown = small.place.path().join("shown");
    fs::create_dir(&shown).expect("ours");
    let daemon = Daemon::start(&small.place, &["--allow-root", "/", "--allow-writable-root", "/"]);
    assert_eq!(small.place.remand(&["run", "-q", "--", "echo", "before"]).expect(0).text(), "before\n");
    small.fill();
    let volume = format!("{}:/data:rw", shown.display());
    let done = small.place.remand(&["run", "-q", "-v", &volume, "--", "/bin/sh", "-c", "echo RAN; : >/data/ran"]);
    let ran = shown.join("ran").exists();
    assert!(
        done.code() == 125 && !ran && done.text().is_empty(),
        "code {}, ran {ran}: {}",
        done.code(),
        done.complaint()
    );
    assert!(daemon.stop().success());
    small.empty();
    let again = small.place.remand(&["run", "-q", "--", "echo", "after"]);
    assert_eq!((again.code(), again.text().as_str()), (0, "after\n"), "{}", again.complaint());
    Traces::assert_gone(|| Traces { mounts: BTreeSet::new(), ..small.place.traces() });
    Verdict::Proved
}

fn after_a_full_disk_the_daemon_goes_on() -> Verdict {
    let small = Small::new(64);
    let daemon = small.place.daemon();
    small.fill();
    assert_eq!(small.place.remand(&["run", "-q", "--", "echo", "RAN"]).code(), 125);
    small.empty();
    let again = small.place.remand(&["run", "-q", "--", "echo", "after"]);
    assert_eq!((again.code(), again.text().as_str()), (0, "after\n"), "{}", again.complaint());
    let told = small.place.remand(&["-o", "json", "audit", "query", "--tenant", "node", "--type", "LEDGER_REOPENED"]);
    assert!(told.text().contains("free space on its disk"), "{}{}", told.text(), told.complaint());
    assert_eq!(small.place.remand(&["audit", "verify"]).code(), 0);
    assert!(daemon.stop().success());
    Verdict::Proved
}

/// Starts something that does not end, and lets the ledger meet the full disk.
fn poisoned_while_something_runs(small: &Small) -> String {
    let started = small.place.remand(&["-o", "json", "submit", "--", "sleep", "1000"]).expect(0).json();
    let id = started["execution_id"].as_str().expect("an id").to_owned();
    small.fill();
    let refused = small.place.remand(&["run", "-q", "--", "echo", "RAN"]);
    assert_eq!(refused.code(), 125);
    assert!(refused.complaint().contains("free space on its disk"), "{}", refused.complaint());
    id
}

fn cause_of(place: &Place, id: &str) -> String {
    let status = place.remand(&["-o", "json", "wait", id]);
    let shown = place.remand(&["-o", "json", "status", id]).json();
    shown["result"]["cause"]["kind"].as_str().unwrap_or_else(|| panic!("{shown} {}", status.complaint())).to_owned()
}

fn an_end_that_the_disk_could_not_take_is_closed_as_lost_by_the_next_request() -> Verdict {
    let small = Small::new(64);
    let daemon = small.place.daemon();
    let id = poisoned_while_something_runs(&small);
    // Giving the store up may itself free enough for one more event, so it is taken away as well.
    let (database, aside) = (small.place.state().join("ledger/ledger.db"), small.place.state().join("aside"));
    fs::rename(&database, &aside).and_then(|()| fs::create_dir(&database)).expect("ours");
    assert_ne!(small.place.remand(&["kill", &id]).code(), 0, "an end that is not recorded is not told");
    fs::remove_dir(&database).and_then(|()| fs::rename(&aside, &database)).expect("ours");
    small.empty();
    assert_eq!(cause_of(&small.place, &id), "lost");
    assert_eq!(small.place.remand(&["proof", &id]).code(), 0);
    assert!(daemon.stop().success());
    Verdict::Proved
}

fn an_end_after_a_full_disk_is_recorded() -> Verdict {
    let small = Small::new(64);
    let daemon = small.place.daemon();
    let id = poisoned_while_something_runs(&small);
    small.empty();
    assert_eq!(small.place.remand(&["kill", &id]).code(), 0);
    assert_ne!(cause_of(&small.place, &id), "lost");
    assert_eq!(small.place.remand(&["audit", "verify"]).code(), 0);
    assert!(daemon.stop().success());
    Verdict::Proved
}

fn an_output_that_the_disk_cannot_take_is_no_success() -> Verdict {
    let small = Small::new(24);
    let daemon = small.place.daemon();
    let script = "head -c 40000000 /dev/urandom; echo end >&2";
    let done = small.place.remand(&["run", "-q", "--output-max", "100M", "--", "/bin/sh", "-c", script]);
    assert_ne!(done.code(), 0, "an output that was not kept was passed for kept");
    let again = small.place.remand(&["run", "-q", "--", "echo", "after"]);
    assert_eq!((again.code(), again.text().as_str()), (0, "after\n"), "{}", again.complaint());
    assert!(daemon.stop().success());
    Traces::assert_gone(|| Traces { mounts: BTreeSet::new(), ..small.place.traces() });
    Verdict::Proved
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
}

/// Starts a daemon with this many descriptors, runs one program, and says what became of it.
fn with_descriptors(place: &Place, count: u64) -> Option<i32> {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..before }).expect("a lower soft limit");
    let mut daemon = std::process::Command::new(place.binary("remandd"));
    daemon
        .arg("--state")
        .arg(place.state())
        .arg("--run")
        .arg(place.run_folder())
        .env("REMAND_BIN_DIR", place.binary(""));
    let child = daemon.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    setrlimit(Resource::Nofile, before).expect("the old one");
    let mut child = child.expect("it starts");
    let mut said = String::new();
    let ready = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).is_ok_and(|size| size > 0);
    // A connection that is never accepted would be waited for, so the command gets a second.
    let mut command = std::process::Command::new("timeout");
    let remand = place.command(&["run", "-q", "--", "echo", "ran"]);
    command.arg("1").arg(remand.get_program()).args(remand.get_args());
    command.envs(remand.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let code = ready.then(|| command.output().expect("it starts").status.code().unwrap_or(-1));
    child.kill().and_then(|()| child.wait()).expect("our own child");
    wait_until(|| if place.traces().processes.is_empty() { Ok(()) } else { Err(format!("{:?}", place.traces())) });
    code
}

fn a_daemon_without_descriptors_refuses_and_recovers() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let codes: Vec<Option<i32>> = (8..280).step_by(16).map(|count| with_descriptors(&place, count)).collect();
    assert!(codes.iter().all(|code| matches!(code, None | Some(0 | 124 | 125))), "{codes:?}");
    assert_eq!(codes.last(), Some(&Some(0)), "{codes:?}");
    assert_eq!(place.remand(&["run", "-q", "--", "echo", "next"]).expect(0).text(), "next\n");
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}

/// How many the spawners and the daemon have open, once the thread of the last connection is gone.
fn settled_descriptors(daemon: &Daemon) -> Vec<usize> {
    let is_connection = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "connection")
    };
    wait_until(|| {
        let mut threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").flatten();
        if threads.any(|task| is_connection(&task)) { Err("a connection is still open".to_owned()) } else { Ok(()) }
    });
    daemon.children().into_iter().chain([daemon.pid()]).map(descriptors).collect()
}

fn no_descriptor_and_no_memory_is_lost_with_each_run() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let daemon = place.daemon();
    let run = |count| (0..count).for_each(|_| drop(place.remand(&["run", "-q", "--", "true"]).expect(0)));
    run(10);
    let before = settled_descriptors(&daemon);
    run(40);
    drop(Live::start(&place, &[], "echo ready; sleep 100"));
    remand_tests::stage::wait_until(|| {
        let left = place.traces().processes.len();
        if left == before.len() { Ok(()) } else { Err(format!("{left} processes")) }
    });
    run(1);
    let after = settled_descriptors(&daemon);
    assert!(before.iter().zip(&after).all(|(b, a)| a.abs_diff(*b) <= 2), "{before:?} became {after:?}");
    assert!(daemon.stop().success());
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}
