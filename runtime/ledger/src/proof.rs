//! Proofs that travel as files: `.tlog-proof` (C2SP tlog-proof) and `.tlog-consistency` (the body of add-checkpoint).
//!
//! Reading one shows only that it is well formed. [`TlogProof::verify`] ties one entry to a checkpoint that a policy
//! accepts, without a network, a database or the daemon.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use remand_model::Digest;

use crate::checkpoint::{AllegedCheckpoint, CheckpointError, SignedCheckpoint, hash_text, parse_decimal, parse_hash};
use crate::merkle::{MerkleError, leaf_hash, verify_consistency, verify_inclusion};
use crate::note::NOTE_BYTES_MAX;
use crate::policy_file::{AcceptError, AcceptedCheckpoint, Policy};

/// The first line of a proof file.
pub const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes in a proof: one for each level of a tree of fewer than 2^63 leaves, as add-checkpoint allows.
pub const HASH_LINES_MAX: usize = 63;
/// The longest `extra` line of a proof file in bytes.
const EXTRA_BYTES_MAX: usize = 16_384;
/// The longest proof file in bytes.
pub const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + EXTRA_BYTES_MAX + 8192;

/// Why bytes are no proof, or not one that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More than [`PROOF_BYTES_MAX`] bytes, or not UTF-8.
    #[error("the proof is no text of at most {PROOF_BYTES_MAX} bytes")]
    NotText,
    /// The head is not of the known form.
    #[error("line {0} of the proof is malformed")]
    Line(usize),
    /// More than [`HASH_LINES_MAX`] hashes.
    #[error("the proof has more than {HASH_LINES_MAX} hashes")]
    TooLong,
    /// Its checkpoint is malformed.
    #[error("the proof's checkpoint is malformed")]
    Checkpoint(#[from] CheckpointError),
    /// Its checkpoint is not accepted.
    #[error("the proof's checkpoint is not accepted")]
    Accept(#[from] AcceptError),
    /// Its hashes lead elsewhere.
    #[error("the proof does not hold")]
    Merkle(#[from] MerkleError),
}

/// A proof that one entry stands in a log, well formed and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    index: u64,
    hashes: Vec<Digest>,
    extra: Option<Vec<u8>>,
    checkpoint: AllegedCheckpoint,
}

impl TlogProof {
    /// Puts a proof together.
    #[must_use]
    pub fn new(index: u64, hashes: Vec<Digest>, checkpoint: &SignedCheckpoint) -> Self {
        Self { index, hashes, extra: None, checkpoint: checkpoint.clone().into() }
    }

    /// Reads a proof file. An `extra` line is read over: nothing vouches for it.
    ///
    /// # Errors
    /// [`ProofError`] with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let (head, checkpoint) = split_head(bytes)?;
        let mut lines = (1..).zip(head.split('\n')).peekable();
        lines.next_if(|(_, line)| *line == PROOF_HEADER).ok_or(ProofError::Line(1))?;
        let extra =
            lines.next_if(|(_, line)| line.starts_with("extra ")).map(|(_, line)| read_extra(line)).transpose()?;
        let (place, line) = lines.next().ok_or(ProofError::Line(2))?;
        let index = line.strip_prefix("index ").and_then(parse_decimal).ok_or(ProofError::Line(place))?;
        let hashes = read_hashes(lines)?;
        Ok(Self { index, hashes, extra, checkpoint: AllegedCheckpoint::parse(checkpoint)? })
    }

    /// The entry's claimed index.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The checkpoint that it leads to, not verified.
    #[must_use]
    pub const fn checkpoint(&self) -> &AllegedCheckpoint {
        &self.checkpoint
    }

    /// Checks that the leaf stands in the tree that the checkpoint claims, whoever signed that.
    ///
    /// # Errors
    /// [`MerkleError`].
    pub fn verify_path(&self, leaf: &Digest) -> Result<(), MerkleError> {
        let says = self.checkpoint.alleged();
        verify_inclusion(leaf, self.index, says.size, &self.hashes, &says.root)
    }

    /// Checks that `entry` stands at the proof's index in a log that the policy accepts.
    ///
    /// # Errors
    /// [`ProofError::Accept`] or [`ProofError::Merkle`].
    pub fn verify(&self, entry: &[u8], policy: &Policy) -> Result<AcceptedCheckpoint, ProofError> {
        self.verify_path(&leaf_hash(entry))?;
        Ok(policy.accept(self.checkpoint.clone())?)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", hash_text(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// A proof that a log only grew, well formed and not verified: `old <m>`, hashes, and the newer checkpoint. It is also the
/// request by which a witness is asked for its cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    old: u64,
    hashes: Vec<Digest>,
    checkpoint: AllegedCheckpoint,
}

impl ConsistencyProof {
    /// Puts a proof together.
    #[must_use]
    pub fn new(old: u64, hashes: Vec<Digest>, checkpoint: &SignedCheckpoint) -> Self {
        Self { old, hashes, checkpoint: checkpoint.clone().into() }
    }

    /// Reads a consistency file or an add-checkpoint body.
    ///
    /// # Errors
    /// [`ProofError`] with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        let (head, checkpoint) = split_head(bytes)?;
        let mut lines = (1..).zip(head.split('\n'));
        let first = lines.next().and_then(|(_, line)| line.strip_prefix("old "));
        let old = first.and_then(parse_decimal).ok_or(ProofError::Line(1))?;
        let hashes = read_hashes(lines)?;
        Ok(Self { old, hashes, checkpoint: AllegedCheckpoint::parse(checkpoint)? })
    }

    /// Leaves of the older tree.
    #[must_use]
    pub const fn old(&self) -> u64 {
        self.old
    }

    /// The newer checkpoint, not verified.
    #[must_use]
    pub const fn checkpoint(&self) -> &AllegedCheckpoint {
        &self.checkpoint
    }

    /// Checks that the checkpoint's tree begins with the `old` leaves under `old_root`, whoever signed it.
    ///
    /// # Errors
    /// [`MerkleError`].
    pub fn verify_path(&self, old_root: &Digest) -> Result<(), MerkleError> {
        let says = self.checkpoint.alleged();
        verify_consistency(self.old, old_root, says.size, &says.root, &self.hashes)
    }
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", hash_text(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The lines before the first empty line, and the checkpoint behind it.
fn split_head(bytes: &[u8]) -> Result<(&str, &[u8]), ProofError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= PROOF_BYTES_MAX);
    let text = text.ok_or(ProofError::NotText)?;
    let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Line(1))?;
    Ok((head, checkpoint.as_bytes()))
}

fn read_hashes<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<Digest>, ProofError> {
    let mut hashes = Vec::new();
    for (place, line) in lines {
        if hashes.len() == HASH_LINES_MAX {
            return Err(ProofError::TooLong);
        }
        hashes.push(parse_hash(line).ok_or(ProofError::Line(place))?);
    }
    Ok(hashes)
}

fn read_extra(line: &str) -> Result<Vec<u8>, ProofError> {
    let encoded = line.strip_prefix("extra ").filter(|encoded| encoded.len() <= EXTRA_BYTES_MAX);
    encoded.and_then(|encoded| STANDARD.decode(encoded).ok()).ok_or(ProofError::Line(2))
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
