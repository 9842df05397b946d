//! The durable record: one chain of events per tenant, the state that changes with them, and what proves both.
//!
//! [`Ledger`] is the way in: [`Ledger::append`] and [`Ledger::submit`] make a [`store::Transaction`] durable, the requirement's
//! `append_event`, `get_merkle_root`, `verify_chain` and `replay` are in [`chain`]. What cannot be recorded does not happen:
//! after a failed write everything is refused until [`Ledger::reopen`] has verified the store.
#![forbid(unsafe_code)]

pub mod blob;
pub mod bundle;
pub mod chain;
pub mod checkpoint;
pub mod dsse;
pub mod export;
pub mod folder;
mod hash;
pub mod keys;
pub mod memory;
pub mod merkle;
pub mod notary;
pub mod note;
pub mod policy_file;
pub mod proof;
pub mod provenance;
pub mod record;
mod recovery;
mod scan;
pub mod state;
pub mod store;
pub mod tile;
pub mod verify;
pub mod witness;
pub mod witness_heads;

pub use store::{Ack, AppendError, Ledger, Refusal, Started, StateKey, StateOp, Transaction};
