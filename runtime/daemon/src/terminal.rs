//! A job's terminal, from the master's side.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Notify, mpsc};

use crate::capture::{Intake, Taken};
use crate::execution::Input;

/// What a terminal takes as the end of input (Ctrl-D).
const END_OF_INPUT: u8 = 4;

/// The master of a terminal.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    /// Adopts the master. Must be called inside the runtime.
    ///
    /// # Errors
    /// Where it cannot be registered.
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self(Arc::new(crate::ready::register(master)?)))
    }

    /// Writes what the client sends until it ends or the terminal is gone; what was sent is hashed and kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn feed(
        self,
        mut input: mpsc::Receiver<Input>,
        mut intake: Intake,
        closing: Arc<Notify>,
    ) -> io::Result<Taken> {
        loop {
            let piece = tokio::select! {
                piece = input.recv() => piece,
                () = closing.notified() => None,
            };
            let written = match piece {
                Some(Input::Bytes(bytes)) => {
                    intake.take(&bytes).map_err(io::Error::other)?;
                    self.write(&bytes).await
                }
                Some(Input::End) => self.write(&[END_OF_INPUT]).await,
                Some(Input::Window(rows, columns)) => self.resize(rows, columns),
                None => break,
            };
            if let Err(error) = written {
                tracing::debug!(%error, "a terminal takes no more input");
                break;
            }
        }
        intake.finish().map_err(io::Error::other)
    }

    fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut guard = self.0.writable().await?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(size) => bytes = &bytes[size?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), buffer.initialize_unfilled())?)) {
                Ok(size) => {
                    buffer.advance(size?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}
