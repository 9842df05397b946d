//! What comes out of `/out`: regular files and nothing else, bounded, whatever they are called and wherever links lead.

use remand_tests::cases;
use remand_tests::stage::{Seen, stage};
use remand_tests::suite::{Case, Verdict};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub const CASES: &[Case] = cases![
    ten_thousand_files_come_out_whole,
    odd_outputs_are_collected_as_files_or_counted_as_left_out,
    no_set_id_and_no_sticky_bit_comes_out,
    links_are_neither_followed_nor_made,
    too_many_files_are_counted_as_left_out,
    too_many_bytes_are_counted_as_left_out,
    outputs_of_a_killed_job_are_collected,
    hashes_are_those_of_the_files,
    an_out_folder_with_links_in_it_is_not_written_through,
    names_cannot_leave_the_out_folder,
];

fn collected(folder: &Path, flags: &[&str], script: &str) -> Seen {
    stage().shell(&[&["--out", folder.to_str().expect("a plain path")], flags].concat(), script)
}

fn odd(folder: &Path) -> Seen {
    stage().probe(&["--out", folder.to_str().expect("a plain path")], &["odd"]).expect(0)
}

fn paths(seen: &Seen) -> BTreeSet<String> {
    let files = seen.result["outputs"]["files"].as_array().expect("a list");
    files.iter().map(|file| file["path"].as_str().expect("a path").to_owned()).collect()
}

fn omitted(seen: &Seen) -> u64 {
    seen.result["outputs"]["omitted"].as_object().expect("a table").values().filter_map(Value::as_u64).sum()
}

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("our own folder").flatten() {
            if entry.file_type().expect("our own folder").is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

fn ten_thousand_files_come_out_whole() -> Verdict {
    let folder = stage().folder();
    let seen = stage().probe(&["--out", folder.to_str().expect("a plain path")], &["many", "10000"]).expect(0);
    assert_eq!((paths(&seen).len(), omitted(&seen)), (10_000, 0));
    let files = all_below(&folder).into_iter().filter(|path| path.is_file());
    assert_eq!(files.count(), 10_000);
    assert_eq!(fs::read_to_string(folder.join("073/07345")).expect("one of them"), "7345\n");
    Verdict::Proved
}

fn odd_outputs_are_collected_as_files_or_counted_as_left_out() -> Verdict {
    let folder = stage().folder();
    let seen = odd(&folder);
    let found = paths(&seen);
    for name in ["plain", "again", "-rf", "closed", "tool", "locked/in", "new\\x0aline", "esc\\x1b[2Jape", "\\xff\\xfe"]
    {
        assert!(found.contains(name), "{name:?} is not among {found:?}");
    }
    assert!(
        found.iter().any(|path| path.matches('/').count() == 11 && path.ends_with("/file")),
        "a tree of ten levels"
    );
    for name in ["fifo", "socket", "null", "whiteout", "absolute", "relative", "magic", "up", "sparse"] {
        assert!(!found.contains(name), "{name} was collected");
    }
    assert!(omitted(&seen) >= 7, "{}", seen.result["outputs"]["omitted"]);
    assert_eq!(seen.result["outputs"]["collected"], true);
    let raw: Vec<Vec<u8>> =
        fs::read_dir(&folder).expect("ours").flatten().map(|e| e.file_name().as_bytes().to_vec()).collect();
    assert!(raw.contains(&b"new\nline".to_vec()) && raw.contains(&b"\xff\xfe".to_vec()), "names are kept as they were");
    Verdict::Proved
}

fn no_set_id_and_no_sticky_bit_comes_out() -> Verdict {
    let folder = stage().folder();
    let seen = odd(&folder);
    for file in seen.result["outputs"]["files"].as_array().expect("a list") {
        assert_eq!(file["mode"].as_u64().expect("a mode") & !0o777, 0, "{file}");
    }
    for path in all_below(&folder) {
        let found = fs::symlink_metadata(&path).expect("ours");
        assert!(found.is_dir() || found.is_file(), "{path:?} is neither");
        assert_eq!(found.mode() & 0o7000, 0, "{path:?} has mode {:o}", found.mode());
        let own = fs::metadata(&folder).expect("ours");
        assert_eq!((found.uid(), found.gid()), (own.uid(), own.gid()), "{path:?} belongs to somebody else");
    }
    Verdict::Proved
}

fn links_are_neither_followed_nor_made() -> Verdict {
    let folder = stage().folder();
    let script = "ln -s /etc/hostname a; ln -s /proc/1/environ b; ln -s ../../../../etc c; ln -s . d; mkdir e; ln -s ../../etc e/f; \
        ln -s /proc/self/fd/0 g; echo real >h";
    let seen = collected(&folder, &["-w", "/out"], script).expect(0);
    assert_eq!((paths(&seen), omitted(&seen)), (["h".to_owned()].into(), 6));
    assert!(all_below(&folder).iter().all(|path| !path.is_symlink()));
    Verdict::Proved
}

fn too_many_files_are_counted_as_left_out() -> Verdict {
    let folder = stage().folder();
    let seen =
        collected(&folder, &["-p", "limits.files=5"], "cd /out; for i in 1 2 3 4 5 6 7 8 9; do echo $i >$i; done")
            .expect(0);
    assert_eq!((paths(&seen).len(), omitted(&seen)), (5, 4), "{}", seen.result["outputs"]);
    Verdict::Proved
}

fn too_many_bytes_are_counted_as_left_out() -> Verdict {
    let folder = stage().folder();
    let script =
        "cd /out; head -c 3000 /dev/zero >a; head -c 3000 /dev/zero >b; head -c 500 /dev/zero >c; truncate -s 1P d";
    let seen = collected(&folder, &["-p", "limits.files_size=4k"], script).expect(0);
    assert_eq!(
        (paths(&seen), omitted(&seen)),
        (["a".to_owned(), "c".to_owned()].into(), 2),
        "{}",
        seen.result["outputs"]
    );
    // Names of one file count as often as there are names.
    let folder = stage().folder();
    let links = "cd /out; head -c 3000 /dev/zero >a; ln a b; ln a c";
    let seen = collected(&folder, &["-p", "limits.files_size=4k"], links).expect(0);
    assert_eq!((paths(&seen).len(), omitted(&seen)), (1, 2));
    Verdict::Proved
}

fn outputs_of_a_killed_job_are_collected() -> Verdict {
    let script = "echo kept >/out/f; (while :; do echo x >>/out/grows; done) & sleep 100";
    let seen = collected(&stage().folder(), &["--wall", "500ms"], script).expect(124).because("wall_timeout");
    assert_eq!(paths(&seen), ["f".to_owned(), "grows".to_owned()].into());
    Verdict::Proved
}

fn hashes_are_those_of_the_files() -> Verdict {
    let folder = stage().folder();
    let seen = collected(&folder, &[], "echo out; echo err >&2; head -c 300000 /dev/urandom >/out/r").expect(0);
    let of = |bytes: &[u8]| remand_model::Digest::of(bytes).to_hex();
    let said = |pointer: &str| seen.result.pointer(pointer).and_then(Value::as_str).expect("a hash").to_owned();
    assert_eq!(said("/outputs/stdout/sha256"), of(b"out\n"));
    assert_eq!(said("/outputs/stderr/sha256"), of(b"err\n"));
    assert_eq!(said("/outputs/files/0/sha256"), of(&fs::read(folder.join("r")).expect("it came out")));
    Verdict::Proved
}

fn an_out_folder_with_links_in_it_is_not_written_through() -> Verdict {
    let (folder, elsewhere) = (stage().folder(), stage().folder());
    fs::write(elsewhere.join("target"), "mine").expect("ours");
    std::os::unix::fs::symlink(elsewhere.join("target"), folder.join("file")).expect("ours");
    std::os::unix::fs::symlink(&elsewhere, folder.join("dir")).expect("ours");
    drop(collected(&folder, &[], "cd /out; echo evil >file; mkdir dir; echo evil >dir/new; echo evil >dir/target"));
    assert_eq!(fs::read_to_string(elsewhere.join("target")).expect("ours"), "mine");
    assert!(!elsewhere.join("new").exists());
    Verdict::Proved
}

fn names_cannot_leave_the_out_folder() -> Verdict {
    let (parent, names) = (
        stage().folder(),
        "cd /out; mkdir ...; echo x >.../..x; echo x >'\\x2e\\x2e'; echo x >'a\\x2fb'; mkdir '\\x2e'; echo x >'\\x2e/c'",
    );
    let folder = parent.join("out");
    fs::create_dir(&folder).expect("ours");
    let seen = collected(&folder, &[], names).expect(0);
    assert_eq!(paths(&seen).len(), 4);
    assert_eq!(fs::read_dir(&parent).expect("ours").count(), 1, "something was written beside the folder");
    let raw: BTreeSet<String> =
        fs::read_dir(&folder).expect("ours").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let made: BTreeSet<String> = ["...", "\\x2e\\x2e", "a\\x2fb", "\\x2e"].map(str::to_owned).into();
    assert_eq!(raw, made);
    Verdict::Proved
}
