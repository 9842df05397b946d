//! The stages that the keeper goes through as root of its own user namespace, each after the other, none skipped.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use remand_spec::{Fact, SpawnSpec, Stage};
use remand_sys::{Errno, Result, c_string, confine, file, mount, process};

use crate::report::{Fault, Report};

const SPEC: i32 = 3;
const FIRST_TASKS: i32 = 5;
const PROC_MAGIC: u64 = 0x9fa0;
const CLONE_NEWTIME: i32 = 0x80;
const QUIET: u64 = libc::MS_NOSUID | libc::MS_NODEV;
/// Inodes of the scratch file system that are the keeper's own folders.
const OWN_INODES: u64 = 6;

/// Folders of the scratch file system: its name there, where it is shown, its mode.
const PLACES: [(&CStr, &CStr, u32); 5] = [
    (c"tmp", c"/tmp", 0o1777),
    (c"out", c"/out", 0o755),
    (c"work", c"/work", 0o755),
    (c"shm", c"/dev/shm", 0o1777),
    (c"home", c"/home/user", 0o755),
];

/// A cell that is ready to be split: everything stands but what is taken from the payload's own process.
pub struct Prepared {
    /// The way to the daemon.
    pub report: Report,
    /// The spec.
    pub spec: SpawnSpec,
    /// `/out`, for the collection.
    pub out: OwnedFd,
    /// The payload's terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    /// What the payload's monotonic clock is behind the host's, in nanoseconds.
    pub behind_ns: u64,
}

/// Goes through all stages up to the split.
pub fn prepare(report: Report) -> std::result::Result<Prepared, Fault> {
    let (report, spec) = report.stage(Stage::Vet, read_spec())?;
    let (report, ()) = report.stage(Stage::Cgroup, enter_groups())?;
    let (report, ()) = report.stage(Stage::Ids, guard_itself())?;
    let (report, ()) = report.stage(Stage::Names, names(&spec))?;
    let (mut report, (out, terminal)) = report.stage(Stage::Root, root(&spec))?;
    if let Some((master, _)) = &terminal
        && let Err(error) = report.hand_over(remand_spec::Record::Terminal, master.as_fd())
    {
        return Err(Fault::new(report, Stage::Root, error));
    }
    let (mut report, scratch) = report.stage(Stage::Root, file::file_system(out.as_fd()))?;
    report.fact(Fact::ScratchBytes, scratch.blocks * scratch.block_bytes);
    report.fact(Fact::ScratchInodes, scratch.inodes.saturating_sub(OWN_INODES));
    let (report, behind_ns) = report.stage(Stage::Time, own_time(&spec))?;
    Ok(Prepared { report, spec, out, terminal: terminal.map(|(_, slave)| slave), behind_ns })
}

fn read_spec() -> Result<SpawnSpec> {
    let fd = file::inherited(SPEC)?;
    let size = file::stat(fd.as_fd())?.size as usize;
    let mut bytes = vec![0; size.min(remand_spec::codec::BYTES_MAX)];
    if file::read_at(fd.as_fd(), &mut bytes, 0)? != size {
        return Err(Errno(libc::EMSGSIZE));
    }
    SpawnSpec::decode(&bytes).map_err(|_| Errno(libc::EBADMSG))
}

/// Enters every version 1 group (`0` means the writer), then makes those groups the root of what can be seen of them.
fn enter_groups() -> Result<()> {
    let mut number = FIRST_TASKS;
    while let Ok(tasks) = file::inherited(number) {
        file::write_all(tasks.as_fd(), b"0")?;
        number += 1;
    }
    mount::unshare(libc::CLONE_NEWCGROUP)
}

/// The keeper can be neither traced nor read from inside, and does not outlive the daemon.
fn guard_itself() -> Result<()> {
    confine::die_with_parent(libc::SIGKILL)?;
    confine::not_dumpable()?;
    confine::new_keyring()
}

fn names(spec: &SpawnSpec) -> Result<()> {
    mount::set_names(&spec.hostname)?;
    if spec.loopback { mount::raise_loopback() } else { Ok(()) }
}

type Places = (OwnedFd, Option<(OwnedFd, OwnedFd)>);

/// One limited file system for all writable places, a procfs of this pid namespace, and the terminal.
fn root(spec: &SpawnSpec) -> Result<Places> {
    process::set_umask(0);
    let inodes = spec.scratch_inodes.saturating_add(OWN_INODES);
    let size = c_string(format!("mode=755,size={},nr_inodes={inodes}", spec.scratch_bytes))?;
    mount::mount(c"scratch", c"/.scratch", c"tmpfs", QUIET, &size)?;
    let scratch = file::open(c"/.scratch", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let taken = |place: &CStr| spec.root.mounts.iter().any(|mount| mount.target == place.to_bytes());
    for (name, target, mode) in PLACES.into_iter().filter(|(_, target, _)| !taken(target)) {
        file::make_folder(scratch.as_fd(), name, mode)?;
        file::give(scratch.as_fd(), name, spec.user, spec.group)?;
        let source = c_string([b"/.scratch/", name.to_bytes()].concat())?;
        mount::mount(&source, target, c"", libc::MS_BIND, c"")?;
    }
    drop(scratch);
    mount::detach(c"/.scratch")?;
    procfs()?;
    let out = file::open(c"/out", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    Ok((out, spec.terminal.then(|| terminal(spec)).transpose()?))
}

/// Processes of this namespace and nothing about the host: no kernel log, no hardware, no boot id, no settings.
fn procfs() -> Result<()> {
    mount::mount(c"proc", c"/proc", c"proc", QUIET | libc::MS_NOEXEC, c"subset=pid")?;
    let proc = file::open(c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    if file::file_system(proc.as_fd())?.magic == PROC_MAGIC { Ok(()) } else { Err(Errno(libc::ENODEV)) }
}

/// A terminal of the cell's own: (master, slave). The caller's terminal never comes in here.
fn terminal(spec: &SpawnSpec) -> Result<(OwnedFd, OwnedFd)> {
    mount::mount(
        c"devpts",
        c"/dev/pts",
        c"devpts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        c"newinstance,ptmxmode=0666,mode=0600",
    )?;
    let master = file::open(c"/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0)?;
    let slave = process::open_terminal(master.as_fd())?;
    file::give(slave.as_fd(), c"", spec.user, spec.group)?;
    Ok((master, slave))
}

/// Children get clocks that start near zero, so that the host's uptime does not show, see time_namespaces(7).
/// Answers by how much the monotonic clock is set back, in nanoseconds.
fn own_time(spec: &SpawnSpec) -> Result<u64> {
    if !spec.own_time {
        return Ok(0);
    }
    mount::unshare(CLONE_NEWTIME)?;
    let whole = |clock| process::clock_ns(clock) / 1_000_000_000;
    let (monotonic, boot) = (whole(libc::CLOCK_MONOTONIC), whole(libc::CLOCK_BOOTTIME));
    let offsets = format!("monotonic -{monotonic} 0\nboottime -{boot} 0\n");
    let fd = file::open(c"/proc/self/timens_offsets", libc::O_WRONLY, 0)?;
    file::write_all(fd.as_fd(), offsets.as_bytes())?;
    Ok(monotonic * 1_000_000_000)
}
