//! What a job prints: counted, hashed, kept by content, and passed on to whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remand_ledger::blob::{BlobError, BlobStore, BlobWriter, Stored};
use remand_model::outcome::Stream;
use remand_model::{Digest, TenantId};
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output on its way to a watcher; dropping it makes room for another one.
#[derive(Debug)]
pub struct Piece {
    /// Of which stream.
    pub which: Which,
    /// The bytes.
    pub bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

/// The way to whoever watches an execution. While the program runs it waits for a slow watcher, as it would for a slow
/// terminal; once the box is empty nothing waits any more, and what is left (no more than the pipes held) goes at once.
#[derive(Debug, Clone)]
pub struct Watcher {
    pieces: mpsc::UnboundedSender<Piece>,
    room: Arc<Semaphore>,
}

impl Watcher {
    /// A watcher's way in and its way out, with room for so many pieces.
    #[must_use]
    pub fn pair(pieces: usize) -> (Self, mpsc::UnboundedReceiver<Piece>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { pieces: sender, room: Arc::new(Semaphore::new(pieces)) }, receiver)
    }

    /// From now on nothing waits for the watcher.
    pub fn close(&self) {
        self.room.close();
    }

    /// Whether the watcher is still there.
    async fn send(&self, which: Which, bytes: Vec<u8>) -> bool {
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_owned() => room.ok(),
            () = self.pieces.closed() => None,
        };
        self.pieces.send(Piece { which, bytes, _room: room }).is_ok()
    }
}

/// The output limit of one execution: both streams draw on it.
#[derive(Debug, Clone)]
pub struct Allowance {
    left: Arc<AtomicU64>,
    /// Rung once when more comes than is left.
    pub over: Arc<Notify>,
}

impl Allowance {
    /// `bytes` for both streams together.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(bytes)), over: Arc::new(Notify::new()) }
    }

    /// How many of `wanted` bytes are allowed.
    fn draw(&self, wanted: usize) -> usize {
        let wanted = wanted as u64;
        let mut granted = 0;
        let drawn = self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            granted = wanted.min(left);
            Some(left - granted)
        });
        assert!(drawn.is_ok(), "the update always gives a value");
        usize::try_from(granted).unwrap_or(usize::MAX)
    }
}

/// Bytes on their way into a blob; nothing is made while there are none.
pub struct Intake {
    blobs: BlobStore,
    tenant: TenantId,
    writer: Option<BlobWriter>,
    hash: sha2::Sha256,
    bytes: u64,
    bytes_max: u64,
}

/// What an intake got: digest and length, and the blob, where there were any bytes and not too many to be kept.
pub struct Taken {
    /// Digest of all bytes.
    pub sha256: Digest,
    /// How many came.
    pub bytes: u64,
    /// The blob.
    pub stored: Option<Stored>,
}

impl Intake {
    /// Takes bytes for a tenant; more than `bytes_max` are hashed but not kept.
    #[must_use]
    pub fn new(blobs: &BlobStore, tenant: &TenantId, bytes_max: u64) -> Self {
        let (blobs, tenant, hash) = (blobs.clone(), tenant.clone(), sha2::Sha256::new());
        Self { blobs, tenant, writer: None, hash, bytes: 0, bytes_max }
    }

    /// Appends.
    ///
    /// # Errors
    /// The store's.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            self.writer = None;
            return Ok(());
        }
        if self.writer.is_none() && !bytes.is_empty() {
            self.writer = Some(self.blobs.writer(&self.tenant, self.bytes_max)?);
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.take(bytes))
    }

    /// Makes the blob durable. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The store's.
    pub fn finish(self) -> Result<Taken, BlobError> {
        let sha256 = Digest::from_bytes(self.hash.finalize().into());
        let stored = self.writer.map(|writer| crate::threads::blocking(|| writer.finish())).transpose()?;
        Ok(Taken { sha256, bytes: self.bytes, stored })
    }
}

/// Reads a stream to its end. Beyond the allowance nothing is kept, but reading goes on, so that the writer is not stuck
/// until it is killed. A watcher that went away is no reason to stop.
///
/// # Errors
/// The store's: what cannot be kept is not an output.
pub async fn capture(
    mut source: impl AsyncRead + Unpin,
    which: Which,
    allowance: Allowance,
    mut intake: Intake,
    watcher: Option<Watcher>,
) -> std::io::Result<(Stream, Option<Stored>)> {
    let (mut buffer, mut truncated) = (Vec::with_capacity(64 << 10), false);
    loop {
        buffer.clear();
        let size = match source.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(size) => size,
            // A terminal whose other side is closed says so with EIO.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => break,
            Err(error) => return Err(error),
        };
        let granted = allowance.draw(size);
        if granted < size {
            truncated = true;
            allowance.over.notify_one();
        }
        if granted == 0 {
            continue;
        }
        intake.take(&buffer[..granted]).map_err(std::io::Error::other)?;
        if let Some(watcher) = &watcher
            && !watcher.send(which, buffer[..granted].to_vec()).await
        {
            tracing::debug!("the watcher of an execution went away");
        }
    }
    let taken = intake.finish().map_err(std::io::Error::other)?;
    Ok((Stream { sha256: taken.sha256, bytes: taken.bytes, truncated }, taken.stored))
}
