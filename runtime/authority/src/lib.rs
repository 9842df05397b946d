//! Who may do what: decisions only. Clock, entropy and disk are passed in; nothing here acts on the world.
#![forbid(unsafe_code)]

pub mod session;
pub mod table;
pub mod token;
