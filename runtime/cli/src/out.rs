//! Writes files whose names, modes and bytes a job chose below one folder, and nowhere else.
//!
//! Every folder on the way is opened by descriptor with `RESOLVE_BENEATH` and without links (openat2(2)), a file is made
//! under a name of our own that did not exist, and takes its place when it is whole (rename(2) follows no link). What
//! stands in the way and is no plain file is refused, never followed and never replaced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use remand_client::FileSink;
use remand_model::outcome::{OutputFile, path_bytes};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, renameat};
use rustix::fs::{statat, unlinkat};
use rustix::io::Errno;

use crate::failure::Failure;

/// The deepest path, in parts.
const DEPTH_MAX: usize = 256;
/// The longest part, in bytes (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// The folder that takes output files.
#[derive(Debug)]
pub(crate) struct OutFolder {
    root: OwnedFd,
    current: Option<Current>,
    count: u64,
}

/// A file that is not whole yet; dropping it removes it.
#[derive(Debug)]
struct Current {
    folder: OwnedFd,
    own_name: String,
    name: Vec<u8>,
    mode: u16,
    file: File,
    is_placed: bool,
}

impl OutFolder {
    /// Opens the folder, which is made where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        const NEXT: &str = "name a folder that you can write with --out";
        fs::create_dir_all(path).map_err(Failure::file("make the output folder", path, NEXT))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from);
        let root = root.map_err(Failure::file("open the output folder", path, NEXT))?;
        let writable = rustix::fs::accessat(&root, ".", rustix::fs::Access::WRITE_OK, AtFlags::empty());
        writable.map_err(io::Error::from).map_err(Failure::file("write the output folder", path, NEXT))?;
        Ok(Self { root, current: None, count: 0 })
    }

    /// The folder of a file, made part by part.
    fn folder(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut folder = self.root.as_fd().try_clone_to_owned()?;
        for part in parts {
            folder = match step(folder.as_fd(), part) {
                Err(Errno::NOENT) => {
                    mkdirat(&folder, *part, Mode::from_raw_mode(0o755))?;
                    step(folder.as_fd(), part)?
                }
                other => other?,
            };
        }
        Ok(folder)
    }
}

fn step(folder: BorrowedFd<'_>, part: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(folder, part, flags, Mode::empty(), resolve)
}

/// The parts of a job's path. Refuses what is no plain path below the folder.
fn parts(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let is_bad = |part: &&[u8]| {
        part.is_empty() || *part == b"." || *part == b".." || part.len() > NAME_BYTES_MAX || part.contains(&0)
    };
    if parts.len() > DEPTH_MAX || parts.iter().any(is_bad) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an output file's path leads out of the folder"));
    }
    Ok(parts)
}

/// Whether a file may take the place: nothing is there, or a plain file.
fn check_place(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
        return Ok(());
    }
    let text = format!("{:?} is there already and is no plain file; remove it", String::from_utf8_lossy(name));
    Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
}

impl FileSink for OutFolder {
    fn begin(&mut self, file: &OutputFile) -> io::Result<()> {
        self.current = None;
        let path = path_bytes(&file.path);
        let parts = parts(&path)?;
        let (name, folders) = parts.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.folder(folders)?;
        check_place(folder.as_fd(), name)?;
        self.count += 1;
        let own_name = format!(".remand-{}-{}", std::process::id(), self.count);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&folder, own_name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        let (name, mode, file) = (name.to_vec(), file.mode & 0o777, File::from(opened));
        self.current = Some(Current { folder, own_name, name, mode, file, is_placed: false });
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = self.current.as_mut().ok_or(io::ErrorKind::NotFound)?;
        current.file.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        let mut current = self.current.take().ok_or(io::ErrorKind::NotFound)?;
        fchmod(&current.file, Mode::from_raw_mode(u32::from(current.mode)))?;
        check_place(current.folder.as_fd(), &current.name)?;
        renameat(&current.folder, current.own_name.as_str(), &current.folder, current.name.as_slice())?;
        current.is_placed = true;
        Ok(())
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if !self.is_placed {
            // Best that can be done for a file that nobody will miss; the folder may be gone.
            unlinkat(&self.folder, self.own_name.as_str(), AtFlags::empty()).unwrap_or(());
        }
    }
}

#[cfg(test)]
#[path = "out_tests.rs"]
mod tests;
