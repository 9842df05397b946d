//! Templates of roots: mount namespaces that hold an assembled root and nothing else.
//!
//! A template is assembled once per distinct root and kept. The spawner lives in the template that it used last; a cell's
//! clone copies it into the cell's own user namespace, which locks every mount and every flag of it against whoever might
//! become root in there. Host paths are resolved without following any link, so that what the estate allows by name is what
//! is shown.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use remand_spec::{Mount, Root, SpawnSpec, Stage};
use remand_sys::file::Stat;
use remand_sys::process::{self, Side};
use remand_sys::{Errno, Result, c_string, file, mount};

use crate::Failure;

/// How many templates are kept; the oldest goes first.
const TEMPLATES_MAX: usize = 32;
const FOLDERS: [&CStr; 9] = [c"proc", c"dev", c"dev/pts", c"dev/shm", c"tmp", c"out", c"work", c"home", c"home/user"];
const SCRATCH: &CStr = c".scratch";
/// The devices of a box: made, not shown, so that each is what it claims and nothing tells about the host's `/dev`.
const DEVICES: [(&CStr, u64); 6] = [
    (c"dev/null", libc::makedev(1, 3)),
    (c"dev/zero", libc::makedev(1, 5)),
    (c"dev/full", libc::makedev(1, 7)),
    (c"dev/random", libc::makedev(1, 8)),
    (c"dev/urandom", libc::makedev(1, 9)),
    (c"dev/tty", libc::makedev(5, 0)),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"pts/ptmx", c"dev/ptmx"),
];

/// The templates and the place that host paths are resolved in.
pub struct Templates {
    host: OwnedFd,
    root: OwnedFd,
    proc: OwnedFd,
    kept: Vec<(Vec<u8>, OwnedFd)>,
    current: Option<Vec<u8>>,
}

impl Templates {
    /// Remembers the host's mounts as they are and will be: what the host mounts later is seen, what it unmounts is not held.
    /// Nothing is ever mounted there; templates are assembled in namespaces of their own.
    pub fn start() -> Result<Self> {
        let root = file::open(c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let proc = file::open(c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let host = own_namespace(proc.as_fd())?;
        Ok(Self { host, root, proc, kept: Vec::new(), current: None })
    }

    /// The host's procfs.
    pub fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Back to the host's mounts.
    pub fn leave(&mut self) -> Result<()> {
        if self.current.take().is_some() { mount::enter(self.host.as_fd(), libc::CLONE_NEWNS) } else { Ok(()) }
    }

    /// Makes the spec's root the spawner's own, assembling it where it is new; whether it was. What lies at the host's paths
    /// *now* is part of what tells templates apart, so that a folder that was replaced is never shown as it was.
    pub fn enter(&mut self, spec: &SpawnSpec) -> std::result::Result<bool, Failure> {
        let mut key = spec.root.encode();
        let mut sources = Vec::new();
        for mount in &spec.root.mounts {
            let source = self.resolve(&mount.source).map_err(|error| shown(mount, error))?;
            let stat = file::stat(source.as_fd()).map_err(|error| shown(mount, error))?;
            key.extend([stat.file_system, stat.inode].into_iter().flat_map(u64::to_le_bytes));
            sources.push((source, stat));
        }
        if self.current.as_ref() == Some(&key) {
            return Ok(false);
        }
        if let Some((_, namespace)) = self.kept.iter().find(|(kept, _)| *kept == key) {
            let entered = mount::enter(namespace.as_fd(), libc::CLONE_NEWNS);
            entered.map_err(|error| Failure::call(Stage::Template, "cannot enter the template", error))?;
            self.current = Some(key);
            return Ok(false);
        }
        let assembled = self.assemble(spec, &sources);
        if assembled.is_err() {
            // A half-made root is nobody's.
            self.leave()
                .map_err(|error| Failure::call(Stage::Template, "cannot return to the host's mounts", error))?;
        }
        let namespace = assembled?;
        if !is_volatile(spec) {
            self.kept.push((key.clone(), namespace));
            self.kept.drain(..self.kept.len().saturating_sub(TEMPLATES_MAX));
            self.current = Some(key);
        }
        Ok(true)
    }

    /// After the cell was cloned: a template with folders of the caller's is given up, so that it holds nothing of the host.
    pub fn after(&mut self, spec: &SpawnSpec) -> Result<()> {
        if is_volatile(spec) { self.leave() } else { Ok(()) }
    }

    /// Opens a host path as it is now, below the host's root whatever this process's own root is, following no link.
    fn resolve(&self, path: &[u8]) -> Result<OwnedFd> {
        file::open_at(self.root.as_fd(), &c_string(path)?, libc::O_PATH, 0, file::IN_ROOT | file::NO_SYMLINKS)
    }

    fn assemble(&mut self, spec: &SpawnSpec, sources: &[(OwnedFd, Stat)]) -> std::result::Result<OwnedFd, Failure> {
        let failed = |what: &str, error| Failure::call(Stage::Template, what, error);
        self.current = Some(Vec::new());
        self.leave().map_err(|error| failed("cannot return to the host's mounts", error))?;
        let mut trees = Vec::new();
        for (mount, (source, stat)) in spec.root.mounts.iter().zip(sources) {
            let tree = self.tree(mount, source, *stat, spec).map_err(|error| shown(mount, error))?;
            trees.push((tree, mount));
        }
        let made = mount::unshare(libc::CLONE_NEWNS).and_then(|()| {
            self.current = Some(Vec::new());
            mount::mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"")?;
            empty_root()
        });
        made.map_err(|error| failed("cannot make an empty root", error))?;
        fill(&spec.root, &trees)?;
        let closed = mount::pivot_here().and_then(|()| {
            let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
            mount::mount(c"", c"/", c"", flags, c"")
        });
        closed.and_then(|()| own_namespace(self.proc.as_fd())).map_err(|e| failed("cannot close the root", e))
    }

    /// A detached, restricted copy of a host path.
    fn tree(&self, wanted: &Mount, source: &OwnedFd, stat: Stat, spec: &SpawnSpec) -> Result<OwnedFd> {
        // A writable place shows one file system only: what is mounted below it was not asked for.
        let tree = mount::clone_tree(source.as_fd(), c"", !wanted.writable)?;
        let write = if wanted.writable { 0 } else { mount::READ_ONLY };
        mount::restrict_tree(tree.as_fd(), write | mount::NO_SUID | mount::NO_DEV)?;
        if wanted.owned {
            let owner = self.owner_map((stat.uid, stat.gid), spec)?;
            mount::map_owners(tree.as_fd(), owner.as_fd())?;
        }
        Ok(tree)
    }

    /// A user namespace that maps the owner of a host folder to the payload's user, and nobody else.
    fn owner_map(&self, owner: (u32, u32), spec: &SpawnSpec) -> Result<OwnedFd> {
        let (held, hold) = file::pipe()?;
        let (pid, process) = match process::clone(libc::CLONE_NEWUSER as u64, None, libc::SIGCHLD)? {
            Side::Parent(pid, process) => (pid, process),
            Side::Child => {
                drop(hold);
                process::exit(file::read(held.as_fd(), &mut [0]).is_err().into())
            }
        };
        let maps = [("uid_map", owner.0, spec.user), ("gid_map", owner.1, spec.group)];
        let written = maps.iter().try_for_each(|(name, from, to)| {
            write_map(self.proc(), pid, name, &format!("{from} {} 1", spec.ids_first + to))
        });
        let namespace = written
            .and_then(|()| file::open_at(self.proc(), &c_string(format!("{pid}/ns/user"))?, libc::O_RDONLY, 0, 0));
        drop(hold);
        process::kill_fd(process.as_fd(), libc::SIGKILL)?;
        process::wait_child(true)?;
        namespace
    }
}

/// Whether a root holds folders of the caller's: it is used once.
fn is_volatile(spec: &SpawnSpec) -> bool {
    spec.root.mounts.iter().any(|mount| mount.owned)
}

fn shown(mount: &Mount, error: Errno) -> Failure {
    Failure::call(Stage::Template, &format!("cannot show {}", String::from_utf8_lossy(&mount.source)), error)
}

/// Writes one of a process's id maps, see user_namespaces(7).
pub fn write_map(proc: BorrowedFd<'_>, pid: i32, name: &str, map: &str) -> Result<()> {
    let fd = file::open_at(proc, &c_string(format!("{pid}/{name}"))?, libc::O_WRONLY, 0, 0)?;
    file::write_all(fd.as_fd(), map.as_bytes())
}

fn own_namespace(proc: BorrowedFd<'_>) -> Result<OwnedFd> {
    file::open_at(proc, c"thread-self/ns/mnt", libc::O_RDONLY, 0, 0)
}

/// A small file system for the root's own entries, entered but not yet the root.
fn empty_root() -> Result<()> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    mount::mount(c"remand", c"/tmp", c"tmpfs", flags, c"mode=755,size=4m,nr_inodes=8k")?;
    mount::change_folder(c"/tmp")
}

fn fill(root: &Root, trees: &[(OwnedFd, &Mount)]) -> std::result::Result<(), Failure> {
    let named = |path: &[u8], error| {
        Failure::call(Stage::Template, &format!("cannot make {} in the root", String::from_utf8_lossy(path)), error)
    };
    let here = file::open(c".", libc::O_PATH | libc::O_DIRECTORY, 0).map_err(|error| named(b"/", error))?;
    fixtures(here.as_fd()).map_err(|error| named(b"/dev", error))?;
    for folder in &root.folders {
        place(here.as_fd(), folder, true).map_err(|error| named(folder, error))?;
    }
    for (tree, wanted) in trees {
        let folder = file::stat(tree.as_fd()).map(|stat| stat.mode & libc::S_IFMT == libc::S_IFDIR);
        let put = |folder| mount::attach(tree.as_fd(), place(here.as_fd(), &wanted.target, folder)?.as_fd());
        folder.and_then(put).map_err(|error| named(&wanted.target, error))?;
    }
    for text in &root.texts {
        write_text(here.as_fd(), &text.path, &text.bytes).map_err(|error| named(&text.path, error))?;
    }
    for link in &root.links {
        make_link(here.as_fd(), &link.path, &link.target).map_err(|error| named(&link.path, error))?;
    }
    Ok(())
}

/// Folders, devices and procfs. The host's procfs must be visible for the cell to be allowed to mount its own over it.
fn fixtures(here: BorrowedFd<'_>) -> Result<()> {
    let exec_free = libc::MS_NOSUID | libc::MS_NOEXEC;
    for folder in [SCRATCH].iter().chain(&FOLDERS) {
        file::make_folder(here, folder, 0o755)?;
        if *folder == c"dev" {
            mount::mount(c"dev", c"dev", c"tmpfs", exec_free, c"mode=755,size=64k,nr_inodes=64")?;
        }
    }
    for (path, number) in DEVICES {
        file::make_device(here, path, 0o666, number)?;
    }
    for (target, path) in LINKS {
        file::make_link(target, here, path)?;
    }
    mount::mount(c"", c"dev", c"", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | exec_free, c"")?;
    mount::mount(c"proc", c"proc", c"proc", exec_free | libc::MS_NODEV, c"")
}

const EXACT: u64 = file::BENEATH | file::NO_SYMLINKS | file::NO_MAGICLINKS;

/// The file or folder at `path`, made where it is missing; never through a link.
fn place(here: BorrowedFd<'_>, path: &[u8], folder: bool) -> Result<OwnedFd> {
    let relative = c_string(&path[1..])?;
    match file::open_at(here, &relative, libc::O_PATH, 0, EXACT) {
        Err(Errno(libc::ENOENT)) => {}
        other => return other,
    }
    parents(here, path)?;
    if folder {
        file::make_folder(here, &relative, 0o755)?;
    } else {
        drop(file::open_at(here, &relative, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, 0o644, EXACT)?);
    }
    file::open_at(here, &relative, libc::O_PATH, 0, EXACT)
}

fn parents(here: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    for (at, byte) in path.iter().enumerate().skip(1) {
        if *byte == b'/' {
            let parent = c_string(&path[1..at])?;
            match file::open_at(here, &parent, libc::O_PATH | libc::O_DIRECTORY, 0, EXACT) {
                Err(Errno(libc::ENOENT)) => file::make_folder(here, &parent, 0o755)?,
                other => drop(other?),
            }
        }
    }
    Ok(())
}

fn write_text(here: BorrowedFd<'_>, path: &[u8], bytes: &[u8]) -> Result<()> {
    parents(here, path)?;
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    let fd = file::open_at(here, &c_string(&path[1..])?, flags, 0o644, EXACT)?;
    file::write_all(fd.as_fd(), bytes)
}

fn make_link(here: BorrowedFd<'_>, path: &[u8], target: &[u8]) -> Result<()> {
    parents(here, path)?;
    file::make_link(&c_string(target)?, here, &c_string(&path[1..])?)
}
