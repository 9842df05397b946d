//! Folders of plain files: read without trusting what is in them, written so that a reader sees all of it or nothing.
//!
//! Reading never follows a link, never opens anything but regular files and folders, and never takes more bytes than asked
//! for. Writing happens in a sibling that takes the folder's name in one step when everything in it is on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The name, without its folder; anything that is not UTF-8 is replaced, and then names no file of an export.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, a device, a socket: nothing that belongs here.
    Other,
}

/// A folder to read from, by relative paths with `/`. Several threads may read at once.
pub trait Folder: Sync {
    /// The bytes of a regular file of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// Not there, not a regular file, too long ([`io::ErrorKind::FileTooLarge`]), or unreadable.
    fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>>;

    /// Calls `visit` with each name in a folder, in any order, until it says to stop with an error.
    ///
    /// # Errors
    /// Not there, not a folder, unreadable, or what `visit` says.
    fn list(&self, path: &str, visit: &mut dyn FnMut(Name) -> io::Result<()>) -> io::Result<()>;
}

/// A folder on disk.
#[derive(Debug)]
pub struct DiskFolder {
    root: OwnedFd,
}

impl DiskFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// Not there, not a folder, or not readable.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())? })
    }

    fn open_below(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // Without O_NONBLOCK a fifo in the folder would hold us for ever.
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), beneath)?)
    }
}

impl Folder for DiskFolder {
    fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = File::from(self.open_below(path, OFlags::empty())?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        if about.len() > bytes_max {
            return Err(too_long(bytes_max));
        }
        let mut bytes = Vec::with_capacity(about.len() as usize);
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max { Err(too_long(bytes_max)) } else { Ok(bytes) }
    }

    fn list(&self, path: &str, visit: &mut dyn FnMut(Name) -> io::Result<()>) -> io::Result<()> {
        let path = if path.is_empty() { "." } else { path };
        for entry in rustix::fs::Dir::new(self.open_below(path, OFlags::DIRECTORY)?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = match entry.file_type() {
                FileType::RegularFile => Kind::File,
                FileType::Directory => Kind::Folder,
                _ => Kind::Other,
            };
            if name != "." && name != ".." {
                visit(Name { name, kind })?;
            }
        }
        Ok(())
    }
}

fn too_long(bytes_max: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {bytes_max} bytes"))
}

/// A folder in memory, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFolder {
    /// The files.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Folder for MemoryFolder {
    fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if bytes.len() as u64 > bytes_max { Err(too_long(bytes_max)) } else { Ok(bytes.clone()) }
    }

    fn list(&self, path: &str, visit: &mut dyn FnMut(Name) -> io::Result<()>) -> io::Result<()> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.files.keys().filter_map(|file| file.strip_prefix(&prefix));
        let names = below.map(|rest| match rest.split_once('/') {
            Some((folder, _)) => Name { name: folder.to_owned(), kind: Kind::Folder },
            None => Name { name: rest.to_owned(), kind: Kind::File },
        });
        let names: std::collections::BTreeSet<Name> = names.collect();
        names.into_iter().try_for_each(visit)
    }
}

/// Why a folder cannot be written. What stood at its place before still stands there.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The place is taken by something else than what one replaces.
    #[error("{0} is there and is no earlier export; name another folder, or remove it")]
    Taken(PathBuf),
    /// The place has no name or no parent.
    #[error("{0} names no folder that could be written")]
    NoName(PathBuf),
    /// Somebody else is writing it.
    #[error("{0} is being written by another process; wait for it")]
    Busy(PathBuf),
    /// The disk refused.
    #[error("{path} cannot be {doing}; nothing was replaced")]
    Io {
        /// Where.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(path: &Path, doing: &'static str) -> impl FnOnce(E) -> PublishError {
    move |source| PublishError::Io { path: path.to_owned(), doing, source: source.into() }
}

/// A folder that is being written, at first under a name of its own: `.<name>.partial` beside the place it is for.
#[derive(Debug)]
pub struct NewFolder {
    place: PathBuf,
    partial: PathBuf,
    lock: File,
    made: std::collections::BTreeSet<PathBuf>,
}

impl NewFolder {
    /// Begins a folder for `place`. What an interrupted writer left is removed. `known` are the names of which a folder
    /// that may be replaced consists; anything else at `place` is left alone.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn begin(place: &Path, known: &[&str]) -> Result<Self, PublishError> {
        let no_name = || PublishError::NoName(place.to_owned());
        let name = place.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
        check_replaceable(place, known)?;
        let partial = place.with_file_name(format!(".{name}.partial"));
        fs::create_dir_all(&partial).map_err(failed(&partial, "made"))?;
        let lock = File::open(&partial).map_err(failed(&partial, "opened"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PublishError::Busy(place.to_owned())),
            locked => locked.map_err(failed(&partial, "locked"))?,
        }
        clear(&partial)?;
        Ok(Self { place: place.to_owned(), partial, lock, made: std::collections::BTreeSet::new() })
    }

    /// Writes one file.
    ///
    /// # Errors
    /// [`PublishError::Io`].
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), PublishError> {
        let path = self.partial.join(path);
        let parent = path.parent().unwrap_or(&self.partial);
        if !self.made.contains(parent) {
            fs::create_dir_all(parent).map_err(failed(parent, "made"))?;
            self.made.insert(parent.to_owned());
        }
        let mut file = File::create_new(&path).map_err(failed(&path, "made"))?;
        file.write_all(bytes).map_err(failed(&path, "written"))
    }

    /// The folder so far, to read back from.
    ///
    /// # Errors
    /// [`PublishError::Io`].
    pub fn reader(&self) -> Result<DiskFolder, PublishError> {
        DiskFolder::open(&self.partial).map_err(failed(&self.partial, "opened"))
    }

    /// Makes everything durable and puts the folder in its place, whole.
    ///
    /// # Errors
    /// [`PublishError::Io`].
    pub fn publish(self) -> Result<(), PublishError> {
        // One syncfs(2) instead of an fsync(2) for each of thousands of files; it reports their errors since Linux 5.8.
        rustix::fs::syncfs(&self.lock).map_err(failed(&self.partial, "brought to disk"))?;
        let cwd = rustix::fs::CWD;
        let renamed = rustix::fs::renameat_with(cwd, &self.partial, cwd, &self.place, RenameFlags::NOREPLACE);
        let replaced = match renamed {
            Err(rustix::io::Errno::EXIST) => {
                let swapped = rustix::fs::renameat_with(cwd, &self.partial, cwd, &self.place, RenameFlags::EXCHANGE);
                swapped.map_err(failed(&self.place, "replaced")).map(|()| true)?
            }
            renamed => renamed.map_err(failed(&self.place, "put in its place")).map(|()| false)?,
        };
        let parent = self.place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed(parent, "brought to disk"))?;
        if replaced {
            fs::remove_dir_all(&self.partial).map_err(failed(&self.partial, "removed"))?;
        }
        Ok(())
    }

    /// Gives the folder up and removes what was written.
    ///
    /// # Errors
    /// [`PublishError::Io`].
    pub fn abandon(self) -> Result<(), PublishError> {
        fs::remove_dir_all(&self.partial).map_err(failed(&self.partial, "removed"))
    }
}

fn check_replaceable(place: &Path, known: &[&str]) -> Result<(), PublishError> {
    let entries = match fs::read_dir(place) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) if why.kind() == io::ErrorKind::NotADirectory => return Err(PublishError::Taken(place.to_owned())),
        entries => entries.map_err(failed(place, "listed"))?,
    };
    for entry in entries {
        let name = entry.map_err(failed(place, "listed"))?.file_name();
        if !known.iter().any(|known| name == *known) {
            return Err(PublishError::Taken(place.to_owned()));
        }
    }
    Ok(())
}

fn clear(folder: &Path) -> Result<(), PublishError> {
    for entry in fs::read_dir(folder).map_err(failed(folder, "listed"))? {
        let entry = entry.map_err(failed(folder, "listed"))?;
        let is_folder = entry.file_type().map_err(failed(folder, "listed"))?.is_dir();
        let path = entry.path();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path, "removed"))?;
    }
    Ok(())
}
