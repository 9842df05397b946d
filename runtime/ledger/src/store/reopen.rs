//! After a failed write: the store is closed and opened anew, and takes nothing before everything has been verified.
//!
//! The handle whose write failed is never used again: after a failed fsync(2) the kernel may call pages clean that are not on
//! the disk, and a second sync would succeed without them. Opening anew reads what is there, as after a crash, and writes what
//! the next acknowledgement will stand on once more. What was acknowledged must all be there; what was not may be.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ledger::{Life, Shared};
use super::{Ledger, OpenError, StoreError};
use crate::merkle;

/// What a reopening found.
#[derive(Debug)]
pub struct Reopened {
    /// Why it was needed.
    pub cause: Arc<StoreError>,
    /// Events that are durable and were never acknowledged.
    pub unacknowledged: u64,
}

impl Ledger {
    /// Opens the store anew where a failed write has poisoned the ledger; nothing where it is sound, or closed. Blocks as an
    /// opening does; must not be called from a [`super::Completion`].
    ///
    /// Every log's tree is computed anew and compared with its head, as at a start, and must extend what was acknowledged.
    ///
    /// # Errors
    /// Why the store cannot be opened now: everything stays refused, with this cause. Where it [is
    /// damaged](StoreError::is_damage) trying again does not help.
    pub fn reopen(&self) -> Result<Option<Reopened>, Arc<StoreError>> {
        let alone = self.inner.reopening.lock().expect("no thread panics while it opens a store");
        let old = self.life();
        let Some(cause) = old.shared.poisoned().filter(|_| !self.inner.closed.load(Ordering::Relaxed)) else {
            return Ok(None);
        };
        old.give_up_store();
        let begun = (self.inner.open_store)().map_err(OpenError::from);
        let begun = begun.and_then(|store| Life::begin(store, &self.inner.options));
        let checked = begun.map_err(said).and_then(|new| Ok((beyond(&old.shared, &new.shared)?, new)));
        match checked {
            Ok((unacknowledged, new)) => {
                self.inner.begin_anew(new);
                drop(alone);
                Ok(Some(Reopened { cause, unacknowledged }))
            }
            Err(error) => Err(old.shared.poison_anew(error)),
        }
    }
}

impl Life {
    /// Ends the writer and drops the store, which a thread that appended in the writer's place may still hold for a moment.
    fn give_up_store(&self) {
        self.stop();
        drop(self.desk.lock().expect("no thread panics while it works at the desk").take());
        self.shared.reader.rest();
    }
}

fn said(error: OpenError) -> StoreError {
    match error {
        OpenError::Store(error) => error,
        OpenError::Tampered { tenant, cause } => StoreError::damaged(format!("the log of tenant {tenant}: {cause}")),
    }
}

/// How many events there are that nobody was told of.
///
/// # Errors
/// [`StoreError::Damaged`] where something that was acknowledged is not there.
fn beyond(old: &Shared, new: &Shared) -> Result<u64, StoreError> {
    let mut more: u64 = new.heads().iter().map(|head| head.size).sum();
    for acknowledged in old.heads() {
        let mut tree = new.tree(&acknowledged.tenant);
        let size = tree.as_ref().map_or(0, |tree| tree.head().size);
        let root = match &mut tree {
            Some(tree) if size == acknowledged.size => tree.head().root,
            Some(tree) if size > acknowledged.size => merkle::root(tree, acknowledged.size)?,
            _ => merkle::empty_root(),
        };
        if root != acknowledged.root {
            let (tenant, told) = (acknowledged.tenant, acknowledged.size);
            return Err(StoreError::damaged(format!(
                "the log of tenant {tenant} has {size} events and does not extend the {told} that were acknowledged"
            )));
        }
        more -= acknowledged.size;
    }
    Ok(more)
}
