//! Reopening: every log's edge is computed anew from its rows and compared with its head, and what differs is named.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::resume_unwind;

use remand_model::{Digest, Event, TenantId};

use crate::chain::{self, ChainError};
use crate::store::{AuditReader, Chain, Head, StoreError};

/// Why a ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log is not what was committed.
    #[error(
        "the log of tenant {tenant} was changed behind the ledger's back; nothing runs until it is restored or archived"
    )]
    Tampered {
        /// Whose log.
        tenant: TenantId,
        /// What is wrong, and with which event first.
        #[source]
        cause: ChainError,
    },
}

/// Logs below which one more thread would cost more than it saves.
const LOGS_PER_THREAD_MIN: usize = 64;

/// The most threads that reopen, whatever the machine has: as many as a backend keeps connections for.
const THREADS_MAX: usize = 4;

/// Every log's chain, ready for the writer.
///
/// Cost: the partial tiles of every log and at most 255 entries, whatever the log's length.
pub(crate) fn rebuild_all(reader: &dyn AuditReader) -> Result<HashMap<TenantId, Chain>, OpenError> {
    let heads = reader.heads()?;
    if let Some(number) = (0..heads.len()).find(|number| heads[*number].number as usize != *number) {
        return Err(StoreError::damaged(format!("tenant number {number} is missing")).into());
    }
    let machine = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = machine.min(heads.len() / LOGS_PER_THREAD_MIN).max(1);
    let share = heads.len().div_ceil(threads).max(1);
    let rebuilt: Vec<Result<Vec<Chain>, OpenError>> = std::thread::scope(|scope| {
        let start = |heads: &'_ [Head]| heads.iter().map(|head| rebuild(reader, head.clone())).collect();
        let threads: Vec<_> = heads.chunks(share).map(|heads| scope.spawn(move || start(heads))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut chains = HashMap::with_capacity(heads.len());
    for share in rebuilt {
        chains.extend(share?.into_iter().map(|chain| (chain.head.tenant.clone(), chain)));
    }
    Ok(chains)
}

fn rebuild(reader: &dyn AuditReader, head: Head) -> Result<Chain, OpenError> {
    let last = reader.last_event(head.number)?;
    let rebuilt = Chain::rebuild(reader, head.clone());
    match rebuilt {
        Ok((chain, root))
            if root == head.root && last.map_or(0, |id| id + 1) == head.size && ends_so(reader, &head)? =>
        {
            Ok(chain)
        }
        Ok((_, root)) => Err(diagnose(reader, head, root)),
        Err(StoreError::Damaged { what }) => {
            let tenant = head.tenant.clone();
            let cause = chain::first_fault(reader, &head)?.unwrap_or(ChainError::Tiles { what });
            Err(OpenError::Tampered { tenant, cause })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the last entry is of this log and has the head's timestamp.
fn ends_so(reader: &dyn AuditReader, head: &Head) -> Result<bool, StoreError> {
    let mut fits = head.size == 0;
    reader.entries(head.number, head.size.saturating_sub(1), head.size, &mut |id, entry| {
        let fits_head =
            |event: Event| event.tenant_id == head.tenant && event.event_id == id && event.timestamp == head.timestamp;
        fits = Event::from_entry(entry).is_ok_and(fits_head);
        ControlFlow::Break(())
    })?;
    Ok(fits)
}

/// Reads the whole log to name the first bad event.
fn diagnose(reader: &dyn AuditReader, head: Head, root: Digest) -> OpenError {
    let cause = match chain::first_fault(reader, &head) {
        Ok(Some(fault)) => fault,
        Ok(None) => ChainError::Tiles { what: format!("the tiles lead to root {root}, committed was {}", head.root) },
        Err(error) => return error.into(),
    };
    OpenError::Tampered { tenant: head.tenant, cause }
}

/// The id of the first event that the store has beyond a log's head.
pub(crate) fn first_beyond(reader: &dyn AuditReader, head: &Head) -> Result<Option<u64>, StoreError> {
    let mut beyond = None;
    reader.entries(head.number, head.size, crate::store::EVENTS_MAX, &mut |id, _| {
        beyond = Some(id);
        ControlFlow::Break(())
    })?;
    Ok(beyond)
}
