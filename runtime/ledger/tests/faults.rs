//! One fault on every write, sync, rename and open of a scripted run, one at a time: the machine says EIO or ENOSPC, or writes
//! only a part. Never an acknowledgement without durability, nothing after the first refusal, and all is well afterwards.
//!
//! The faults are strace's (`--inject`), counted per thread and kept to the ledger's own files. Without strace the suite says so.

mod store_kit;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use store_kit::child::{self, Run, Told};

const CALLS: [&str; 10] =
    ["openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "ftruncate", "unlink", "mmap", "flock"];

#[test]
fn the_child_appends() {
    child::run_if_child();
}

/// Every file that a run may touch: strace filters by path.
fn files(dir: &Path, segments: bool) -> Vec<PathBuf> {
    let names: &[&str] = match segments {
        true => &["lock", "00000000.seg", "00000000.new", "00000001.seg", "00000001.new", "00000002.seg"],
        false => &["lock", "ledger.db", "ledger.db-wal", "ledger.db-shm"],
    };
    names.iter().map(|name| dir.join(name)).chain([dir.to_owned()]).collect()
}

fn strace(dir: &Path, segments: bool, extra: &[String]) -> Vec<String> {
    let words = ["strace", "-f", "-qq", "--seccomp-bpf", "-o"].map(str::to_owned).into_iter();
    let trace = format!("trace={}", CALLS.join(","));
    let paths = files(dir, segments).into_iter().flat_map(|path| ["-P".to_owned(), path.to_str().unwrap().to_owned()]);
    let log = dir.with_extension("strace").to_str().unwrap().to_owned();
    words.chain([log, "-e".to_owned(), trace]).chain(extra.iter().cloned()).chain(paths).collect()
}

/// What the child told, and whether it was refused.
fn outcome(run: &Run<'_>, prefix: &[String]) -> (Vec<Told>, Vec<String>) {
    let mut child = run.command(prefix).spawn().unwrap();
    let lines: Vec<String> = child::lines(&mut child).lines().map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), None, "the child died: {lines:?}");
    let mut is_refused = false;
    for line in &lines {
        is_refused = line.starts_with("refused") || is_refused && !line.starts_with("opened");
        assert!(!is_refused || !line.starts_with("ack"), "an acknowledgement came after a refusal: {lines:?}");
    }
    let text = lines.join("\n") + "\n";
    let told = child::read_acks(&mut text.as_bytes(), usize::MAX);
    (told, lines.into_iter().filter(|line| line.starts_with("refused")).collect())
}

/// A store that was used before, so that opening has something to recover.
fn used_store(segments: bool) -> (tempfile::TempDir, Vec<Told>) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let run = Run { dir: &dir, segments, threads: 1, rounds: 3, reopenings: 0 };
    let (told, refused) = outcome(&run, &[]);
    assert!(refused.is_empty() && told.len() == 9, "{refused:?}");
    (folder, told)
}

/// How often each call is made by the thread that makes it most.
fn count_calls(segments: bool) -> BTreeMap<String, u32> {
    let (folder, _) = used_store(segments);
    let dir = folder.path().join("store");
    let run = Run { dir: &dir, segments, threads: 1, rounds: 3, reopenings: 0 };
    outcome(&run, &strace(&dir, segments, &[]));
    let log = std::fs::read_to_string(dir.with_extension("strace")).unwrap();
    let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else { continue };
        let Some((call, _)) = rest.split_once('(') else { continue };
        *counts.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in counts {
        let seen: &mut u32 = most.entry(call).or_default();
        *seen = count.max(*seen);
    }
    most
}

fn has_strace() -> bool {
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

fn every_call_fails_once(segments: bool) {
    if !has_strace() {
        eprintln!("skipped: faults cannot be injected, install strace and allow ptrace");
        return;
    }
    let calls = count_calls(segments);
    assert!(calls.values().sum::<u32>() >= 20, "the scripted run is not traced: {calls:?}");
    let (mut runs, mut refused_runs) = (0, 0);
    for (call, count) in &calls {
        for place in 1..=*count {
            for error in ["EIO", "ENOSPC"] {
                let inject = ["-e".to_owned(), format!("inject={call}:error={error}:when={place}")];
                refused_runs += u32::from(one_fault(segments, &inject));
                runs += 1;
            }
        }
    }
    eprintln!("{runs} runs with one fault each, {refused_runs} refused, over {calls:?}");
    assert!(refused_runs * 3 > runs, "most faults must be noticed");
}

fn one_fault(segments: bool, inject: &[String]) -> bool {
    let (folder, mut told) = used_store(segments);
    let dir = folder.path().join("store");
    let run = Run { dir: &dir, segments, threads: 1, rounds: 3, reopenings: 0 };
    let (more, refused) = outcome(&run, &strace(&dir, segments, inject));
    assert!(!refused.is_empty() || more.len() == 9, "{inject:?}: neither refused nor done");
    told.extend(more);
    drop(run.check(&told));
    let (after, refused_after) = outcome(&run, &[]);
    assert!(refused_after.is_empty() && after.len() == 9, "{inject:?}: no recovery: {refused_after:?}");
    !refused.is_empty()
}

#[test]
fn a_fault_on_any_call_of_the_database_never_costs_an_acknowledged_event() {
    every_call_fails_once(false);
}

#[test]
fn a_fault_on_any_call_of_the_segments_never_costs_an_acknowledged_event() {
    every_call_fails_once(true);
}

/// The store is opened anew in the same process: the fault lasts for three calls, the process goes on after it.
fn the_process_goes_on_after_every_fault(segments: bool) {
    if !has_strace() {
        eprintln!("skipped: faults cannot be injected, install strace and allow ptrace");
        return;
    }
    let (mut runs, mut reopened_runs) = (0, 0);
    for (call, count) in &count_calls(segments) {
        for place in 1..=*count {
            let error = if place % 2 == 0 { "EIO" } else { "ENOSPC" };
            let inject = ["-e".to_owned(), format!("inject={call}:error={error}:when={place}..{}", place + 2)];
            reopened_runs += u32::from(goes_on(segments, &inject));
            runs += 1;
        }
    }
    eprintln!("{runs} runs with one fault each, {reopened_runs} of them opened anew");
    assert!(reopened_runs * 3 > runs, "most faults must be noticed");
}

/// Whether the store had to be opened anew.
fn goes_on(segments: bool, inject: &[String]) -> bool {
    const ROUNDS: u32 = 12;
    let (folder, mut told) = used_store(segments);
    let dir = folder.path().join("store");
    let run = Run { dir: &dir, segments, threads: 1, rounds: ROUNDS, reopenings: 12 };
    let (more, refused) = outcome(&run, &strace(&dir, segments, inject));
    let whole = 3 * (ROUNDS as usize).saturating_sub(refused.len());
    assert!(more.len() >= whole && !more.is_empty(), "{inject:?}: it did not go on: {} acks, {refused:?}", more.len());
    told.extend(more);
    drop(run.check(&told));
    !refused.is_empty()
}

#[test]
fn after_a_fault_on_any_call_of_the_database_the_process_goes_on_with_everything_acknowledged() {
    the_process_goes_on_after_every_fault(false);
}

#[test]
fn after_a_fault_on_any_call_of_the_segments_the_process_goes_on_with_everything_acknowledged() {
    the_process_goes_on_after_every_fault(true);
}

/// A file size limit makes the kernel write a part and then refuse, as a disk does that runs full within a write.
#[test]
fn a_disk_that_runs_full_within_a_write_never_costs_an_acknowledged_event() {
    let mut refused_runs = 0;
    for (segments, kibibytes) in (1..24).flat_map(|step| [(false, 10 * step), (true, step)]) {
        let (folder, mut told) = used_store(segments);
        let dir = folder.path().join("store");
        let run = Run { dir: &dir, segments, threads: 1, rounds: 8, reopenings: 0 };
        let limit = format!("trap '' XFSZ; ulimit -f {kibibytes}; exec \"$@\"");
        let (more, refused) = outcome(&run, &["bash", "-c", &limit, "bash"].map(str::to_owned));
        told.extend(more);
        refused_runs += u32::from(!refused.is_empty());
        drop(run.check(&told));
    }
    assert!(refused_runs >= 20, "the limit was noticed in {refused_runs} runs only");
}
