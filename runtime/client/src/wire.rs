//! Frames over one socket without a thread: what is to be sent waits in one buffer, what has come in another.
//!
//! Reading never waits for writing and writing never for reading, so that neither side can lock the other up: the daemon
//! may refuse an upload in its middle, and a program that reads no input can still print. Both buffers are bounded.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use remand_model::envelope::{Command, Frame, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, STREAM_BYTES_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::ClientError;

/// What has come and was not taken is at most one frame and one read more.
const INBOX_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;
/// Bytes of one read.
const READ_BYTES: usize = 128 << 10;
/// A frame whose first byte has come is whole after this.
const FRAME_WAIT: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: UnixStream,
    inbox: Vec<u8>,
    taken: usize,
    outbox: Vec<u8>,
    sent: usize,
    scratch: Vec<u8>,
    partial_since: Option<Instant>,
    is_ended: bool,
}

/// Until when to wait, and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) start: Instant,
    pub(crate) wait: Option<Duration>,
    pub(crate) doing: &'static str,
}

impl Deadline {
    pub(crate) fn new(doing: &'static str, wait: Option<Duration>) -> Self {
        Self { start: Instant::now(), wait, doing }
    }

    fn left(&self) -> Result<Option<Duration>, ClientError> {
        let Some(wait) = self.wait else { return Ok(None) };
        let left = wait.checked_sub(self.start.elapsed()).filter(|left| !left.is_zero());
        left.map(Some).ok_or(ClientError::Deadline { doing: self.doing, waited_ms: wait.as_millis() as u64 })
    }
}

impl Wire {
    pub(crate) fn new(socket: UnixStream) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Io { doing: "opening it", source };
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            socket,
            inbox: Vec::new(),
            taken: 0,
            outbox: Vec::new(),
            sent: 0,
            scratch: vec![0; READ_BYTES],
            partial_since: None,
            is_ended: false,
        })
    }

    /// Whether nothing waits to be sent.
    pub(crate) const fn is_idle(&self) -> bool {
        self.sent == self.outbox.len()
    }

    /// Puts a frame behind what waits to be sent.
    pub(crate) fn queue(&mut self, header: &Header, payload: &[u8]) {
        if self.is_idle() {
            self.outbox.clear();
            self.sent = 0;
        }
        self.outbox.extend_from_slice(&header.encode(payload.len()));
        self.outbox.extend_from_slice(payload);
    }

    /// The next whole frame, where one has come.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, ClientError> {
        let waiting = &self.inbox[self.taken..];
        let Some(header) = waiting.first_chunk::<HEADER_BYTES>() else { return self.cut() };
        let (header, payload_bytes) = Header::decode(header).map_err(|bad| ClientError::Protocol(bad.to_string()))?;
        check_kind(header.command, payload_bytes)?;
        let Some(payload) = waiting.get(HEADER_BYTES..HEADER_BYTES + payload_bytes) else { return self.cut() };
        let frame = Frame { header, payload: payload.to_vec() };
        self.taken += HEADER_BYTES + payload_bytes;
        self.partial_since = None;
        Ok(Some(frame))
    }

    /// No whole frame: moves what there is to the front, and says so where no more will come.
    fn cut(&mut self) -> Result<Option<Frame>, ClientError> {
        self.inbox.drain(..self.taken);
        self.taken = 0;
        match (self.is_ended, self.inbox.is_empty()) {
            (true, true) => return Err(ClientError::Closed),
            (true, false) => return Err(ClientError::Truncated),
            (false, true) => self.partial_since = None,
            (false, false) => self.partial_since = self.partial_since.or_else(|| Some(Instant::now())),
        }
        Ok(None)
    }

    /// Waits once for the socket or one of `others` to become ready, sends and reads what it can, and says which of
    /// `others` can be read.
    pub(crate) fn step(&mut self, others: &[BorrowedFd<'_>], deadline: &Deadline) -> Result<Vec<bool>, ClientError> {
        let wait = self.wait(deadline)?;
        let (socket, others) = self.ready(others, wait)?;
        if socket.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP) && !self.is_idle() {
            self.write()?;
        }
        if socket.intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP) && !self.is_ended {
            self.read()?;
        }
        Ok(others)
    }

    fn wait(&self, deadline: &Deadline) -> Result<Option<Duration>, ClientError> {
        let left = deadline.left()?;
        let Some(start) = self.partial_since else { return Ok(left) };
        let frame = Deadline { start, wait: Some(FRAME_WAIT), doing: "a frame was coming" }.left()?;
        Ok([left, frame].into_iter().flatten().min())
    }

    fn ready(&self, others: &[BorrowedFd<'_>], wait: Option<Duration>) -> Result<(PollFlags, Vec<bool>), ClientError> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.is_ended && self.inbox.len() - self.taken < INBOX_BYTES_MAX);
        flags.set(PollFlags::OUT, !self.is_idle());
        let mut polled = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
        polled.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let wait = wait.map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) });
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((PollFlags::empty(), vec![false; others.len()])),
            Err(source) => return Err(ClientError::Io { doing: "waiting", source: source.into() }),
        }
        let found = polled[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok((polled[0].revents(), found))
    }

    fn write(&mut self) -> Result<(), ClientError> {
        match (&self.socket).write(&self.outbox[self.sent..]) {
            Ok(count) => self.sent += count,
            Err(error) if is_transient(&error) => {}
            // The daemon may have answered before it hung up: what it said is still to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.sent = self.outbox.len(),
            Err(source) => return Err(ClientError::Io { doing: "sending", source }),
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), ClientError> {
        match (&self.socket).read(&mut self.scratch) {
            Ok(0) => self.is_ended = true,
            Ok(count) => self.inbox.extend_from_slice(&self.scratch[..count]),
            Err(error) if is_transient(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.is_ended = true,
            Err(source) => return Err(ClientError::Io { doing: "reading", source }),
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Refuses, before its payload is waited for, a frame that no daemon may send.
fn check_kind(command: Command, payload_bytes: usize) -> Result<(), ClientError> {
    let is_stream = matches!(command, Command::Stdout | Command::Stderr | Command::Data);
    if is_stream && payload_bytes > STREAM_BYTES_MAX {
        let name = command.name();
        return Err(ClientError::Protocol(format!("a {name} frame of {payload_bytes} bytes")));
    }
    if !is_stream && !matches!(command, Command::Event | Command::Answer | Command::Refused) {
        return Err(ClientError::Protocol(format!("a {} frame from the daemon", command.name())));
    }
    Ok(())
}
