//! Messages with descriptors over AF_UNIX sockets, see unix(7).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Errno, Result, adopt, check, retry};

/// The most descriptors that one message carries.
pub const FDS_MAX: usize = 16;

// Room for the header and FDS_MAX descriptors, in words so that it is aligned as `cmsghdr` needs.
type Control = [u64; 2 + FDS_MAX];

/// socketpair(2): two connected stream sockets, close-on-exec.
///
/// # Errors
/// The call's.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    Ok((adopt(i64::from(ends[0])), adopt(i64::from(ends[1]))))
}

/// sendmsg(2): one message with its descriptors.
///
/// # Errors
/// The call's; `EINVAL` for more than [`FDS_MAX`] descriptors or an empty message.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    if fds.len() > FDS_MAX || bytes.is_empty() {
        return Err(Errno(libc::EINVAL));
    }
    let mut control: Control = [0; 2 + FDS_MAX];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes are a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let size = (fds.len() * size_of::<i32>()) as u32;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the first header lies in `control`, which is aligned for it and
        // has room for FDS_MAX descriptors behind it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            let data = libc::CMSG_DATA(header).cast::<i32>();
            for (at, fd) in fds.iter().enumerate() {
                data.add(at).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: `message` points to `part` and `control`, both alive through the call.
    let sent = retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) as i64 })?;
    if sent as usize == bytes.len() { Ok(()) } else { Err(Errno(libc::EMSGSIZE)) }
}

/// recvmsg(2): the bytes that came (0 when the other side is gone) and the descriptors with them, close-on-exec.
///
/// # Errors
/// The call's; `EMSGSIZE` where the message was cut, in which case its descriptors are closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut control: Control = [0; 2 + FDS_MAX];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `msghdr` is plain data for which all zeroes are a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points to `part` and `control`, both writable and alive through the call.
    let size = retry(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) as i64 })?;
    let mut fds = Vec::new();
    // SAFETY: the kernel filled `control` with whole headers; each SCM_RIGHTS header is followed by as many descriptors,
    // new in this process and owned by nobody yet, as its length says.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = header.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<i32>();
                let count = (found.cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<i32>();
                fds.extend((0..count).map(|at| OwnedFd::from_raw_fd(data.add(at).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(Errno(libc::EMSGSIZE));
    }
    Ok((size as usize, fds))
}
