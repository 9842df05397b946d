//! One folder of one hierarchy, reached from a held descriptor; every refusal carries the full path.
//!
//! Folders of cells hold no descriptor of their own: thousands of cells cost the daemon nothing but their watches.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir as Entries, FileType, Mode, OFlags, chownat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::error::{CgroupError, Result};

/// The longest interface file that is read, in bytes: `cgroup.procs` of some 100 000 processes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// What the kernel gives at once of a longer interface file, in bytes.
const PAGE_BYTES: usize = 4096;
/// How deep folders below a cell are removed; the kernel has no limit of its own unless `cgroup.max.depth` sets one.
const DEPTH_MAX: usize = 64;

#[derive(Debug)]
struct Anchor {
    fd: OwnedFd,
    path: PathBuf,
}

/// A control group's folder: a held descriptor and a relative path below it.
#[derive(Debug, Clone)]
pub(crate) struct Dir {
    anchor: Arc<Anchor>,
    relative: String,
}

impl Dir {
    /// Opens an existing folder and holds it.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, &path, flags, Mode::empty()).map_err(|e| CgroupError::io("open", path.clone(), e))?;
        Ok(Self { anchor: Arc::new(Anchor { fd, path }), relative: ".".to_owned() })
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        debug_assert!(!name.contains('/') && name != "..");
        let relative = if self.relative == "." { name.to_owned() } else { format!("{}/{name}", self.relative) };
        Self { anchor: Arc::clone(&self.anchor), relative }
    }

    pub(crate) fn path(&self) -> PathBuf {
        if self.relative == "." { self.anchor.path.clone() } else { self.anchor.path.join(&self.relative) }
    }

    fn error(&self, action: &'static str, file: &str, errno: Errno) -> CgroupError {
        let path = if file.is_empty() { self.path() } else { self.path().join(file) };
        CgroupError::io(action, path, errno)
    }

    pub(crate) fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd> {
        self.try_open(file, flags).map_err(|errno| self.error("open", file, errno))
    }

    fn try_open(&self, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = format!("{}/{file}", self.relative);
        openat(self.anchor.fd.as_fd(), path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let fd = self.open_file(file, OFlags::RDONLY)?;
        read_short(&fd).map_err(|errno| self.error("read", file, errno))
    }

    /// The file's text, or `None` where this kernel has no such file or has the feature behind it switched off.
    pub(crate) fn read_if_there(&self, file: &str) -> Result<Option<String>> {
        let text = self.try_open(file, OFlags::RDONLY).and_then(|fd| read_short(&fd));
        match text {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => Ok(None),
            Err(errno) => Err(self.error("read", file, errno)),
        }
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        let path = format!("{}/{file}", self.relative);
        rustix::fs::statat(self.anchor.fd.as_fd(), path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        self.write_to(&self.open_file(file, OFlags::WRONLY)?, file, text)
    }

    /// Writes an interface file and gives what it says afterwards.
    pub(crate) fn write_and_read(&self, file: &str, text: &str) -> Result<String> {
        let fd = self.open_file(file, OFlags::RDWR)?;
        self.write_to(&fd, file, text)?;
        read_short(&fd).map_err(|errno| self.error("read", file, errno))
    }

    fn write_to(&self, fd: &OwnedFd, file: &str, text: &str) -> Result<()> {
        match rustix::io::write(fd, text.as_bytes()) {
            Ok(written) if written == text.len() => Ok(()),
            Ok(_) => Err(self.error("write", file, Errno::IO)),
            Err(errno) => Err(self.error("write", file, errno)),
        }
    }

    /// Makes the folder; `false` when it was there.
    pub(crate) fn create(&self) -> Result<bool> {
        match mkdirat(self.anchor.fd.as_fd(), self.relative.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.error("create", "", errno)),
        }
    }

    /// Gives a file of the folder, or the folder itself (empty name), to an unprivileged owner.
    pub(crate) fn give(&self, file: &str, uid: u32, gid: u32) -> Result<()> {
        let path = if file.is_empty() { self.relative.clone() } else { format!("{}/{file}", self.relative) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(self.anchor.fd.as_fd(), path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("give away", file, errno))
    }

    pub(crate) fn exists(&self) -> Result<bool> {
        match self.try_open(".", OFlags::PATH | OFlags::DIRECTORY) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("open", "", errno)),
        }
    }

    /// The names of the groups below this one; none where the folder is gone.
    pub(crate) fn children(&self) -> Result<Vec<String>> {
        // kernfs counts a folder's folders as links on top of its own two: one cheap call instead of a listing.
        let links = rustix::fs::statat(self.anchor.fd.as_fd(), self.relative.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        if links.is_ok_and(|found| found.st_nlink == 2) {
            return Ok(Vec::new());
        }
        let fd = match self.try_open(".", OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(self.error("list", "", errno)),
        };
        let mut names = Vec::new();
        for entry in Entries::new(fd).map_err(|errno| self.error("list", "", errno))? {
            let entry = entry.map_err(|errno| self.error("list", "", errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The processes in this group, not in those below; none where the folder is gone.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let list = self.open_file("cgroup.procs", OFlags::RDONLY);
        let list = list.and_then(|fd| read_all(&fd).map_err(|errno| self.error("read", "cgroup.procs", errno)));
        match list {
            Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
            // ENODEV: the group was removed between open and read.
            Err(error) if error.is_errno(2) || error.is_errno(19) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The processes in this group and in all below it.
    pub(crate) fn pids_below(&self) -> Result<Vec<i32>> {
        let mut pids = self.pids()?;
        for name in self.children()? {
            pids.extend(self.child(&name).pids_below()?);
        }
        Ok(pids)
    }

    /// Removes the folder; `false` when processes or groups below it are in the way.
    pub(crate) fn remove_alone(&self) -> Result<bool> {
        match unlinkat(self.anchor.fd.as_fd(), self.relative.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(errno) => Err(self.error("remove", "", errno)),
        }
    }

    /// Removes the folder and the groups below it; `false` when processes are in the way.
    pub(crate) fn remove(&self) -> Result<bool> {
        self.remove_to(DEPTH_MAX)
    }

    fn remove_to(&self, depth: usize) -> Result<bool> {
        for name in self.children()? {
            let below = self.child(&name);
            if depth == 0 {
                return Err(below.error("remove", "", Errno::NAMETOOLONG));
            }
            if !below.remove_to(depth - 1)? {
                return Ok(false);
            }
        }
        self.remove_alone()
    }
}

/// Reads an interface file that the kernel writes in one go, from its beginning, which also arms its next notification
/// (kernfs): what does not fill a page is all there is, so the end need not be read as well.
pub(crate) fn read_short(fd: &OwnedFd) -> Result<String, Errno> {
    let mut page = [0u8; PAGE_BYTES];
    match rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut page, 0))? {
        PAGE_BYTES => read_all(fd),
        count => String::from_utf8(page[..count].to_vec()).map_err(|_| Errno::ILSEQ),
    }
}

/// Reads an interface file whose lines the kernel writes one by one, such as a list of processes.
pub(crate) fn read_all(fd: &OwnedFd) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; PAGE_BYTES];
    while bytes.len() < FILE_BYTES_MAX {
        let count = match rustix::io::pread(fd, &mut chunk, bytes.len() as u64) {
            Ok(0) => break,
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        bytes.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)
}
