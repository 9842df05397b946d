//! Every limit, with somebody who tries to break it: the job ends or is held, the result names the limit, little is overrun.

use remand_tests::cases;
use remand_tests::stage::{PROBE, Seen, stage};
use remand_tests::suite::{Case, Verdict};

pub const CASES: &[Case] = cases![
    memory_is_limited_whatever_it_is_made_of,
    memory_of_many_processes_is_one_limit,
    tasks_are_limited_and_a_fork_bomb_goes_nowhere,
    processor_share_holds_for_all_processes_together,
    processor_time_holds_for_all_processes_together,
    wall_time_ends_who_only_sleeps,
    wall_time_ends_who_is_deaf_stopped_and_hidden,
    output_is_limited_for_both_streams_together_and_kept_up_to_there,
    disk_bytes_are_limited_in_all_places_together,
    inodes_are_limited_in_all_places_together,
    open_files_are_limited,
    no_core_is_ever_written,
    per_process_limits_cannot_be_raised,
    a_limit_that_makes_no_sense_is_refused,
];

const MEGABYTE: u64 = 1 << 20;

fn with_probe(flags: &[&str], script: &str) -> Seen {
    let volume = format!("{}:/probe", stage().place.path().join("probe").display());
    stage().shell(&[&["-v", volume.as_str()], flags].concat(), script)
}

/// The last step that a hog told of.
fn reached(seen: &Seen) -> u64 {
    let complaint = seen.finished.complaint();
    complaint.lines().filter_map(|line| line.parse().ok()).next_back().unwrap_or(0)
}

fn memory_is_limited_whatever_it_is_made_of() -> Verdict {
    for kind in ["anon", "shared", "/tmp/hog", "/dev/shm/hog", "memfd", "pipes", "sockets"] {
        let flags = ["--policy", "python", "-m", "64M", "--disk", "1G", "--nofile", "8192"];
        let seen = stage().probe(&flags, &["hog", kind, "1000"]).expect(137).because("oom").hit("memory");
        let peak = seen.number("/usage/memory_peak_bytes");
        assert!(peak <= 64 * MEGABYTE * 105 / 100 + 8 * MEGABYTE, "{kind}: {peak}");
        assert!(reached(&seen) > 20, "{kind} was ended early, at {}", reached(&seen));
    }
    Verdict::Proved
}

fn memory_of_many_processes_is_one_limit() -> Verdict {
    let script = format!("for i in 1 2 3 4 5 6 7 8; do {PROBE} hog anon 20 & done; wait; echo all");
    let seen = with_probe(&["-m", "64M"], &script).expect(137).because("oom").hit("memory");
    assert!(!seen.text().contains("all"));
    Verdict::Proved
}

fn tasks_are_limited_and_a_fork_bomb_goes_nowhere() -> Verdict {
    let seen = stage().probe(&["--pids", "20"], &["bomb", "100"]).hit("pids");
    let peak = seen.number("/usage/pids_peak");
    assert!((20..=22).contains(&peak), "20 tasks, the keeper, one too many: {peak}");
    let bomb = stage()
        .run(&["--wall", "3s", "--", "/bin/bash", "-c", "b() { b | b & }; b; while :; do sleep 1; done"])
        .hit("pids");
    assert!(["pids_limit", "wall_timeout"].contains(&bomb.cause()), "{}", bomb.result);
    assert!(bomb.number("/usage/pids_peak") <= 66);
    let threads = "import threading,time
for i in range(1000): threading.Thread(target=time.sleep,args=(60,),daemon=True).start()";
    let seen = stage().run(&["--policy", "python", "--pids", "20", "--", "/usr/bin/python3", "-c", threads]);
    if seen.cause() != "setup_failed" {
        assert!(seen.hit("pids").number("/usage/pids_peak") <= 22);
    }
    Verdict::Proved
}

fn processor_share_holds_for_all_processes_together() -> Verdict {
    let seen =
        stage().probe(&["--cpus", "0.2", "--wall", "3s"], &["spin", "4", "60000"]).expect(124).because("wall_timeout");
    let used = seen.number("/usage/cpu_user_us") + seen.number("/usage/cpu_system_us");
    let wall = seen.number("/usage/wall_us");
    assert!(
        used * 100 <= wall * 25 + 5_000_000,
        "{used} of {wall} microseconds is more than a fifth and its tolerance"
    );
    assert!(seen.number("/usage/throttled_periods") > 0);
    Verdict::Proved
}

fn processor_time_holds_for_all_processes_together() -> Verdict {
    let flags = ["--cpus", "2", "--cpu-time", "500ms", "--wall", "30s"];
    let seen = stage().probe(&flags, &["spin", "8", "60000"]).expect(124).because("cpu_timeout").hit("cpu_time");
    let used = seen.number("/usage/cpu_user_us") + seen.number("/usage/cpu_system_us");
    assert!((450_000..900_000).contains(&used), "{used}");
    // What was used by processes that have ended counts.
    let script = format!("while :; do {PROBE} calls x=39: >/dev/null; done");
    drop(with_probe(&["--cpu-time", "300ms", "--wall", "30s"], &script).expect(124).because("cpu_timeout"));
    Verdict::Proved
}

fn wall_time_ends_who_only_sleeps() -> Verdict {
    let seen = stage().run(&["--wall", "300ms", "--", "sleep", "1000"]).expect(124).because("wall_timeout").hit("wall");
    assert!(seen.number("/usage/wall_us") >= 300_000);
    assert!(seen.number("/usage/cpu_user_us") < 300_000);
    Verdict::Proved
}

fn wall_time_ends_who_is_deaf_stopped_and_hidden() -> Verdict {
    let seen = stage().probe(&["--wall", "1s"], &["survive", "stay"]).expect(124).because("wall_timeout").hit("wall");
    assert_eq!(seen.answer("survivors"), 4);
    assert!(seen.number("/usage/wall_us") < 5_000_000, "{}", seen.result);
    Verdict::Proved
}

fn output_is_limited_for_both_streams_together_and_kept_up_to_there() -> Verdict {
    let script =
        "(while :; do echo oooooooooooooooooooooooooooooo; done) & while :; do echo eeeeeeeeeeeeeeeee; done >&2";
    let seen = stage().shell(&["--output-max", "1M", "--wall", "30s"], script).because("output_limit").hit("output");
    let (out, err) = (seen.number("/outputs/stdout/bytes"), seen.number("/outputs/stderr/bytes"));
    assert!((MEGABYTE..=MEGABYTE + 65536).contains(&(out + err)), "{out} and {err}");
    assert_eq!(seen.finished.stdout.len() as u64, out, "what was kept is what was shown");
    assert!(seen.finished.stdout.starts_with(b"oooo"));
    let exact =
        stage().shell(&["--output-max", "1k"], "head -c 1000 /dev/zero; echo 12345678901234567890123 >&2").expect(0);
    assert_eq!(
        exact.number("/outputs/stdout/bytes") + exact.number("/outputs/stderr/bytes"),
        1024,
        "all of the limit may be used"
    );
    Verdict::Proved
}

fn disk_bytes_are_limited_in_all_places_together() -> Verdict {
    for place in ["/tmp", "/out", "/work", "/home/user", "/dev/shm"] {
        let path = format!("{place}/f");
        let seen = stage().probe(&["--disk", "8M"], &["hog", &path, "100"]).hit("disk").because("disk_quota");
        assert!((7..=8).contains(&reached(&seen)), "{place}: {}", reached(&seen));
        assert!(seen.finished.complaint().contains("errno 28 at 8388608"), "{}", seen.finished.complaint());
    }
    let script = format!("{PROBE} hog /tmp/a 3 && {PROBE} hog /out/b 3 && {PROBE} hog /dev/shm/c 3");
    drop(with_probe(&["--disk", "8M"], &script).hit("disk").because("disk_quota"));
    Verdict::Proved
}

fn inodes_are_limited_in_all_places_together() -> Verdict {
    let own_code = stage().shell(&["--inodes", "20"], "seq 99 | (cd /tmp; xargs touch); exit 7");
    drop(own_code.expect(7).because("disk_quota").hit("inodes"));
    let seen = stage().probe(&["--inodes", "50"], &["inodes", "/tmp", "100"]).hit("inodes").because("disk_quota");
    assert!((49..=51).contains(&seen.answer("inodes")), "{}", seen.text());
    let script = format!("{PROBE} inodes /tmp 30 && {PROBE} inodes /dev/shm 30");
    let both = with_probe(&["--inodes", "50"], &script).hit("inodes");
    assert!(!both.text().contains("\"ret\":30,\"errno\":0}\n{\"what\":\"inodes\",\"ret\":30"), "{}", both.text());
    let links = "i=0; : >/tmp/f; while ln /tmp/f /tmp/$i; do i=$((i+1)); done 2>/dev/null; echo $i";
    let seen = stage().shell(&["--inodes", "50"], links);
    assert!(seen.text().trim().parse::<u32>().expect("a number") <= 50, "hard links are names too: {}", seen.text());
    Verdict::Proved
}

fn open_files_are_limited() -> Verdict {
    let script =
        "i=3; while eval \"exec $i</dev/null\"; do i=$((i+1)); [ $i -gt 9 ] && break; done; ulimit -n; ulimit -Hn";
    let seen = stage().shell(&["--nofile", "32"], script).expect(0);
    assert!(seen.text().ends_with("32\n32\n"), "{}", seen.text());
    assert_eq!(seen.fact("limit_nofile"), 32);
    let pairs = stage().probe(&["--nofile", "32"], &["hog", "pipes", "100"]).expect(3);
    assert!(reached(&pairs) < 16, "{}", reached(&pairs));
    Verdict::Proved
}

fn no_core_is_ever_written() -> Verdict {
    let seen =
        stage().shell(&[], "ulimit -c; ulimit -Hc; ulimit -c unlimited; kill -SEGV $$").expect(139).because("signaled");
    assert!(seen.text().starts_with("0\n0\n"), "{}", seen.text());
    assert_eq!((seen.fact("limit_core"), &seen.result["outputs"]["files"]), (0, &serde_json::json!([])));
    Verdict::Proved
}

fn per_process_limits_cannot_be_raised() -> Verdict {
    let seen = stage().shell(
        &[],
        "for l in c l q i; do ulimit -H$l 100000 2>/dev/null && echo raised $l; done; echo 0 >/proc/self/oom_score_adj",
    );
    assert!(!seen.text().contains("raised"), "{}", seen.text());
    let adjusted = stage().shell(&[], "cat /proc/self/oom_score_adj").expect(0);
    assert_eq!(adjusted.text(), "1000\n", "the kernel picks the payload, not the keeper");
    Verdict::Proved
}

fn a_limit_that_makes_no_sense_is_refused() -> Verdict {
    let bad = [
        ["-m", "0"],
        ["-m", "lots"],
        ["--pids", "-1"],
        ["--pids", "0"],
        ["--wall", "0s"],
        ["--wall", "1fortnight"],
        ["--cpus", "0"],
        ["--disk", "0"],
        ["--output-max", "-5"],
        ["--nofile", "99999999999999999999"],
        ["--inodes", "0"],
    ];
    for [flag, value] in bad {
        let attached = format!("{flag}={value}");
        let seen = stage().run(&[&attached, "--", "echo", "RAN"]);
        assert_eq!(
            (seen.finished.code(), seen.text().as_str()),
            (125, ""),
            "{flag} {value}: {}",
            seen.finished.complaint()
        );
        assert!(!seen.finished.complaint().is_empty());
    }
    Verdict::Proved
}
