//! Mounts and namespaces: the new mount interface where it spares a race, mount(2) where one call says it all.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::{Result, adopt, check};

/// `MOUNT_ATTR_RDONLY`.
pub const READ_ONLY: u64 = 0x01;
/// `MOUNT_ATTR_NOSUID`.
pub const NO_SUID: u64 = 0x02;
/// `MOUNT_ATTR_NODEV`.
pub const NO_DEV: u64 = 0x04;
/// `MOUNT_ATTR_NOEXEC`.
pub const NO_EXEC: u64 = 0x08;
const IDMAP: u64 = 0x0010_0000;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_RECURSIVE: u32 = 0x8000;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn set_attributes(tree: BorrowedFd<'_>, flags: u32, attr: &MountAttr) -> Result<()> {
    let (fd, size) = (tree.as_raw_fd(), size_of::<MountAttr>());
    // SAFETY: the path is an empty text with its NUL; `attr` lives through the call and `size` is its size.
    check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), AT_EMPTY_PATH | flags, &raw const *attr, size)
    })
    .map(drop)
}

/// mount_setattr(2) on a whole detached tree: adds the attributes and makes it private.
///
/// # Errors
/// The call's.
pub fn restrict_tree(tree: BorrowedFd<'_>, attributes: u64) -> Result<()> {
    let attr = MountAttr { set: attributes, clear: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    set_attributes(tree, AT_RECURSIVE, &attr)
}

/// mount_setattr(2) `MOUNT_ATTR_IDMAP`: shows the owners of a detached mount through a user namespace's map.
///
/// # Errors
/// The call's; `EINVAL` where the file system cannot (see its kernel version in mount_setattr(2)).
pub fn map_owners(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<()> {
    let userns_fd = user_namespace.as_raw_fd() as u64;
    set_attributes(tree, 0, &MountAttr { set: IDMAP, clear: 0, propagation: 0, userns_fd })
}

/// open_tree(2) `OPEN_TREE_CLONE`: a detached copy of what is mounted at `path`, links not followed at its end.
///
/// # Errors
/// The call's.
pub fn clone_tree(folder: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let clone = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let deep = if recursive { AT_RECURSIVE } else { 0 };
    let flags = clone | deep | AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW as u32;
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { libc::syscall(libc::SYS_open_tree, folder.as_raw_fd(), path.as_ptr(), flags) }).map(adopt)
}

/// move_mount(2): puts a detached tree onto the very file or folder that `onto` refers to.
///
/// # Errors
/// The call's.
pub fn attach(tree: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    const FROM_EMPTY: u32 = 0x04;
    const TO_EMPTY: u32 = 0x40;
    let (from, to, empty) = (tree.as_raw_fd(), onto.as_raw_fd(), c"".as_ptr());
    // SAFETY: both paths are empty texts with their NUL.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, FROM_EMPTY | TO_EMPTY) }).map(drop)
}

/// mount(2).
///
/// # Errors
/// The call's.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<()> {
    // SAFETY: all four texts end in NUL and live through the call; the kernel reads `data` as a text for every kind of
    // file system that is mounted here.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
        .map(drop)
}

/// umount2(2) with `MNT_DETACH`.
///
/// # Errors
/// The call's.
pub fn detach(target: &CStr) -> Result<()> {
    // SAFETY: `target` ends in NUL and lives through the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// pivot_root(2) of the working directory onto itself: the old root ends up beneath and is detached at once.
///
/// # Errors
/// The calls'.
pub fn pivot_here() -> Result<()> {
    // SAFETY: both paths are texts with their NUL.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    detach(c".")
}

/// unshare(2).
///
/// # Errors
/// The call's.
pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: no memory is passed; the callers are single-threaded, so no other thread is left in another place.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// setns(2).
///
/// # Errors
/// The call's.
pub fn enter(namespace: BorrowedFd<'_>, kind: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// chdir(2).
///
/// # Errors
/// The call's.
pub fn change_folder(path: &CStr) -> Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// sethostname(2) and setdomainname(2).
///
/// # Errors
/// The calls'.
pub fn set_names(host: &[u8]) -> Result<()> {
    // SAFETY: `host` is readable for its length.
    check(unsafe { libc::sethostname(host.as_ptr().cast(), host.len()) })?;
    // SAFETY: the text is readable for its length.
    check(unsafe { libc::setdomainname(c"(none)".as_ptr(), 6) }).map(drop)
}

/// Raises the loopback interface of this network namespace, see netdevice(7).
///
/// # Errors
/// The calls'.
pub fn raise_loopback() -> Result<()> {
    // SAFETY: no memory is passed.
    let socket = adopt(check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?);
    // SAFETY: `ifreq` is plain data for which all zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads a `struct ifreq`, which `request` is.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}
