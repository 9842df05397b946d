//! The event that records a statement, and whether a statement is the recorded one.
//!
//! A statement is recorded by an event of its own, or by the one that completes its execution: a plan's step has five events
//! and no sixth.

use remand_model::event::Event;
use remand_model::{Digest, EventType, ExecutionId};

use crate::checkpoint::Origin;
use crate::provenance::{EXECUTION_MEMBER, STATEMENT_MEMBER, Statement, StatementError};

/// Why a statement and its record do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The entry does not record a statement.
    #[error("the entry is no well-formed record of a statement")]
    NoRecord,
    /// The statement is another one than the log recorded.
    #[error("the log recorded the statement with hash {recorded}, this one has {found}")]
    OtherStatement {
        /// The hash in the log.
        recorded: Digest,
        /// The hash of the statement at hand.
        found: Digest,
    },
    /// The statement is malformed.
    #[error("the statement is malformed")]
    Statement(#[from] StatementError),
    /// The statement says something else than its record or its log.
    #[error("the statement names another {0} than the log that recorded it")]
    Mismatch(&'static str),
}

/// What an event says that records a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The event.
    pub event_id: u64,
    /// The execution.
    pub execution_id: ExecutionId,
    /// SHA-256 of its statement.
    pub statement_sha256: Digest,
}

/// Whether an event of this kind, with these canonical observations, may record a statement; the event itself says whether.
pub(crate) fn may_record(event_type: &[u8], observations: &[u8]) -> bool {
    let is = |kind: EventType| event_type == kind.as_str().as_bytes();
    let names = || observations.windows(STATEMENT_MEMBER.len()).any(|name| name == STATEMENT_MEMBER.as_bytes());
    is(EventType::EXECUTION_PROVENANCE_RECORDED) || (is(EventType::EXECUTION_COMPLETED) && names())
}

impl Recorded {
    /// What the event records; nothing where it is no record.
    ///
    /// # Errors
    /// [`RecordError::NoRecord`] where it is a record and malformed.
    pub fn of(event: &Event) -> Result<Option<Self>, RecordError> {
        let is_own = event.event_type == EventType::EXECUTION_PROVENANCE_RECORDED;
        let is_end = event.event_type == EventType::EXECUTION_COMPLETED
            && event.payload.observations.contains_key(STATEMENT_MEMBER);
        if is_own || is_end { Self::from_event(event).map(Some) } else { Ok(None) }
    }

    /// Reads an event that records a statement.
    ///
    /// # Errors
    /// [`RecordError::NoRecord`].
    pub fn from_event(event: &Event) -> Result<Self, RecordError> {
        let subject = event.subject.execution();
        let stated = event.payload.claims.get(EXECUTION_MEMBER).map(|value| value.as_text());
        let execution = match &event.event_type {
            own if *own == EventType::EXECUTION_PROVENANCE_RECORDED => {
                let stated = stated.flatten().and_then(|text| text.parse::<ExecutionId>().ok());
                stated.filter(|stated| subject.as_ref() == Some(stated))
            }
            end if *end == EventType::EXECUTION_COMPLETED => subject,
            _ => None,
        };
        let statement = event.payload.observations.get(STATEMENT_MEMBER).and_then(|value| value.as_text());
        let statement = statement.and_then(|text| text.parse().ok());
        match (execution, statement) {
            (Some(execution_id), Some(statement_sha256)) => {
                Ok(Self { event_id: event.event_id, execution_id, statement_sha256 })
            }
            _ => Err(RecordError::NoRecord),
        }
    }

    /// Checks that `statement` is the recorded one and speaks of this log and of a tree before its record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn bind(&self, statement: &[u8], origin: &Origin) -> Result<Statement, RecordError> {
        let found = Digest::of(statement);
        if found != self.statement_sha256 {
            return Err(RecordError::OtherStatement { recorded: self.statement_sha256, found });
        }
        let statement = Statement::parse(statement)?;
        let audit = &statement.observations.audit;
        let checks = [
            ("execution", statement.claims.execution_id == self.execution_id),
            ("tenant", statement.claims.tenant_id == *origin.tenant()),
            ("origin", audit.origin == *origin),
            ("tree size", audit.tree_size <= self.event_id),
        ];
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(RecordError::Mismatch(what)),
            None => Ok(statement),
        }
    }
}
