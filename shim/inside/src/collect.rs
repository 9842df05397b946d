//! Reads `/out` after the last process of the job has ended, so nothing in there moves any more.
//!
//! Only regular files are read, nothing is followed, everything is bounded. What is left out is counted and named by its
//! reason, never silently.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use remand_spec::record::Omission;
use remand_spec::{Record, SpawnSpec};
use remand_sys::{Errno, Result, file};

use crate::report::Report;

const DEPTH_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 4096;
const EXACT: u64 = file::BENEATH | file::NO_SYMLINKS | file::NO_MAGICLINKS;
const PIECE: usize = 1 << 16;

struct Collector<'a> {
    report: &'a mut Report,
    files_left: u64,
    bytes_left: u64,
    omitted: BTreeMap<Omission, u64>,
}

/// Reports the files below `out`, in the order of their paths' bytes.
pub fn collect(report: &mut Report, out: &OwnedFd, spec: &SpawnSpec) -> Result<()> {
    let mut collector =
        Collector { report, files_left: spec.files_max, bytes_left: spec.files_bytes_max, omitted: BTreeMap::new() };
    collector.folder(out, &mut Vec::new(), 0)?;
    for (why, count) in collector.omitted {
        collector.report.note(Record::Omitted(why, count));
    }
    Ok(())
}

impl Collector<'_> {
    fn omit(&mut self, why: Omission) {
        *self.omitted.entry(why).or_default() += 1;
    }

    fn folder(&mut self, folder: &OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            self.omit(Omission::Path);
            return Ok(());
        }
        for name in names(folder)? {
            let before = path.len();
            if before > 0 {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            if path.len() > PATH_BYTES_MAX {
                self.omit(Omission::Path);
            } else {
                self.entry(folder, &name, path, depth)?;
            }
            path.truncate(before);
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &CString, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let found = match file::open_at(folder.as_fd(), name, flags, 0, EXACT) {
            Ok(found) => found,
            Err(Errno(libc::ELOOP | libc::ENXIO | libc::EXDEV)) => return self.leave(Omission::Kind),
            Err(_) => return self.leave(Omission::Read),
        };
        let stat = file::stat(found.as_fd())?;
        match stat.mode & libc::S_IFMT {
            libc::S_IFDIR => self.folder(&found, path, depth + 1),
            libc::S_IFREG if self.files_left == 0 => self.leave(Omission::Count),
            libc::S_IFREG if stat.size > self.bytes_left => self.leave(Omission::Bytes),
            libc::S_IFREG => self.file(&found, path, stat.mode, stat.size),
            _ => self.leave(Omission::Kind),
        }
    }

    fn leave(&mut self, why: Omission) -> Result<()> {
        self.omit(why);
        Ok(())
    }

    /// One file: its record, its path, its bytes. Of the mode only the permission bits go on, without set-id and sticky.
    fn file(&mut self, found: &OwnedFd, path: &[u8], mode: u32, size: u64) -> Result<()> {
        self.files_left -= 1;
        self.bytes_left -= size;
        self.report.note(Record::File(path.len() as u16, (mode & 0o777) as u16, size));
        self.report.bytes(path);
        let (mut left, mut piece) = (size, vec![0; PIECE.min(size.max(1) as usize)]);
        while left > 0 {
            let wanted = piece.len().min(left as usize);
            match file::read(found.as_fd(), &mut piece[..wanted])? {
                0 => return Err(Errno(libc::EIO)),
                n => {
                    self.report.bytes(&piece[..n]);
                    left -= n as u64;
                }
            }
            self.report.flush()?;
        }
        self.report.flush()
    }
}

/// The names in a folder, sorted. Their number is bounded by the inodes of the writable places.
fn names(folder: &OwnedFd) -> Result<Vec<CString>> {
    let (mut names, mut buffer) = (Vec::new(), vec![0; 1 << 15]);
    loop {
        let size = file::entries(folder.as_fd(), &mut buffer)?;
        if size == 0 {
            names.sort();
            return Ok(names);
        }
        let mut rest = &buffer[..size];
        while let Some((entry, next)) = split_entry(rest) {
            let name: Vec<u8> = entry.iter().copied().take_while(|byte| *byte != 0).collect();
            if name != b"." && name != b".." {
                names.push(remand_sys::c_string(name)?);
            }
            rest = next;
        }
    }
}

/// The name field of the first entry and what follows it: inode 8, offset 8, length 2, type 1, then the name.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_le_bytes(*bytes.get(16..)?.first_chunk::<2>()?));
    Some((bytes.get(19..length)?, &bytes[length..]))
}
