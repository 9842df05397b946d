//! The program's streams on ours, signals and window sizes back to it.
//!
//! A write to a slow reader never keeps a signal from being heard: it waits for both.

use std::io;
use std::os::fd::BorrowedFd;

use remand_client::{Control, FileSink, RunSink};
use remand_model::ExecutionId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdout};

use crate::failure::say_plain;
use crate::out::OutFolder;
use crate::signals::Signals;
use crate::terminal::{self, Raw};

/// A pipe that is ready takes this many bytes without blocking (`PIPE_BUF`, pipe(7)).
const WRITE_BYTES: usize = 4096;

/// After a cancel, output that nobody takes for so long is dropped.
const LAST_WORDS_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Where the program's streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    AsTheyAre,
    AllToStderr,
}

/// The standard streams, the terminal and the output folder of one execution.
#[derive(Debug)]
pub(crate) struct Console {
    signals: Signals,
    streams: Streams,
    out: Option<OutFolder>,
    wants_raw: bool,
    raw: Option<Raw>,
    says_id: bool,
}

impl Console {
    pub(crate) fn new(signals: Signals, streams: Streams, out: Option<OutFolder>, tty: bool, says_id: bool) -> Self {
        Self { signals, streams, out, wants_raw: tty, raw: None, says_id }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.signals.is_cancelled()
    }

    fn write(&self, fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if !self.wait_for(fd)? {
                continue;
            }
            match rustix::io::write(fd, &bytes[..bytes.len().min(WRITE_BYTES)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.signals.has_window() { self.signals.wake() } else { Ok(()) }
    }

    /// Whether `fd` takes bytes. Fails where somebody wants to end it all first.
    fn wait_for(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let mut polled =
            [PollFd::from_borrowed_fd(fd, PollFlags::OUT), PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        let wait = self.signals.is_cancelled().then_some(&LAST_WORDS_WAIT);
        match poll(&mut polled, wait) {
            Ok(0) => return Err(io::ErrorKind::Interrupted.into()),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if !polled[0].revents().is_empty() {
            return Ok(true);
        }
        if self.signals.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Only the window changed: remembered by its flag, told when the loop comes round.
        self.signals.drain()?;
        Ok(false)
    }
}

impl RunSink for Console {
    fn accepted(&mut self, execution_id: &ExecutionId) -> io::Result<()> {
        if self.says_id {
            say_plain(&format!("execution {execution_id}"));
        }
        if self.wants_raw {
            self.raw = Raw::enter()?;
            self.signals.want_window()?;
        }
        Ok(())
    }

    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.streams {
            Streams::AsTheyAre => self.write(stdout(), bytes),
            Streams::AllToStderr => self.write(stderr(), bytes),
        }
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(stderr(), bytes)
    }

    fn files(&mut self) -> Option<&mut dyn FileSink> {
        self.out.as_mut().map(|out| out as &mut dyn FileSink)
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        Some(self.signals.fd())
    }

    fn controls(&mut self) -> Vec<Control> {
        let mut controls = Vec::new();
        if self.signals.drain().is_err() || self.signals.is_cancelled() {
            controls.push(Control::Cancel);
        }
        if self.signals.take_window() && self.wants_raw {
            controls.extend(terminal::size().map(|(rows, columns)| Control::Window { rows, columns }));
        }
        controls
    }
}
