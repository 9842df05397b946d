//! The durable store below the chains: what a backend must keep, and the one writer that everything goes through.
//!
//! A backend ([`AuditStore`]) keeps rows and makes a batch of them durable at once; it knows nothing of trees, places or
//! conditions. The [`Ledger`] above it owns the only writer: it gives places, hashes, decides conditions, commits groups and
//! acknowledges only what is durable. After a failed write nothing is tried again: the ledger is poisoned until it is reopened,
//! and that verifies it first.

mod ack;
mod ledger;
mod queue;
mod reopen;
pub mod segments;
pub mod sqlite;
mod tile_rows;
mod transaction;
mod tree;
mod writer;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use remand_model::{Digest, Event, EventType, Subject, TenantId};

pub use ack::{Ack, AppendError, Receipt, Started};
pub use ledger::{Clock, Completion, Ledger, OpenError, OpenExecution, OpenStore, Options, Stats, SystemClock};
pub use reopen::Reopened;
pub(crate) use sqlite::sync_folder;
pub use tile_rows::Tile;
pub use transaction::{Condition, KeyError, Refusal, StateKey, StateOp, StateQuota, Transaction};
pub(crate) use tree::Chain;
pub use tree::LogTree;

/// The most tenants of one store: ids are `number << 40 | event_id` in 63 bits.
pub const TENANTS_MAX: u32 = 1 << 22;

/// The most events of one tenant's log.
pub const EVENTS_MAX: u64 = 1 << 40;

/// What is known of one tenant's log as of its last durable commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub tenant: TenantId,
    /// The tenant's number in this store, from 0 in order of creation.
    pub number: u32,
    /// Events in the log.
    pub size: u64,
    /// The root of its tree (RFC 6962).
    pub root: Digest,
    /// The logical clock of its last event.
    pub timestamp: u64,
    /// The machine's clock at its last event, microseconds since 1970.
    pub wall_clock_us: u64,
}

/// One event as a backend keeps it.
#[derive(Debug, Clone, Copy)]
pub struct EventRow<'a> {
    /// The tenant's number.
    pub tenant: u32,
    /// The event's place.
    pub event_id: u64,
    /// Its kind, for queries.
    pub kind: &'a EventType,
    /// Its subject, for queries.
    pub subject: &'a Subject,
    /// Its wall clock in microseconds, for queries.
    pub wall_clock_us: u64,
    /// The entry.
    pub entry: &'a [u8],
}

/// The address of a tile (C2SP tlog-tiles, height 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileKey {
    /// The tenant's number.
    pub tenant: u32,
    /// Its level: hashes of subtrees over 256^level leaves.
    pub level: u8,
    /// Its place within the level, from 0.
    pub index: u64,
}

/// Which events a query wants: every field that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only this kind.
    pub kind: Option<EventType>,
    /// Only this subject.
    pub subject: Option<Subject>,
    /// Wall clock at or after, microseconds since 1970.
    pub from_us: Option<u64>,
    /// Wall clock before, microseconds since 1970.
    pub until_us: Option<u64>,
    /// Only ids from this one on: for reading page by page.
    pub from_id: u64,
    /// At most so many events; 0 means [`FILTER_LIMIT`].
    pub limit: usize,
}

/// The most events of one answer.
pub const FILTER_LIMIT: usize = 10_000;

impl Filter {
    pub(crate) fn limit(&self) -> usize {
        if self.limit == 0 { FILTER_LIMIT } else { self.limit.min(FILTER_LIMIT) }
    }

    /// Whether an event with these properties is wanted.
    #[must_use]
    pub fn wants(&self, event_id: u64, kind: &EventType, subject: &Subject, wall_clock_us: u64) -> bool {
        event_id >= self.from_id
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind)
            && self.subject.as_ref().is_none_or(|wanted| wanted == subject)
            && self.from_us.is_none_or(|from| wall_clock_us >= from)
            && self.until_us.is_none_or(|until| wall_clock_us < until)
    }
}

/// Why a store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("the database {path} could not {what}; {}", self.remedy())]
    Database {
        /// What it was asked to do.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<rusqlite::Error>,
    },
    /// The operating system refused.
    #[error("could not {what} {path}; {}", self.remedy())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store holds what it never wrote.
    #[error("the ledger's store is damaged: {what}; {}", self.remedy())]
    Damaged {
        /// What is wrong, and where.
        what: String,
    },
    /// Another process has the store open, or somebody reads it for long while it is opened.
    #[error("{path} is in use; {}", self.remedy())]
    InUse {
        /// The lock file, or the database.
        path: PathBuf,
    },
}

impl StoreError {
    /// What is to be done about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        use rusqlite::ErrorCode;
        let kind = match self {
            Self::Io { source, .. } => source.kind(),
            Self::Database { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => io::ErrorKind::StorageFull,
                Some(ErrorCode::ReadOnly) => io::ErrorKind::ReadOnlyFilesystem,
                Some(ErrorCode::PermissionDenied) => io::ErrorKind::PermissionDenied,
                _ => io::ErrorKind::Other,
            },
            Self::Damaged { .. } => return "keep the disk as it is and compare with an export or a backup",
            Self::InUse { .. } => return "stop the other process first",
        };
        match kind {
            io::ErrorKind::StorageFull => "free space on its disk",
            io::ErrorKind::QuotaExceeded => "give its owner more space",
            io::ErrorKind::ReadOnlyFilesystem => "check its disk and make it writable",
            io::ErrorKind::PermissionDenied => "give it back to the user that the runtime serves as",
            _ => "check its disk",
        }
    }

    /// Whether nothing but a person with a backup can help.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    pub(crate) fn database<'a>(
        connection: &'a rusqlite::Connection,
        what: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> Self + 'a {
        let path = || connection.path().unwrap_or_default().into();
        move |source| Self::Database { what, path: path(), source: source.into() }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn damaged(what: impl fmt::Display) -> Self {
        Self::Damaged { what: what.to_string() }
    }
}

/// The writing side of a backend; used by one thread only.
///
/// Between `begin` and `commit` rows are put; reads see what was put before. `commit` returns only when the whole batch
/// survives a loss of power, and a batch is never half there. After any error the caller drops the store without another call.
pub trait AuditStore: Send {
    /// Starts a batch.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Adds an event.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn put_event(&mut self, row: &EventRow<'_>) -> Result<(), StoreError>;

    /// Adds a tile or replaces it by a wider one.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn put_tile(&mut self, key: TileKey, hashes: &[Digest]) -> Result<(), StoreError>;

    /// Adds or replaces a tenant's head.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn put_head(&mut self, head: &Head) -> Result<(), StoreError>;

    /// A state value as of now, this batch included.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn state(&mut self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets a state value, or removes it.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn put_state(&mut self, tenant: u32, key: &StateKey, value: Option<&[u8]>) -> Result<(), StoreError>;

    /// Makes the batch durable.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of the batch may be acknowledged; drop the store.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Housekeeping between batches, after the acknowledgements went out.
    ///
    /// # Errors
    /// [`StoreError`]: drop the store.
    fn tidy(&mut self) -> Result<(), StoreError>;

    /// Orderly end: everything is durable already, this only makes the next opening quick.
    ///
    /// # Errors
    /// [`StoreError`]: nothing acknowledged is lost.
    fn close(self: Box<Self>) -> Result<(), StoreError>;

    /// A reader of committed rows, usable from every thread.
    fn reader(&self) -> Arc<dyn AuditReader>;
}

/// What a visitor of rows sees: the event's id and its entry.
pub type Visit<'a> = dyn FnMut(u64, &[u8]) -> ControlFlow<()> + 'a;

/// The reading side of a backend: committed rows only.
pub trait AuditReader: Send + Sync {
    /// Gives back what it keeps open between reads, so that an opening after this finds the files as they are.
    fn rest(&self) {}

    /// Every tenant's head.
    ///
    /// # Errors
    /// [`StoreError`].
    fn heads(&self) -> Result<Vec<Head>, StoreError>;

    /// Shows the entries from `from` (inclusive) to `to` (exclusive) in order; a missing entry is skipped over.
    ///
    /// # Errors
    /// [`StoreError`].
    fn entries(&self, tenant: u32, from: u64, to: u64, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The id of the last stored event.
    ///
    /// # Errors
    /// [`StoreError`].
    fn last_event(&self, tenant: u32) -> Result<Option<u64>, StoreError>;

    /// A stored tile: every full one, and the partial ones above the lowest level.
    ///
    /// # Errors
    /// [`StoreError`].
    fn tile(&self, key: TileKey) -> Result<Option<Vec<Digest>>, StoreError>;

    /// Shows the events that the filter wants, in order, at most its limit.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find(&self, tenant: u32, filter: &Filter, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// What queries go by, of the events from `from` (inclusive) to `to` (exclusive) in order; nothing where a backend reads
    /// the entries themselves.
    ///
    /// # Errors
    /// [`StoreError`].
    fn filed(&self, tenant: u32, from: u64, to: u64) -> Result<Vec<Filed>, StoreError> {
        debug_assert!(from <= to, "a range of events of tenant {tenant}");
        Ok(Vec::new())
    }

    /// A state value.
    ///
    /// # Errors
    /// [`StoreError`].
    fn state(&self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keys of a namespace with this prefix and their values, in key order, after the key `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn state_list(&self, tenant: u32, scan: &StateScan<'_>) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

/// What a backend keeps of an event beside its entry, for queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// Its kind.
    pub kind: String,
    /// Its subject.
    pub subject: String,
    /// Its wall clock, microseconds since 1970.
    pub wall_clock_us: u64,
}

impl Filed {
    pub(crate) fn fits(&self, event: &Event) -> bool {
        self.kind == event.event_type.as_str()
            && self.subject == event.subject.as_str()
            && self.wall_clock_us == event.wall_clock_us
    }
}

/// Which keys a listing wants.
#[derive(Debug, Clone, Copy)]
pub struct StateScan<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Only keys that begin so.
    pub prefix: &'a str,
    /// Only keys after this one; empty for all.
    pub after: &'a str,
    /// At most so many.
    pub limit: usize,
}
