//! The root: only what was asked for, nothing of it writable but the box's own places, and Landlock behind it.

use remand_tests::cases;
use remand_tests::stage::{Seen, stage};
use remand_tests::suite::{Case, Verdict};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub const CASES: &[Case] = cases![
    nothing_can_be_written_but_the_boxs_own_places_and_devices,
    every_mount_is_without_set_id_and_devices,
    the_devices_are_the_listed_ones_and_what_they_claim,
    proc_shows_processes_of_the_box_and_nothing_else,
    there_is_no_sys_and_no_root_home,
    landlock_stands_behind_the_mounts,
    tcp_is_refused_by_landlock_and_by_an_empty_network,
    a_volume_is_read_only_unless_asked_for,
    a_writable_volume_shows_its_owner_as_the_user,
    a_job_makes_no_set_id_file_on_the_host,
    a_root_of_ones_own_is_read_only_and_has_the_same_walls,
    the_probes_of_a_missing_path_say_whose_move_it_is,
];

fn names(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn nothing_can_be_written_but_the_boxs_own_places_and_devices() -> Verdict {
    let seen = stage().probe(&[], &["write", "/"]).expect(0);
    // A minimal system has some hundred folders to try.
    assert!(seen.answer("tried") > 300, "{}", seen.text());
    let own = [
        "/tmp",
        "/out",
        "/work",
        "/home/user",
        "/dev/shm",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
    ];
    assert_eq!(seen.all("writable").into_iter().collect::<BTreeSet<_>>(), set(&own));
    Verdict::Proved
}

fn every_mount_is_without_set_id_and_devices() -> Verdict {
    let seen = stage().shell(&[], "cat /proc/self/mountinfo").expect(0);
    for line in seen.text().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (point, flags) = (words[4], words[5].split(',').collect::<Vec<_>>());
        assert!(flags.contains(&"nosuid"), "{line}");
        // The box's own /dev holds devices, and nothing can be made there.
        assert!(flags.contains(&"nodev") || point == "/dev" && flags.contains(&"ro"), "{line}");
        let writable = ["/tmp", "/out", "/work", "/dev/shm", "/home/user", "/proc"].contains(&point);
        assert!(writable || flags.contains(&"ro"), "{line}");
        assert!(
            !line.contains(" shared:") && !line.contains(" master:"),
            "what is mounted elsewhere spreads here: {line}"
        );
    }
    Verdict::Proved
}

fn the_devices_are_the_listed_ones_and_what_they_claim() -> Verdict {
    let seen = stage().shell(&[], "ls /dev; echo; stat -c '%n %t:%T' /dev/[fnruz]*l /dev/*random /dev/zero").expect(0);
    let text = seen.text();
    let (listed, numbers) = text.split_once("\n\n").expect("two parts");
    let expected =
        ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"];
    let found: BTreeSet<String> = names(listed).into_iter().filter(|name| name != "tty").collect();
    assert_eq!(found, set(&expected));
    let numbers: BTreeSet<&str> = numbers.lines().collect();
    let real = ["/dev/full 1:7", "/dev/null 1:3", "/dev/random 1:8", "/dev/urandom 1:9", "/dev/zero 1:5"];
    assert_eq!(numbers, real.into());
    Verdict::Proved
}

fn proc_shows_processes_of_the_box_and_nothing_else() -> Verdict {
    let seen = stage().shell(&[], "ls /proc; stat -f -c %T /proc").expect(0);
    let shown = names(&seen.text());
    assert!(shown.contains("1") && shown.contains("proc"), "{shown:?}");
    let others: Vec<&String> = shown.iter().filter(|name| name.parse::<u32>().is_err()).collect();
    assert_eq!(others, ["proc", "self", "thread-self"], "the last line is the file system's type");
    assert!(shown.iter().filter_map(|name| name.parse::<u32>().ok()).all(|pid| pid < 16), "{shown:?}");
    Verdict::Proved
}

fn there_is_no_sys_and_no_root_home() -> Verdict {
    let seen = stage().shell(&[], "ls -A /; ls -A /etc; ls /sys /root /var /run /boot /mnt /home/user").expect(2);
    let shown = names(&seen.text());
    for name in ["sys", "root", "var", "run", "boot", "mnt", "shadow", "machine-id", "fstab", "ssh"] {
        assert!(!shown.contains(name), "{name} is there: {shown:?}");
    }
    Verdict::Proved
}

fn landlock_stands_behind_the_mounts() -> Verdict {
    // /out is mounted with exec, is writable and the user's own: only Landlock refuses to run what lies there.
    let script = "cp /bin/true /out/true && chmod 755 /out/true && /out/true; echo $?; cp /bin/true /tmp/true && /tmp/true; echo $?";
    let seen = stage().shell(&[], script).expect(0);
    assert_eq!(seen.text(), "126\n0\n", "{}", seen.finished.complaint());
    assert!(seen.fact("landlock_abi") >= 1 && seen.fact("landlock_rules") > 3);
    // In a root of the caller's own nothing is visible that Landlock does not allow to be read, but writing has no rule.
    let refused = stage().shell(&[], "(: >/usr/x) || echo refused; (: >/x) || echo refused").expect(0);
    assert_eq!(refused.text(), "refused\nrefused\n");
    Verdict::Proved
}

const CONNECT: &str = "import socket,sys
s=socket.socket()
try: s.connect(('127.0.0.1',1))
except OSError as e: print(e.errno)
try: s.bind(('127.0.0.1',0)); print('bound')
except OSError as e: print(e.errno)";

fn tcp_is_refused_by_landlock_and_by_an_empty_network() -> Verdict {
    let python = ["--policy", "python"];
    let seen = stage().run(&[&python[..], &["--", "/usr/bin/python3", "-c", CONNECT]].concat());
    if seen.cause() == "setup_failed" {
        return Verdict::Skipped("no /usr/bin/python3 on this host".to_owned());
    }
    let seen = seen.expect(0);
    if seen.fact("landlock_abi") < 4 {
        return Verdict::Skipped("this kernel's Landlock knows no network rules".to_owned());
    }
    assert_eq!(seen.text(), "13\n13\n", "EACCES is Landlock's; the empty network alone would say ENETUNREACH");
    let links =
        stage().shell(&[], "cut -d: -f1 /proc/self/net/dev | tail -n +3; cat /proc/self/net/route | wc -l").expect(0);
    let found = names(&links.text());
    assert!(
        found.contains("lo") && found.len() == 2 && (found.contains("0") || found.contains("1")),
        "a route or link: {found:?}"
    );
    Verdict::Proved
}

fn volume(folder: &std::path::Path, mode: &str) -> String {
    format!("{}:/data{mode}", folder.display())
}

fn in_volume(folder: &std::path::Path, mode: &str, script: &str) -> Seen {
    stage().shell(&["-v", &volume(folder, mode)], script)
}

fn a_volume_is_read_only_unless_asked_for() -> Verdict {
    let folder = stage().folder();
    fs::write(folder.join("given"), "given").expect("our own folder");
    for mode in ["", ":ro"] {
        let seen =
            in_volume(&folder, mode, "cat /data/given; (: >/data/new); rm -f /data/given; chmod 777 /data/given")
                .expect(1);
        assert_eq!(seen.text(), "given");
    }
    assert_eq!(fs::read_dir(&folder).expect("our own folder").count(), 1);
    assert_eq!(fs::read_to_string(folder.join("given")).expect("still there"), "given");
    Verdict::Proved
}

fn a_writable_volume_shows_its_owner_as_the_user() -> Verdict {
    let folder = stage().folder();
    let seen = in_volume(&folder, ":rw", "echo made >/data/new; stat -c '%u:%g' /data /data/new").expect(0);
    assert_eq!(seen.text(), "1000:1000\n1000:1000\n");
    let (owner, made) = (fs::metadata(&folder).expect("ours"), fs::metadata(folder.join("new")).expect("made"));
    assert_eq!((made.uid(), made.gid()), (owner.uid(), owner.gid()), "what is made belongs to the folder's owner");
    Verdict::Proved
}

fn a_job_makes_no_set_id_file_on_the_host() -> Verdict {
    let folder = stage().folder();
    let volume = volume(&folder, ":rw");
    let script = "cp /bin/true /data/tool; chmod 4755 /data/tool; chmod 2755 /data/tool; chmod u+s /data/tool; mkdir -m 2777 /data/dir";
    drop(in_volume(&folder, ":rw", script));
    // mode bits of open(2), creat(2), mkdir(2) and mknodat(2): O_CREAT | O_WRONLY is 0x41.
    let calls = [
        "calls",
        "open=2:@/data/open,0x41,04755",
        "openat=257:-100,@/data/openat,0x41,06755",
        "creat=85:@/data/creat,04755",
        "mknodat=259:-100,@/data/mknodat,0104755,0",
        "fchmodat2=452:-100,@/data/tool,04755,0",
    ];
    drop(stage().probe(&["-v", &volume], &calls));
    for entry in fs::read_dir(&folder).expect("our own folder").flatten() {
        let mode = entry.metadata().expect("our own file").mode();
        assert_eq!(mode & 0o6000, 0, "{} has mode {mode:o} on the host", entry.path().display());
    }
    Verdict::Proved
}

fn a_root_of_ones_own_is_read_only_and_has_the_same_walls() -> Verdict {
    let folder = stage().folder();
    for name in ["bin", "proc", "dev", "tmp", "etc"] {
        fs::create_dir(folder.join(name)).expect("our own folder");
    }
    fs::copy(stage().place.path().join("probe/probe"), folder.join("bin/probe")).expect("our own folder");
    fs::write(folder.join("etc/own"), "own").expect("our own folder");
    let root = folder.to_str().expect("a plain path");
    let seen = stage().run(&["--rootfs", root, "--", "/bin/probe", "write", "/"]).expect(0);
    let all: BTreeSet<String> = seen.all("writable").into_iter().filter(|path| !path.starts_with("/dev/")).collect();
    assert_eq!(all, set(&["/tmp", "/out", "/work", "/home/user"]));
    let me = stage().run(&["--rootfs", root, "--", "/bin/probe", "self"]).expect(0);
    assert_eq!((me.one("CapBnd").as_str(), me.one("Seccomp").as_str()), ("0000000000000000", "2"));
    assert!(me.fact("landlock_abi") >= 1);
    Verdict::Proved
}

fn the_probes_of_a_missing_path_say_whose_move_it_is() -> Verdict {
    for (flags, word) in [(["-v", "/nowhere/at/all:/data"], "-v"), (["--rootfs", "/nowhere/at/all"], "--rootfs")] {
        let seen = stage().run(&[&flags[..], &["--", "true"]].concat()).expect(125);
        assert!(seen.finished.complaint().contains(word), "{}", seen.finished.complaint());
        assert_eq!(seen.cause(), "no result");
    }
    Verdict::Proved
}
