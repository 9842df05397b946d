//! Real programs on real input: what people will run first.
#![forbid(unsafe_code)]

use remand_tests::cases;
use remand_tests::stage::{Seen, stage};
use remand_tests::suite::{Case, Verdict};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

const CASES: &[Case] = cases![
    python_reads_its_input_and_writes_a_result_file,
    a_c_program_is_compiled_and_run,
    a_rust_program_is_compiled_and_run,
    a_local_repository_is_cloned,
    a_shell_pipeline_sorts_and_counts,
    ten_thousand_files_are_made_by_a_shell,
    a_memory_hog_is_ended,
    a_fork_bomb_is_held,
    a_disk_filler_is_ended,
    a_flood_of_five_gigabytes_is_cut,
    a_program_that_sleeps_for_ever_is_ended,
    a_daemon_that_ignores_signals_is_ended,
    sqlite_makes_and_queries_a_database,
    imagemagick_draws_and_measures_a_picture,
    ffmpeg_makes_a_video,
    node_computes,
    java_computes,
];

fn main() -> ExitCode {
    remand_tests::stage::main(CASES)
}

/// A skip where the host lacks a program, which boxes are shown from it.
macro_rules! need {
    ($path:expr) => {
        if !Path::new($path).exists() {
            return Verdict::Skipped(format!("no {} on this host", $path));
        }
    };
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn python_reads_its_input_and_writes_a_result_file() -> Verdict {
    need!("/usr/bin/python3");
    let out = stage().folder();
    let code = "import json,sys\nrows=[int(line) for line in sys.stdin]\njson.dump({'sum':sum(rows),'count':len(rows)},open('/out/result.json','w'))";
    let input: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    let arguments = ["--policy", "python", "--out", text(&out), "--", "/usr/bin/python3", "-c", code];
    drop(stage().run_with(&arguments, input.as_bytes()).expect(0));
    assert_eq!(fs::read_to_string(out.join("result.json")).expect("it came out"), "{\"sum\": 500500, \"count\": 1000}");
    Verdict::Proved
}

fn a_c_program_is_compiled_and_run() -> Verdict {
    need!("/usr/bin/gcc");
    let script = "printf '#include <stdio.h>\\nint main(void){printf(\"%%d\\\\n\",6*7);return 0;}\\n' >a.c && gcc -O2 -Wall -o a a.c && ./a";
    let seen = stage().shell(&["--policy", "build"], script).expect(0);
    assert_eq!(seen.text(), "42\n", "{}", seen.finished.complaint());
    Verdict::Proved
}

fn a_rust_program_is_compiled_and_run() -> Verdict {
    let found = Command::new("rustc").args(["--print", "sysroot"]).output();
    let Ok(found) = found else { return Verdict::Skipped("no rustc on this host".to_owned()) };
    let sysroot = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    need!(&format!("{sysroot}/bin/rustc"));
    let volume = format!("{sysroot}:/opt/rust");
    let script = "echo 'fn main(){let v:Vec<u64>=(1..=10).collect();println!(\"{}\",v.iter().product::<u64>())}' >a.rs && /opt/rust/bin/rustc -o a a.rs && ./a";
    let seen = stage().shell(&["--policy", "build", "-v", &volume], script).expect(0);
    assert_eq!(seen.text(), "3628800\n", "{}", seen.finished.complaint());
    Verdict::Proved
}

fn a_local_repository_is_cloned() -> Verdict {
    need!("/usr/bin/git");
    let folder = stage().folder();
    let made = Command::new("/bin/sh").current_dir(&folder).env("HOME", &folder).args(["-ec", "git init -q -b main . && echo text >file && git add file && git -c user.name=n -c user.email=e commit -qm first"]).status();
    assert!(made.expect("sh is there").success());
    let volume = format!("{}:/source", text(&folder));
    let script = "/usr/bin/git -c safe.directory='*' clone -q /source /work/copy && cat /work/copy/file && cd /work/copy && /usr/bin/git log --format=%s";
    let seen = stage().shell(&["-v", &volume], script).expect(0);
    assert_eq!(seen.text(), "text\nfirst\n", "{}", seen.finished.complaint());
    Verdict::Proved
}

fn a_shell_pipeline_sorts_and_counts() -> Verdict {
    let script = "tr -s ' ' '\\n' | tr A-Z a-z | sort | uniq -c | sort -rn | head -1 | awk '{print $2, $1}'";
    let seen =
        stage().run_with(&["--", "/bin/sh", "-c", script], &b"the box and The lid and the key ".repeat(5000)).expect(0);
    assert_eq!(seen.text(), "the 15000\n");
    Verdict::Proved
}

fn ten_thousand_files_are_made_by_a_shell() -> Verdict {
    let out = stage().folder();
    let script = "cd /out; for d in 0 1 2 3 4 5 6 7 8 9; do mkdir $d; i=0; while [ $i -lt 1000 ]; do echo $d$i >$d/$i; i=$((i+1)); done; done";
    let seen = stage().shell(&["--out", text(&out)], script).expect(0);
    assert_eq!(seen.result["outputs"]["files"].as_array().map(Vec::len), Some(10_000));
    assert_eq!(fs::read_to_string(out.join("7/777")).expect("it came out"), "7777\n");
    Verdict::Proved
}

fn a_memory_hog_is_ended() -> Verdict {
    let seen = stage().shell(&["-m", "100M", "--disk", "1G"], "head -c 2G /dev/zero | tail -c 1G | wc -c");
    drop(seen.expect(137).because("oom").hit("memory"));
    Verdict::Proved
}

fn a_fork_bomb_is_held() -> Verdict {
    let seen = stage().run(&["--wall", "5s", "--", "/bin/bash", "-c", ":(){ :|:& };: ; sleep 60"]).hit("pids");
    assert!(seen.number("/usage/pids_peak") <= 66);
    Verdict::Proved
}

fn a_disk_filler_is_ended() -> Verdict {
    drop(stage().shell(&["--disk", "32M"], "cat /dev/zero >/work/fill").because("disk_quota").hit("disk"));
    Verdict::Proved
}

fn a_flood_of_five_gigabytes_is_cut() -> Verdict {
    let seen = stage().run(&["--", "head", "-c", "5G", "/dev/zero"]).because("output_limit").hit("output");
    assert!(seen.number("/outputs/stdout/bytes") <= (16 << 20) + 65536);
    assert_eq!(seen.result["outputs"]["stdout"]["truncated"], true);
    Verdict::Proved
}

fn a_program_that_sleeps_for_ever_is_ended() -> Verdict {
    drop(stage().run(&["--wall", "400ms", "--", "sleep", "infinity"]).expect(124).because("wall_timeout"));
    Verdict::Proved
}

fn a_daemon_that_ignores_signals_is_ended() -> Verdict {
    let script = "trap '' HUP INT QUIT TERM PIPE; setsid sh -c 'trap \"\" HUP INT QUIT TERM; while :; do sleep 1; done' & sleep 0.2";
    drop(stage().shell(&[], script).expect(0).because("exited"));
    stage().assert_empty();
    Verdict::Proved
}

fn sqlite_makes_and_queries_a_database() -> Verdict {
    need!("/usr/bin/sqlite3");
    let sql = "create table t(n integer); with recursive c(n) as (values(1) union all select n+1 from c where n<1000) insert into t select n from c; select sum(n) from t;";
    assert_eq!(stage().run(&["--", "sqlite3", "/work/db", sql]).expect(0).text(), "500500\n");
    Verdict::Proved
}

fn imagemagick_draws_and_measures_a_picture() -> Verdict {
    need!("/usr/bin/convert");
    let script =
        "/usr/bin/convert -size 64x48 gradient:red-blue /out/a.png && /usr/bin/identify -format '%w %h %m' /out/a.png";
    let seen = stage().shell(&[], script).expect(0);
    assert_eq!(seen.text(), "64 48 PNG", "{}", seen.finished.complaint());
    Verdict::Proved
}

fn runs_or_names_what_lacks(seen: Seen, expected: &str) -> Verdict {
    let seen = seen.expect(0);
    assert!(seen.text().contains(expected), "{}: {}", seen.text(), seen.finished.complaint());
    Verdict::Proved
}

fn ffmpeg_makes_a_video() -> Verdict {
    need!("/usr/bin/ffmpeg");
    let script = "/usr/bin/ffmpeg -v error -f lavfi -i testsrc=d=1:s=64x64:r=5 -y /out/a.avi && /usr/bin/ffprobe -v error -show_entries stream=width -of csv=p=0 /out/a.avi";
    runs_or_names_what_lacks(stage().shell(&["--policy", "python"], script), "64")
}

fn node_computes() -> Verdict {
    need!("/usr/bin/node");
    let code = "const {createHash}=require('crypto');console.log([1,2,3].map(x=>x*2).join(),createHash('sha256').update('a').digest('hex').slice(0,8))";
    runs_or_names_what_lacks(stage().run(&["--policy", "node", "--", "/usr/bin/node", "-e", code]), "2,4,6 ca978112")
}

fn java_computes() -> Verdict {
    need!("/usr/bin/java");
    let script = "echo 'class A{public static void main(String[] a){System.out.println(java.util.stream.IntStream.rangeClosed(1,100).sum());}}' >A.java && /usr/bin/java A.java";
    let seen = stage().shell(&["--policy", "java"], script);
    if seen.finished.complaint().contains("compiler") {
        return runs_or_names_what_lacks(stage().run(&["--policy", "java", "--", "/usr/bin/java", "-version"]), "");
    }
    runs_or_names_what_lacks(seen, "5050")
}
