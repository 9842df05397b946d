//! Placeholder head: replaced by the room itself.
#![forbid(unsafe_code)]
