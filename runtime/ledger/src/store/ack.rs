//! What an appender gets back: receipts for what is durable, or the reason why nothing was written.

use std::sync::Arc;

use remand_model::event::EventError;
use remand_model::{Digest, ExecutionId, TenantId};

use super::{Refusal, StoreError};

/// One durable event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the tenant's log.
    pub event_id: u64,
    /// The hash of its leaf.
    pub leaf: Digest,
}

/// Proof that a transaction is durable.
#[derive(Debug)]
#[must_use]
pub struct Ack {
    /// Whose log.
    pub tenant: TenantId,
    /// Its events, in the order given.
    pub events: Vec<Receipt>,
    /// The size of the first durable tree that holds them; it may hold later events of the same commit.
    pub tree_size: u64,
    /// The root of that tree.
    pub root: Digest,
    pub(super) started: Vec<Started>,
}

impl Ack {
    /// Takes out the receipt that this execution's start is durable. There is one for every start, once.
    #[must_use]
    pub fn take_started(&mut self, execution: &ExecutionId) -> Option<Started> {
        let place = self.started.iter().position(|started| started.execution == *execution)?;
        Some(self.started.swap_remove(place))
    }
}

/// Receipt that the start of an execution is durable; whoever starts one must be given this, by value.
///
/// Only the ledger's writer makes one, after the commit. Nobody else can:
/// ```compile_fail,E0451
/// use remand_ledger::store::Started;
/// fn forge(tenant: remand_model::TenantId, execution: remand_model::ExecutionId) -> Started {
///     Started { tenant, execution, event_id: 0, leaf: remand_model::Digest::of(b"") }
/// }
/// ```
/// nor can it be used twice:
/// ```compile_fail,E0382
/// fn twice(receipt: remand_ledger::store::Started) {
///     drop(receipt);
///     drop(receipt);
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Started {
    tenant: TenantId,
    execution: ExecutionId,
    event_id: u64,
    leaf: Digest,
}

impl Started {
    pub(super) const fn after_commit(tenant: TenantId, execution: ExecutionId, receipt: &Receipt) -> Self {
        Self { tenant, execution, event_id: receipt.event_id, leaf: receipt.leaf }
    }

    /// Whose execution.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Which execution.
    #[must_use]
    pub const fn execution(&self) -> &ExecutionId {
        &self.execution
    }

    /// The event that says so.
    #[must_use]
    pub const fn event_id(&self) -> u64 {
        self.event_id
    }

    /// The hash of that event's leaf.
    #[must_use]
    pub const fn leaf(&self) -> &Digest {
        &self.leaf
    }
}

/// Why a transaction was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The transaction asks for what must not be; nothing of it was written, and the ledger goes on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An event cannot be an entry; nothing was written.
    #[error("an event of the transaction cannot be recorded")]
    Event(#[source] Arc<EventError>),
    /// An earlier write failed: what is on disk is unknown, so nothing more is recorded and nothing may run.
    #[error("the ledger records nothing since a write failed; {}", whose_move(.0))]
    Poisoned(#[source] Arc<StoreError>),
    /// The queue is full.
    #[error("the ledger's queue is full; try again when earlier requests are done")]
    Busy,
    /// The ledger is closed, or its writer died.
    #[error("the ledger is closed; reopen it")]
    Closed,
}

/// Who has to do what before a poisoned ledger goes on.
fn whose_move(cause: &StoreError) -> &'static str {
    if cause.is_damage() {
        "opened anew it is not what was written, and an operator must look at it"
    } else {
        "once the cause is gone the next request opens and verifies it anew, and nothing else is to be done"
    }
}

impl AppendError {
    /// Whether the ledger refuses everything until it is reopened.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Poisoned(_) | Self::Closed)
    }
}
