//! One system call per function, owned descriptors in and out: the only crate of the project with `unsafe` code.
//!
//! Nothing here decides anything. A function checks no policy, keeps no state and never retries, except that reads,
//! writes and waits that a signal interrupted are started again. Each names the manual page that it follows.

pub mod confine;
pub mod file;
pub mod mount;
pub mod process;
pub mod socket;

use std::ffi::CString;
use std::fmt;

/// The error number that a system call left, see errno(3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call answers.
pub type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    /// The error number of the last failed call on this thread.
    #[must_use]
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A path as the kernel takes it; a NUL byte in it is `EINVAL`.
///
/// # Errors
/// `EINVAL` where `bytes` holds a NUL byte.
pub fn c_string(bytes: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(bytes).map_err(|_| Errno(libc::EINVAL))
}

/// Turns the C convention (−1 and errno) into a `Result`.
fn check(returned: impl Into<i64>) -> Result<i64> {
    let returned = returned.into();
    if returned < 0 { Err(Errno::last()) } else { Ok(returned) }
}

/// Repeats a call that a signal interrupted, see signal(7).
fn retry(mut call: impl FnMut() -> i64) -> Result<i64> {
    loop {
        match check(call()) {
            Err(Errno(libc::EINTR)) => {}
            other => return other,
        }
    }
}

/// Adopts a descriptor that the kernel has just made for this process.
fn adopt(returned: i64) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    let raw = i32::try_from(returned).expect("the kernel's descriptors fit an int");
    // SAFETY: every caller passes what a descriptor-making call returned a moment ago, so it is open and owned by nobody.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(raw) }
}
