//! One entry of a tenant's log, and its one spelling as bytes.
//!
//! An event says *claims* (deterministic: ids, hashes, verdicts; replay gives the same) and *observations* (clock, pid, usage).
//! Its id is its place in the log, from 0 and without gaps, given by the writer together with `timestamp`, a logical clock
//! that only rises, and `wall_clock_us`, which is what the machine's clock said and may jump.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canonical::{self, CanonError, INTEGER_MAX, Object, Value};
use crate::{ExecutionId, IdError, PROTOCOL_VERSION, TenantId};

/// The longest entry in bytes: C2SP tlog-tiles gives an entry's length in 16 bits. What is larger is recorded by digest.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// The longest subject in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Why an event cannot be an entry of a log, or bytes are no event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The entry is longer than a log takes.
    #[error("the event takes {bytes} bytes of {ENTRY_BYTES_MAX}; record large values by their digest")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A number is beyond 53 bits.
    #[error("{field} is beyond 2^53 - 1")]
    TooLarge {
        /// Which field.
        field: &'static str,
    },
    /// The entry is not the canonical spelling of an event.
    #[error("the entry is an event, but not in its canonical spelling; it was not written by this log")]
    NotCanonical,
    /// The cause does not come before the event.
    #[error("event {event_id} names {causation_id} as its cause, which does not come before it")]
    Causation {
        /// The event.
        event_id: u64,
        /// Its cause.
        causation_id: u64,
    },
    /// The entry speaks another major version of the protocol.
    #[error("the entry has protocol version {found:?}; this program reads {PROTOCOL_VERSION}")]
    Version {
        /// What it says.
        found: String,
    },
    /// The entry is no event at all.
    #[error("the entry is no event")]
    Malformed(#[from] CanonError),
}

/// The name of a kind of event: `[A-Za-z][A-Za-z0-9_]{0,63}`.
///
/// Names of the execution protocol are in capitals and are constants here; rooms may use further names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(std::borrow::Cow<'static, str>);

macro_rules! event_types {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        impl EventType {
            $($(#[$doc])* pub const $constant: Self = Self(std::borrow::Cow::Borrowed($name));)*
        }
    };
}

event_types! {
    /// A token was checked, once per plan.
    TOKEN_VALIDATION = "TOKEN_VALIDATION";
    /// A step's scope was checked.
    AUTHORIZATION_SCOPE_CHECK = "AUTHORIZATION_SCOPE_CHECK";
    /// A step's limits were checked.
    RESOURCE_LIMIT_CHECK = "RESOURCE_LIMIT_CHECK";
    /// An execution is about to start; it may start only when this event is durable.
    EXECUTION_STARTED = "EXECUTION_STARTED";
    /// What an execution used.
    RESOURCE_USAGE_RECORDED = "RESOURCE_USAGE_RECORDED";
    /// An execution ended, in whatever way; its result may be released only when this event is durable.
    EXECUTION_COMPLETED = "EXECUTION_COMPLETED";
    /// An execution was refused before it started, or ended by a refusal.
    EXECUTION_DENIED = "EXECUTION_DENIED";
    /// An execution was open when the runtime went down; what became of it is not known.
    EXECUTION_LOST = "EXECUTION_LOST";
    /// What was left of a plan after its first failure.
    EXECUTION_ABORTED = "EXECUTION_ABORTED";
    /// A tenant's state was read.
    STATE_READ = "STATE_READ";
    /// A value of a tenant's state was set.
    STATE_SET = "STATE_SET";
    /// A value of a tenant's state was removed.
    STATE_DELETED = "STATE_DELETED";
    /// Keys of a tenant's state were listed.
    STATE_LISTED = "STATE_LISTED";
    /// A client put a blob, and refers to it from now on.
    BLOB_STORED = "BLOB_STORED";
    /// The client that put a blob refers to it no longer.
    BLOB_RELEASED = "BLOB_RELEASED";
    /// A blob that the chain once named was removed.
    BLOB_REMOVED = "BLOB_REMOVED";
    /// The statement about an execution was recorded.
    EXECUTION_PROVENANCE_RECORDED = "execution_provenance_recorded";
}

/// What an event does to the execution that is its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It opens it.
    Starts,
    /// It closes it.
    Ends,
    /// Neither.
    Within,
}

impl EventType {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What such an event does to the execution that is its subject.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.as_str() {
            "EXECUTION_STARTED" => Phase::Starts,
            "EXECUTION_COMPLETED" | "EXECUTION_DENIED" | "EXECUTION_LOST" | "EXECUTION_ABORTED" => Phase::Ends,
            _ => Phase::Within,
        }
    }
}

fn is_event_type(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphabetic()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// What an event is about: `execution:exec_…`, `token:…`, `tenant:…`; printable ASCII without spaces, 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(String);

impl Subject {
    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The execution, where the subject is one.
    #[must_use]
    pub fn execution(&self) -> Option<ExecutionId> {
        self.0.strip_prefix("execution:")?.parse().ok()
    }
}

impl From<&ExecutionId> for Subject {
    fn from(execution: &ExecutionId) -> Self {
        Self(format!("execution:{execution}"))
    }
}

impl From<&TenantId> for Subject {
    fn from(tenant: &TenantId) -> Self {
        Self(format!("tenant:{tenant}"))
    }
}

macro_rules! checked_text {
    ($name:ident, $what:literal, $pattern:literal, $check:expr) => {
        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned().into()))
                } else {
                    Err(IdError { what: $what, pattern: $pattern })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
checked_text!(EventType, "a kind of event", "[A-Za-z][A-Za-z0-9_]{0,63}", is_event_type);
checked_text!(Subject, "an event's subject", "[!-~]{1,255}", |text| {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
});

/// What an event says: two objects that never mix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Deterministic: the same request gives the same claims on every machine.
    pub claims: Object,
    /// What was seen: clocks, process ids, usage.
    pub observations: Object,
}

/// One entry of a tenant's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Whose log.
    pub tenant_id: TenantId,
    /// Its place in the log, from 0, without gaps: the index of its leaf.
    pub event_id: u64,
    /// Its kind.
    pub event_type: EventType,
    /// What it is about.
    pub subject: Subject,
    /// The earlier event of the same log that brought it about.
    pub causation_id: Option<u64>,
    /// What it says.
    pub payload: Payload,
    /// Logical clock of the log: rises with every event.
    pub timestamp: u64,
    /// The machine's clock in microseconds since 1970 (UTC); it may jump.
    pub wall_clock_us: u64,
    /// [`PROTOCOL_VERSION`].
    pub protocol_version: String,
}

/// What brought a new event about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The event with this id.
    Event(u64),
    /// The event at this place, from 0, of the same transaction.
    Within(usize),
}

/// An event that waits for its place: the writer gives id, timestamp and wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its kind.
    pub event_type: EventType,
    /// What it is about.
    pub subject: Subject,
    /// What brought it about.
    pub cause: Option<Cause>,
    /// What it says.
    pub payload: Payload,
}

impl NewEvent {
    /// An event without cause, claims and observations.
    #[must_use]
    pub fn new(event_type: EventType, subject: impl Into<Subject>) -> Self {
        Self { event_type, subject: subject.into(), cause: None, payload: Payload::default() }
    }

    /// Adds a claim: deterministic, part of the execution proof.
    #[must_use]
    pub fn claim(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.payload.claims.insert(key.to_owned(), value.into());
        self
    }

    /// Adds an observation: what was seen this time.
    #[must_use]
    pub fn observe(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.payload.observations.insert(key.to_owned(), value.into());
        self
    }

    /// Names the cause.
    #[must_use]
    pub const fn because(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }
}

/// The part of an entry that does not depend on its place, spelled ahead of time by whoever appends.
#[derive(Debug, Clone)]
pub struct Prepared {
    middle: Vec<u8>,
    subject: Vec<u8>,
}

/// What the writer adds to a [`Prepared`] event.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whose log.
    pub tenant_id: &'a TenantId,
    /// Its place in the log.
    pub event_id: u64,
    /// The earlier event that brought it about.
    pub causation_id: Option<u64>,
    /// Logical clock of the log.
    pub timestamp: u64,
    /// The machine's clock in microseconds since 1970.
    pub wall_clock_us: u64,
}

impl Prepared {
    /// Spells kind, payload and subject.
    ///
    /// # Errors
    /// [`EventError::TooLong`] where no place could make it fit, [`EventError::Malformed`] where it nests too deep.
    pub fn new(event: &NewEvent) -> Result<Self, EventError> {
        Self::spell(&event.event_type, &event.subject, &event.payload)
    }

    fn spell(kind: &EventType, about: &Subject, payload: &Payload) -> Result<Self, EventError> {
        // The entry itself is one level, its payload another.
        let levels = |members: &Object| members.values().try_for_each(|value| value.check_depth_below(3));
        levels(&payload.claims)?;
        levels(&payload.observations)?;
        let mut middle = Vec::with_capacity(256);
        middle.extend_from_slice(b",\"event_type\":");
        canonical::write_text(kind.as_str(), &mut middle);
        middle.extend_from_slice(b",\"payload\":{\"claims\":");
        canonical::write_object(&payload.claims, &mut middle);
        middle.extend_from_slice(b",\"observations\":");
        canonical::write_object(&payload.observations, &mut middle);
        middle.extend_from_slice(b"},\"protocol_version\":\"1.0\",\"subject\":");
        let mut subject = Vec::with_capacity(64);
        canonical::write_text(about.as_str(), &mut subject);
        // The longest tenant and five numbers of 16 digits with their names take less than 300 bytes.
        let bytes = middle.len() + subject.len() + 300;
        if bytes > ENTRY_BYTES_MAX { Err(EventError::TooLong { bytes }) } else { Ok(Self { middle, subject }) }
    }

    /// The entry's bytes at its place.
    ///
    /// # Panics
    /// Where a number of `place` is beyond 53 bits: a writer stops long before.
    #[must_use]
    pub fn at(&self, place: &Place<'_>) -> Vec<u8> {
        let numbers = [place.event_id, place.timestamp, place.wall_clock_us, place.causation_id.unwrap_or(0)];
        assert!(numbers.iter().all(|number| *number <= INTEGER_MAX.unsigned_abs()), "a number beyond 53 bits");
        let mut out = Vec::with_capacity(self.middle.len() + self.subject.len() + 256);
        out.extend_from_slice(b"{\"causation_id\":");
        match place.causation_id {
            Some(cause) => number(cause, &mut out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"event_id\":");
        number(place.event_id, &mut out);
        out.extend_from_slice(&self.middle);
        out.extend_from_slice(&self.subject);
        out.extend_from_slice(b",\"tenant_id\":");
        canonical::write_text(place.tenant_id.as_str(), &mut out);
        out.extend_from_slice(b",\"timestamp\":");
        number(place.timestamp, &mut out);
        out.extend_from_slice(b",\"wall_clock_us\":");
        number(place.wall_clock_us, &mut out);
        out.push(b'}');
        out
    }
}

fn number(value: u64, out: &mut Vec<u8>) {
    let value = Value::try_from(value).expect("numbers of an entry are checked before");
    canonical::write(&value, out);
}

impl Event {
    /// The entry's canonical bytes: what the leaf is the hash of.
    ///
    /// # Errors
    /// [`EventError`]: too long, a number beyond 53 bits, another version, a cause that does not come before.
    pub fn to_entry(&self) -> Result<Vec<u8>, EventError> {
        self.check()?;
        let place = Place {
            tenant_id: &self.tenant_id,
            event_id: self.event_id,
            causation_id: self.causation_id,
            timestamp: self.timestamp,
            wall_clock_us: self.wall_clock_us,
        };
        Ok(Prepared::spell(&self.event_type, &self.subject, &self.payload)?.at(&place))
    }

    /// Reads an entry and refuses every spelling but the canonical one.
    ///
    /// # Errors
    /// [`EventError`], naming the place of what is wrong where there is one.
    pub fn from_entry(bytes: &[u8]) -> Result<Self, EventError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EventError::TooLong { bytes: bytes.len() });
        }
        let event: Self = canonical::decode(bytes)?;
        if event.to_entry()? == bytes { Ok(event) } else { Err(EventError::NotCanonical) }
    }

    fn check(&self) -> Result<(), EventError> {
        if self.protocol_version != PROTOCOL_VERSION {
            return Err(EventError::Version { found: self.protocol_version.clone() });
        }
        let fits = |field, value: u64| match value <= INTEGER_MAX.unsigned_abs() {
            true => Ok(()),
            false => Err(EventError::TooLarge { field }),
        };
        fits("event_id", self.event_id)?;
        fits("timestamp", self.timestamp)?;
        fits("wall_clock_us", self.wall_clock_us)?;
        match self.causation_id {
            Some(causation_id) if causation_id >= self.event_id => {
                Err(EventError::Causation { event_id: self.event_id, causation_id })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
