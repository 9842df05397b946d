//! Processes: clone, exec, wait, signals, sessions, limits, time.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::{Errno, Result, adopt, check, retry};

/// Who one is after [`clone`].
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child,
    /// The calling process, with the child's number here and a descriptor for it.
    Parent(i32, OwnedFd),
}

#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) as a fork: the child goes on with a copy of the caller's memory, in the new namespaces that `flags` names and,
/// where given, in a version 2 control group from its first instruction on.
///
/// The child must be single-threaded code that calls nothing but system calls until it execs.
///
/// # Errors
/// The call's.
pub fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>, exit_signal: i32) -> Result<Side> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: exit_signal as u64,
        ..CloneArgs::default()
    };
    if let Some(group) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a whole `struct clone_args` whose one pointer is to `pidfd`, alive through the call. No stack is
    // given and CLONE_VM is in no caller's flags, so the child has its own copy of this one. Callers have one thread, so
    // no lock can be held by a thread that the child lacks.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    if pid == 0 { Ok(Side::Child) } else { Ok(Side::Parent(pid as i32, adopt(i64::from(pidfd)))) }
}

/// Texts laid out as exec wants them: an array of pointers that ends in null.
pub struct Texts {
    texts: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Texts {
    /// Copies the texts.
    ///
    /// # Errors
    /// `EINVAL` where one holds a NUL byte.
    pub fn new(texts: &[Vec<u8>]) -> Result<Self> {
        let texts = texts.iter().map(|text| crate::c_string(text.as_slice())).collect::<Result<Vec<_>>>()?;
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { texts, pointers })
    }

    /// How many texts there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.texts.len()
    }
}

/// execveat(2) of the file that `program` refers to; returns only if it failed.
pub fn execute_fd(program: BorrowedFd<'_>, argv: &Texts, environment: &Texts) -> Errno {
    let (argv, envp) = (argv.pointers.as_ptr(), environment.pointers.as_ptr());
    // SAFETY: the path is an empty text with its NUL; both arrays end in null and point to texts that `Texts` owns.
    unsafe { libc::syscall(libc::SYS_execveat, program.as_raw_fd(), c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH) };
    Errno::last()
}

/// execve(2); returns only if it failed.
pub fn execute(path: &CStr, argv: &Texts, environment: &Texts) -> Errno {
    // SAFETY: `path` ends in NUL; both arrays end in null and point to texts that `Texts` owns.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Errno::last()
}

/// _exit(2).
pub fn exit(status: i32) -> ! {
    // SAFETY: ends this process; nothing of it is used afterwards.
    unsafe { libc::_exit(status) }
}

/// wait4(2) for any child: (pid, wait status), or nothing where none has ended and `block` is false.
///
/// # Errors
/// `ECHILD` where there is no child.
pub fn wait_child(block: bool) -> Result<Option<(i32, i32)>> {
    let mut status = 0;
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` is writable; no usage is asked for.
    let pid = retry(|| i64::from(unsafe { libc::wait4(-1, &raw mut status, options, std::ptr::null_mut()) }))?;
    Ok((pid != 0).then_some((pid as i32, status)))
}

/// kill(2).
///
/// # Errors
/// The call's; `ESRCH` where nobody is left.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// pidfd_send_signal(2).
///
/// # Errors
/// The call's; `ESRCH` where the process is gone.
pub fn kill_fd(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let (fd, none) = (process.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: the null pointer asks the kernel to fill in what kill(2) would.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) }).map(drop)
}

/// Blocks every signal and gives a signalfd(2) for `signal` alone.
///
/// # Errors
/// The calls'.
pub fn signal_fd(signal: i32) -> Result<OwnedFd> {
    // SAFETY: `sigset_t` is plain data; each call gets a pointer to a live one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        check(libc::sigfillset(&raw mut set))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()))?;
        check(libc::sigemptyset(&raw mut set))?;
        check(libc::sigaddset(&raw mut set, signal))?;
        check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)).map(adopt)
    }
}

/// Gives every signal its default disposition and unblocks all, see signal(7): also the two that the C library keeps for
/// itself and leaves ignored in what it spawns, so the call itself is made.
///
/// # Errors
/// The calls'.
pub fn reset_signals() -> Result<()> {
    // `struct kernel_sigaction`: handler, flags, restorer, mask; all zeroes are SIG_DFL.
    let default = [0_u64; 4];
    for signal in (1..65).filter(|n| ![libc::SIGKILL, libc::SIGSTOP].contains(n)) {
        let (action, none) = (default.as_ptr(), std::ptr::null_mut::<u64>());
        // SAFETY: `action` is a whole `struct kernel_sigaction` with an eight-byte mask; the default runs no code of ours.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action, none, 8_usize) })?;
    }
    // SAFETY: `sigset_t` is plain data; each call gets a pointer to a live one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        check(libc::sigemptyset(&raw mut set))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())).map(drop)
    }
}

/// setsid(2).
///
/// # Errors
/// The call's.
pub fn new_session() -> Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Makes the terminal the controlling one of this session, see tty_ioctl(4) `TIOCSCTTY`.
///
/// # Errors
/// The call's.
pub fn take_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an int, no pointer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Unlocks the terminal of a master and opens it, see ioctl_tty(2) `TIOCGPTPEER`.
///
/// # Errors
/// The calls'.
pub fn open_terminal(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags, no pointer, and makes a new descriptor.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }).map(adopt)
}

/// setrlimit(2), soft and hard alike.
///
/// # Errors
/// The call's.
pub fn set_limit(resource: u32, value: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` lives through the call; no old value is asked for.
    check(unsafe { libc::prlimit64(0, resource, &raw const limit, std::ptr::null_mut()) }).map(drop)
}

/// getrlimit(2): the hard limit.
///
/// # Errors
/// The call's.
pub fn limit(resource: u32) -> Result<u64> {
    let mut found = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `found` is writable; no new value is given.
    check(unsafe { libc::prlimit64(0, resource, std::ptr::null(), &raw mut found) })?;
    Ok(found.rlim_max)
}

/// umask(2).
pub fn set_umask(mask: u32) {
    // SAFETY: no memory is passed and the call cannot fail.
    unsafe { libc::umask(mask) };
}

/// Nanoseconds of a clock, see clock_gettime(2).
#[must_use]
pub fn clock_ns(clock: i32) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut now) };
    assert_eq!(outcome, 0, "the kernel has the clocks that are asked for");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
