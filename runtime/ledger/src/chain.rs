//! What the requirement asks of a chain, under its names: `append_event`, `get_merkle_root`, `verify_chain`, `replay`, queries.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use remand_model::event::EventError;
use remand_model::{Digest, Event, NewEvent, TenantId};

use crate::merkle::{Frontier, empty_root, leaf_hash};
use crate::recovery::first_beyond;
use crate::store::{AppendError, AuditReader, Filed, Filter, Head, Ledger, StoreError, TileKey, Transaction};

/// What is wrong with a chain, and with which event first.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// An entry is missing.
    #[error("event {event_id} is missing")]
    Missing {
        /// The first missing event.
        event_id: u64,
    },
    /// There is an entry that was never committed.
    #[error("event {event_id} was never committed: the log has {size} events")]
    Beyond {
        /// The first such event.
        event_id: u64,
        /// Events of the log.
        size: u64,
    },
    /// An entry is no event.
    #[error("event {event_id} is damaged")]
    Entry {
        /// The first damaged event.
        event_id: u64,
        /// What is wrong with it.
        #[source]
        source: EventError,
    },
    /// An entry is an event, but not of this log or place.
    #[error("event {event_id} is not in its place: its {field} belongs elsewhere")]
    Misplaced {
        /// The first such event.
        event_id: u64,
        /// What gives it away.
        field: &'static str,
    },
    /// An entry is not the one whose hash was committed.
    #[error("event {event_id} was changed: its hash is {computed}, committed was {stored}")]
    Changed {
        /// The first such event.
        event_id: u64,
        /// The hash of the entry found.
        computed: Digest,
        /// The hash in the log's tile.
        stored: Digest,
    },
    /// The entries do not lead to the log's root.
    #[error(
        "an event from {from} on was changed: the first {size} events lead to root {computed}, committed was {stored}"
    )]
    Head {
        /// The first event whose own hash is in no full tile: the changed one is not before it.
        from: u64,
        /// Events of the log.
        size: u64,
        /// The root that was committed.
        stored: Digest,
        /// The root of the entries found.
        computed: Digest,
    },
    /// The columns that queries go by do not say what the entry says.
    #[error("event {event_id} is filed under another kind, subject or time than its own")]
    Misfiled {
        /// The first such event.
        event_id: u64,
    },
    /// A tile is missing, cut or changed.
    #[error("the events are in order, but {what}")]
    Tiles {
        /// Which tile.
        what: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What reading a whole chain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Events read.
    pub size: u64,
    /// The root of their tree.
    pub root: Digest,
}

/// One pass over a log's entries: hashes them, compares them with tiles, and stops at the first fault.
struct Walk<'a> {
    head: &'a Head,
    reader: &'a dyn AuditReader,
    frontier: Frontier,
    timestamp: u64,
    tile: Vec<Digest>,
    full_tiles: bool,
    filed: VecDeque<Filed>,
    fault: Option<ChainError>,
}

impl Walk<'_> {
    fn step(&mut self, id: u64, entry: &[u8]) -> Result<Event, ChainError> {
        let event_id = self.frontier.size();
        if id != event_id {
            return Err(ChainError::Missing { event_id });
        }
        if event_id.is_multiple_of(256) {
            let key = TileKey { tenant: self.head.number, level: 0, index: event_id / 256 };
            self.tile = self.reader.tile(key)?.unwrap_or_default();
            self.full_tiles &= self.tile.len() == 256 || self.head.size - event_id < 256;
            self.filed = self.reader.filed(self.head.number, event_id, self.head.size.min(event_id + 256))?.into();
        }
        let computed = leaf_hash(entry);
        let stored = self.tile.get((event_id % 256) as usize).copied();
        if let Some(stored) = stored.filter(|stored| *stored != computed) {
            return Err(ChainError::Changed { event_id, computed, stored });
        }
        let event = Event::from_entry(entry).map_err(|source| ChainError::Entry { event_id, source })?;
        let misplaced = |field| Err(ChainError::Misplaced { event_id, field });
        match () {
            () if event.event_id != event_id => return misplaced("event_id"),
            () if event.tenant_id != self.head.tenant => return misplaced("tenant_id"),
            () if event.timestamp <= self.timestamp && event_id > 0 => return misplaced("timestamp"),
            () => {}
        }
        if self.filed.pop_front().is_some_and(|filed| !filed.fits(&event)) {
            return Err(ChainError::Misfiled { event_id });
        }
        self.timestamp = event.timestamp;
        self.frontier.append(computed);
        Ok(event)
    }
}

/// Reads a log's entries in order and shows each to `visit`; the root is compared with the head's.
fn walk(reader: &dyn AuditReader, head: &Head, visit: &mut dyn FnMut(Event)) -> Result<Replayed, ChainError> {
    let mut walk = Walk {
        head,
        reader,
        frontier: Frontier::new(),
        timestamp: 0,
        tile: Vec::new(),
        full_tiles: true,
        filed: VecDeque::new(),
        fault: None,
    };
    reader.entries(head.number, 0, head.size, &mut |id, entry| match walk.step(id, entry) {
        Ok(event) => {
            visit(event);
            ControlFlow::Continue(())
        }
        Err(fault) => {
            walk.fault = Some(fault);
            ControlFlow::Break(())
        }
    })?;
    let (size, root) = (walk.frontier.size(), walk.frontier.root());
    match walk.fault {
        Some(fault) => Err(fault),
        None if size < head.size => Err(ChainError::Missing { event_id: size }),
        None if root != head.root => {
            let from = if walk.full_tiles { size / 256 * 256 } else { 0 };
            Err(ChainError::Head { from, size, stored: head.root, computed: root })
        }
        None if walk.timestamp != head.timestamp => {
            Err(ChainError::Tiles { what: "the head has another timestamp than the last of them".into() })
        }
        None if !walk.full_tiles => Err(ChainError::Tiles { what: "a tile is missing".into() }),
        None => Ok(Replayed { size, root }),
    }
}

/// The first fault of a stored log, or nothing.
pub(crate) fn first_fault(reader: &dyn AuditReader, head: &Head) -> Result<Option<ChainError>, StoreError> {
    match walk(reader, head, &mut |_| ()) {
        Err(ChainError::Store(error)) => return Err(error),
        Err(fault) => return Ok(Some(fault)),
        Ok(_) => {}
    }
    Ok(first_beyond(reader, head)?.map(|event_id| ChainError::Beyond { event_id, size: head.size }))
}

impl Ledger {
    /// Appends one event to a tenant's chain and returns the hash of its leaf in hexadecimal digits, once it is durable.
    ///
    /// # Errors
    /// [`AppendError`]: it is not recorded.
    pub fn append_event(&self, tenant: &TenantId, event: NewEvent) -> Result<String, AppendError> {
        let ack = self.append(Transaction::new(tenant.clone()).event(event))?;
        Ok(ack.events[0].leaf.to_hex())
    }

    /// The root of a tenant's chain as of its last durable commit, in hexadecimal digits; of an empty chain where there is
    /// none yet.
    #[must_use]
    pub fn get_merkle_root(&self, tenant: &TenantId) -> String {
        self.head(tenant).map_or_else(empty_root, |head| head.root).to_hex()
    }

    /// Reads a tenant's whole chain: every entry's spelling, place, order and hash, the tiles and the root.
    ///
    /// # Errors
    /// [`ChainError`], naming the first bad event.
    pub fn verify_chain(&self, tenant: &TenantId) -> Result<Replayed, ChainError> {
        self.replay(tenant, |_| ())
    }

    /// Shows every event of a tenant's chain in order to `visit`, hashing it anew; the root is the same as ever.
    ///
    /// # Errors
    /// [`ChainError`], naming the first bad event; those before it were shown.
    pub fn replay(&self, tenant: &TenantId, mut visit: impl FnMut(Event)) -> Result<Replayed, ChainError> {
        match self.head(tenant) {
            Some(head) => walk(self.reader().as_ref(), &head, &mut visit),
            None => Ok(Replayed { size: 0, root: empty_root() }),
        }
    }

    /// The events of a tenant that the filter wants, in order, at most its limit; read on with `from_id`.
    ///
    /// # Errors
    /// [`ChainError::Entry`] where a row is no event, [`StoreError`].
    pub fn query(&self, tenant: &TenantId, filter: &Filter) -> Result<Vec<Event>, ChainError> {
        let Some(head) = self.head(tenant) else { return Ok(Vec::new()) };
        let (mut found, mut fault) = (Vec::new(), None);
        self.reader().find(head.number, filter, &mut |event_id, entry| match Event::from_entry(entry) {
            Ok(event) if event_id < head.size => {
                found.push(event);
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(()),
            Err(source) => {
                fault = Some(ChainError::Entry { event_id, source });
                ControlFlow::Break(())
            }
        })?;
        fault.map_or(Ok(found), Err)
    }

    /// One event of a tenant.
    ///
    /// # Errors
    /// As [`Ledger::query`].
    pub fn event(&self, tenant: &TenantId, event_id: u64) -> Result<Option<Event>, ChainError> {
        let filter = Filter { from_id: event_id, limit: 1, ..Filter::default() };
        Ok(self.query(tenant, &filter)?.pop().filter(|event| event.event_id == event_id))
    }
}
