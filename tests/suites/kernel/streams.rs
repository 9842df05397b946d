//! Standard streams, terminals, variables and folders: what a caller gives arrives, what the program says comes back.

use remand_tests::cases;
use remand_tests::kit::{PATIENCE, wait_readable};
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use std::io::{Read, Write};
use std::process::Stdio;

pub const CASES: &[Case] = cases![
    input_of_any_bytes_and_size_arrives_and_comes_back,
    output_arrives_while_the_program_runs,
    the_end_of_input_is_seen,
    a_program_that_reads_nothing_is_not_waited_for,
    both_streams_stay_apart,
    the_json_form_prints_the_result_alone,
    a_terminal_is_the_boxs_own,
    variables_arrive_and_replace_the_policys,
    the_working_folder_can_be_chosen,
    giant_arguments_are_refused_at_a_stated_bound,
    the_result_waits_for_no_grandchild_that_holds_the_output,
    the_end_of_the_caller_ends_the_box,
];

fn input_of_any_bytes_and_size_arrives_and_comes_back() -> Verdict {
    let input: Vec<u8> = (0..6_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let seen = stage().run_with(&["--", "cat"], &input).expect(0);
    assert!(seen.finished.stdout == input, "{} bytes came back", seen.finished.stdout.len());
    Verdict::Proved
}

fn output_arrives_while_the_program_runs() -> Verdict {
    let mut command = stage().place.command(&["run", "-q", "--", "/bin/sh", "-c", "echo first; read line; echo $line"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("remand starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut first = [0; 6];
    assert!(wait_readable(&stdout, PATIENCE));
    stdout.read_exact(&mut first).expect("a pipe");
    stdin.write_all(b"second\n").expect("it reads");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("a pipe");
    assert_eq!((&first, rest.as_str()), (b"first\n", "second\n"));
    assert!(child.wait().expect("our own child").success());
    Verdict::Proved
}

fn the_end_of_input_is_seen() -> Verdict {
    assert_eq!(stage().run_with(&["--", "wc", "-c"], b"12345").expect(0).text(), "5\n");
    assert_eq!(stage().run_with(&["--", "wc", "-c"], b"").expect(0).text(), "0\n");
    Verdict::Proved
}

fn a_program_that_reads_nothing_is_not_waited_for() -> Verdict {
    let seen = stage().run_with(&["--", "echo", "done"], &vec![b'x'; 3_000_000]).expect(0);
    assert_eq!(seen.text(), "done\n");
    Verdict::Proved
}

fn both_streams_stay_apart() -> Verdict {
    let seen = stage().shell(&[], "echo out; echo err >&2").expect(0);
    assert_eq!((seen.text().as_str(), seen.finished.complaint().as_str()), ("out\n", "err\n"));
    Verdict::Proved
}

fn the_json_form_prints_the_result_alone() -> Verdict {
    let done = stage()
        .place
        .remand(&["run", "--json", "--", "/bin/sh", "-c", "echo '{\"cause\":{\"kind\":\"forged\"}}'"])
        .expect(0);
    assert_eq!(done.json()["cause"]["kind"], "exited");
    assert!(done.complaint().contains("forged"), "what the program printed goes to the other stream");
    Verdict::Proved
}

fn a_terminal_is_the_boxs_own() -> Verdict {
    let script = "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; stat -c %u /dev/pts/0; ls /dev/pts; ps >/dev/null 2>&1; cut -d' ' -f7 /proc/self/stat";
    let seen = stage().shell(&["-t"], script).expect(0);
    let lines: Vec<String> = seen.text().lines().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(lines[..3], ["/dev/pts/0", "all", "1000"], "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("34816"), "the controlling terminal is the slave 136:0");
    Verdict::Proved
}

fn variables_arrive_and_replace_the_policys() -> Verdict {
    let flags = ["-e", "ONE=1", "-e", "HOME=/tmp", "-e", "ODD=a b\n\"c\"\u{e9}"];
    let seen = stage().run(&[&flags[..], &["--", "/usr/bin/env", "-0"]].concat()).expect(0);
    let text = seen.text();
    let all: Vec<&str> = text.split('\0').collect();
    for expected in ["ONE=1", "HOME=/tmp", "ODD=a b\n\"c\"\u{e9}", "USER=user"] {
        assert!(all.contains(&expected), "{expected:?} is not in {all:?}");
    }
    Verdict::Proved
}

fn the_working_folder_can_be_chosen() -> Verdict {
    assert_eq!(stage().run(&["--", "pwd"]).expect(0).text(), "/work\n");
    assert_eq!(stage().run(&["-w", "/tmp", "--", "pwd"]).expect(0).text(), "/tmp\n");
    let missing = stage().run(&["-w", "/no/such", "--", "echo", "RAN"]).expect(125);
    assert_eq!(missing.text(), "");
    Verdict::Proved
}

fn giant_arguments_are_refused_at_a_stated_bound() -> Verdict {
    let long = "x".repeat(100_000);
    let many = [long.as_str(); 10];
    let seen = stage().run(&[&["--", "echo", "RAN"], &many[..]].concat()).expect(125);
    assert!(seen.finished.complaint().contains("512 KiB"), "{}", seen.finished.complaint());
    let few = ["x"; 3000];
    assert_eq!(stage().run(&[&["--", "echo", "RAN"], &few[..]].concat()).expect(125).text(), "");
    Verdict::Proved
}

fn the_result_waits_for_no_grandchild_that_holds_the_output() -> Verdict {
    let seen = stage().probe(&["--wall", "50s"], &["survive", "leave"]).expect(0).because("exited");
    assert!(seen.number("/usage/wall_us") < 10_000_000, "{}", seen.result);
    Verdict::Proved
}

fn the_end_of_the_caller_ends_the_box() -> Verdict {
    let live = stage().live(&["--wall", "50s"], "trap '' HUP INT TERM; echo ready; sleep 100");
    let processes = live.processes();
    assert!(processes.len() >= 2);
    drop(live); // SIGKILL
    stage().assert_empty();
    Verdict::Proved
}
