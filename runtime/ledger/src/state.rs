//! A tenant's own durable keys and values: every operation is an event of its chain, in the same transaction.
//!
//! The tenant is fixed when the handle is made, so that no key can reach another's. Values are named in events by their
//! SHA-256; a read is recorded before its answer is given.

use remand_model::{Digest, EventType, NewEvent, Subject, TenantId};

use crate::store::{
    AppendError, Condition, KeyError, Ledger, Receipt, Refusal, StateKey, StateOp, StateQuota, StateScan, StoreError,
    Transaction,
};

/// The namespace of tenants' own state.
pub const NAMESPACE: &str = "state";

/// The most keys of one listing.
pub const LIST_MAX: usize = 1000;

/// The default of what one tenant may keep.
pub const DEFAULT_QUOTA: StateQuota = StateQuota { bytes_max: 64 << 20, keys_max: 100_000 };

/// How often an operation starts over because another one changed the key in between.
const TRIES: usize = 16;

/// Why an operation on a tenant's state was not done.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The key cannot be one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It could not be recorded, so it was not done.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored value is not the one that was set.
    #[error("the value of {key} is damaged; its digest is in the event that set it: restore it from a backup")]
    Damaged {
        /// Which key.
        key: StateKey,
    },
    /// Others keep changing the key.
    #[error("{key} was changed by others again and again; try later")]
    Contended {
        /// Which key.
        key: StateKey,
    },
}

/// What must be there for a value to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Whatever.
    Anything,
    /// No value.
    Absent,
    /// This value.
    Value(&'a [u8]),
}

/// One tenant's state.
#[derive(Clone)]
pub struct TenantState {
    ledger: Ledger,
    tenant: TenantId,
    quota: StateQuota,
}

/// What is stored: the value behind its SHA-256.
fn wrap(value: &[u8]) -> Vec<u8> {
    [Digest::of(value).as_bytes().as_slice(), value].concat()
}

fn unwrap(stored: &[u8]) -> Option<(Digest, &[u8])> {
    let (digest, value) = stored.split_first_chunk::<32>()?;
    let digest = Digest::from_bytes(*digest);
    (Digest::of(value) == digest).then_some((digest, value))
}

/// What a value is held against so that it cannot have changed since it was read.
fn unchanged(key: &StateKey, stored: Option<&Vec<u8>>) -> StateOp {
    let condition = stored.map_or(Condition::Absent, |stored| Condition::Equals(stored.clone()));
    StateOp::Require { key: key.clone(), condition }
}

fn event(kind: EventType, about: &Subject, key: &StateKey) -> NewEvent {
    NewEvent::new(kind, about.clone()).claim("key", key.key())
}

impl TenantState {
    /// The state of `tenant` within `quota`.
    #[must_use]
    pub const fn new(ledger: Ledger, tenant: TenantId, quota: StateQuota) -> Self {
        Self { ledger, tenant, quota }
    }

    /// The value of `key`, read on behalf of `about` and recorded as `STATE_READ` with the digest found.
    ///
    /// # Errors
    /// [`StateError`]; a value that cannot be recorded as read is not given out.
    pub fn get(&self, about: &Subject, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let key = StateKey::new(NAMESPACE, key)?;
        self.with_stored(&key, |stored| {
            let found =
                stored.map(|stored| unwrap(stored).ok_or(StateError::Damaged { key: key.clone() })).transpose()?;
            let digest = found.map_or(remand_model::canonical::Value::Null, |(digest, _)| digest.into());
            let read = event(EventType::STATE_READ, about, &key).claim("sha256", digest);
            Ok((found.map(|(_, value)| value.to_vec()), read, None))
        })
    }

    /// Sets `key` on behalf of `about`, recorded as `STATE_SET` with the value's digest and length.
    ///
    /// # Errors
    /// [`StateError`]: not as expected ([`Refusal::Condition`]), over the quota, too long; nothing was set.
    pub fn set(&self, about: &Subject, key: &str, value: &[u8], expected: Expected<'_>) -> Result<Receipt, StateError> {
        let key = StateKey::new(NAMESPACE, key)?;
        let set = event(EventType::STATE_SET, about, &key)
            .claim("sha256", Digest::of(value))
            .claim("bytes", u32::try_from(value.len()).unwrap_or(u32::MAX));
        let condition = match expected {
            Expected::Anything => None,
            Expected::Absent => Some(Condition::Absent),
            Expected::Value(value) => Some(Condition::Equals(wrap(value))),
        };
        let mut transaction = Transaction::new(self.tenant.clone()).event(set);
        transaction.ops.extend(condition.map(|condition| StateOp::Require { key: key.clone(), condition }));
        let set = StateOp::SetMetered { key, value: wrap(value), quota: self.quota };
        let mut ack = self.ledger.append(transaction.op(set))?;
        Ok(ack.events.remove(0))
    }

    /// Removes `key` on behalf of `about`, recorded as `STATE_DELETED` with whether there was a value.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn delete(&self, about: &Subject, key: &str) -> Result<bool, StateError> {
        let key = StateKey::new(NAMESPACE, key)?;
        self.with_stored(&key, |stored| {
            let deleted = event(EventType::STATE_DELETED, about, &key).claim("existed", stored.is_some());
            Ok((stored.is_some(), deleted, Some(StateOp::DeleteMetered { key: key.clone() })))
        })
    }

    /// Keys that begin with `prefix`, in order, after the key `after` (empty for the first page), at most [`LIST_MAX`];
    /// recorded as `STATE_LISTED`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn list(&self, about: &Subject, prefix: &str, after: &str) -> Result<Vec<String>, StateError> {
        let scan = StateScan { namespace: NAMESPACE, prefix, after, limit: LIST_MAX };
        let keys: Vec<_> = self.ledger.state_list(&self.tenant, &scan)?.into_iter().map(|(key, _)| key).collect();
        let listed = NewEvent::new(EventType::STATE_LISTED, about.clone())
            .claim("prefix", prefix)
            .claim("after", after)
            .claim("keys", keys.len() as u32);
        drop(self.ledger.append(Transaction::new(self.tenant.clone()).event(listed))?);
        Ok(keys)
    }

    /// Reads, lets `decide` say what to record and do, and does it if the value is still the same; otherwise starts over.
    fn with_stored<T>(
        &self,
        key: &StateKey,
        decide: impl Fn(Option<&Vec<u8>>) -> Result<(T, NewEvent, Option<StateOp>), StateError>,
    ) -> Result<T, StateError> {
        for _ in 0..TRIES {
            let stored = self.ledger.state(&self.tenant, key)?;
            let (answer, event, op) = decide(stored.as_ref())?;
            let mut transaction = Transaction::new(self.tenant.clone()).event(event);
            transaction.ops.push(unchanged(key, stored.as_ref()));
            transaction.ops.extend(op);
            match self.ledger.append(transaction) {
                Ok(_) => return Ok(answer),
                Err(AppendError::Refused(Refusal::Condition { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StateError::Contended { key: key.clone() })
    }
}
