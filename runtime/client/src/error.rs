//! What can go wrong between a client and the daemon: whose move it is, and what to do next.

use std::io;
use std::path::PathBuf;

use remand_model::canonical::CanonError;
use remand_model::refusal::Refusal;

/// Why a call has no answer.
///
/// After every error but [`ClientError::Refused`] and [`ClientError::Unsendable`] the connection is of no more use: what
/// the daemon did with the request is not known. Connect again and ask by the request's or the execution's id.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("nothing listens on {}; start remandd, or name its socket with --socket or REMAND_SOCKET", path.display())]
    NotListening {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error("{} may not be opened by this user; run the command as root, or ask an administrator for access", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be used for another reason.
    #[error("cannot connect to {}; see that it is the daemon's socket", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The daemon ended the connection between two frames.
    #[error("the daemon closed the connection; see its log, then ask again by the same request id")]
    Closed,
    /// The daemon ended the connection in the middle of a frame.
    #[error("the daemon's last frame was cut short; see its log, then ask again by the same request id")]
    Truncated,
    /// An earlier error left the connection in an unknown state.
    #[error("this connection failed before; connect again")]
    Broken,
    /// The daemon did not answer in time.
    #[error("no answer within {waited_ms} ms while {doing}; see whether the daemon is busy, then connect again")]
    Deadline {
        /// What was waited for.
        doing: &'static str,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
    /// The connection failed.
    #[error("the connection to the daemon failed while {doing}; connect again")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The daemon sent something that the protocol does not allow.
    #[error("the daemon broke the protocol: {0}; see that daemon and client are of the same version, and report this")]
    Protocol(String),
    /// The daemon speaks another major version.
    #[error(
        "the daemon speaks protocol {found:?}, this client {}; install the same major version on both sides",
        remand_model::PROTOCOL_VERSION
    )]
    Version {
        /// The version that it answered with.
        found: String,
    },
    /// The request has no form on the wire; nothing was sent.
    #[error("the request cannot be sent: {reason}; correct it")]
    Unsendable {
        /// What is wrong with it.
        reason: String,
    },
    /// A local file or stream that the call reads or writes failed; what was asked of the daemon was called off.
    #[error("cannot {doing}; see to that file and ask again")]
    Local {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The daemon refused the request.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

impl ClientError {
    /// Whether the connection can be used for the next request.
    #[must_use]
    pub const fn leaves_connection(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unsendable { .. })
    }

    pub(crate) fn answer(source: &CanonError) -> Self {
        let mut reason = source.to_string();
        let mut cause = std::error::Error::source(source);
        while let Some(next) = cause {
            reason = format!("{reason}: {next}");
            cause = next.source();
        }
        Self::Protocol(format!("an answer of another shape ({reason})"))
    }

    pub(crate) fn local(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Local { doing, source }
    }
}
