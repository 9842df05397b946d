//! Reports to the daemon: records are gathered and sent together, so that a cell's making costs one write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use remand_spec::{Fact, Record, Stage};
use remand_sys::{Errno, Result, file, process, socket};

const CONTROL: i32 = 4;

/// The way to the daemon and what is not sent yet.
pub struct Report {
    control: OwnedFd,
    pending: Vec<u8>,
    /// What the clock of this side is behind the host's, in nanoseconds.
    behind_ns: u64,
}

/// A stage that failed: the cell must not run. Holds the way to say so.
pub struct Fault {
    report: Report,
    stage: Stage,
    error: Errno,
}

impl Report {
    /// Takes the control socket over.
    pub fn start() -> Result<Self> {
        let mut report = Self { control: file::inherited(CONTROL)?, pending: Vec::with_capacity(1024), behind_ns: 0 };
        report.done(Stage::Shim);
        Ok(report)
    }

    /// The control socket.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// From now on this side's monotonic clock is behind the host's by so much.
    pub fn set_behind(&mut self, ns: u64) {
        self.behind_ns = ns;
    }

    /// Notes that a stage is done, now.
    pub fn done(&mut self, stage: Stage) {
        self.note(Record::Done(stage, process::clock_ns(libc::CLOCK_MONOTONIC) + self.behind_ns));
    }

    /// Notes what was read back.
    pub fn fact(&mut self, fact: Fact, value: u64) {
        self.note(Record::Fact(fact, value));
    }

    /// Notes a record.
    pub fn note(&mut self, record: Record) {
        self.pending.extend(record.encode());
    }

    /// Notes bytes that belong to the record before.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Leaves what is noted to the other copy of this report, which a clone has just made.
    pub fn leave_to_child(&mut self) {
        self.pending.clear();
    }

    /// Sends what is noted.
    pub fn flush(&mut self) -> Result<()> {
        file::write_all(self.control.as_fd(), &self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Sends what is noted, then a record with its descriptor.
    pub fn hand_over(&mut self, record: Record, fd: BorrowedFd<'_>) -> Result<()> {
        self.flush()?;
        socket::send(self.control.as_fd(), &record.encode(), &[fd])
    }

    /// Turns an outcome of a stage into the next step or a fault.
    pub fn stage<T>(mut self, stage: Stage, outcome: Result<T>) -> std::result::Result<(Self, T), Fault> {
        match outcome {
            Ok(value) => {
                self.done(stage);
                Ok((self, value))
            }
            Err(error) => Err(Fault { report: self, stage, error }),
        }
    }
}

impl Fault {
    /// The fault of a stage that was reported through somebody else.
    pub fn new(report: Report, stage: Stage, error: Errno) -> Self {
        Self { report, stage, error }
    }

    /// Tells the daemon; the answer is the process's exit status.
    pub fn send(mut self) -> i32 {
        self.report.note(Record::Fault(self.stage, self.error.0 as u32));
        if self.report.flush().is_ok() { 1 } else { 2 }
    }
}
