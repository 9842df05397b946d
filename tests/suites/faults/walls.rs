//! Each wall taken away in turn: the job is refused with the wall's name and never runs.

use crate::without::{FLAG, Lack};
use remand_tests::cases;
use remand_tests::kit::{Finished, PATIENCE, Place, Traces, finish};
use remand_tests::stage::{cells, known, wait_until};
use remand_tests::suite::{Case, Verdict};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

pub const CASES: &[Case] = cases![
    without_any_one_wall_nothing_runs_and_the_wall_is_named,
    without_a_control_group_hierarchy_nothing_runs,
    without_its_other_programs_nothing_runs,
    a_shim_that_does_nothing_is_named_with_what_to_do,
    with_an_estate_that_forbids_it_nothing_runs,
    an_estate_that_others_can_write_is_not_believed,
    a_boot_that_fails_leaves_no_group,
];

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

/// The wall, how it is taken away, and words of which one must be in the refusal.
const WALLS: &[(&str, Lack, &[&str])] = &[
    ("namespaces", Lack::Call(435, None, ENOSYS), &["clone", "template"]),
    ("cgroup namespace", Lack::Call(272, Some((0, 0x200_0000)), EPERM), &["cgroup"]),
    ("time namespace", Lack::Call(272, Some((0, 0x80)), EINVAL), &["time"]),
    ("mount namespace", Lack::Call(272, Some((0, 0x2_0000)), EPERM), &["mount namespace", "template", "spawner"]),
    ("host name", Lack::Call(170, None, EPERM), &["names"]),
    ("mount", Lack::Call(165, None, EPERM), &["mount", "template", "spawner"]),
    ("pivot_root", Lack::Call(155, None, EPERM), &["template"]),
    ("open_tree", Lack::Call(428, None, ENOSYS), &["template"]),
    ("move_mount", Lack::Call(429, None, ENOSYS), &["template"]),
    ("mount_setattr", Lack::Call(442, None, ENOSYS), &["template"]),
    ("openat2", Lack::Call(437, None, ENOSYS), &["cgroup", "template", "spawner", "vet", "mount namespace"]),
    ("devices", Lack::Call(259, None, EPERM), &["template"]),
    // The ledger asks the same call whether its disk was forced read-only, and comes first.
    ("procfs is verified", Lack::Call(138, None, EPERM), &["root", "audit_unavailable"]),
    ("core limit", Lack::Call(302, Some((1, 4)), EPERM), &["limits"]),
    ("descriptor limit", Lack::Call(302, Some((1, 7)), EPERM), &["limits"]),
    ("securebits", Lack::Call(157, Some((0, 28)), EPERM), &["privileges", "clone", "spawner"]),
    ("bounding set", Lack::Call(157, Some((0, 24)), EPERM), &["privileges", "root could not be given away"]),
    ("ambient set", Lack::Call(157, Some((0, 47)), EINVAL), &["privileges", "split", "root could not be given away"]),
    (
        "no_new_privs",
        Lack::Call(157, Some((0, 38)), EINVAL),
        &["no_new_privs", "privileges", "split", "root could not be given away"],
    ),
    ("capset", Lack::Call(126, None, EPERM), &["privileges", "split", "root could not be given away"]),
    ("setgroups", Lack::Call(116, None, EPERM), &["ids", "privileges", "root could not be given away"]),
    ("setresuid", Lack::Call(117, None, EPERM), &["ids", "privileges", "root could not be given away"]),
    ("keyring", Lack::Call(250, None, EPERM), &["ids", "privileges"]),
    ("death with the daemon", Lack::Call(157, Some((0, 1)), EPERM), &["ids"]),
    ("dumpable", Lack::Call(157, Some((0, 4)), EPERM), &["ids"]),
    ("session", Lack::Call(112, None, EPERM), &["streams", "setsid", "session"]),
    ("close_range", Lack::Call(436, None, ENOSYS), &["clone", "streams", "descriptors"]),
    ("landlock", Lack::Call(444, None, ENOSYS), &["Landlock", "landlock"]),
    ("landlock rules", Lack::Call(445, None, EINVAL), &["Landlock", "landlock"]),
    ("landlock restriction", Lack::Call(446, None, EPERM), &["Landlock", "landlock"]),
    ("seccomp", Lack::Call(317, None, EINVAL), &["seccomp"]),
];

/// `remand run` that would leave a mark in a volume if it ran, on a kernel that lacks this.
fn run_without(place: &Place, lack: Lack, mark: &Path) -> Finished {
    let volume = format!("{}:/data:rw", mark.display());
    let remand = place.command(&["run", "-v", &volume, "--", "/bin/sh", "-c", "echo RAN; : >/data/ran"]);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([FLAG, &lack.word()]).arg(remand.get_program()).args(remand.get_args());
    command.envs(remand.get_envs().filter_map(|(name, value)| Some((name, value?))));
    finish(&mut command, b"", PATIENCE)
}

/// What is wrong with a refusal, or nothing.
fn doubt(name: &str, done: &Finished, words: &[&str], mark: &Path) -> Option<String> {
    let complaint = done.complaint();
    let ran = done.text().contains("RAN") || mark.join("ran").exists();
    if ran || done.code() != 125 {
        return Some(format!("without {name} it ran: {ran}, code {}: {complaint}", done.code()));
    }
    let named = words.iter().any(|word| complaint.contains(word));
    (!named).then(|| format!("without {name} the refusal names none of {words:?}: {complaint}"))
}

/// Waits until no process is left; the empty groups of a boot that failed have a case of their own.
fn settle(place: &Place) {
    wait_until(|| {
        let left = place.traces();
        let gone = left.processes.is_empty() && left.mounts.is_empty() && cells(&place.group()).is_empty();
        if gone { Ok(()) } else { Err(format!("left: {left:?}")) }
    });
}

/// With all walls the same place runs a program, and leaves nothing.
fn works(place: &Place) {
    assert_eq!(place.remand(&["run", "-q", "--", "echo", "all stand"]).expect(0).text(), "all stand\n");
    Traces::assert_gone(|| place.traces());
}

fn a_boot_that_fails_leaves_no_group() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let mark = mark_of(&place);
    assert_eq!(run_without(&place, Lack::Call(444, None, ENOSYS), &mark).code(), 125);
    settle(&place);
    let groups = place.traces().groups;
    works(&place);
    assert!(groups.is_empty(), "left: {groups:?}");
    Verdict::Proved
}

fn mark_of(place: &Place) -> std::path::PathBuf {
    let mark = place.path().join("mark");
    fs::create_dir_all(&mark).expect("our own folder");
    mark
}

fn without_any_one_wall_nothing_runs_and_the_wall_is_named() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let mark = mark_of(&place);
    let mut doubts = Vec::new();
    for (name, lack, words) in WALLS {
        let done = run_without(&place, *lack, &mark);
        doubts.extend(doubt(name, &done, words, &mark));
        settle(&place);
    }
    assert!(doubts.is_empty(), "{}", doubts.join("; "));
    works(&place);
    Verdict::Proved
}

fn without_a_control_group_hierarchy_nothing_runs() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let mark = mark_of(&place);
    let v1 = Path::new("/sys/fs/cgroup/memory").is_dir();
    let paths: &[&'static str] =
        if v1 { &["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"] } else { &["/sys/fs/cgroup"] };
    let mut doubts = Vec::new();
    for path in paths {
        let last = path.rsplit('/').next().expect("a name");
        for lack in [Lack::Mount(path), Lack::Writing(path)] {
            let done = run_without(&place, lack, &mark);
            doubts.extend(doubt(path, &done, &[last, "ontrol group", "cgroup"], &mark));
            settle(&place);
        }
    }
    assert!(doubts.is_empty(), "{}", doubts.join("; "));
    works(&place);
    Verdict::Proved
}

/// A program that runs, and is not the shim.
fn a_shim_that_does_nothing_is_named_with_what_to_do() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let folder = place.path().join("bin-other");
    fs::create_dir(&folder).expect("ours");
    for name in ["remand", "remandd", "remand-spawner"] {
        fs::copy(place.binary(name), folder.join(name)).expect("ours");
    }
    fs::copy(place.binary("remand"), folder.join("remand-shim")).expect("ours");
    let mut command = place.command(&["run", "--", "/bin/sh", "-c", "echo RAN"]);
    let done = finish(command.env("REMAND_BIN_DIR", &folder), b"", PATIENCE);
    let said = done.complaint();
    assert!(done.code() == 125 && !done.text().contains("RAN"), "{}: {said}", done.code());
    assert!(said.contains("remand-shim") && said.contains("install the four programs together"), "{said}");
    settle(&place);
    works(&place);
    Verdict::Proved
}

fn without_its_other_programs_nothing_runs() -> Verdict {
    known("a spawner that cannot start does not say why to the caller", try_without_its_other_programs_nothing_runs)
}

fn try_without_its_other_programs_nothing_runs() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let (mark, mut doubts) = (mark_of(&place), Vec::new());
    for (missing, garbage) in [
        ("remand-spawner", None),
        ("remand-shim", None),
        ("remandd", None),
        ("remand-shim", Some("#!/bin/nope\n")),
        ("remand-spawner", Some("\x7fELF")),
    ] {
        let folder = place.path().join(format!("bin-{missing}-{}", garbage.is_some()));
        fs::create_dir(&folder).expect("ours");
        for name in ["remand", "remandd", "remand-spawner", "remand-shim"].into_iter().filter(|name| *name != missing) {
            fs::copy(place.binary(name), folder.join(name)).expect("ours");
        }
        if let Some(text) = garbage {
            fs::write(folder.join(missing), text).expect("ours");
            fs::set_permissions(folder.join(missing), fs::Permissions::from_mode(0o755)).expect("ours");
        }
        let volume = format!("{}:/data:rw", mark.display());
        let mut command = place.command(&["run", "-v", &volume, "--", "/bin/sh", "-c", "echo RAN; : >/data/ran"]);
        let done = finish(command.env("REMAND_BIN_DIR", &folder), b"", PATIENCE);
        doubts.extend(doubt(missing, &done, &[missing, missing.trim_start_matches("remand-")], &mark));
        settle(&place);
    }
    works(&place);
    assert!(doubts.is_empty(), "{}", doubts.join("; "));
    Verdict::Proved
}

/// Runs a daemon with this estate and a program on it: what the program's command, or else the daemon, said.
fn with_estate(place: &Place, text: &str, mode: u32) -> Finished {
    let file = place.path().join("estate-file");
    fs::write(&file, text).expect("ours");
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
    let mut daemon = Command::new(place.binary("remandd"));
    daemon.arg("--state").arg(place.state()).arg("--run").arg(place.run_folder()).arg("--estate").arg(&file);
    daemon.arg("--until-idle").env("REMAND_BIN_DIR", place.binary("")).stdin(std::process::Stdio::null());
    let mut child =
        daemon.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    assert!(remand_tests::kit::wait_readable(child.stdout.as_ref().expect("a pipe"), PATIENCE));
    let done = place.remand(&["run", "-q", "--", "/bin/echo", "RAN"]);
    child.wait().expect("our own child");
    done
}

/// The estate that a daemon of this place writes for itself.
fn own_estate(place: &Place) -> String {
    drop(place.remand(&["run", "--", "true"]).expect(0));
    Traces::assert_gone(|| place.traces());
    fs::read_to_string(place.run_folder().join("estate")).expect("it stays")
}

fn with_an_estate_that_forbids_it_nothing_runs() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let own = own_estate(&place);
    let without = |key: &str| {
        own.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect::<String>()
    };
    let other = |key: &str, value: &str| format!("{}{key} = {value}\n", without(key));
    for (estate, what) in [
        (format!("{}root = /nowhere\n", without("root ")), "roots"),
        (other("ids_first", "0"), "host ids"),
        (other("ids_first", "1610612736"), "other ids"),
        (other("group", "other"), "other group"),
        ("nonsense\n".to_owned(), "garbage"),
    ] {
        let done = with_estate(&place, &estate, 0o644);
        assert_eq!((done.code(), done.text().as_str()), (125, ""), "{what}: {}", done.complaint());
        settle(&place);
    }
    works(&place);
    Verdict::Proved
}

fn an_estate_that_others_can_write_is_not_believed() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let own = own_estate(&place);
    assert_eq!(with_estate(&place, &own, 0o644).expect(0).text(), "RAN\n", "a good one is believed");
    for mode in [0o666, 0o664, 0o646] {
        settle(&place);
        let done = with_estate(&place, &own, mode);
        assert_eq!((done.code(), done.text().as_str()), (125, ""), "{mode:o}: {}", done.complaint());
    }
    works(&place);
    Verdict::Proved
}
