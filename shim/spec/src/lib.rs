//! What the daemon asks of the spawner and the shim, and what they answer: the words of the wall, nothing else.
//!
//! No dependency, no I/O. Every decoder is total and bounded: it checks a length before it allocates. A decoded value is an
//! *allegation*; [`vet::vet`] holds it against the estate, which root wrote.
#![forbid(unsafe_code)]

pub mod codec;
pub mod estate;
pub mod message;
pub mod record;
pub mod spawn;
pub mod vet;

pub use codec::{DecodeError, Reader, Writer};
pub use estate::Estate;
pub use message::{Answer, Request};
pub use record::{Fact, Record, Stage};
pub use spawn::{Filter, Landlock, LandlockRule, Link, Mount, Root, SpawnSpec, Text};
pub use vet::{Vetted, vet};
