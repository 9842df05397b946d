//! What a job can try with names, and what may stand in the way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use remand_model::Digest;
use remand_model::outcome::printable_path;

use super::*;

fn folder() -> (tempfile::TempDir, OutFolder) {
    let dir = tempfile::tempdir().expect("a folder");
    let out = OutFolder::open(&dir.path().join("out")).expect("opened");
    (dir, out)
}

fn put(out: &mut OutFolder, path: &[u8], mode: u16) -> io::Result<()> {
    let file = OutputFile { path: printable_path(path), mode, bytes: 4, sha256: Digest::of(b"data") };
    out.begin(&file)?;
    out.bytes(b"data")?;
    out.end()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_arrives_whole_with_its_folders_and_without_set_id_bits() {
    let (dir, mut out) = folder();
    put(&mut out, b"a/b/c", 0o6755).expect("written");
    let path = dir.path().join("out/a/b/c");
    assert_eq!(fs::read(&path).expect("a file"), b"data");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o7777, 0o755);
    assert_eq!(names(&dir.path().join("out/a/b")), ["c"]);
}

#[test]
fn a_name_with_any_bytes_is_written_as_it_was() {
    use std::os::unix::ffi::OsStrExt;
    let (dir, mut out) = folder();
    for name in [&b"new\nline"[..], b"\xff\xfe", b"\x1b[2J", b"back\\x41slash"] {
        put(&mut out, name, 0o644).expect("written");
        assert!(dir.path().join("out").join(std::ffi::OsStr::from_bytes(name)).exists(), "{name:?}");
    }
}

#[test]
fn a_path_that_leads_out_is_refused_and_leaves_nothing() {
    let (dir, mut out) = folder();
    let long = vec![b'x'; 256];
    let deep = b"d/".repeat(300);
    let bad: [&[u8]; 11] =
        [b"../x", b"/etc/x", b"a/../x", b"a/..", b"..", b".", b"", b"a//b", b"a/", b"nul\0byte", &long];
    for path in bad.into_iter().chain([&deep[..]]) {
        assert!(put(&mut out, path, 0o644).is_err(), "{path:?}");
    }
    assert_eq!(names(dir.path()), ["out"]);
    assert!(names(&dir.path().join("out")).is_empty());
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    let (dir, mut out) = folder();
    fs::create_dir(dir.path().join("elsewhere")).expect("made");
    symlink(dir.path().join("elsewhere"), dir.path().join("out/a")).expect("linked");
    assert!(put(&mut out, b"a/b", 0o644).is_err());
    assert!(names(&dir.path().join("elsewhere")).is_empty());
}

#[test]
fn a_link_in_the_place_of_a_file_is_neither_followed_nor_replaced() {
    let (dir, mut out) = folder();
    let target = dir.path().join("precious");
    fs::write(&target, b"before").expect("written");
    symlink(&target, dir.path().join("out/a")).expect("linked");
    assert!(put(&mut out, b"a", 0o644).is_err());
    assert_eq!(fs::read(&target).expect("a file"), b"before");
    assert!(fs::symlink_metadata(dir.path().join("out/a")).expect("there").is_symlink());
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused_and_a_plain_file_is_replaced() {
    let (dir, mut out) = folder();
    fs::create_dir(dir.path().join("out/d")).expect("made");
    assert!(put(&mut out, b"d", 0o644).is_err());
    fs::write(dir.path().join("out/f"), b"old").expect("written");
    put(&mut out, b"f", 0o600).expect("replaced");
    assert_eq!(fs::read(dir.path().join("out/f")).expect("a file"), b"data");
}

#[test]
fn a_file_that_never_ends_leaves_nothing() {
    let (dir, mut out) = folder();
    let file = OutputFile { path: "half".into(), mode: 0o644, bytes: 4, sha256: Digest::of(b"data") };
    out.begin(&file).expect("begun");
    out.bytes(b"da").expect("written");
    drop(out);
    assert!(names(&dir.path().join("out")).is_empty());
}
