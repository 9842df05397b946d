//! Who may do what: decisions only. Clock, entropy and disk are passed in; nothing here acts on the world.
#![forbid(unsafe_code)]

pub mod contracts;
pub mod domain;
pub mod permit;
pub mod quota;
pub mod schema;
pub mod session;
pub mod table;
pub mod token;

/// The moment of a decision, as the rim read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The wall clock, in seconds since the Unix epoch.
    pub wall_s: u64,
    /// The wall clock of the node's last event, in seconds since the Unix epoch.
    pub last_event_s: u64,
    /// The monotonic clock, in milliseconds.
    pub mono_ms: u64,
}
