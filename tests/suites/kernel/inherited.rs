//! Nothing of the caller's, the daemon's or the spawner's process reaches a job.

use remand_tests::cases;
use remand_tests::kit::{PATIENCE, finish};
use remand_tests::stage::{PROBE, Seen, find_place, known, stage};
use remand_tests::suite::{Case, Verdict};
use std::process::Command;

pub const CASES: &[Case] = cases![
    nothing_of_a_careless_caller_reaches_the_job,
    the_streams_are_pipes_made_for_the_job,
    the_session_is_new_and_has_no_terminal,
    the_keeper_tells_nothing_and_takes_no_signal,
];

/// The whole chain below a shell with open files, variables, ignored signals, a wide umask and a folder of its own.
fn from_a_careless_shell() -> Seen {
    let place = find_place().expect("the suite has one");
    let volume = format!("{}:/probe", place.path().join("probe").display());
    let script =
        "trap '' HUP INT TERM USR1 PIPE CHLD; umask 0; cd /root || exit 9; exec 8</etc/shadow 9>/dev/null; exec \"$@\"";
    let remand = place.command(&["run", "-q", "-v", &volume, "--", PROBE, "self"]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(remand.get_program()).args(remand.get_args());
    let variables = remand.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.envs(variables).env("SECRET", "hunter2").env("LD_PRELOAD", "").env("GCONV_PATH", "/tmp");
    Seen { finished: finish(&mut command, b"", PATIENCE), result: serde_json::Value::Null }.expect(0)
}

fn nothing_of_a_careless_caller_reaches_the_job() -> Verdict {
    known(
        "the C library keeps its signals 32 and 33 ignored in what it spawns",
        try_nothing_of_a_careless_caller_reaches_the_job,
    )
}

fn try_nothing_of_a_careless_caller_reaches_the_job() -> Verdict {
    let seen = from_a_careless_shell();
    assert_eq!((seen.one("Umask").as_str(), seen.one("folder").as_str()), ("0022", "/work"));
    for key in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
        assert_eq!(seen.one(key), "0000000000000000", "{key}");
    }
    let expected = [
        "HOME=/home/user",
        "LANG=C.UTF-8",
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "TMPDIR=/tmp",
        "TZ=UTC",
        "USER=user",
    ];
    assert_eq!(seen.all("variable"), expected);
    let descriptors: Vec<String> =
        seen.lines().into_iter().map(|(name, _)| name).filter(|n| n.contains("/fd/")).collect();
    assert_eq!(descriptors, ["/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]);
    Verdict::Proved
}

fn the_streams_are_pipes_made_for_the_job() -> Verdict {
    let seen = stage().probe(&[], &["self"]).expect(0);
    let pipes: Vec<String> = (0..3).map(|number| seen.one(&format!("/proc/self/fd/{number}"))).collect();
    assert!(pipes.iter().all(|pipe| pipe.starts_with("pipe:")), "{pipes:?}");
    assert!(pipes[0] != pipes[1] && pipes[1] != pipes[2], "{pipes:?}");
    Verdict::Proved
}

fn the_session_is_new_and_has_no_terminal() -> Verdict {
    let seen = stage().shell(&[], "cut -d' ' -f6,7 /proc/self/stat; ls /dev/tty /dev/console; : </dev/tty").expect(2);
    assert_eq!(seen.text().lines().next(), Some("2 0"), "a session led by the program, no terminal");
    Verdict::Proved
}

fn the_keeper_tells_nothing_and_takes_no_signal() -> Verdict {
    let script = "for f in environ auxv mem io maps fd/0 fd/3 root/etc cwd/x exe stack syscall personality; do \
         cat /proc/1/$f && echo READ $f; done; \
         ls /proc/1/fd && echo READ fd; ls /proc/1/fdinfo && echo READ fdinfo; ls /proc/1/map_files && echo READ map_files; \
         for s in KILL STOP TERM INT SEGV SYS 33; do kill -$s 1 && echo SENT $s; done; tr '\\0' ' ' </proc/1/cmdline";
    let seen = stage().shell(&[], script);
    assert_eq!(seen.text(), "remand-shim ", "{}", seen.finished.complaint());
    assert_eq!(seen.cause(), "exited");
    Verdict::Proved
}
