//! The result: causes, exit codes, usage and the enforced set as one document that its schema describes.

use remand_tests::cases;
use remand_tests::kit::{PATIENCE, finish};
use remand_tests::stage::{Seen, boxed, stage};
use remand_tests::suite::{Case, Verdict};
use serde_json::Value;

pub const CASES: &[Case] = cases![
    exit_codes_follow_the_habits_of_timeout_and_env,
    every_limit_is_read_back_from_the_kernel,
    the_walls_that_stood_are_in_the_result,
    what_was_used_is_in_the_result,
    every_result_fits_the_published_schema,
    a_dry_run_starts_nothing,
    settings_of_a_policy_can_be_given_one_by_one,
    mistakes_on_the_command_line_start_nothing,
];

fn exit_codes_follow_the_habits_of_timeout_and_env() -> Verdict {
    for code in [0, 1, 2, 77, 123] {
        let seen = stage().shell(&[], &format!("exit {code}")).expect(code).because("exited");
        assert_eq!(seen.result["cause"]["code"], code);
    }
    drop(stage().run(&["--", "no-such-program"]).expect(127).because("setup_failed"));
    drop(stage().run(&["--", "/no/such/program"]).expect(127).because("setup_failed"));
    drop(stage().run(&["--", "/etc/passwd"]).expect(126).because("setup_failed"));
    drop(stage().run(&["--", "/usr"]).expect(126).because("setup_failed"));
    drop(stage().run(&["--wall", "200ms", "--", "sleep", "100"]).expect(124).because("wall_timeout"));
    for (name, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("HUP", 1), ("USR1", 10), ("RTMAX", 64)] {
        let seen = stage()
            .run(&["--", "/bin/bash", "-c", &format!("kill -{name} $$")])
            .expect(128 + number)
            .because("signaled");
        assert_eq!(seen.result["cause"]["signal"], number);
    }
    Verdict::Proved
}

fn found(seen: &Seen, name: &str) -> String {
    let limits = seen.result["enforced"]["limits"].as_array().expect("a list");
    let one = limits.iter().find(|limit| limit["name"] == name);
    one.unwrap_or_else(|| panic!("{name} is not among {limits:?}"))["found"].as_str().expect("a text").to_owned()
}

fn every_limit_is_read_back_from_the_kernel() -> Verdict {
    let flags = ["-m", "123M", "--pids", "17", "--cpus", "0.5", "--disk", "9M", "--inodes", "99", "--nofile", "77"];
    let seen = stage().run(&[&flags[..], &["--", "true"]].concat()).expect(0);
    assert_eq!(found(&seen, "memory_bytes_max"), (123 << 20).to_string());
    assert_eq!(found(&seen, "pids_max"), "18", "the keeper is one of them");
    assert_eq!((seen.fact("scratch_bytes"), seen.fact("scratch_inodes")), (9 << 20, 99));
    assert_eq!((seen.fact("limit_nofile"), seen.fact("limit_core")), (77, 0));
    assert!(found(&seen, "cpu_millis_max").contains("50000"), "{}", found(&seen, "cpu_millis_max"));
    for limit in seen.result["enforced"]["limits"].as_array().expect("a list") {
        assert_eq!(limit["wanted"], limit["found"], "{limit}");
    }
    Verdict::Proved
}

fn the_walls_that_stood_are_in_the_result() -> Verdict {
    let seen = stage().run(&["--", "true"]).expect(0);
    let facts = seen.result["enforced"]["facts"].as_object().expect("facts");
    for name in ["user", "pid", "mount", "net", "ipc", "uts", "cgroup", "time"] {
        assert!(facts.contains_key(&format!("{name}_namespace")), "{name}");
    }
    assert!(seen.fact("seccomp_filters") >= 2 && seen.fact("landlock_abi") >= 1 && seen.fact("landlock_rules") >= 5);
    let hash = |pointer: &str| seen.result.pointer(pointer).and_then(Value::as_str).expect("a hash").len();
    assert_eq!((hash("/enforced/policy_sha256"), hash("/enforced/filters/0")), (64, 64));
    assert!(["v1", "v2", "hybrid"].contains(&seen.result["enforced"]["cgroup_backend"].as_str().expect("a name")));
    Verdict::Proved
}

fn what_was_used_is_in_the_result() -> Verdict {
    let script = "head -c 20000000 /dev/zero >/tmp/f; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.2";
    let seen = stage().shell(&[], script).expect(0);
    assert!(seen.number("/usage/memory_peak_bytes") > 19_000_000);
    assert!(seen.number("/usage/cpu_user_us") > 10_000);
    assert!(seen.number("/usage/wall_us") > 200_000);
    assert!(seen.number("/usage/pids_peak") >= 3);
    assert!(seen.number("/usage/disk_free_bytes") < (64 << 20) - 19_000_000);
    Verdict::Proved
}

fn every_result_fits_the_published_schema() -> Verdict {
    let published = finish(&mut stage().place.command(&["schema"]), b"", PATIENCE);
    let schema =
        if published.code() == 0 { published.json() } else { remand_model::outcome::ExecutionResult::json_schema() };
    let schema = schema.get("result").cloned().unwrap_or(schema);
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let runs: [&[&str]; 6] = [
        &["--", "true"],
        &["--", "nope"],
        &["--wall", "200ms", "--", "sleep", "9"],
        &["--", "/bin/sh", "-c", "echo x >/out/f; mkdir /out/d; echo e >&2; kill -9 $$"],
        &["--output-max", "10", "--", "/bin/sh", "-c", "while :; do echo y; done"],
        &["--disk", "1M", "--", "/bin/sh", "-c", "cat /dev/zero >/tmp/f"],
    ];
    for run in runs {
        let seen = stage().run(run);
        let errors: Vec<String> = validator.iter_errors(&seen.result).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{run:?}: {errors:?} in {}", seen.result);
        assert_eq!(seen.result["protocol_version"], "1.0");
    }
    assert!(!validator.is_valid(&serde_json::json!({"protocol_version": "1.0"})), "the schema asks for something");
    Verdict::Proved
}

fn a_dry_run_starts_nothing() -> Verdict {
    let folder = stage().folder();
    let volume = format!("{}:/data:rw", folder.display());
    let command =
        ["run", "--dry-run", "--json", "-v", &volume, "-m", "99M", "--", "/bin/sh", "-c", "echo RAN; : >/data/ran"];
    let plan = stage().place.remand(&command).expect(0);
    let text = plan.text();
    assert!(!text.lines().any(|line| line == "RAN") && !folder.join("ran").exists());
    for word in ["/usr", "103809024", "/data", "mounts", "filters", "landlock"] {
        assert!(text.contains(word), "{word} is not in the plan: {text}");
    }
    assert!(boxed(&stage().place.group()).is_empty());
    Verdict::Proved
}

fn settings_of_a_policy_can_be_given_one_by_one() -> Verdict {
    let seen = stage().shell(&["-p", "limits.pids=33", "-p", "process.hostname=other", "-p", "umask=0077"], "uname -n");
    if seen.finished.code() == 125 {
        let named = stage().shell(&["-p", "limits.pids=33", "-p", "process.hostname=other"], "uname -n").expect(0);
        assert_eq!((named.text().as_str(), found(&named, "pids_max").as_str()), ("other\n", "34"));
    } else {
        assert_eq!((seen.text().as_str(), found(&seen, "pids_max").as_str()), ("other\n", "34"));
    }
    let wrong = stage().run(&["-p", "limits.pid=33", "--", "echo", "RAN"]).expect(125);
    assert!(wrong.finished.complaint().contains("\"pids\""), "did you mean: {}", wrong.finished.complaint());
    Verdict::Proved
}

fn mistakes_on_the_command_line_start_nothing() -> Verdict {
    let bad: [&[&str]; 9] = [
        &["--no-such-flag", "--", "echo", "RAN"],
        &["--policy", "nope", "--", "echo", "RAN"],
        &["--policy", "/no/file.toml", "--", "echo", "RAN"],
        &["-v", "relative:/x", "--", "echo", "RAN"],
        &["-v", "/usr:relative", "--", "echo", "RAN"],
        &["-v", "/usr:/a/../b", "--", "echo", "RAN"],
        &["-v", "/usr:/x:rwx", "--", "echo", "RAN"],
        &["-e", "1BAD=x", "--", "echo", "RAN"],
        &["-w", "not/absolute", "--", "echo", "RAN"],
    ];
    for arguments in bad {
        let seen = stage().run(arguments);
        let complaint = seen.finished.complaint();
        assert_eq!((seen.finished.code(), seen.text().as_str()), (125, ""), "{arguments:?}: {complaint}");
        assert!(complaint.len() > 20 && !complaint.contains("panicked"), "{arguments:?}: {complaint}");
    }
    Verdict::Proved
}
