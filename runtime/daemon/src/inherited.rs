//! What a daemon takes over from whoever starts it: its three streams, and the sockets that systemd hands over. No more.

use std::io::Write;
use std::os::fd::RawFd;

/// Descriptors of systemd's begin here, see sd_listen_fds(3).
const LISTEN_FDS_START: RawFd = 3;

/// Closes every descriptor that nobody meant for the daemon: it may live much longer than the command that started it, and
/// hold a pipe, a lock or a deleted file of somebody's all the while. Call it before anything is opened.
///
/// # Errors
/// `/proc/self/fd` cannot be read, or a descriptor cannot be closed.
pub fn close_rest() -> std::io::Result<()> {
    let handed_over = LISTEN_FDS_START..LISTEN_FDS_START.saturating_add(sockets());
    let listed: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && !handed_over.contains(fd))
        .collect();
    for fd in listed {
        match nix::unistd::close(fd) {
            // The listing's own, which ended with it.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// How many sockets systemd has handed over to this process.
fn sockets() -> RawFd {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let is_ours = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| is_ours).and_then(|count| count.try_into().ok()).unwrap_or(0)
}

/// A log that ends at a bound: the messages of a daemon that a command started are in memory, and nobody reads them once it
/// serves.
#[derive(Debug)]
pub struct Bounded<W> {
    inner: W,
    left: u64,
    is_full: bool,
}

impl<W: Write> Bounded<W> {
    /// Lets `bytes_max` bytes through, whole messages only, then one line that says so.
    pub const fn new(inner: W, bytes_max: u64) -> Self {
        Self { inner, left: bytes_max, is_full: false }
    }
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, message: &[u8]) -> std::io::Result<usize> {
        match self.left.checked_sub(message.len() as u64) {
            _ if self.is_full => {}
            Some(left) => {
                self.left = left;
                self.inner.write_all(message)?;
            }
            None => {
                self.is_full = true;
                self.inner.write_all(b"remandd: this log is full; start remandd as a service to keep all of it\n")?;
            }
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_at_its_bound_with_a_line_that_says_so() {
        let mut log = Bounded::new(Vec::new(), 10);
        for message in ["four", "four", "four", "x"] {
            assert_eq!(log.write(message.as_bytes()).expect("memory"), message.len());
        }
        let text = String::from_utf8(log.inner).expect("text");
        assert!(text.starts_with("fourfourremandd: this log is full") && text.ends_with('\n'), "{text}");
        assert_eq!(text.matches("is full").count(), 1);
    }
}
