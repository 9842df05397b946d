//! Where a witness keeps the heads of others' logs: in its own ledger, each by the SHA-256 of its origin.

use remand_model::event::NewEvent;
use remand_model::{Digest, EventType, Subject, TenantId};

use crate::store::{AppendError, Condition, Ledger, Refusal, StateKey, StateOp, StoreError, Transaction};
use crate::witness::{WitnessStore, WitnessedHead};

/// A new head is no event: two nodes that witness each other's own logs would otherwise never come to rest.
const WITNESS_NAMESPACE: &str = "derived.witness";

/// The heads that a node witnesses, in its own ledger.
pub struct WitnessHeads<'a> {
    ledger: &'a Ledger,
    tenant: TenantId,
}

/// Why a witnessed head cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum WitnessHeadError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be kept.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What was kept is damaged.
    #[error("the witnessed head of {0} is damaged; restore it from a backup, or withdraw the witness key")]
    Damaged(String),
}

impl<'a> WitnessHeads<'a> {
    pub(crate) const fn new(ledger: &'a Ledger, tenant: TenantId) -> Self {
        Self { ledger, tenant }
    }

    fn key(origin: &str) -> StateKey {
        StateKey::new(WITNESS_NAMESPACE, &Digest::of(origin.as_bytes()).to_hex()).expect("hexadecimal digits are a key")
    }
}

impl WitnessStore for WitnessHeads<'_> {
    type Error = WitnessHeadError;

    fn latest(&mut self, origin: &str) -> Result<Option<WitnessedHead>, WitnessHeadError> {
        let kept = self.ledger.state(&self.tenant, &Self::key(origin))?;
        let read = |bytes: Vec<u8>| read_head(&bytes).ok_or_else(|| WitnessHeadError::Damaged(origin.to_owned()));
        kept.map(read).transpose()
    }

    fn advance(&mut self, origin: &str, old: Option<u64>, new: &WitnessedHead) -> Result<bool, WitnessHeadError> {
        let key = Self::key(origin);
        let kept = self.ledger.state(&self.tenant, &key)?;
        if kept.as_deref().and_then(read_head).map(|head| head.size) != old {
            return Ok(false);
        }
        let condition = kept.map_or(Condition::Absent, Condition::Equals);
        let mut transaction = Transaction::new(self.tenant.clone());
        if self.ledger.head(&self.tenant).is_none() {
            transaction = transaction.event(NewEvent::new(witness_started(), Subject::from(&self.tenant)));
        }
        let transaction = transaction
            .op(StateOp::Require { key: key.clone(), condition })
            .op(StateOp::Set { key, value: write_head(new) });
        match self.ledger.append(transaction) {
            Ok(_ack) => Ok(true),
            Err(AppendError::Refused(Refusal::Condition { .. })) => Ok(false),
            Err(why) => Err(why.into()),
        }
    }
}

/// The first event of a node's own log, where witnessing begins it.
fn witness_started() -> EventType {
    "WITNESS_STARTED".parse().expect("a fixed name of a kind")
}

fn write_head(head: &WitnessedHead) -> Vec<u8> {
    [&head.size.to_be_bytes()[..], head.root.as_bytes(), head.note.as_bytes()].concat()
}

fn read_head(bytes: &[u8]) -> Option<WitnessedHead> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    let (root, note) = rest.split_first_chunk::<32>()?;
    let note = String::from_utf8(note.to_vec()).ok()?;
    Some(WitnessedHead { size: u64::from_be_bytes(*size), root: Digest::from_bytes(*root), note })
}
