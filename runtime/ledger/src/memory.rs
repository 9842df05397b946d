//! A whole log in memory: for tools, examples and tests that need a log without a database. Nothing in it is durable.

use std::collections::BTreeMap;
use std::convert::Infallible;

use remand_model::event::{Cause, Event, EventError, NewEvent};
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION};

use crate::bundle::ExecutionProof;
use crate::checkpoint::{CommittedHead, Origin, SignedCheckpoint};
use crate::dsse::Envelope;
use crate::export::ExportSource;
use crate::keys::{AttestSigner, LogSigner};
use crate::merkle::{Frontier, MemoryTree, leaf_hash, prove_consistency, prove_inclusion};
use crate::proof::{ConsistencyProof, TlogProof};
use crate::provenance::{AuditPosition, Claims, Observations, Seen, Statement, StatementError};

/// A log in memory.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    origin: Origin,
    entries: Vec<Vec<u8>>,
    frontier: Frontier,
    tree: MemoryTree,
    envelopes: BTreeMap<ExecutionId, (u64, Envelope)>,
}

/// Why a statement could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The event has no entry.
    #[error("the event cannot be an entry")]
    Event(#[from] EventError),
    /// The statement has no spelling.
    #[error("the statement cannot be written")]
    Statement(#[from] StatementError),
}

impl MemoryLog {
    /// The empty log of this origin.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        let (frontier, tree) = (Frontier::new(), MemoryTree::default());
        Self { origin, entries: Vec::new(), frontier, tree, envelopes: BTreeMap::new() }
    }

    /// The log as it was at `size`, to go on in another way.
    #[must_use]
    pub fn fork(&self, size: u64) -> Self {
        let mut fork = Self::new(self.origin.clone());
        self.entries.iter().take(size as usize).for_each(|entry| fork.append_entry(entry.clone()));
        let kept = self.envelopes.iter().filter(|(_, (event_id, _))| *event_id < size);
        fork.envelopes = kept.map(|(execution, record)| (execution.clone(), record.clone())).collect();
        fork
    }

    /// Entries in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// Appends an event at the given time in microseconds since 1970 and returns its id.
    ///
    /// # Errors
    /// [`EventError`].
    pub fn append(&mut self, event: NewEvent, wall_clock_us: u64) -> Result<u64, EventError> {
        let event_id = self.size();
        let causation_id = event.cause.map(|cause| match cause {
            Cause::Event(id) => id,
            Cause::Within(place) => place as u64,
        });
        let entry = Event {
            tenant_id: self.origin.tenant().clone(),
            event_id,
            event_type: event.event_type,
            subject: event.subject,
            causation_id,
            payload: event.payload,
            timestamp: event_id,
            wall_clock_us,
            protocol_version: PROTOCOL_VERSION.to_owned(),
        };
        self.append_entry(entry.to_entry()?);
        Ok(event_id)
    }

    /// Appends any bytes: what a log of ours would never hold, for tests of those who must refuse it.
    pub fn append_entry(&mut self, entry: Vec<u8>) {
        let leaf = leaf_hash(&entry);
        self.frontier.append(leaf);
        self.tree.append(leaf);
        self.entries.push(entry);
    }

    /// Records a statement about an execution at the given time in microseconds since 1970: signs it and appends the event that binds it. Returns the event's id.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn record(
        &mut self,
        claims: Claims,
        seen: Seen,
        wall_clock_us: u64,
        signer: &AttestSigner,
    ) -> Result<u64, MemoryError> {
        let audit =
            AuditPosition { origin: self.origin.clone(), tree_size: self.size(), root_hash: self.frontier.root() };
        let observations = Observations { seen, audit };
        let execution = claims.execution_id.clone();
        let bytes = Statement { claims, observations }.to_bytes()?;
        let event_id = self.append(Statement::recorded_event(&execution, Digest::of(&bytes)), wall_clock_us)?;
        self.envelopes.insert(execution, (event_id, Envelope::sign(bytes, signer)));
        Ok(event_id)
    }

    /// The head of the log; memory counts as committed, because nothing else of it survives either.
    pub fn head(&self) -> CommittedHead {
        CommittedHead::after_commit(&self.frontier)
    }

    /// The head as it was at `size`.
    ///
    /// # Panics
    /// Where the log is smaller.
    pub fn head_at(&self, size: u64) -> CommittedHead {
        let frontier = Frontier::from_source(&mut self.tree.clone(), size);
        CommittedHead::after_commit(&frontier.expect("the log has that many entries"))
    }

    /// The proof that event `index` stands under a checkpoint of this log.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn inclusion(&mut self, index: u64, checkpoint: &SignedCheckpoint) -> TlogProof {
        let hashes = prove_inclusion(&mut self.tree, index, checkpoint.checkpoint().size);
        TlogProof::new(index, hashes.expect("the event stands under the checkpoint"), checkpoint)
    }

    /// The proof that a checkpoint of this log extends its first `old` entries.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn consistency(&mut self, old: u64, checkpoint: &SignedCheckpoint) -> ConsistencyProof {
        let hashes = prove_consistency(&mut self.tree, old, checkpoint.checkpoint().size);
        ConsistencyProof::new(old, hashes.expect("the checkpoint is not older"), checkpoint)
    }

    /// The proof of a recorded execution, under the log's head.
    #[must_use]
    pub fn execution_proof(&mut self, execution: &ExecutionId, signer: &LogSigner) -> Option<ExecutionProof> {
        let (index, envelope) = self.envelopes.get(execution).cloned()?;
        let proof = self.inclusion(index, &signer.sign(&self.head()));
        let entry = self.entries.get(usize::try_from(index).ok()?)?.clone();
        Some(ExecutionProof::new(execution.clone(), envelope, proof, entry))
    }
}

impl ExportSource for MemoryLog {
    type Error = Infallible;

    fn entries(&mut self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, Infallible> {
        let end = to.min(self.size()) as usize;
        Ok(self.entries.get(from as usize..end).unwrap_or_default().to_vec())
    }

    fn envelope(&mut self, execution: &ExecutionId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.envelopes.get(execution).map(|(_, envelope)| envelope.to_bytes()))
    }
}
