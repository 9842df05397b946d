//! Interruptions, neighbours, and callers without privilege.

mod kit;

use std::fs::{self, Permissions};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use kit::{Place, Tar, mode, names};
use remand_image::{Bounds, ImageError, sweep, unpack};

const NOBODY: u32 = 65_534;
const KILLED: &str = "REMAND_IMAGE_TEST_KILLED";
const INSIDE: &str = "REMAND_IMAGE_TEST_PLACE";

/// A source that calls back once, in the middle of an unpacking.
struct Between<F>(Cursor<Vec<u8>>, u64, Option<F>);

impl<F: FnOnce()> Read for Between<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.position() >= self.1
            && let Some(act) = self.2.take()
        {
            act();
        }
        self.0.read(buffer)
    }
}

impl<F> Seek for Between<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

fn tar() -> Vec<u8> {
    Tar::new().file("a", &[1; 300_000]).file("b", &[2; 300_000]).bytes()
}

#[test]
fn while_it_grows_an_image_does_not_count_is_closed_to_others_and_survives_a_sweep() {
    let place = Place::new();
    let staging = place.state().join(format!("image.new-{}", std::process::id()));
    let look = || {
        assert!(!place.image().exists());
        assert_eq!(mode(&staging), 0o700);
        assert_eq!(sweep(&place.state()).unwrap(), 0);
        let second = unpack(Cursor::new(tar()), &place.image(), &Bounds::default());
        assert!(matches!(second, Err(ImageError::Busy { .. })), "{second:?}");
    };
    unpack(Between(Cursor::new(tar()), 200_000, Some(look)), &place.image(), &Bounds::default()).unwrap();
    assert_eq!((names(&place.state()), mode(&place.image())), (vec!["image".to_owned()], 0o755));
}

#[test]
fn what_a_killed_unpacking_leaves_does_not_count_and_is_swept() {
    if let Some(image) = std::env::var_os(KILLED) {
        let die = || rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        unpack(Between(Cursor::new(tar()), 200_000, Some(die)), image.as_ref(), &Bounds::default()).unwrap();
    }
    let place = Place::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "what_a_killed_unpacking_leaves_does_not_count_and_is_swept"]);
    assert_eq!(command.env(KILLED, place.image()).output().unwrap().status.signal(), Some(9));
    assert!(!place.image().exists());
    assert_eq!((names(&place.state()).len(), sweep(&place.state()).unwrap()), (1, 1));
    assert!(names(&place.state()).is_empty());
}

#[test]
fn a_sweep_removes_leftovers_and_nothing_else() {
    let place = Place::new();
    for name in ["one", "two.new-12/deep/er", "three.new-x", "four.new-7"] {
        fs::create_dir_all(place.state().join(name)).unwrap();
    }
    fs::write(place.state().join("five.new-8"), b"").unwrap();
    std::os::unix::fs::symlink(place.outside(), place.state().join("six.new-9")).unwrap();
    fs::set_permissions(place.state().join("two.new-12/deep"), Permissions::from_mode(0o000)).unwrap();
    assert_eq!(sweep(&place.state()).unwrap(), 4);
    assert_eq!(names(&place.state()), ["one", "three.new-x"]);
    assert_eq!(names(&place.outside()), ["canary"]);
}

#[test]
fn what_an_earlier_process_of_the_same_number_left_is_in_nobodys_way() {
    let place = Place::new();
    let staging = place.state().join(format!("image.new-{}", std::process::id()));
    fs::create_dir_all(staging.join("old")).unwrap();
    place.unpack(&tar(), &Bounds::default()).unwrap();
    assert_eq!(names(&place.image()), ["a", "b"]);
}

#[test]
fn an_image_that_appears_meanwhile_is_not_replaced() {
    let place = Place::new();
    let appear = || fs::create_dir(place.image()).unwrap();
    let result = unpack(Between(Cursor::new(tar()), 200_000, Some(appear)), &place.image(), &Bounds::default());
    assert!(matches!(result, Err(ImageError::Exists { .. })), "{result:?}");
    assert!(names(&place.image()).is_empty());
    assert_eq!(names(&place.state()), ["image"]);
}

#[test]
fn a_missing_parent_is_refused() {
    let place = Place::new();
    let result = unpack(Cursor::new(tar()), &place.state().join("no/image"), &Bounds::default());
    assert!(matches!(result, Err(ImageError::Place { action: "open", .. })), "{result:?}");
}

#[test]
fn a_user_without_any_privilege_unpacks_sweeps_and_removes() {
    if let Some(place) = std::env::var_os(INSIDE) {
        return as_nobody(place.as_ref());
    }
    if fs::metadata("/proc/self").map(|facts| std::os::unix::fs::MetadataExt::uid(&facts)).unwrap() != 0 {
        let place = tempfile::tempdir().unwrap();
        return as_nobody(place.path());
    }
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("suite");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let state = place.path().join("state");
    fs::create_dir(&state).unwrap();
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "a_user_without_any_privilege_unpacks_sweeps_and_removes"]);
    command.env(INSIDE, &state).current_dir(&state).gid(NOBODY).uid(NOBODY);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn as_nobody(state: &std::path::Path) {
    let closed = state.join("left.new-1/closed");
    fs::create_dir_all(closed.join("inner")).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(closed.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();
    let image = state.join("image");
    let tar = Tar::new()
        .entry(tar::EntryType::Directory, b"d/", b"", 0, b"")
        .entry(tar::EntryType::Regular, b"d/f", b"", 0, b"x")
        .entry(tar::EntryType::Char, b"null", b"", 0, b"")
        .hard_link("d/g", "d/f");
    unpack(Cursor::new(tar.bytes()), &image, &Bounds::default()).unwrap();
    assert_eq!((fs::read(image.join("d/g")).unwrap(), mode(&image.join("d"))), (b"x".to_vec(), 0o755));
    assert_eq!(sweep(state).unwrap(), 1);
    assert!(remand_image::remove(&image).unwrap());
    assert!(names(state).is_empty());
}
