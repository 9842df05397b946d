//! Descriptors that tokio waits on.

use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor for reading and writing. Must be called inside the runtime.
///
/// # Errors
/// epoll_ctl(2)'s.
pub fn register<T: AsFd + AsRawFd>(fd: T) -> std::io::Result<AsyncFd<T>> {
    register_for(fd, Interest::READABLE | Interest::WRITABLE)
}

/// Registers a descriptor for `interest`. Must be called inside the runtime.
///
/// # Errors
/// epoll_ctl(2)'s.
#[expect(deprecated, reason = "deprecated for types whose descriptor can change; these own one for life (AsFd)")]
pub fn register_for<T: AsFd + AsRawFd>(fd: T, interest: Interest) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}
