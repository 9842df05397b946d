//! What the shim reports over a cell's control socket, taken apart as it comes. The shim is in the box: it is believed about
//! the box, and nothing it sends is longer than its bound.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use remand_ledger::Started;
use remand_spec::Record;
use remand_spec::record::{LEAVE, RECORD_BYTES};
use tokio::io::unix::AsyncFd;

use crate::pass;

const BUFFER_BYTES: usize = 16 << 10;

/// The daemon's end of a cell's control socket.
#[derive(Debug)]
pub struct Control {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    start: usize,
    fds: VecDeque<OwnedFd>,
}

impl Control {
    /// Adopts the socket. Must be called inside the runtime.
    ///
    /// # Errors
    /// Where it cannot be registered.
    pub fn new(socket: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: crate::ready::register(socket)?, buffer: Vec::new(), start: 0, fds: VecDeque::new() })
    }

    /// The next record, or nothing at the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// The socket's; `InvalidData` for a record that is none.
    pub async fn record(&mut self) -> std::io::Result<Option<Record>> {
        while self.buffer.len() - self.start < RECORD_BYTES {
            if self.fill().await? == 0 {
                return if self.buffer.len() == self.start { Ok(None) } else { Err(broken()) };
            }
        }
        let bytes = self.buffer[self.start..].first_chunk::<RECORD_BYTES>().ok_or_else(broken)?;
        let record = Record::decode(bytes).ok_or_else(broken)?;
        self.start += RECORD_BYTES;
        Ok(Some(record))
    }

    /// The descriptor that came with the record before.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Hands the next `size` bytes to `take`, in pieces.
    ///
    /// # Errors
    /// The socket's and `take`'s; `InvalidData` where the stream ends first.
    pub async fn bytes(
        &mut self,
        mut size: u64,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        while size > 0 {
            if self.buffer.len() == self.start && self.fill().await? == 0 {
                return Err(broken());
            }
            let there = &self.buffer[self.start..];
            let piece = &there[..there.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
            take(piece)?;
            size -= piece.len() as u64;
            self.start += piece.len();
        }
        Ok(())
    }

    /// Tells the keeper to go on: what it was made for is durably recorded.
    ///
    /// # Errors
    /// The socket's: the keeper is gone.
    pub fn give_leave(&self, _started: &Started) -> std::io::Result<()> {
        Ok(pass::send(&self.socket, &[LEAVE], &[])?)
    }

    /// Tells the keeper to kill everything in the box.
    ///
    /// # Errors
    /// The socket's: the keeper is gone.
    pub fn order_kill(&self) -> std::io::Result<()> {
        Ok(pass::send(&self.socket, b"k", &[])?)
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        loop {
            let mut guard = self.socket.readable().await?;
            let mut piece = [0; BUFFER_BYTES];
            match guard.try_io(|socket| Ok(pass::receive(socket, &mut piece, &mut self.fds)?)) {
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(0),
                Ok(size) => {
                    let size = size?;
                    self.buffer.extend_from_slice(&piece[..size]);
                    return Ok(size);
                }
                Err(_would_block) => {}
            }
        }
    }
}

fn broken() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "the shim's report is cut or garbled")
}
