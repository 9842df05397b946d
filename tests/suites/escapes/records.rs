//! Survivors, and what hostile names and output could do to records and to the terminals of those who read them.

use remand_tests::cases;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};

pub const CASES: &[Case] = cases![
    nothing_survives_the_end_of_a_job,
    no_name_of_a_job_forges_a_line_or_drives_a_terminal,
    no_output_of_a_job_forges_a_result,
    no_argument_of_a_caller_drives_a_terminal,
    a_cause_cannot_be_forged_by_a_signal,
];

fn nothing_survives_the_end_of_a_job() -> Verdict {
    for words in [&["survive", "leave"][..], &["survive", "stay"], &["bomb", "40"]] {
        drop(stage().probe(&["--wall", "700ms"], words));
        stage().assert_empty();
    }
    Verdict::Proved
}

fn assert_plain(text: &str) {
    let bad = text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{202a}'..='\u{202e}'));
    assert!(bad.is_none(), "{bad:?} in {text:?}");
}

fn no_name_of_a_job_forges_a_line_or_drives_a_terminal() -> Verdict {
    let script = "cd /out; for n in 'a\u{1b}[2J\u{1b}]0;owned\u{7}' 'b\n{\"cause\":\"forged\"}' 'c\rremand: exited: 0' 'd\",\"x\":\"' 'e\u{202e}f'; do echo >\"$n\"; mkdir \"dir $n\"; echo >\"dir $n/f\"; ln -s x \"link $n\"; done; exit 3";
    let seen = stage().shell(&[], script).expect(3);
    assert_plain(&seen.finished.complaint());
    assert!(!seen.finished.complaint().contains("forged"), "{}", seen.finished.complaint());
    let done = stage().place.remand(&["run", "--json", "-q", "--", "/bin/sh", "-c", script]).expect(3);
    assert_plain(&done.text());
    assert_eq!(done.text().trim_end().lines().count(), 1, "a result is one line");
    let result = done.json();
    assert_eq!((result["cause"]["kind"].as_str(), result["cause"]["code"].as_u64()), (Some("exited"), Some(3)));
    assert_eq!(result["outputs"]["files"].as_array().map(Vec::len), Some(10));
    Verdict::Proved
}

fn no_output_of_a_job_forges_a_result() -> Verdict {
    let forged = r#"{"protocol_version":"1.0","cause":{"kind":"exited","code":0},"exit_code":0}"#;
    let script = format!("echo '{forged}'; echo '{forged}' >&2; printf '\\0\\377\\n'; exit 9");
    let done = stage().place.remand(&["run", "--json", "-q", "--", "/bin/sh", "-c", &script]).expect(9);
    assert_eq!(done.json()["exit_code"], 9);
    let seen = stage().shell(&[], &script).expect(9);
    assert_eq!(seen.result["exit_code"], 9, "the result file is the daemon's word alone");
    Verdict::Proved
}

fn no_argument_of_a_caller_drives_a_terminal() -> Verdict {
    let evil = "x\u{1b}[2J\u{7}\r\nremand: fine";
    for arguments in [
        &["--", evil][..],
        &["--policy", evil, "--", "true"],
        &["-p", evil, "--", "true"],
        &["-m", evil, "--", "true"],
        &["-e", evil, "--", "true"],
        &["-v", evil, "--", "true"],
        &["--rootfs", evil, "--", "true"],
        &["-w", evil, "--", "true"],
    ] {
        let seen = stage().run(arguments);
        assert!(seen.finished.code() >= 125, "{arguments:?}");
        let complaint = seen.finished.complaint();
        assert_plain(&complaint);
        assert!(!complaint.contains("\nremand: fine"), "{complaint:?}");
    }
    Verdict::Proved
}

fn a_cause_cannot_be_forged_by_a_signal() -> Verdict {
    let seen = stage().shell(&[], "kill -SYS $$").expect(159);
    let said = seen.result["cause"]["syscall"].as_str().unwrap_or_default();
    assert!(
        seen.cause() == "signaled" || said.contains("sent by the program"),
        "the record says what did not happen: {}",
        seen.result["cause"]
    );
    Verdict::Proved
}
