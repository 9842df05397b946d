//! Where an image grows before it counts: a locked sibling `<into>.new-<pid>` that a rename makes whole.
//!
//! The lock (`flock(2)`) tells a sweep which siblings still have somebody at work: the kernel drops it with the process.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, fchmod, flock, fstat, fsync, mkdirat, openat,
    renameat_with, statat, syncfs,
};
use rustix::io::Errno;

use crate::error::{ImageError, Result};
use crate::remove;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const MARK: &[u8] = b".new-";
/// How often a name is tried that sweeps of others may take away between its making and its locking.
const TRIES_MAX: usize = 8;

/// A locked folder that does not count as an image yet.
#[derive(Debug)]
pub(crate) struct Staging {
    parent: OwnedFd,
    folder: OwnedFd,
    name: OsString,
    last: OsString,
    into: PathBuf,
}

impl Staging {
    /// Makes the sibling of `into`, after removing what an earlier process of the same number left under its name.
    pub(crate) fn begin(into: &Path) -> Result<Self> {
        let (parent, last) = parts(into)?;
        let name = sibling(&last);
        if statat(&parent, &last, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(ImageError::Exists { path: into.to_owned() });
        }
        for _ in 0..TRIES_MAX {
            clear(&parent, &name, into)?;
            match mkdirat(&parent, &name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                other => other.map_err(place("create", into))?,
            }
            if let Some(folder) = lock(&parent, &name).map_err(place("lock", into))? {
                return Ok(Self { parent, folder, name, last, into: into.to_owned() });
            }
        }
        Err(ImageError::Busy { path: into.to_owned() })
    }

    /// A descriptor of the folder.
    pub(crate) fn folder(&self) -> Result<OwnedFd> {
        self.folder.try_clone().map_err(|source| self.fault("open", source))
    }

    /// A file in the folder that has no name any more.
    pub(crate) fn scratch(&self) -> Result<std::fs::File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, "scratch", flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| rustix::fs::unlinkat(&self.folder, "scratch", AtFlags::empty()).map(|()| file));
        file.map(std::fs::File::from).map_err(place("create", &self.into))
    }

    /// Makes it the image, on disk before in name: a power cut leaves all of it or nothing that counts.
    pub(crate) fn publish(&self) -> Result<()> {
        let into = &self.into;
        fchmod(&self.folder, Mode::from_raw_mode(0o755)).map_err(place("set the mode of", into))?;
        syncfs(&self.folder).map_err(place("sync", into))?;
        match renameat_with(&self.parent, &self.name, &self.parent, &self.last, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => return Err(ImageError::Exists { path: into.clone() }),
            other => other.map_err(place("rename", into))?,
        }
        fsync(&self.parent).map_err(place("sync", into))
    }

    /// Removes it and returns why, with the reason that it could not be removed where there is one.
    pub(crate) fn discard(&self, cause: ImageError) -> ImageError {
        match remove::remove(self.parent.as_fd(), self.name.as_bytes()) {
            Ok(()) => cause,
            Err(errno) => ImageError::Leftover {
                path: self.into.with_file_name(&self.name),
                cause: Box::new(cause),
                source: errno.into(),
            },
        }
    }

    fn fault(&self, action: &'static str, source: std::io::Error) -> ImageError {
        ImageError::Place { action, path: self.into.clone(), source }
    }
}

/// See [`crate::sweep`].
pub(crate) fn sweep(parent: &Path) -> Result<u64> {
    let folder = openat(CWD, parent, FOLDER, Mode::empty()).map_err(place("open", parent))?;
    let mut leftovers = Vec::new();
    for entry in Dir::read_from(&folder).map_err(place("list", parent))? {
        let entry = entry.map_err(place("list", parent))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_leftover(name) {
            leftovers.push(name.to_owned());
        }
    }
    let mut removed = 0;
    for name in leftovers {
        removed += u64::from(clear_if_free(&folder, &name).map_err(place("remove", &parent.join(&name)))?);
    }
    Ok(removed)
}

/// See [`crate::remove`].
pub(crate) fn remove_image(image: &Path) -> Result<bool> {
    let (parent, last) = parts(image)?;
    let name = sibling(&last);
    clear(&parent, &name, image)?;
    match renameat_with(&parent, &last, &parent, &name, RenameFlags::NOREPLACE) {
        Err(Errno::NOENT) => return Ok(false),
        other => other.map_err(place("rename", image))?,
    }
    remove::remove(parent.as_fd(), name.as_bytes()).map_err(place("remove", image))?;
    Ok(true)
}

fn parts(into: &Path) -> Result<(OwnedFd, OsString)> {
    let last = into.file_name().ok_or_else(|| place("name", into)(Errno::INVAL))?;
    let parent = into.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(CWD, parent, flags, Mode::empty()).map_err(place("open", parent))?;
    Ok((parent, last.to_owned()))
}

fn sibling(last: &OsStr) -> OsString {
    let mut name = last.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    name
}

/// `<name>.new-<digits>`.
fn is_leftover(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = bytes[..bytes.len() - digits].strip_suffix(MARK);
    digits > 0 && stem.is_some_and(|stem| !stem.is_empty())
}

fn clear(parent: &OwnedFd, name: &OsStr, into: &Path) -> Result<()> {
    if clear_if_free(parent, name).map_err(place("remove", into))? || !exists(parent, name) {
        Ok(())
    } else {
        Err(ImageError::Busy { path: into.to_owned() })
    }
}

fn exists(parent: &OwnedFd, name: &OsStr) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Removes what nobody works on; `false` where somebody does or nothing is there.
fn clear_if_free(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    match lock(parent, name) {
        // The descriptor keeps the lock until all is gone.
        Ok(Some(_held)) => remove::remove(parent.as_fd(), name.as_bytes()).map(|()| true),
        Ok(None) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::NOTDIR | Errno::LOOP) => remove::remove(parent.as_fd(), name.as_bytes()).map(|()| true),
        Err(errno) => Err(errno),
    }
}

/// Locks the folder; nothing where somebody else holds it, or where the name is no longer this folder's.
fn lock(parent: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
    let folder = openat(parent, name, FOLDER, Mode::empty())?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        other => other?,
    }
    let (held, named) = (fstat(&folder)?, statat(parent, name, AtFlags::SYMLINK_NOFOLLOW));
    let same = named.is_ok_and(|named| (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino));
    Ok(same.then_some(folder))
}

fn place(action: &'static str, path: &Path) -> impl Fn(Errno) -> ImageError {
    move |errno| ImageError::Place { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_making_are_leftovers() {
        for name in ["abc.new-1", "a.new-2.new-34"] {
            assert!(is_leftover(OsStr::new(name)), "{name}");
        }
        for name in ["abc", "abc.new-", ".new-1", "abc.new-1x", "123", "abc-new-1", "new-1"] {
            assert!(!is_leftover(OsStr::new(name)), "{name}");
        }
    }
}
