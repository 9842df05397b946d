//! A disk that is really full, and one that is really read-only: a small tmpfs in a mount namespace of the test's own.
//!
//! Each test starts itself again under unshare(1), where it may mount without changing the machine's mounts. Where that is not
//! allowed it says so. A file system that turns read-only under load is tested with an emulated machine (`scripts/powerloss`).

mod store_kit;

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use remand_ledger::{Ack, AppendError, Ledger, Transaction};
use store_kit::{event, open, options, tenant};

const PLACE: &str = "REMAND_TEST_SMALL_DISK";

/// Room for an empty ledger and a few hundred events.
const DISK_KIBIBYTES: u32 = 1536;

fn unshare(words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--propagation", "private"]).args(words);
    command.stdin(Stdio::null());
    command
}

/// Runs `test` on a small disk: in this process where it is the one inside already, else in one started for it.
fn on_a_small_disk(name: &str, test: fn(&Path)) {
    if let Ok(place) = std::env::var(PLACE) {
        return test(Path::new(&place));
    }
    let probe = unshare(&["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name}: no small disk can be mounted, allow user namespaces and install util-linux");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={DISK_KIBIBYTES}k tmpfs \"$0\" && exec \"$@\"");
    let program = std::env::current_exe().unwrap();
    let mut inside = unshare(&["sh", "-c", &script]);
    inside.arg(place.path()).arg(program).args(["--exact", name, "--nocapture"]).env(PLACE, place.path());
    let output = inside.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the test did not run inside");
    assert_eq!(place.path().read_dir().unwrap().count(), 0, "the disk was mounted outside of its namespace");
}

fn append(ledger: &Ledger, n: u32) -> Result<Ack, AppendError> {
    ledger.append(Transaction::new(tenant("a")).event(event(n)))
}

/// What is said, with every cause.
fn told(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
}

/// Appends until there is a refusal: what was acknowledged before it, and what it says.
fn append_until_refused(ledger: &Ledger) -> (Vec<Ack>, AppendError) {
    let mut acks = Vec::new();
    for n in 0..100_000 {
        match append(ledger, n) {
            Ok(ack) => acks.push(ack),
            Err(refusal) => return (acks, refusal),
        }
    }
    panic!("the disk never ran full");
}

fn holds(ledger: &Ledger, acks: &[Ack]) {
    let size = ledger.verify_chain(&tenant("a")).unwrap().size;
    let entries = ledger.tree(&tenant("a")).unwrap().entries(0, size).unwrap();
    for receipt in acks.iter().flat_map(|ack| &ack.events) {
        let entry = &entries[receipt.event_id as usize];
        assert_eq!(remand_ledger::merkle::leaf_hash(entry), receipt.leaf);
    }
}

fn runs_full(dir: &Path, segments: bool) {
    let store = dir.join("store");
    let ledger = open(&store, segments, options()).unwrap();
    let mut acks: Vec<Ack> = (0..20).map(|n| append(&ledger, n).unwrap()).collect();
    let ballast = dir.join("ballast");
    fill(&ballast);
    let (more, refusal) = append_until_refused(&ledger);
    acks.extend(more);
    assert!(refusal.is_final(), "{refusal}");
    let said = told(&refusal);
    assert!(said.contains("free space on its disk") && said.contains("store/"), "{said}");
    let still = ledger.reopen().map(|found| found.is_some()).expect_err("the disk is full still");
    assert!(told(&still).contains("free space on its disk"), "{}", told(&still));
    assert!(append(&ledger, 1).is_err_and(|again| again.is_final()));
    std::fs::remove_file(&ballast).unwrap();
    assert!(append(&ledger, 1).is_err_and(|again| again.is_final()), "space alone must not make it go on");
    assert!(ledger.reopen().unwrap().is_some());
    holds(&ledger, &acks);
    acks.push(append(&ledger, 2).unwrap());
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(&store, segments, options()).unwrap();
    holds(&ledger, &acks);
    holds(&ledger, &[append(&ledger, 3).unwrap()]);
}

#[test]
fn a_full_disk_is_refused_by_name_and_the_database_recovers_when_there_is_space() {
    let name = "a_full_disk_is_refused_by_name_and_the_database_recovers_when_there_is_space";
    on_a_small_disk(name, |dir| runs_full(dir, false));
}

#[test]
fn a_full_disk_is_refused_by_name_and_the_segments_recover_when_there_is_space() {
    let name = "a_full_disk_is_refused_by_name_and_the_segments_recover_when_there_is_space";
    on_a_small_disk(name, |dir| runs_full(dir, true));
}

fn remount(dir: &Path, how: &str) {
    let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(dir).status().unwrap();
    assert!(status.success(), "remount {how}");
}

fn is_read_only(dir: &Path, segments: bool) {
    let store = dir.join("store");
    let ledger = open(&store, segments, options()).unwrap();
    let acks = [append(&ledger, 0).unwrap()];
    ledger.close().unwrap();
    drop(ledger);
    remount(dir, "ro");
    let refusal = open(&store, segments, options()).err().expect("a ledger that cannot write must not open");
    let said = told(&refusal);
    assert!(said.contains("make it writable") && said.to_lowercase().contains("read-only"), "{said}");
    remount(dir, "rw");
    let ledger = open(&store, segments, options()).unwrap();
    holds(&ledger, &acks);
    holds(&ledger, &[append(&ledger, 1).unwrap()]);
}

#[test]
fn a_read_only_disk_is_refused_by_name_and_the_ledger_opens_when_it_is_writable_again() {
    let name = "a_read_only_disk_is_refused_by_name_and_the_ledger_opens_when_it_is_writable_again";
    on_a_small_disk(name, |dir| {
        is_read_only(&dir.join("."), false);
        std::fs::remove_dir_all(dir.join("store")).unwrap();
        is_read_only(&dir.join("."), true);
    });
}

/// The disk is full before there is a ledger: nothing is left half made that could not be opened later.
#[test]
fn a_ledger_that_finds_no_room_to_begin_opens_when_there_is_space() {
    let name = "a_ledger_that_finds_no_room_to_begin_opens_when_there_is_space";
    on_a_small_disk(name, |dir| {
        for segments in [false, true] {
            let (ballast, store) = (dir.join("ballast"), dir.join(format!("store-{segments}")));
            fill(&ballast);
            let opened = open(&store, segments, options()).map_err(|error| told(&error));
            let refusal = opened.and_then(|ledger| append(&ledger, 0).map_err(|error| told(&error))).unwrap_err();
            assert!(refusal.contains("its disk") && refusal.contains("store-"), "{refusal}");
            std::fs::remove_file(&ballast).unwrap();
            let ledger = open(&store, segments, options()).unwrap();
            holds(&ledger, &[append(&ledger, 0).unwrap()]);
        }
    });
}
