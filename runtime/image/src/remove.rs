//! Removes a tree by descriptor, however deep: two descriptors and sixteen bytes a level, no path, no recursion.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, chmodat, fchmod, fstat, openat, unlinkat};
use rustix::io::{Errno, Result};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that is being emptied: what to check when coming back up to it, and its name in its parent.
struct Level {
    device: u64,
    inode: u64,
    name: Vec<u8>,
}

/// What stands in the way of removing a folder.
enum Pass {
    Empty,
    Removed,
    Filled(Vec<u8>),
}

/// Removes `name` in `parent`, whatever it is; links are removed, never followed. Nothing there is fine.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    if unlink(parent, name)? {
        return Ok(());
    }
    empty(open(parent, name)?)?;
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes all that the folder holds.
pub(crate) fn empty(folder: OwnedFd) -> Result<()> {
    let mut levels: Vec<Level> = Vec::new();
    let mut here = folder;
    loop {
        match pass(&here)? {
            Pass::Removed => {}
            Pass::Filled(name) => {
                let facts = fstat(&here)?;
                let below = open(here.as_fd(), &name)?;
                levels.push(Level { device: facts.st_dev, inode: facts.st_ino, name });
                here = below;
            }
            Pass::Empty => {
                let Some(level) = levels.pop() else { return Ok(()) };
                here = up(&here, &level)?;
                unlinkat(&here, &level.name[..], AtFlags::REMOVEDIR)?;
            }
        }
    }
}

/// Removes everything up to the first folder that is not empty.
fn pass(folder: &OwnedFd) -> Result<Pass> {
    let mut seen = Pass::Empty;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if !unlink(folder.as_fd(), name)? {
            return Ok(Pass::Filled(name.to_vec()));
        }
        seen = Pass::Removed;
    }
    Ok(seen)
}

/// Removes what is no folder, and a folder that is empty; `false` where it is not.
fn unlink(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    let outcome = match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(parent, name, AtFlags::REMOVEDIR),
        other => other,
    };
    match outcome {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a folder that will be emptied. One whose mode was never set, because its making was interrupted, may refuse
/// its own owner.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let folder = match openat(parent, name, FOLDER, Mode::empty()) {
        Err(Errno::ACCESS) => {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, FOLDER, Mode::empty())?
        }
        other => other?,
    };
    if !Mode::from_raw_mode(fstat(&folder)?.st_mode).contains(Mode::RWXU) {
        fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

/// The parent again, if it is still the one that we came from.
fn up(folder: &OwnedFd, level: &Level) -> Result<OwnedFd> {
    let parent = openat(folder, "..", FOLDER, Mode::empty())?;
    let facts = fstat(&parent)?;
    if (facts.st_dev, facts.st_ino) == (level.device, level.inode) { Ok(parent) } else { Err(Errno::STALE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkdirat, symlinkat};

    fn folder(path: &std::path::Path) -> OwnedFd {
        openat(CWD, path, FOLDER, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let mut here = folder(place.path());
        for _ in 0..1500 {
            mkdirat(&here, "down", Mode::RWXU).unwrap();
            here = openat(&here, "down", FOLDER, Mode::empty()).unwrap();
            symlinkat("x", &here, "link").unwrap();
        }
        remove(folder(place.path()).as_fd(), b"down").unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_out_of_the_tree_are_removed_and_what_they_name_stays() {
        let place = tempfile::tempdir().unwrap();
        let (tree, kept) = (place.path().join("tree"), place.path().join("kept"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), b"x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/b/out")).unwrap();
        remove(folder(place.path()).as_fd(), b"tree").unwrap();
        assert!(!tree.exists() && kept.join("file").exists());
    }

    #[test]
    fn what_is_not_there_needs_no_removing() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(remove(folder(place.path()).as_fd(), b"nothing"), Ok(()));
    }
}
