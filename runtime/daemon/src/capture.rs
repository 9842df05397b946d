//! What a job prints: counted, hashed, kept by content, and passed on to whoever watches.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remand_model::Digest;
use remand_model::outcome::Stream;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, mpsc};

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output on its way to a watcher.
pub type Piece = (Which, Vec<u8>);

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

/// A file that is named by its content once it is whole.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    hash: sha2::Sha256,
    bytes: u64,
}

impl Spool {
    /// A new file at `path`, which must not exist.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(path: PathBuf) -> std::io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path, hash: sha2::Sha256::new(), bytes: 0 })
    }

    /// Appends.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Moves the file to its place below `blobs`, by its digest.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep(self, blobs: &Path) -> std::io::Result<(Digest, u64)> {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        std::fs::rename(&self.path, blobs.join(digest.to_hex()))?;
        Ok((digest, self.bytes))
    }
}

/// Reads a stream to its end. Beyond the allowance nothing is kept, but reading goes on, so that the writer is not stuck
/// until it is killed. A watcher that went away is no reason to stop.
///
/// # Errors
/// The spool's: what cannot be kept is not an output.
pub async fn capture(
    mut source: impl AsyncRead + Unpin,
    which: Which,
    allowance: Allowance,
    mut spool: Spool,
    watcher: Option<mpsc::Sender<Piece>>,
    blobs: PathBuf,
) -> std::io::Result<Stream> {
    let (mut buffer, mut truncated) = (vec![0; 64 << 10], false);
    loop {
        let size = match source.read(&mut buffer).await {
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
        spool.write(&buffer[..granted])?;
        if let Some(watcher) = &watcher
            && watcher.send((which, buffer[..granted].to_vec())).await.is_err()
        {
            tracing::debug!("the watcher of an execution went away");
        }
    }
    let (sha256, bytes) = spool.keep(&blobs)?;
    Ok(Stream { sha256, bytes, truncated })
}
