//! The execution proof that a user is handed: envelope, inclusion proof and entry in one JSON document, verified offline.
//!
//! The `.tlog-proof` text inside stays the authority; the document only keeps together what belongs together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use remand_model::canonical::{self, CanonError, Value};
use remand_model::event::{Event, EventError};
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION};

use crate::checkpoint::{CheckpointError, Origin};
use crate::dsse::{Envelope, EnvelopeError, object};
use crate::keys::AttestKey;
use crate::policy_file::{AcceptedCheckpoint, Policy};
use crate::proof::{ProofError, TlogProof};
use crate::provenance::Statement;
use crate::record::{RecordError, Recorded};

/// The longest execution proof in bytes.
pub const BUNDLE_BYTES_MAX: usize = 4 << 20;

/// Whom a verifier trusts, from wherever it keeps that: never from what it verifies.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Logs, witnesses and the quorum.
    pub policy: Policy,
    /// The one log that is asked for, where the policy knows several.
    pub origin: Option<Origin>,
    /// Who may sign envelopes. Without keys an envelope must be undamaged, and the log alone vouches for its statement.
    pub attest: Option<Vec<AttestKey>>,
}

/// A key that is trusted for two purposes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key of {0} is given for two purposes; every purpose needs a key of its own")]
pub struct SharedKey(pub String);

impl Trust {
    /// Trust in one log's key alone.
    #[must_use]
    pub fn in_policy(policy: Policy) -> Self {
        Self { policy, origin: None, attest: None }
    }

    /// Names the one log that is asked for.
    #[must_use]
    pub fn for_origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Names who may sign envelopes.
    ///
    /// # Errors
    /// [`SharedKey`] where one of them is a log's or a witness's key.
    pub fn with_attest(mut self, keys: Vec<AttestKey>) -> Result<Self, SharedKey> {
        check_purposes(&self.policy, &keys)?;
        self.attest = Some(keys);
        Ok(self)
    }

    pub(crate) fn check_origin(&self, found: &Origin) -> Result<(), CheckpointError> {
        match &self.origin {
            Some(expected) if expected != found => {
                Err(CheckpointError::OtherLog { found: found.to_string(), expected: expected.to_string() })
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn check_purposes(policy: &Policy, attest: &[AttestKey]) -> Result<(), SharedKey> {
    let logs = policy.logs().map(|key| key.public());
    let others: Vec<_> = logs.chain(policy.witnesses().map(|(_, key, _)| key.public())).collect();
    let shared = attest.iter().find(|key| others.iter().any(|other| other.same_key(key.public())));
    shared.map_or(Ok(()), |key| Err(SharedKey(key.name().to_string())))
}

/// Why an execution proof does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Too long, or not of the document's form.
    #[error("the document is no execution proof: {0}")]
    Form(&'static str),
    /// Not JSON.
    #[error("the document is no canonical JSON")]
    Json(#[from] CanonError),
    /// The envelope does not hold.
    #[error("the envelope does not hold")]
    Envelope(#[from] EnvelopeError),
    /// The inclusion proof does not hold.
    #[error("the inclusion proof does not hold")]
    Proof(#[from] ProofError),
    /// The entry is no event.
    #[error("the entry is no event")]
    Event(#[from] EventError),
    /// The checkpoint is of another log.
    #[error("the checkpoint is of no log that is asked for")]
    Origin(#[from] CheckpointError),
    /// The statement is not the recorded one.
    #[error("the statement is not what the log recorded")]
    Record(#[from] RecordError),
    /// The parts speak of different things.
    #[error("the parts of the proof name a different {0}")]
    Mismatch(&'static str),
}

/// What a verified execution proof shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// The statement, vouched for by the log.
    pub statement: Statement,
    /// SHA-256 over its claims.
    pub proof_hash: Digest,
    /// The log.
    pub origin: Origin,
    /// The event that records it.
    pub event_id: u64,
    /// The checkpoint, with the witnesses that cosigned.
    pub checkpoint: AcceptedCheckpoint,
    /// Whether a trusted attestation key signed the envelope; otherwise the log alone vouches.
    pub attested: bool,
}

/// An execution proof, well formed and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionProof {
    execution_id: ExecutionId,
    envelope: Envelope,
    proof: TlogProof,
    entry: Vec<u8>,
}

impl ExecutionProof {
    /// Puts a proof together; `entry` is the event that recorded the statement.
    #[must_use]
    pub const fn new(execution_id: ExecutionId, envelope: Envelope, proof: TlogProof, entry: Vec<u8>) -> Self {
        Self { execution_id, envelope, proof, entry }
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`BundleError`]: too long, not JSON, or of another form.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::Form("it is too long"));
        }
        // People reformat JSON, so that whitespace is free here; nothing inside of it is.
        let value = canonical::parse(bytes)?;
        if value.as_object().is_none_or(|members| members.len() != 5) {
            return Err(BundleError::Form("it has other members"));
        }
        let text = |name| value.get(name).and_then(Value::as_text).ok_or(BundleError::Form("a member is missing"));
        if text("protocol_version")? != PROTOCOL_VERSION {
            return Err(BundleError::Form("it has another protocol version"));
        }
        let execution_id = text("execution_id")?.parse().map_err(|_| BundleError::Form("execution_id is none"))?;
        let envelope = Envelope::from_value(value.get("dsse").ok_or(BundleError::Form("dsse is missing"))?)?;
        let proof = TlogProof::parse(text("tlog_proof")?.as_bytes())?;
        let entry = STANDARD.decode(text("event")?).map_err(|_| BundleError::Form("event is no base64"))?;
        Ok(Self { execution_id, envelope, proof, entry })
    }

    /// The document's canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(&object([
            ("protocol_version", Value::from(PROTOCOL_VERSION)),
            ("execution_id", Value::from(self.execution_id.as_str())),
            ("dsse", self.envelope.to_value()),
            ("tlog_proof", Value::from(self.proof.to_string())),
            ("event", Value::from(STANDARD.encode(&self.entry))),
        ]))
    }

    /// The inclusion proof, not verified.
    #[must_use]
    pub const fn tlog_proof(&self) -> &TlogProof {
        &self.proof
    }

    /// Checks everything: checkpoint, inclusion, event, statement's hash, envelope, and that all speak of the same.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn verify(&self, trust: &Trust) -> Result<Verdict, BundleError> {
        let checkpoint = self.proof.verify(&self.entry, &trust.policy)?;
        let origin: Origin = checkpoint.signed().checkpoint().origin.as_str().parse()?;
        trust.check_origin(&origin)?;
        let event = Event::from_entry(&self.entry)?;
        let recorded = Recorded::from_event(&event)?;
        let checks = [
            ("event", event.event_id == self.proof.index()),
            ("tenant", event.tenant_id == *origin.tenant()),
            ("execution", recorded.execution_id == self.execution_id),
        ];
        if let Some((what, _)) = checks.into_iter().find(|(_, holds)| !holds) {
            return Err(BundleError::Mismatch(what));
        }
        let statement = recorded.bind(self.envelope.verify(trust.attest.as_deref())?, &origin)?;
        let proof_hash = statement.claims.proof_hash();
        let attested = trust.attest.is_some();
        Ok(Verdict { statement, proof_hash, origin, event_id: event.event_id, checkpoint, attested })
    }
}

/// Reads and verifies an execution proof, with nothing but its bytes and the trust.
///
/// # Errors
/// [`BundleError`].
pub fn verify_proof(bytes: &[u8], trust: &Trust) -> Result<Verdict, BundleError> {
    ExecutionProof::parse(bytes)?.verify(trust)
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
