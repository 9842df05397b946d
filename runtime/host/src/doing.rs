//! Needs that only trying answers. Every function here runs in a child of its own and may leave it in any state.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Erratum, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, MemfdFlags, Mode, SealFlags, fcntl_add_seals, memfd_create, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open, pidfd_send_signal};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::child::{Outcome, helped, helper};

/// `CLONE_NEWTIME` of `linux/sched.h`, which has no constant in nix.
const NEW_TIME: i32 = 0x80;

/// The capabilities that the root spawner needs and that containers like to take away.
const CAPABILITIES: [caps::Capability; 6] = [
    caps::Capability::CAP_CHOWN,
    caps::Capability::CAP_KILL,
    caps::Capability::CAP_SETGID,
    caps::Capability::CAP_SETUID,
    caps::Capability::CAP_SETPCAP,
    caps::Capability::CAP_SYS_ADMIN,
];

pub(crate) fn capabilities() -> Outcome {
    let have = caps::read(None, caps::CapSet::Effective).map_err(|error| error.to_string())?;
    let lacks: Vec<String> = CAPABILITIES.iter().filter(|cap| !have.contains(cap)).map(ToString::to_string).collect();
    if lacks.is_empty() { Ok("all that the spawner needs".into()) } else { Err(format!("no {}", lacks.join(", "))) }
}

pub(crate) fn user_namespace() -> Outcome {
    new(CloneFlags::empty())
}

pub(crate) fn pid_namespace() -> Outcome {
    new(CloneFlags::CLONE_NEWPID)
}

pub(crate) fn mount_namespace() -> Outcome {
    new(CloneFlags::CLONE_NEWNS)
}

pub(crate) fn net_namespace() -> Outcome {
    new(CloneFlags::CLONE_NEWNET)
}

pub(crate) fn ipc_namespace() -> Outcome {
    new(CloneFlags::CLONE_NEWIPC)
}

pub(crate) fn uts_namespace() -> Outcome {
    new(CloneFlags::CLONE_NEWUTS)
}

pub(crate) fn cgroup_namespace() -> Outcome {
    new(CloneFlags::CLONE_NEWCGROUP)
}

pub(crate) fn time_namespace() -> Outcome {
    new(CloneFlags::from_bits_retain(NEW_TIME))
}

/// Makes a namespace inside a new user namespace, as the shim has it.
fn new(kind: CloneFlags) -> Outcome {
    unshare(CloneFlags::CLONE_NEWUSER | kind).map_err(|errno| format!("unshare: {errno}"))?;
    Ok("made".into())
}

/// A new user and mount namespace in which this process is root, mapped to what it was outside.
fn inside() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare: {errno}"))?;
    put("/proc/self/setgroups", "deny")?;
    put("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    put("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn put(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("write {path}: {error}"))
}

/// Maps a range of ids onto a process in a new user namespace, from outside, as the spawner does.
pub(crate) fn id_maps() -> Outcome {
    let mut child = helper("helper.id_maps")?;
    let pid = child.id();
    let mut ready = [0u8; 1];
    child.stdout.as_mut().expect("piped").read_exact(&mut ready).map_err(|error| format!("helper: {error}"))?;
    put(&format!("/proc/{pid}/uid_map"), "0 1879048192 65536")?;
    put(&format!("/proc/{pid}/gid_map"), "0 1879048192 65536")?;
    helped(child)
}

/// The other side of [`id_maps`]: unshares, says so, waits, and tries an id from the range.
pub(crate) fn id_maps_helper() -> Outcome {
    new(CloneFlags::empty())?;
    let mut out = std::io::stdout();
    out.write_all(b".").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    let mut end = String::new();
    std::io::stdin().read_to_string(&mut end).map_err(|error| error.to_string())?;
    let map = std::fs::read_to_string("/proc/self/uid_map").map_err(|error| error.to_string())?;
    let map: Vec<&str> = map.split_whitespace().collect();
    if map == ["0", "1879048192", "65536"] { Ok("a range of 65536 ids".into()) } else { Err(format!("map {map:?}")) }
}

fn step<T>(name: &str, result: Result<T, Errno>) -> Result<T, String> {
    result.map_err(|errno| format!("{name}: {errno}"))
}

fn filesystem(kind: &str, options: &[(&str, &str)]) -> Result<OwnedFd, String> {
    let context = step("fsopen", fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC))?;
    for (key, value) in options {
        step(key, fsconfig_set_string(&context, *key, *value))?;
    }
    step(kind, fsconfig_create(&context))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    step("fsmount", fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes))
}

fn attach(mount: &OwnedFd, place: &str) -> Result<(), String> {
    step("move_mount", move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))
}

/// fsopen, fsconfig, fsmount, move_mount and open_tree, as the shim assembles its root.
pub(crate) fn mount_calls() -> Outcome {
    inside()?;
    let memory = filesystem("tmpfs", &[("size", "1m"), ("nr_inodes", "16")])?;
    attach(&memory, "/tmp")?;
    put("/tmp/file", "x")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = step("open_tree", open_tree(CWD, "/tmp", flags))?;
    attach(&copy, "/tmp")?;
    Ok("fsopen, fsmount, move_mount, open_tree".into())
}

pub(crate) fn overlay() -> Outcome {
    inside()?;
    attach(&filesystem("tmpfs", &[("size", "4m")])?, "/tmp")?;
    for name in ["lower", "upper", "work", "both"] {
        step("mkdir", mkdirat(CWD, format!("/tmp/{name}"), Mode::RWXU))?;
    }
    put("/tmp/lower/file", "below")?;
    let layers = [("lowerdir", "/tmp/lower"), ("upperdir", "/tmp/upper"), ("workdir", "/tmp/work")];
    attach(&filesystem("overlay", &layers)?, "/tmp/both")?;
    put("/tmp/both/file", "above")?;
    let below = std::fs::read_to_string("/tmp/lower/file").map_err(|error| error.to_string())?;
    if below == "below" { Ok("mounted and written in a user namespace".into()) } else { Err("it wrote through".into()) }
}

/// A tmpfs that never goes to swap can only be made outside user namespaces.
pub(crate) fn tmpfs_without_swap() -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare: {errno}"))?;
    let context = step("fsopen", fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC))?;
    if let Err(errno) = fsconfig_set_flag(&context, "noswap") {
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count();
        return if swaps <= 1 { Ok("the host has no swap".into()) } else { Err(format!("noswap: {errno}")) };
    }
    step("tmpfs", fsconfig_create(&context))?;
    Ok("noswap".into())
}

/// A fresh procfs in new user, pid and mount namespaces: refused where the host's own /proc is partly hidden.
pub(crate) fn procfs() -> Outcome {
    inside()?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| format!("unshare: {errno}"))?;
    helped(helper("helper.procfs")?)
}

pub(crate) fn procfs_helper() -> Outcome {
    let mount = filesystem("proc", &[("subset", "pid")])?;
    attach(&mount, "/proc")?;
    let own = std::fs::read_link("/proc/self").map_err(|error| error.to_string())?;
    if own.as_os_str() == "1" { Ok("mounted with subset=pid".into()) } else { Err(format!("pid {}", own.display())) }
}

/// Confines this child to reading /proc and sees whether another path is refused.
pub(crate) fn landlock_holds() -> Outcome {
    let failed = |error: landlock::RulesetError| format!("landlock: {error}");
    let access = AccessFs::from_all(ABI::V1);
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(access).map_err(failed)?.create().map_err(failed)?;
    let place = PathFd::new("/proc").map_err(|error| error.to_string())?;
    let rules = rules.add_rule(PathBeneath::new(place, AccessFs::from_read(ABI::V1))).map_err(failed)?;
    let status = rules.restrict_self().map_err(failed)?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(format!("{:?}", status.ruleset));
    }
    match File::open("/").map_err(|error| error.kind()) {
        Err(ErrorKind::PermissionDenied) => {}
        other => return Err(format!("a forbidden folder answers {other:?}")),
    }
    abi(status.landlock)
}

/// The ABI from which on devices' ioctls, abstract sockets and signals are held too.
const LANDLOCK_ABI_FULL: i32 = 6;

fn abi(status: LandlockStatus) -> Outcome {
    let LandlockStatus::Available { effective_abi, kernel_abi } = status else { return Err(format!("{status:?}")) };
    let found = kernel_abi.unwrap_or(effective_abi as i32);
    if found >= LANDLOCK_ABI_FULL {
        Ok(format!("ABI {found}, enforced"))
    } else {
        Err(format!("ABI {found}, enforced"))
    }
}

pub(crate) fn landlock_errata() -> Outcome {
    let fixed = Erratum::current();
    let text = format!("fixed: {:#x}", fixed.bits());
    if fixed.contains(Erratum::DisconnectedDirectoryHandling) { Ok(text) } else { Err(text) }
}

/// Loads a filter that gives one call an odd answer, and asks.
pub(crate) fn seccomp_holds() -> Outcome {
    let rules = [(libc::SYS_getsid, Vec::new())].into();
    let answer = SeccompAction::Errno(libc::ENOANO.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().map_err(|error| format!("{error}"))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).map_err(|error| error.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())?;
    match rustix::process::getsid(None) {
        Err(Errno::NOANO) => Ok("loaded and answered".into()),
        other => Err(format!("the filtered call answers {other:?}")),
    }
}

pub(crate) fn pidfd() -> Outcome {
    let own = step("pidfd_open", pidfd_open(getpid(), PidfdFlags::empty()))?;
    // A signal that is ignored by default shows that the descriptor names this process.
    step("pidfd_send_signal", pidfd_send_signal(&own, rustix::process::Signal::URG))?;
    Ok("opened and signalled".into())
}

/// Seals a copy of this program in memory and starts it from there, as the daemon pins spawner and shim.
pub(crate) fn memfd() -> Outcome {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create("probe", flags | MemfdFlags::EXEC) {
        // Before 6.3 there is no such flag and every memfd is executable.
        Err(Errno::INVAL) => memfd_create("probe", flags),
        other => other,
    };
    let mut file = File::from(step("memfd_create", fd)?);
    let program = std::fs::read("/proc/self/exe").map_err(|error| error.to_string())?;
    file.write_all(&program).map_err(|error| error.to_string())?;
    step("seal", fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL))?;
    if file.write_all(b"x").is_ok() {
        return Err("a sealed file took a write".into());
    }
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut command = std::process::Command::new(path);
    // Its answer must not be taken for this probe's.
    command.args([crate::PROBE_ARGUMENT, "helper.nothing"]).stdout(std::process::Stdio::null());
    let status = command.status();
    match status {
        Ok(status) if status.success() => Ok("sealed and started".into()),
        other => Err(format!("starting a sealed copy answers {other:?}")),
    }
}

pub(crate) fn nothing() -> Outcome {
    Ok(String::new())
}
