//! What takes rights away: ids, capabilities, securebits, keyring, Landlock, seccomp.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::{Errno, Result, adopt, check};

/// setgroups(2) to none, then setresgid(2) and setresuid(2), each read back.
///
/// # Errors
/// The calls'; `EPERM` where the ids that were read back are others.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    // The C library's wrappers would signal other threads; there are none, and the calls themselves are meant.
    // SAFETY: an empty list needs no memory.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    // SAFETY: no memory is passed and the calls cannot fail.
    let found = unsafe { [libc::getuid(), libc::geteuid(), libc::getgid(), libc::getegid()] };
    if found == [uid, uid, gid, gid] { Ok(()) } else { Err(Errno(libc::EPERM)) }
}

/// setresuid(2) of the effective id alone. With [`keep_capabilities`] nothing else changes; what is made meanwhile is that
/// user's, as a user namespace is its owner's, see user_namespaces(7).
///
/// # Errors
/// The call's.
pub fn act_as(uid: u32) -> Result<()> {
    // SAFETY: no memory is passed; −1 leaves an id as it is.
    check(unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) }).map(drop)
}

/// `SECBIT_NO_SETUID_FIXUP`: changes of ids leave the capabilities of this process alone, see capabilities(7).
///
/// # Errors
/// The call's.
pub fn keep_capabilities() -> Result<()> {
    const NO_SETUID_FIXUP: u64 = 1 << 2;
    prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0).map(drop)
}

/// prctl(2) with two arguments.
fn prctl(option: i32, value: u64, second: u64) -> Result<i64> {
    // SAFETY: every option used in this file takes plain numbers, no pointers.
    check(unsafe { libc::prctl(option, value, second, 0_u64, 0_u64) })
}

/// `PR_SET_NO_NEW_PRIVS`, read back.
///
/// # Errors
/// The calls'; `EPERM` where it did not stick.
pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    if prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0)? == 1 { Ok(()) } else { Err(Errno(libc::EPERM)) }
}

/// `PR_SET_PDEATHSIG`: the signal that this process gets when its parent's thread ends.
///
/// # Errors
/// The call's.
pub fn die_with_parent(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// `PR_SET_DUMPABLE` 0: no core, and `/proc/PID` belongs to nobody here.
///
/// # Errors
/// The call's.
pub fn not_dumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// `PR_SET_SECUREBITS`: `KEEP_CAPS` off and locked, root nothing special, no set-id fix-up, no ambient raise, all locked.
pub const SECUREBITS: u64 = 0b1110_1111;

/// Locks the securebits, see capabilities(7), and reads them back.
///
/// # Errors
/// The calls'; `EPERM` where others were read back.
pub fn lock_securebits() -> Result<()> {
    prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0)?;
    if securebits()? == SECUREBITS { Ok(()) } else { Err(Errno(libc::EPERM)) }
}

/// `PR_GET_SECUREBITS`.
///
/// # Errors
/// The call's.
pub fn securebits() -> Result<u64> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0).map(|bits| bits as u64)
}

/// Clears the ambient set and drops from the bounding set every capability whose bit is in `bits`.
///
/// # Errors
/// The calls'.
pub fn unbound_capabilities(bits: u64) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    for capability in (0..64).filter(|capability| bits >> capability & 1 == 1) {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Err(Errno(libc::EINVAL)) => break,
            dropped => drop(dropped?),
        }
    }
    Ok(())
}

/// The bounding set as a bit mask.
///
/// # Errors
/// The call's.
pub fn bounding_set() -> Result<u64> {
    let mut set = 0;
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, capability, 0) {
            Err(Errno(libc::EINVAL)) => break,
            found => set |= (found? as u64) << capability,
        }
    }
    Ok(set)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// capset(2): effective and permitted become `keep`, inheritable becomes empty.
///
/// # Errors
/// The call's.
pub fn set_capabilities(keep: u64) -> Result<()> {
    let header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |bits: u64| CapData { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(keep & 0xffff_ffff), half(keep >> 32)];
    // SAFETY: version 3 takes a header and two data blocks, which live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// capget(2): effective, permitted and inheritable, all in one mask.
///
/// # Errors
/// The call's.
pub fn capabilities() -> Result<u64> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 takes a header and two data blocks, both writable and alive through the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let all = |block: CapData| u64::from(block.effective | block.permitted | block.inheritable);
    Ok(all(data[0]) | all(data[1]) << 32)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: an anonymous session keyring of this process's own. A kernel without keyrings
/// has nothing to leave, so `ENOSYS` is success.
///
/// # Errors
/// The call's.
pub fn new_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: the null name asks for an anonymous keyring.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) }) {
        Err(Errno(libc::ENOSYS)) => Ok(()),
        other => other.map(drop),
    }
}

/// The Landlock ABI of this kernel, see landlock_create_ruleset(2) `LANDLOCK_CREATE_RULESET_VERSION`.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where the kernel has none.
pub fn landlock_abi() -> Result<u32> {
    let none = std::ptr::null::<u8>();
    // SAFETY: with the version flag the kernel takes no attributes.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, 1_u32) }).map(|abi| abi as u32)
}

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// landlock_create_ruleset(2). A kernel that knows fewer fields gets only those; asking it for more is its `E2BIG`.
///
/// # Errors
/// The call's.
pub fn ruleset(fs: u64, net: u64, scoped: u64) -> Result<OwnedFd> {
    let attr = RulesetAttr { handled_access_fs: fs, handled_access_net: net, scoped };
    let size = match (net, scoped) {
        (0, 0) => 8_usize,
        (_, 0) => 16,
        _ => 24,
    };
    // SAFETY: `attr` lives through the call and `size` is at most its size.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0_u32) }).map(adopt)
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// landlock_add_rule(2) `LANDLOCK_RULE_PATH_BENEATH`.
///
/// # Errors
/// The call's.
pub fn allow_beneath(ruleset: BorrowedFd<'_>, path: BorrowedFd<'_>, access: u64) -> Result<()> {
    const PATH_BENEATH: u32 = 1;
    let attr = PathBeneathAttr { allowed_access: access, parent_fd: path.as_raw_fd() };
    let (fd, attr) = (ruleset.as_raw_fd(), &raw const attr);
    // SAFETY: `attr` is a whole `struct landlock_path_beneath_attr` and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, PATH_BENEATH, attr, 0_u32) }).map(drop)
}

/// landlock_restrict_self(2).
///
/// # Errors
/// The call's.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) }).map(drop)
}

/// seccomp(2) `SECCOMP_SET_MODE_FILTER`; with `listener` the descriptor for user notifications comes back.
///
/// # Errors
/// The call's; `EINVAL` where `program` is no whole number of eight-byte instructions.
pub fn load_filter(program: &[u8], listener: bool) -> Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: u32 = 1;
    const NEW_LISTENER: u64 = 1 << 3;
    let (instructions, rest) = program.as_chunks::<8>();
    let count = u16::try_from(instructions.len()).map_err(|_| Errno(libc::EINVAL))?;
    if count == 0 || !rest.is_empty() {
        return Err(Errno(libc::EINVAL));
    }
    let filter: Vec<libc::sock_filter> = instructions.iter().map(instruction).collect();
    let program = libc::sock_fprog { len: count, filter: filter.as_ptr().cast_mut() };
    let flags = if listener { NEW_LISTENER } else { 0 };
    // SAFETY: `program` points to `count` instructions in `filter`, alive through the call, which the kernel only reads.
    let returned = check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })?;
    Ok(listener.then(|| adopt(returned)))
}

/// Takes one notification from a filter's listener, see seccomp_unotify(2): its id and the number of the call.
///
/// # Errors
/// The call's; `ENOENT` where the caller was killed meanwhile.
pub fn notified_call(listener: BorrowedFd<'_>) -> Result<(u64, u32)> {
    // `struct seccomp_notif`: id, pid, flags, then `struct seccomp_data` that starts with the number; 80 bytes.
    const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
    let mut notification = [0_u64; 10];
    // SAFETY: SECCOMP_IOCTL_NOTIF_RECV fills the 80 bytes of a zeroed `struct seccomp_notif`, which `notification` is.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, notification.as_mut_ptr()) })?;
    Ok((notification[0], notification[2] as u32))
}

/// Lets a notified call fail. Nothing here can let one happen: no value is passed and no flag set.
///
/// # Errors
/// The call's; `ENOENT` where the caller was killed meanwhile.
pub fn refuse_call(listener: BorrowedFd<'_>, id: u64, errno: u32) -> Result<()> {
    // `struct seccomp_notif_resp`: id, value, then error and flags of 32 bits each; 24 bytes.
    const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
    let mut response = [id, 0, u64::from(errno.wrapping_neg())];
    // SAFETY: SECCOMP_IOCTL_NOTIF_SEND reads the 24 bytes of a `struct seccomp_notif_resp`, which `response` is.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, response.as_mut_ptr()) }).map(drop)
}

fn instruction(bytes: &[u8; 8]) -> libc::sock_filter {
    let [code_low, code_high, jt, jf, k @ ..] = *bytes;
    libc::sock_filter { code: u16::from_le_bytes([code_low, code_high]), jt, jf, k: u32::from_le_bytes(k) }
}
