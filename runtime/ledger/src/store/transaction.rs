//! One atomic change: events, and the state that changes with them. It happens whole, or not at all.

use std::fmt;

use remand_model::ids::is_name;
use remand_model::{NewEvent, TenantId};

/// The longest state key in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// The longest state value in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// The most events of one transaction.
pub const EVENTS_PER_TRANSACTION_MAX: usize = 256;

/// The most state operations of one transaction.
pub const OPS_PER_TRANSACTION_MAX: usize = 256;

/// Namespaces with this prefix hold what can be made again (signed notes, indexes): they alone may change without an event.
pub const DERIVED_PREFIX: &str = "derived.";

/// The prefix of the namespaces that only the ledger itself writes.
pub const RESERVED_PREFIX: &str = "ledger.";

/// Where a state value is kept: a namespace of a room, and a key within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    namespace: String,
    key: String,
}

/// A text that can be no state key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The namespace is no name, or belongs to the ledger.
    #[error("a namespace must match [a-z0-9][a-z0-9._-]{{0,62}} and not begin with {RESERVED_PREFIX:?}")]
    Namespace,
    /// The key is empty, too long or holds a control character.
    #[error("a key must have 1 to {KEY_BYTES_MAX} bytes and no control characters")]
    Key,
}

impl StateKey {
    /// Checks a namespace and a key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(namespace: &str, key: &str) -> Result<Self, KeyError> {
        if namespace.starts_with(RESERVED_PREFIX) { Err(KeyError::Namespace) } else { Self::reserved(namespace, key) }
    }

    pub(crate) fn reserved(namespace: &str, key: &str) -> Result<Self, KeyError> {
        if !is_name(namespace) {
            return Err(KeyError::Namespace);
        }
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) || key.chars().any(char::is_control) {
            return Err(KeyError::Key);
        }
        Ok(Self { namespace: namespace.to_owned(), key: key.to_owned() })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The key within it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    fn is_derived(&self) -> bool {
        self.namespace.starts_with(DERIVED_PREFIX)
    }
}

impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.key)
    }
}

/// What must hold of a state value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Absent,
    /// There is one.
    Present,
    /// It is this one.
    Equals(Vec<u8>),
}

impl Condition {
    pub(super) fn holds(&self, found: Option<&[u8]>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Equals(wanted) => found == Some(wanted.as_slice()),
        }
    }
}

/// How much a tenant may keep in one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateQuota {
    /// Bytes of keys and values together.
    pub bytes_max: u64,
    /// Number of keys.
    pub keys_max: u64,
}

/// One operation on state. Operations happen in order; each sees the ones before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateOp {
    /// Refuses the transaction unless the condition holds.
    Require {
        /// Of which value.
        key: StateKey,
        /// What must hold.
        condition: Condition,
    },
    /// Sets a value.
    Set {
        /// Where.
        key: StateKey,
        /// To what.
        value: Vec<u8>,
    },
    /// Sets a value of a namespace whose use is metered; use this and [`StateOp::DeleteMetered`] for all of its keys.
    SetMetered {
        /// Where.
        key: StateKey,
        /// To what.
        value: Vec<u8>,
        /// How much the namespace may hold afterwards.
        quota: StateQuota,
    },
    /// Removes a value; that there is none is no refusal.
    Delete {
        /// Where.
        key: StateKey,
    },
    /// Removes a value of a metered namespace.
    DeleteMetered {
        /// Where.
        key: StateKey,
    },
    /// Adds to a counter that starts at 0: `used = used + add where 0 <= used + add <= max`.
    Count {
        /// Which counter; its value is eight bytes, most significant first.
        key: StateKey,
        /// How much to add, or to give back where negative.
        add: i64,
        /// What it may reach.
        max: u64,
    },
}

impl StateOp {
    pub(super) const fn key(&self) -> &StateKey {
        match self {
            Self::Require { key, .. }
            | Self::Set { key, .. }
            | Self::SetMetered { key, .. }
            | Self::Delete { key }
            | Self::DeleteMetered { key }
            | Self::Count { key, .. } => key,
        }
    }
}

/// Events and state changes of one tenant that happen together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Whose.
    pub tenant: TenantId,
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// The state operations, in order.
    pub ops: Vec<StateOp>,
}

impl Transaction {
    /// A transaction that does nothing yet.
    #[must_use]
    pub const fn new(tenant: TenantId) -> Self {
        Self { tenant, events: Vec::new(), ops: Vec::new() }
    }

    /// Adds an event.
    #[must_use]
    pub fn event(mut self, event: NewEvent) -> Self {
        self.events.push(event);
        self
    }

    /// Adds a state operation.
    #[must_use]
    pub fn op(mut self, op: StateOp) -> Self {
        self.ops.push(op);
        self
    }

    /// What can be checked without the store.
    pub(super) fn check_alone(&self) -> Result<(), Refusal> {
        if self.events.is_empty() && !self.ops.iter().all(|op| op.key().is_derived()) {
            return Err(Refusal::NoEvent);
        }
        if self.events.is_empty() && self.ops.is_empty() {
            return Err(Refusal::NoEvent);
        }
        if self.events.len() > EVENTS_PER_TRANSACTION_MAX || self.ops.len() > OPS_PER_TRANSACTION_MAX {
            return Err(Refusal::TooMany);
        }
        self.ops.iter().try_for_each(|op| match op {
            StateOp::Set { key, value } | StateOp::SetMetered { key, value, .. } if value.len() > VALUE_BYTES_MAX => {
                Err(Refusal::ValueTooLong { key: key.clone(), bytes: value.len() })
            }
            _ => Ok(()),
        })
    }
}

/// Why a transaction must not happen. Nothing of it was written; other transactions are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// State would change without a record.
    #[error("state changes only together with an event; add the event that says why")]
    NoEvent,
    /// Too many events or operations at once.
    #[error("a transaction has at most {EVENTS_PER_TRANSACTION_MAX} events and {OPS_PER_TRANSACTION_MAX} operations")]
    TooMany,
    /// A value is too long.
    #[error("the value of {key} has {bytes} bytes of {VALUE_BYTES_MAX}; store it as a blob and keep its digest")]
    ValueTooLong {
        /// Of which key.
        key: StateKey,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A condition does not hold.
    #[error("{key} is not as the request requires")]
    Condition {
        /// Of which key.
        key: StateKey,
    },
    /// A counter would leave its bounds.
    #[error("{key} stands at {used} of {max} and cannot take {add}")]
    Counter {
        /// Which counter.
        key: StateKey,
        /// Its value.
        used: u64,
        /// What was to be added.
        add: i64,
        /// What it may reach.
        max: u64,
    },
    /// A namespace would hold too much.
    #[error("{key} does not fit: the namespace would hold {bytes} bytes of {bytes_max} in {keys} keys of {keys_max}")]
    Quota {
        /// Which key.
        key: StateKey,
        /// Bytes it would hold.
        bytes: u64,
        /// Bytes it may hold.
        bytes_max: u64,
        /// Keys it would have.
        keys: u64,
        /// Keys it may have.
        keys_max: u64,
    },
    /// The execution runs already.
    #[error("{subject} has started already, with event {event_id}")]
    AlreadyStarted {
        /// Which execution.
        subject: String,
        /// The event that started it.
        event_id: u64,
    },
    /// The execution does not run.
    #[error("{subject} has not started, so it cannot complete")]
    NotStarted {
        /// Which execution.
        subject: String,
    },
    /// An event's cause does not come before it.
    #[error("event {place} of the transaction names a cause that does not come before it")]
    Cause {
        /// Its place in the transaction, from 0.
        place: usize,
    },
    /// The store is full of tenants, or the log of events.
    #[error("the store has no room for another tenant or event; archive this node and start a new one")]
    Full,
}
