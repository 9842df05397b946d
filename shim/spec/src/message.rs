//! Between daemon and spawner: one request and one answer at a time, each one message of a SEQPACKET socket.
//!
//! With `Spawn` come five descriptors: the sealed spec, the control socket, the payload's stdin, stdout and stderr
//! With a successful answer comes the process descriptor of the cell's pid 1.

use crate::{DecodeError, Reader, Stage, Writer};

/// How many descriptors come with [`Request::Spawn`].
pub const SPAWN_FDS: usize = 5;

/// What the daemon asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Make a cell.
    Spawn,
    /// Start another spawner on the socket that comes with the request.
    Heir,
}

/// What the spawner answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done; when the namespaces were ready, on the monotonic clock in nanoseconds, and whether the template was at hand.
    Done {
        /// The moment, in nanoseconds.
        cloned_ns: u64,
        /// Whether the root's template had to be assembled for this request.
        template_made: bool,
    },
    /// Not done: the stage, the error number (0 where the spec itself was refused) and a reason for people.
    Refused {
        /// Where it failed.
        stage: Stage,
        /// `errno`, or 0.
        errno: u32,
        /// A sentence.
        reason: String,
    },
}

impl Request {
    /// The request as bytes.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        vec![match self {
            Self::Spawn => 1,
            Self::Heir => 2,
        }]
    }

    /// The request that the bytes allege.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes {
            [1] => Ok(Self::Spawn),
            [2] => Ok(Self::Heir),
            [] => Err(DecodeError::Short),
            [_] => Err(DecodeError::Unknown),
            _ => Err(DecodeError::Trailing),
        }
    }
}

impl Answer {
    /// The answer as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Done { cloned_ns, template_made } => {
                w.u8(1);
                w.u64(*cloned_ns);
                w.u8((*template_made).into());
            }
            Self::Refused { stage, errno, reason } => {
                w.u8(2);
                w.u32(*stage as u32);
                w.u32(*errno);
                w.bytes(reason.as_bytes());
            }
        }
        w.finish()
    }

    /// The answer that the bytes allege.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes)?;
        let answer = match r.u8()? {
            1 => Self::Done { cloned_ns: r.u64()?, template_made: r.flag()? },
            2 => Self::Refused {
                stage: Stage::from_number(r.u32()?).ok_or(DecodeError::Unknown)?,
                errno: r.u32()?,
                reason: String::from_utf8_lossy(r.bytes()?).into_owned(),
            },
            _ => return Err(DecodeError::Unknown),
        };
        r.finish()?;
        Ok(answer)
    }
}
