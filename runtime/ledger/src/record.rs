//! The event that records a statement, and whether a statement is the recorded one.

use remand_model::event::Event;
use remand_model::{Digest, EventType, ExecutionId};

use crate::checkpoint::Origin;
use crate::provenance::{EXECUTION_MEMBER, STATEMENT_MEMBER, Statement, StatementError};

/// Why a statement and its record do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The entry does not record a statement.
    #[error("the entry is no well-formed {} event", EventType::EXECUTION_PROVENANCE_RECORDED)]
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

/// What an `execution_provenance_recorded` event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The event.
    pub event_id: u64,
    /// The execution.
    pub execution_id: ExecutionId,
    /// SHA-256 of its statement.
    pub statement_sha256: Digest,
}

impl Recorded {
    /// Reads the event.
    ///
    /// # Errors
    /// [`RecordError::NoRecord`].
    pub fn from_event(event: &Event) -> Result<Self, RecordError> {
        let execution = event.payload.claims.get(EXECUTION_MEMBER).and_then(|value| value.as_text());
        let execution = execution.and_then(|text| text.parse::<ExecutionId>().ok());
        let statement = event.payload.observations.get(STATEMENT_MEMBER).and_then(|value| value.as_text());
        let statement = statement.and_then(|text| text.parse().ok());
        let (Some(execution_id), Some(statement_sha256)) = (execution, statement) else {
            return Err(RecordError::NoRecord);
        };
        let fits = event.event_type == EventType::EXECUTION_PROVENANCE_RECORDED
            && event.subject.execution().as_ref() == Some(&execution_id);
        if fits {
            Ok(Self { event_id: event.event_id, execution_id, statement_sha256 })
        } else {
            Err(RecordError::NoRecord)
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
