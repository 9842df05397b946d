//! Content-addressed bytes, up and down.

use std::io::{self, Write};

use remand_model::Digest;
use remand_model::envelope::{Command, Header, STREAM_BYTES_MAX};
use remand_model::role::Arming;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::session::{ANSWER_WAIT, Next};
use crate::wire::Deadline;
use crate::{Client, ClientError};

/// A blob that the daemon keeps.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// Digest of its bytes.
    pub sha256: Digest,
    /// How many there are.
    pub bytes: u64,
}

/// A blob on its way to the daemon: write its bytes, then [`Upload::finish`].
///
/// Dropping it unfinished ends the connection's use, and the daemon drops the bytes.
#[derive(Debug)]
pub struct Upload<'a> {
    client: &'a mut Client,
    request: Header,
    chunk: Vec<u8>,
    hash: Sha256,
    failed: Option<ClientError>,
    is_finished: bool,
}

impl Client {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`ClientError::Broken`], or a failed connection. A refusal comes with the first write or at the end.
    pub fn upload(&mut self) -> Result<Upload<'_>, ClientError> {
        let request = self.begin(Command::Blob, Arming::Armed, &json!({"what": "put"}))?;
        let chunk = Vec::with_capacity(STREAM_BYTES_MAX);
        Ok(Upload { client: self, request, chunk, hash: Sha256::new(), failed: None, is_finished: false })
    }

    /// Writes a blob's bytes to `out` and returns how many there were.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Local`] where `out` fails, [`ClientError::Protocol`] where the bytes have
    /// another digest, or a failed connection. After an error, what was written is not to be used.
    pub fn download(&mut self, sha256: &Digest, out: &mut dyn Write) -> Result<u64, ClientError> {
        let request = self.begin(Command::Blob, Arming::Safe, &json!({"sha256": sha256, "what": "get"}))?;
        let (mut bytes, mut hash) = (0, Sha256::new());
        loop {
            let deadline = Deadline::new("a blob was coming", Some(ANSWER_WAIT));
            let Next::Frame(frame) = self.next(&request, &[], &deadline)? else { continue };
            match frame.header.command {
                Command::Data => {
                    bytes += frame.payload.len() as u64;
                    hash.update(&frame.payload);
                    let written = out.write_all(&frame.payload).map_err(ClientError::local("write the blob"));
                    self.note(written)?;
                }
                Command::Answer if Digest::from_bytes(hash.finalize().into()) == *sha256 => return Ok(bytes),
                Command::Answer => {
                    return self.note(Err(ClientError::Protocol("a blob with another digest".into())));
                }
                other => {
                    let wrong = ClientError::Protocol(format!("a {} frame inside of a blob", other.name()));
                    return self.note(Err(wrong));
                }
            }
        }
    }
}

impl Upload<'_> {
    /// Ends the upload and waits until the daemon keeps it.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Protocol`] where the daemon kept other bytes, or a failed connection.
    pub fn finish(mut self) -> Result<Stored, ClientError> {
        self.is_finished = true;
        let sent = self.send_chunk().and_then(|()| self.queue(&[]));
        if let Err(error) = sent.and(self.failed.take().map_or(Ok(()), Err)) {
            self.client.give_up();
            return Err(error);
        }
        let answer = self.client.answer(&self.request, Some(ANSWER_WAIT))?;
        let stored: Stored = self.client.decode(&answer)?;
        let hash = std::mem::take(&mut self.hash);
        if stored.sha256 != Digest::from_bytes(hash.finalize().into()) {
            return self.client.note(Err(ClientError::Protocol("the daemon keeps other bytes than were sent".into())));
        }
        Ok(stored)
    }

    /// Why a write failed, where it was the daemon or the connection; [`Upload::finish`] would return the same.
    #[must_use]
    pub fn into_error(mut self) -> Option<ClientError> {
        self.failed.take()
    }

    fn send_chunk(&mut self) -> Result<(), ClientError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(STREAM_BYTES_MAX));
        self.hash.update(&chunk);
        self.queue(&chunk)
    }

    /// Sends one frame, listening for a refusal meanwhile.
    fn queue(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.failed.is_some() {
            return Ok(());
        }
        self.client.wire.queue(&Header { command: Command::Data, ..self.request.clone() }, bytes);
        let deadline = Deadline::new("a blob was going", Some(ANSWER_WAIT));
        while !self.client.wire.is_idle() {
            if let Next::Frame(frame) = self.client.next(&self.request, &[], &deadline)? {
                let name = frame.header.command.name();
                return self.client.note(Err(ClientError::Protocol(format!("a {name} frame inside of an upload"))));
            }
        }
        Ok(())
    }
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(STREAM_BYTES_MAX - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == STREAM_BYTES_MAX
            && let Err(error) = self.send_chunk()
        {
            let text = error.to_string();
            self.failed = Some(error);
            return Err(io::Error::other(text));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.client.give_up();
        }
    }
}
