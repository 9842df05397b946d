//! The tree being made: every step by descriptor below its root, through folders only, never through a link.
//!
//! The tree begins empty and nobody else writes in it, so that all that is found in it was made here.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat,
    openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::bounds::Meter;
use crate::error::{ImageError, Result, shown};
use crate::name::Name;
use crate::remove;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Without `O_NOFOLLOW`, which would turn the `ELOOP` of `RESOLVE_NO_SYMLINKS` for a link at the end into `ENOTDIR`.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const COPY_BYTES: usize = 128 << 10;
/// Others than the owner read what is unpacked, so that these are the only modes.
const OPEN_MODE: Mode = Mode::from_raw_mode(0o755);
const PLAIN_MODE: Mode = Mode::from_raw_mode(0o644);

/// A folder that an image is written into.
pub(crate) struct Tree<'t> {
    root: OwnedFd,
    meter: &'t Meter,
    buffer: Vec<u8>,
    links_replaced: u64,
}

impl<'t> Tree<'t> {
    /// `root` is a descriptor of an empty folder.
    pub(crate) fn new(root: OwnedFd, meter: &'t Meter) -> Self {
        Self { root, meter, buffer: vec![0; COPY_BYTES], links_replaced: 0 }
    }

    /// How many symbolic links gave way to a folder, because a later entry lies below their name.
    pub(crate) fn links_replaced(&self) -> u64 {
        self.links_replaced
    }

    /// Makes a folder, or keeps the one that is there.
    pub(crate) fn folder(&mut self, name: &Name) -> Result<()> {
        self.enter(name).map(drop)
    }

    /// Makes a file with `size` bytes of `content`, in the place of whatever has its name. Returns its bytes.
    pub(crate) fn file(&mut self, name: &Name, facts: &Facts, content: &mut dyn Read) -> Result<u64> {
        let fault = |action| move |errno| ImageError::disk(action, name.as_bytes(), errno);
        let (folder, last) = self.vacate(name)?;
        let file = openat2(&folder, &last[..], NEW_FILE, Mode::RUSR | Mode::WUSR, BENEATH).map_err(fault("create"))?;
        self.copy(name, facts.size, content, &file)?;
        let mode = if facts.mode & 0o111 == 0 { PLAIN_MODE } else { OPEN_MODE };
        fchmod(&file, mode).map_err(fault("set the mode of"))?;
        futimens(&file, &times(facts.modified)).map_err(fault("set the time of"))?;
        Ok(facts.size)
    }

    /// Makes a symbolic link with this target, which is kept as it is and never read again.
    pub(crate) fn symlink(&mut self, name: &Name, target: &[u8], modified: u64) -> Result<()> {
        let fault = |action| move |errno| ImageError::disk(action, name.as_bytes(), errno);
        if target.is_empty() || target.contains(&0) {
            return Err(ImageError::name(name.as_bytes(), "is a link whose target no link can have"));
        }
        if target.len() > self.meter.bounds().path_bytes {
            let max = self.meter.bounds().path_bytes as u64;
            return Err(ImageError::bound("bytes in one link's target", max, name.as_bytes()));
        }
        let (folder, last) = self.vacate(name)?;
        symlinkat(target, &folder, &last[..]).map_err(fault("create"))?;
        utimensat(&folder, &last[..], &times(modified), AtFlags::SYMLINK_NOFOLLOW).map_err(fault("set the time of"))
    }

    /// Gives a regular file of this tree a second name.
    pub(crate) fn hard_link(&mut self, name: &Name, target: &Name) -> Result<()> {
        self.must_be_file(name, target)?;
        if name == target {
            return Ok(());
        }
        let (folder, last) = self.vacate(name)?;
        // Vacating may have removed the target with a folder, so that it is looked at again.
        let (from, target_last) = self.must_be_file(name, target)?;
        linkat(&from, &target_last[..], &folder, &last[..], AtFlags::empty())
            .map_err(|errno| ImageError::disk("link", name.as_bytes(), errno))
    }

    /// Removes a name; `false` where nothing has it.
    pub(crate) fn hide(&mut self, name: &Name) -> Result<bool> {
        let Some((folder, last)) = name.split() else { return Ok(false) };
        let Some(folder) = self.find(&folder)? else { return Ok(false) };
        match statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            _ => remove::remove(folder.as_fd(), last).map(|()| true).map_err(disk("remove", name)),
        }
    }

    /// Removes all that a folder holds; `false` where no folder has this name.
    pub(crate) fn hide_children(&mut self, name: &Name) -> Result<bool> {
        match self.find(name)? {
            None => Ok(false),
            Some(folder) => remove::empty(folder).map(|()| true).map_err(disk("empty", name)),
        }
    }

    /// Gives every folder one and the same time: theirs would tell when this machine unpacked the image.
    pub(crate) fn settle(&self) -> Result<()> {
        let root = self.open(b"").and_then(Dir::new);
        settle(root).map_err(|errno| ImageError::disk("settle the folders", b"", errno))
    }

    fn copy(&mut self, name: &Name, size: u64, content: &mut dyn Read, file: &OwnedFd) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match content.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Err(self.meter.failure(name.as_bytes(), std::io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.meter.failure(name.as_bytes(), source)),
            };
            write_all(file, &self.buffer[..count]).map_err(disk("write", name))?;
            left -= count as u64;
        }
        Ok(())
    }

    fn must_be_file(&self, name: &Name, target: &Name) -> Result<(OwnedFd, Vec<u8>)> {
        let refused =
            |why| ImageError::HardLink { entry: shown(name.as_bytes()), target: shown(target.as_bytes()), why };
        let missing = || refused("points to nothing that came before it");
        let (folder, last) = target.split().ok_or_else(missing)?;
        let folder = self.find(&folder)?.ok_or_else(missing)?;
        let facts = match statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(missing()),
            other => other.map_err(disk("look at", target))?,
        };
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            return Err(refused("points to something other than a regular file"));
        }
        Ok((folder, last.to_vec()))
    }

    /// The folder that holds `name`, made where it is missing, with nothing of that name in it any more.
    fn vacate(&mut self, name: &Name) -> Result<(OwnedFd, Vec<u8>)> {
        let Some((folder, last)) = name.split() else {
            return Err(ImageError::name(name.as_bytes(), "would stand in the place of the root"));
        };
        let folder = self.enter(&folder)?;
        // Never written through: another name of the same file would change with it.
        remove::remove(folder.as_fd(), last).map_err(disk("replace", name))?;
        Ok((folder, last.to_vec()))
    }

    /// The folder of this name; what is missing is made, and what is no folder on the way gives way to one.
    fn enter(&mut self, name: &Name) -> Result<OwnedFd> {
        if let Some(folder) = self.find(name)? {
            return Ok(folder);
        }
        let mut here = self.open(b"").map_err(disk("open", name))?;
        for part in name.components() {
            here = self.step(here, part, name)?;
        }
        Ok(here)
    }

    fn step(&mut self, here: OwnedFd, part: &[u8], name: &Name) -> Result<OwnedFd> {
        match open_folder(&here, part) {
            Err(Errno::NOENT) => {}
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                unlinkat(&here, part, AtFlags::empty()).map_err(disk("replace", name))?;
                self.links_replaced += u64::from(errno == Errno::LOOP);
            }
            other => return other.map_err(disk("open", name)),
        }
        self.meter.entry(name.as_bytes())?;
        mkdirat(&here, part, OPEN_MODE).map_err(disk("create", name))?;
        let made = open_folder(&here, part).map_err(disk("open", name))?;
        // The process's umask has taken bits from the mode.
        fchmod(&made, OPEN_MODE).map_err(disk("set the mode of", name))?;
        Ok(made)
    }

    /// The folder of this name, if there is one and no link leads to it.
    fn find(&self, name: &Name) -> Result<Option<OwnedFd>> {
        match self.open(name.as_bytes()) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(disk("open", name)(errno)),
        }
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open_folder(&self.root, if path.is_empty() { b"." } else { path })
    }
}

/// What of an entry's header a file needs.
pub(crate) struct Facts {
    pub size: u64,
    pub mode: u32,
    pub modified: u64,
}

fn open_folder(at: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    openat2(at, path, FOLDER, Mode::empty(), BENEATH)
}

fn disk(action: &'static str, name: &Name) -> impl Fn(Errno) -> ImageError {
    move |errno| ImageError::disk(action, name.as_bytes(), errno)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn times(seconds: u64) -> Timestamps {
    // Beyond what every file system keeps (ext4: 2446); an image may say anything.
    let seconds = i64::try_from(seconds).unwrap_or(0).min(u32::MAX.into());
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// One descriptor a level; the bound on depth bounds them.
fn settle(root: Result<Dir, Errno>) -> Result<(), Errno> {
    let mut levels = vec![root?];
    while let Some(here) = levels.last_mut() {
        let Some(entry) = here.read() else {
            futimens(here.fd()?, &times(0))?;
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let inner = name != b"." && name != b"..";
        if inner && matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            match openat2(here.fd()?, name, FOLDER, Mode::empty(), BENEATH) {
                Ok(below) => levels.push(Dir::new(below)?),
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}
