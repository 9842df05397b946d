//! Files and descriptors: open, read, write, list, stat, seal, duplicate, close.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::{Errno, Result, adopt, check, retry};

/// `RESOLVE_NO_MAGICLINKS`: no link of procfs is followed.
pub const NO_MAGICLINKS: u64 = 0x02;
/// `RESOLVE_NO_SYMLINKS`: no symbolic link at all is followed.
pub const NO_SYMLINKS: u64 = 0x04;
/// `RESOLVE_BENEATH`: nothing above the starting folder is reached.
pub const BENEATH: u64 = 0x08;
/// `RESOLVE_IN_ROOT`: the starting folder is the root of the lookup.
pub const IN_ROOT: u64 = 0x10;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2), always with `O_CLOEXEC`.
///
/// # Errors
/// The call's, `EXDEV` or `ELOOP` where `resolve` forbids what the path asks.
pub fn open_at(folder: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: u64::from(mode), resolve };
    let size = size_of::<OpenHow>();
    // SAFETY: `path` ends in NUL, `how` lives through the call and `size` is its size.
    let call = || unsafe { libc::syscall(libc::SYS_openat2, folder.as_raw_fd(), path.as_ptr(), &raw const how, size) };
    retry(call).map(adopt)
}

/// open(2), always with `O_CLOEXEC`.
///
/// # Errors
/// The call's.
pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    // SAFETY: `path` ends in NUL and lives through the call.
    retry(|| i64::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })).map(adopt)
}

/// read(2).
///
/// # Errors
/// The call's.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: `buffer` is writable for `buffer.len()` bytes and borrowed for the whole call.
    let call = || unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) as i64 };
    retry(call).map(|n| n as usize)
}

/// write(2).
///
/// # Errors
/// The call's.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: `bytes` is readable for its length and borrowed for the whole call.
    let call = || unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) as i64 };
    retry(call).map(|n| n as usize)
}

/// write(2) until everything is written.
///
/// # Errors
/// The call's; `EIO` where the kernel takes nothing more.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes)? {
            0 => return Err(Errno(libc::EIO)),
            n => bytes = &bytes[n..],
        }
    }
    Ok(())
}

/// pread(2).
///
/// # Errors
/// The call's.
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let at = i64::try_from(offset).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: `buffer` is writable for `buffer.len()` bytes and borrowed for the whole call.
    let call = || unsafe { libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), at) as i64 };
    retry(call).map(|n| n as usize)
}

/// What fstat(2) says, as far as anybody here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// `st_size` in bytes.
    pub size: u64,
    /// `st_uid` as this user namespace sees it.
    pub uid: u32,
    /// `st_gid` as this user namespace sees it.
    pub gid: u32,
    /// `st_rdev`: major and minor number of a device.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// `st_dev`: the file system.
    pub file_system: u64,
}

/// fstat(2).
///
/// # Errors
/// The call's.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat> {
    // SAFETY: `stat` is plain data for which all zeroes are a valid value.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is a writable `struct stat`.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut found) })?;
    Ok(Stat {
        mode: found.st_mode,
        size: found.st_size as u64,
        uid: found.st_uid,
        gid: found.st_gid,
        device: found.st_rdev,
        inode: found.st_ino,
        file_system: found.st_dev,
    })
}

/// What fstatfs(2) says, as far as anybody here asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// `f_type`: the magic number of the file system.
    pub magic: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free inodes.
    pub inodes_free: u64,
    /// All blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// All inodes.
    pub inodes: u64,
}

/// fstatfs(2).
///
/// # Errors
/// The call's.
pub fn file_system(fd: BorrowedFd<'_>) -> Result<FileSystem> {
    // SAFETY: `statfs` is plain data for which all zeroes are a valid value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is a writable `struct statfs`.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut found) })?;
    Ok(FileSystem {
        magic: found.f_type as u64,
        blocks_free: found.f_bfree,
        inodes_free: found.f_ffree,
        blocks: found.f_blocks,
        block_bytes: found.f_bsize as u64,
        inodes: found.f_files,
    })
}

/// getdents64(2): raw directory entries; 0 at the end.
///
/// # Errors
/// The call's.
pub fn entries(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let (raw, size) = (fd.as_raw_fd(), buffer.len());
    // SAFETY: `buffer` is writable for `size` bytes.
    check(unsafe { libc::syscall(libc::SYS_getdents64, raw, buffer.as_mut_ptr(), size) }).map(|n| n as usize)
}

/// mkdirat(2).
///
/// # Errors
/// The call's.
pub fn make_folder(folder: BorrowedFd<'_>, path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { libc::mkdirat(folder.as_raw_fd(), path.as_ptr(), mode) }).map(drop)
}

/// mknodat(2) of a character device.
///
/// # Errors
/// The call's; `EPERM` where devices may not be made, as in some containers.
pub fn make_device(folder: BorrowedFd<'_>, path: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { libc::mknodat(folder.as_raw_fd(), path.as_ptr(), libc::S_IFCHR | mode, device) }).map(drop)
}

/// symlinkat(2).
///
/// # Errors
/// The call's.
pub fn make_link(target: &CStr, folder: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    // SAFETY: both texts end in NUL and live through the call.
    check(unsafe { libc::symlinkat(target.as_ptr(), folder.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// fchownat(2) on the entry itself, never on what a link points to; an empty path means the descriptor.
///
/// # Errors
/// The call's.
pub fn give(folder: BorrowedFd<'_>, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: `path` ends in NUL and lives through the call.
    check(unsafe { libc::fchownat(folder.as_raw_fd(), path.as_ptr(), uid, gid, flags) }).map(drop)
}

/// memfd_create(2), close-on-exec and sealable; `executable` sets `MFD_EXEC` where the kernel knows it (6.3).
///
/// # Errors
/// The call's.
pub fn memory_file(name: &CStr, executable: bool) -> Result<OwnedFd> {
    let base = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let wanted = base | if executable { libc::MFD_EXEC } else { libc::MFD_NOEXEC_SEAL };
    for flags in [wanted, base] {
        // SAFETY: `name` ends in NUL and lives through the call.
        match check(unsafe { libc::memfd_create(name.as_ptr(), flags) }) {
            Err(Errno(libc::EINVAL)) => {}
            other => return other.map(adopt),
        }
    }
    Err(Errno(libc::EINVAL))
}

/// Seals a memory file against every change, see fcntl(2) `F_ADD_SEALS`.
///
/// # Errors
/// The call's.
pub fn seal(fd: BorrowedFd<'_>) -> Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(drop)
}

/// Whether a memory file can neither grow, shrink nor be written any more.
///
/// # Errors
/// The call's; `EINVAL` where `fd` is not a memory file.
pub fn is_sealed(fd: BorrowedFd<'_>) -> Result<bool> {
    let wanted = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no memory is passed.
    let found = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })?;
    Ok(found as i32 & wanted == wanted)
}

/// dup3(2) onto a fixed number; `keep` leaves the copy open across exec.
///
/// # Errors
/// The call's.
pub fn duplicate_to(fd: BorrowedFd<'_>, number: RawFd, keep: bool) -> Result<()> {
    let flags = if keep { 0 } else { libc::O_CLOEXEC };
    // SAFETY: no memory is passed. That `number` may belong to somebody is the caller's to know: the only callers are the
    // spawner's child and the shim, which lay out their whole descriptor table.
    check(unsafe { libc::dup3(fd.as_raw_fd(), number, flags) }).map(drop)
}

/// fcntl(2) `F_DUPFD`: a copy whose number is at least `lowest`, open across exec.
///
/// # Errors
/// The call's.
pub fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<OwnedFd> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, lowest) }).map(adopt)
}

/// Marks every descriptor from `first` on close-on-exec, see close_range(2) `CLOSE_RANGE_CLOEXEC`.
///
/// # Errors
/// The call's.
pub fn cloexec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Whether the descriptor number is open, see fcntl(2) `F_GETFD`.
#[must_use]
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: no memory is passed; a closed number is answered with EBADF.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Adopts a descriptor that the parent laid at a fixed number.
///
/// # Errors
/// `EBADF` where the number is not open.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    if is_open(number) { Ok(adopt(i64::from(number))) } else { Err(Errno(libc::EBADF)) }
}

/// pipe2(2), close-on-exec: (read end, write end).
///
/// # Errors
/// The call's.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((adopt(i64::from(ends[0])), adopt(i64::from(ends[1]))))
}

/// One descriptor to wait on and what was found, see poll(2).
pub type Wait = libc::pollfd;

/// A poll(2) entry that waits until `fd` can be read or its other end is gone.
#[must_use]
pub fn readable(fd: BorrowedFd<'_>) -> Wait {
    Wait { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// poll(2) without a time limit.
///
/// # Errors
/// The call's.
pub fn wait_any(fds: &mut [Wait]) -> Result<()> {
    let count = length_of(fds.len());
    // SAFETY: `fds` is writable for `count` entries.
    retry(|| i64::from(unsafe { libc::poll(fds.as_mut_ptr(), count, -1) })).map(drop)
}

fn length_of(count: usize) -> libc::nfds_t {
    count as libc::nfds_t
}
