//! The ledger's notary: signed heads, proofs, the registry of statements, and exports, over what is durable.

use remand_model::event::{Cause, Event, EventError};
use remand_model::{Digest, EventType, ExecutionId, Subject, TenantId};

use crate::bundle::ExecutionProof;
use crate::chain::ChainError;
use crate::checkpoint::{AllegedCheckpoint, CheckpointError, CommittedHead, Origin, SignedCheckpoint};
use crate::dsse::{Envelope, EnvelopeError};
use crate::export::ExportSource;
use crate::keys::{AttestKey, AttestSigner, LogKey, LogSigner};
use crate::merkle::{self, MerkleError, ProveError, prove_consistency, prove_inclusion};
use crate::proof::{ConsistencyProof, TlogProof};
use crate::provenance::{AuditPosition, Claims, Observations, Seen, Statement, StatementError};
use crate::record::{RecordError, Recorded};
use crate::store::{AppendError, Condition, Filter, Ledger, LogTree, StateKey, StateOp, StoreError, Transaction};
use crate::witness_heads::WitnessHeads;

/// Where envelopes are kept, by execution.
const PROVENANCE_NAMESPACE: &str = "ledger.provenance";
/// Where the newest signed checkpoint is kept.
const NOTES_NAMESPACE: &str = "derived.notes";

/// Why the notary cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// The tenant has no log yet.
    #[error("tenant {0} has no log yet; it begins with its first event")]
    NoLog(TenantId),
    /// The execution is not recorded.
    #[error("no statement about {0} is recorded; it has not ended, or belongs to another tenant")]
    NotRecorded(ExecutionId),
    /// The event is not there.
    #[error("the log has no event {0}")]
    NoEvent(u64),
    /// The key or checkpoint is another tenant's.
    #[error("{found} is not the log of {tenant}")]
    OtherLog {
        /// The tenant asked for.
        tenant: TenantId,
        /// The origin of the key or checkpoint.
        found: String,
    },
    /// It could not be recorded.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The question makes no sense for this tree.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// A checkpoint does not hold.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A statement cannot be written.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A stored envelope does not hold.
    #[error("the stored envelope of {execution} does not hold; restore it from a backup or an export")]
    Envelope {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
    /// A stored statement is not the recorded one.
    #[error("event {event_id} and its stored statement do not fit together; restore it from a backup or an export")]
    Record {
        /// The event.
        event_id: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// A statement names a tree that the log never had.
    #[error("the statement recorded by event {event_id} names another root than the log had at {size} entries")]
    StatementRoot {
        /// The event.
        event_id: u64,
        /// The size that it names.
        size: u64,
    },
    /// An event cannot be read.
    #[error("a recorded event cannot be read")]
    Event(#[from] EventError),
    /// The log is not what was signed before.
    #[error(
        "a checkpoint over {signed} entries was signed before, and this log of {size} does not extend it: it was rolled \
         back or rewritten; restore it, or begin a log with a new origin"
    )]
    NotExtended {
        /// Entries that were signed.
        signed: u64,
        /// Entries that are here.
        size: u64,
    },
}

impl From<ProveError<StoreError>> for NotaryError {
    fn from(why: ProveError<StoreError>) -> Self {
        match why {
            ProveError::Merkle(why) => Self::Merkle(why),
            ProveError::Source(why) => Self::Store(why),
        }
    }
}

/// A statement as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// What it says.
    pub statement: Statement,
    /// The signed envelope around it.
    pub envelope: Envelope,
    /// The event that binds it to the log.
    pub event_id: u64,
}

/// What [`Ledger::verify_provenance_chain`] found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenanceChain {
    /// Recorded statements.
    pub records: u64,
    /// Events of the log.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// What is recorded about an execution, and by whom.
#[derive(Debug)]
pub struct Recording<'a> {
    /// What would be the same again.
    pub claims: Claims,
    /// What was seen this time.
    pub seen: Seen,
    /// The event that brought the record about: the execution's completion.
    pub cause: Option<u64>,
    /// The log's origin.
    pub origin: &'a Origin,
    /// Who signs.
    pub signer: &'a AttestSigner,
}

/// A signed statement that is not kept yet.
#[derive(Debug)]
#[must_use = "what is not kept is not stated"]
pub struct SignedStatement {
    /// SHA-256 of the statement.
    pub sha256: Digest,
    /// What keeps its envelope.
    pub ops: [StateOp; 2],
}

fn recorded_by(event: &Event) -> Result<Option<Recorded>, NotaryError> {
    Recorded::of(event).map_err(|source| NotaryError::Record { event_id: event.event_id, source })
}

fn envelope_key(execution: &ExecutionId) -> StateKey {
    StateKey::reserved(PROVENANCE_NAMESPACE, execution.as_str()).expect("an execution's id is a key")
}

fn checkpoint_key() -> StateKey {
    StateKey::new(NOTES_NAMESPACE, "checkpoint").expect("a fixed key")
}

impl Ledger {
    fn notary_tree(&self, tenant: &TenantId) -> Result<LogTree, NotaryError> {
        self.tree(tenant).ok_or_else(|| NotaryError::NoLog(tenant.clone()))
    }

    /// Signs the newest durable head of a tenant's log. No I/O.
    ///
    /// # Errors
    /// [`NotaryError::NoLog`], [`NotaryError::OtherLog`] where the key is another log's.
    pub fn sign_checkpoint(&self, tenant: &TenantId, signer: &LogSigner) -> Result<SignedCheckpoint, NotaryError> {
        check_tenant(tenant, signer.key().name().as_str())?;
        Ok(signer.sign(&CommittedHead::from(&self.notary_tree(tenant)?)))
    }

    /// Keeps a signed checkpoint, with its cosignatures, as the newest of its log.
    ///
    /// # Errors
    /// [`NotaryError::OtherLog`], [`NotaryError::Append`].
    pub fn keep_checkpoint(&self, tenant: &TenantId, checkpoint: &SignedCheckpoint) -> Result<(), NotaryError> {
        check_tenant(tenant, checkpoint.checkpoint().origin.as_str())?;
        let value = checkpoint.to_string().into_bytes();
        let transaction = Transaction::new(tenant.clone()).op(StateOp::Set { key: checkpoint_key(), value });
        let _ack = self.append(transaction)?;
        Ok(())
    }

    /// The checkpoint kept last.
    ///
    /// # Errors
    /// [`NotaryError::Store`], [`NotaryError::Checkpoint`] where it does not hold under `key`.
    pub fn kept_checkpoint(&self, tenant: &TenantId, key: &LogKey) -> Result<Option<SignedCheckpoint>, NotaryError> {
        let kept = self.state(tenant, &checkpoint_key())?;
        Ok(kept.map(|bytes| AllegedCheckpoint::parse(&bytes)?.verify(key)).transpose()?)
    }

    /// Checks that a tenant's log extends a checkpoint signed earlier: the kept one, an operator's, a witness's.
    ///
    /// # Errors
    /// [`NotaryError::NotExtended`]: the log was rolled back or rewritten; nothing may be appended to it.
    pub fn check_extends(&self, tenant: &TenantId, earlier: &SignedCheckpoint) -> Result<(), NotaryError> {
        let says = earlier.checkpoint();
        check_tenant(tenant, says.origin.as_str())?;
        let size = self.head(tenant).map_or(0, |head| head.size);
        let refuse = NotaryError::NotExtended { signed: says.size, size };
        if says.size > size {
            return Err(refuse);
        }
        let root = match self.tree(tenant) {
            Some(mut tree) => merkle::root(&mut tree, says.size)?,
            None => merkle::empty_root(),
        };
        if root == says.root { Ok(()) } else { Err(refuse) }
    }

    /// The proof that an event stands under a checkpoint of its log.
    ///
    /// # Errors
    /// [`NotaryError`].
    pub fn inclusion_proof(
        &self,
        tenant: &TenantId,
        event_id: u64,
        checkpoint: &SignedCheckpoint,
    ) -> Result<TlogProof, NotaryError> {
        check_tenant(tenant, checkpoint.checkpoint().origin.as_str())?;
        let hashes = prove_inclusion(&mut self.notary_tree(tenant)?, event_id, checkpoint.checkpoint().size)?;
        Ok(TlogProof::new(event_id, hashes, checkpoint))
    }

    /// The proof that a checkpoint extends the first `old` events of its log; also the request to a witness.
    ///
    /// # Errors
    /// [`NotaryError`].
    pub fn consistency_proof(
        &self,
        tenant: &TenantId,
        old: u64,
        checkpoint: &SignedCheckpoint,
    ) -> Result<ConsistencyProof, NotaryError> {
        check_tenant(tenant, checkpoint.checkpoint().origin.as_str())?;
        let hashes = prove_consistency(&mut self.notary_tree(tenant)?, old, checkpoint.checkpoint().size)?;
        Ok(ConsistencyProof::new(old, hashes, checkpoint))
    }

    /// Signs a statement: its hash, for an event to carry, and the operations that keep it beside that event; refused where
    /// there is one already.
    ///
    /// # Errors
    /// [`NotaryError::Statement`], [`NotaryError::OtherLog`].
    pub fn sign_statement(&self, recording: Recording<'_>) -> Result<SignedStatement, NotaryError> {
        let tenant = &recording.claims.tenant_id;
        check_tenant(tenant, recording.origin.name().as_str())?;
        let (tree_size, root_hash) = self.head(tenant).map_or((0, merkle::empty_root()), |head| (head.size, head.root));
        let audit = AuditPosition { origin: recording.origin.clone(), tree_size, root_hash };
        let key = envelope_key(&recording.claims.execution_id);
        let observations = Observations { seen: recording.seen, audit };
        let statement = Statement { claims: recording.claims, observations }.to_bytes()?;
        let sha256 = Digest::of(&statement);
        let value = Envelope::sign(statement, recording.signer).to_bytes();
        let absent = StateOp::Require { key: key.clone(), condition: Condition::Absent };
        Ok(SignedStatement { sha256, ops: [absent, StateOp::Set { key, value }] })
    }

    /// The transaction that records a statement: its event and its envelope, together; refused where there is one already.
    /// More events and operations can be added before it is submitted.
    ///
    /// # Errors
    /// [`NotaryError::Statement`], [`NotaryError::OtherLog`].
    pub fn provenance_transaction(&self, recording: Recording<'_>) -> Result<Transaction, NotaryError> {
        let (tenant, execution) = (recording.claims.tenant_id.clone(), recording.claims.execution_id.clone());
        let cause = recording.cause.map(Cause::Event);
        let SignedStatement { sha256, ops } = self.sign_statement(recording)?;
        let mut event = Statement::recorded_event(&execution, sha256);
        event.cause = cause;
        Ok(ops.into_iter().fold(Transaction::new(tenant).event(event), Transaction::op))
    }

    /// Records a statement about an execution and returns the event that binds it, once both are durable.
    ///
    /// # Errors
    /// [`NotaryError`]; then nothing is recorded.
    pub fn record_provenance(&self, recording: Recording<'_>) -> Result<u64, NotaryError> {
        let ack = self.append(self.provenance_transaction(recording)?)?;
        Ok(ack.events[0].event_id)
    }

    /// The recorded statement about an execution.
    ///
    /// # Errors
    /// [`NotaryError`]; damage is an error, absence is not.
    pub fn get_provenance(
        &self,
        tenant: &TenantId,
        execution: &ExecutionId,
    ) -> Result<Option<Provenance>, NotaryError> {
        for kind in [EventType::EXECUTION_PROVENANCE_RECORDED, EventType::EXECUTION_COMPLETED] {
            let subject = Some(Subject::from(execution));
            let filter = Filter { kind: Some(kind), subject, limit: 1, ..Filter::default() };
            let Some(event) = self.query(tenant, &filter)?.pop() else { continue };
            if let Some(recorded) = recorded_by(&event)? {
                return self.read_provenance(tenant, &recorded, None).map(Some);
            }
        }
        Ok(None)
    }

    fn read_provenance(
        &self,
        tenant: &TenantId,
        recorded: &Recorded,
        trusted: Option<&[AttestKey]>,
    ) -> Result<Provenance, NotaryError> {
        let event_id = recorded.event_id;
        let unfit = |source| NotaryError::Record { event_id, source };
        let execution = &recorded.execution_id;
        let damaged = |source| NotaryError::Envelope { execution: execution.clone(), source };
        let bytes = self.state(tenant, &envelope_key(execution))?;
        let bytes = bytes.ok_or_else(|| NotaryError::NotRecorded(execution.clone()))?;
        let envelope = Envelope::parse(&bytes).map_err(damaged)?;
        let payload = envelope.verify(trusted).map_err(damaged)?;
        // The log's own origin is in the statement; that its tenant is this one is all that the store can check.
        let origin = Statement::parse(payload)?.observations.audit.origin;
        check_tenant(tenant, origin.name().as_str())?;
        let statement = recorded.bind(payload, &origin).map_err(unfit)?;
        Ok(Provenance { statement, envelope, event_id })
    }

    /// Checks a tenant's whole chain and every statement recorded in it: envelope, hash, place, and the tree it names.
    /// Without `trusted` keys an envelope need only be undamaged.
    ///
    /// # Errors
    /// [`NotaryError`], naming the first bad event.
    pub fn verify_provenance_chain(
        &self,
        tenant: &TenantId,
        trusted: Option<&[AttestKey]>,
    ) -> Result<ProvenanceChain, NotaryError> {
        let mut records = Vec::new();
        let whole = self.replay(tenant, |event| records.extend(recorded_by(&event).transpose()))?;
        let mut found = ProvenanceChain { records: 0, size: whole.size, root: whole.root };
        let Some(mut tree) = self.tree(tenant) else { return Ok(found) };
        for recorded in records {
            let recorded = recorded?;
            let audit = self.read_provenance(tenant, &recorded, trusted)?.statement.observations.audit;
            if merkle::root(&mut tree, audit.tree_size)? != audit.root_hash {
                return Err(NotaryError::StatementRoot { event_id: recorded.event_id, size: audit.tree_size });
            }
            found.records += 1;
        }
        Ok(found)
    }

    /// The proof of an execution under a checkpoint of its log: self-contained, to be verified offline.
    ///
    /// # Errors
    /// [`NotaryError`].
    pub fn execution_proof(
        &self,
        tenant: &TenantId,
        execution: &ExecutionId,
        checkpoint: &SignedCheckpoint,
    ) -> Result<ExecutionProof, NotaryError> {
        let found = self.get_provenance(tenant, execution)?;
        let found = found.ok_or_else(|| NotaryError::NotRecorded(execution.clone()))?;
        let proof = self.inclusion_proof(tenant, found.event_id, checkpoint)?;
        let entries = self.notary_tree(tenant)?.entries(found.event_id, found.event_id + 1)?;
        let entry = entries.into_iter().next().ok_or(NotaryError::NoEvent(found.event_id))?;
        Ok(ExecutionProof::new(execution.clone(), found.envelope, proof, entry))
    }

    /// A tenant's log as the source of an export.
    ///
    /// # Errors
    /// [`NotaryError::NoLog`].
    pub fn export_source(&self, tenant: &TenantId) -> Result<LedgerExport<'_>, NotaryError> {
        Ok(LedgerExport { ledger: self, tenant: tenant.clone(), tree: self.notary_tree(tenant)? })
    }

    /// The heads of others' logs that this node witnesses, kept beside the log of `tenant`, the node's own.
    #[must_use]
    pub fn witness_heads(&self, tenant: TenantId) -> WitnessHeads<'_> {
        WitnessHeads::new(self, tenant)
    }
}

fn check_tenant(tenant: &TenantId, origin: &str) -> Result<(), NotaryError> {
    match origin.parse::<Origin>() {
        Ok(found) if found.tenant() == tenant => Ok(()),
        _ => Err(NotaryError::OtherLog { tenant: tenant.clone(), found: origin.to_owned() }),
    }
}

/// A tenant's log as the source of an export.
pub struct LedgerExport<'a> {
    ledger: &'a Ledger,
    tenant: TenantId,
    tree: LogTree,
}

impl ExportSource for LedgerExport<'_> {
    type Error = StoreError;

    fn entries(&mut self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.tree.entries(from, to)
    }

    fn envelope(&mut self, execution: &ExecutionId) -> Result<Option<Vec<u8>>, StoreError> {
        self.ledger.state(&self.tenant, &envelope_key(execution))
    }
}
