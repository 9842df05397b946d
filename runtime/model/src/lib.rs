//! The values that every room of the runtime speaks: no I/O, no clock, no entropy.
//!
//! A value of a type in this crate is well formed; it says nothing about permission. Permission is made in `authority`.
#![forbid(unsafe_code)]

pub mod canonical;
pub mod contract;
pub mod digest;
pub mod envelope;
pub mod event;
pub mod grant;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod plan;
pub mod quota;
pub mod refusal;
pub mod role;
pub mod run;

pub use digest::Digest;
pub use event::{Event, EventType, NewEvent, Subject};
pub use ids::{ExecutionId, IdError, RequestId, TenantId, TraceId};
pub use limits::Limits;

/// The version that every message, model and answer carries (`protocol_version`).
///
/// A reader accepts any minor version of the same major version and refuses every other major version.
pub const PROTOCOL_VERSION: &str = "1.0";
