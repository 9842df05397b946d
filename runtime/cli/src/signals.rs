//! Signals as something that a poll can wait for: Ctrl-C and its like, and a window of another size.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::{flag, low_level::pipe};

/// The exit code of a second Ctrl-C, as a shell would say it.
const INTERRUPTED: i32 = 128 + SIGINT;

/// Catches signals from its making to the end of the process.
#[derive(Debug)]
pub(crate) struct Signals {
    reader: UnixStream,
    writer: UnixStream,
    cancel: Arc<AtomicBool>,
    window: Arc<AtomicBool>,
}

impl Signals {
    /// With `exits_on_second`, a second one ends the process at once, whatever it is doing; not while the caller's
    /// terminal would be left in raw mode.
    pub(crate) fn catch(exits_on_second: bool) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let signals = Self { reader, writer, cancel: Arc::default(), window: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if exits_on_second {
                flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&signals.cancel))?;
            }
            flag::register(signal, Arc::clone(&signals.cancel))?;
            pipe::register(signal, signals.writer.try_clone()?)?;
        }
        flag::register(SIGWINCH, Arc::clone(&signals.window))?;
        pipe::register(SIGWINCH, signals.writer.try_clone()?)?;
        Ok(signals)
    }

    /// Readable when a signal has come since the last [`Signals::drain`].
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Makes [`Signals::fd`] readable, as a signal would.
    pub(crate) fn wake(&self) -> io::Result<()> {
        match (&self.writer).write(b"x") {
            // A full pipe wakes just as well.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn drain(&self) -> io::Result<()> {
        let mut bytes = [0; 64];
        loop {
            match (&self.reader).read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether somebody wants it to end; stays so.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }

    pub(crate) fn has_window(&self) -> bool {
        self.window.load(Ordering::SeqCst)
    }

    /// Whether the window changed since the last call.
    pub(crate) fn take_window(&self) -> bool {
        self.window.swap(false, Ordering::SeqCst)
    }

    /// Pretends that the window changed, so that its size is told once at the start.
    pub(crate) fn want_window(&self) -> io::Result<()> {
        self.window.store(true, Ordering::SeqCst);
        self.wake()
    }
}
