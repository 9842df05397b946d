//! Writing an export: one tenant's log as a folder of plain files that any web server can serve and anybody can verify.
//!
//! The layout is a public promise: `checkpoint`, `policy`, `attest`, `tile/<L>/<N>[.p/<W>]`, `tile/entries/<N>[.p/<W>]`,
//! `proofs/<index>.tlog-proof`, `consistency/<m>-<n>.tlog-consistency`, `provenance/<execution_id>.dsse.json`. The folder
//! appears whole or not at all, and only when the entries lead to the checkpoint's root.

use std::error::Error;
use std::path::Path;

use remand_model::event::Event;
use remand_model::{Digest, ExecutionId};

use crate::bundle::{SharedKey, check_purposes};
use crate::checkpoint::SignedCheckpoint;
use crate::folder::{DiskFolder, Folder as _, NewFolder, PublishError};
use crate::keys::AttestKey;
use crate::merkle::{ProveError, leaf_hash, prove_consistency, prove_inclusion, root};
use crate::policy_file::Policy;
use crate::proof::{ConsistencyProof, TlogProof};
use crate::record::{RecordError, Recorded, may_record};
use crate::scan::scan;
use crate::tile::{
    Column, TILE_BYTES_MAX, TILE_WIDTH, Tile, TileBuilder, TileError, TileReader, TileTree, encode_bundle, tiles_of,
};

/// The log's head.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// Whom to trust, as the exporter suggests.
pub const POLICY_FILE: &str = "policy";
/// Who may sign envelopes, as the exporter suggests.
pub const ATTEST_FILE: &str = "attest";
/// The folder of inclusion proofs.
pub const PROOFS_FOLDER: &str = "proofs";
/// The folder of consistency proofs.
pub const CONSISTENCY_FOLDER: &str = "consistency";
/// The folder of envelopes.
pub const PROVENANCE_FOLDER: &str = "provenance";
/// The folder of tiles and bundles.
pub const TILE_FOLDER: &str = "tile";
/// Everything that stands at the top of an export.
pub const TOP_NAMES: [&str; 7] =
    [CHECKPOINT_FILE, POLICY_FILE, ATTEST_FILE, PROOFS_FOLDER, CONSISTENCY_FOLDER, PROVENANCE_FOLDER, TILE_FOLDER];

/// The path of an inclusion proof.
#[must_use]
pub fn proof_path(index: u64) -> String {
    format!("{PROOFS_FOLDER}/{index}.tlog-proof")
}

/// The path of a consistency proof.
#[must_use]
pub fn consistency_path(old: u64, new: u64) -> String {
    format!("{CONSISTENCY_FOLDER}/{old}-{new}.tlog-consistency")
}

/// The path of an envelope.
#[must_use]
pub fn envelope_path(execution: &ExecutionId) -> String {
    format!("{PROVENANCE_FOLDER}/{execution}.dsse.json")
}

/// Where the exported log comes from.
pub trait ExportSource {
    /// Why it cannot be read.
    type Error: Error + Send + Sync + 'static;

    /// The entries from `from` (inclusive) to `to` (exclusive), all of them.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    fn entries(&mut self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// The envelope of a recorded execution, as its canonical bytes.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn envelope(&mut self, execution: &ExecutionId) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Which entries get an inclusion proof of their own; all others can be proven from the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProofChoice {
    /// Those that record an execution.
    #[default]
    Recorded,
    /// Every entry.
    All,
    /// None.
    None,
}

/// What to export beside the entries.
#[derive(Debug)]
pub struct ExportPlan<'a> {
    /// The head, with its cosignatures.
    pub checkpoint: &'a SignedCheckpoint,
    /// The policy to suggest.
    pub policy: &'a Policy,
    /// The attestation keys to suggest.
    pub attest: &'a [AttestKey],
    /// Earlier sizes for which a consistency proof is written.
    pub earlier: &'a [u64],
    /// Which entries get an inclusion proof.
    pub proofs: ProofChoice,
}

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Entries.
    pub entries: u64,
    /// Recorded executions with their envelopes.
    pub executions: u64,
    /// Inclusion proofs.
    pub proofs: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// Why an export was not written. What stood at its place before still stands there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder cannot be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Source(#[source] Box<dyn Error + Send + Sync>),
    /// The log has fewer entries than the checkpoint says.
    #[error("the log has no entry {0}, though the checkpoint says so; run fsck")]
    Missing(u64),
    /// An entry cannot be exported.
    #[error("entry {index} cannot be exported")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        #[source]
        source: TileError,
    },
    /// An event records an execution but is malformed.
    #[error("event {event} is a malformed record of an execution")]
    Record {
        /// The event.
        event: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// A recorded execution has no envelope.
    #[error("the envelope of {0} is not in the store, though the log records it; run fsck")]
    NoEnvelope(ExecutionId),
    /// The entries lead to another root.
    #[error("the entries lead to root {found}, the checkpoint says {expected}; run fsck")]
    Root {
        /// The root that the entries lead to.
        found: Digest,
        /// The checkpoint's root.
        expected: Digest,
    },
    /// An earlier size is larger than the log.
    #[error("no consistency proof leads from size {0} to the exported one")]
    Earlier(u64),
    /// The tiles just written cannot be read back.
    #[error("the tiles just written cannot be read back: {0}")]
    ReadBack(String),
    /// The keys to suggest serve two purposes.
    #[error(transparent)]
    SharedKey(#[from] SharedKey),
}

/// Writes an export to `dir`, replacing an earlier one in one step. `progress` is told entries done and entries to do.
///
/// # Errors
/// [`ExportError`].
pub fn write_export<S: ExportSource>(
    source: &mut S,
    plan: &ExportPlan<'_>,
    dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    check_purposes(plan.policy, plan.attest)?;
    let size = plan.checkpoint.checkpoint().size;
    if let Some(earlier) = plan.earlier.iter().find(|earlier| **earlier > size) {
        return Err(ExportError::Earlier(*earlier));
    }
    let folder = NewFolder::begin(dir, &TOP_NAMES)?;
    let mut writer = Writer { folder, builder: TileBuilder::new(), proofs: Vec::new(), done: Exported::default() };
    match writer.write_all(source, plan, progress) {
        Ok(()) => writer.folder.publish()?,
        Err(why) => {
            writer.folder.abandon()?;
            return Err(why);
        }
    }
    Ok(writer.done)
}

struct Writer {
    folder: NewFolder,
    builder: TileBuilder,
    proofs: Vec<u64>,
    done: Exported,
}

impl Writer {
    fn write_all<S: ExportSource>(
        &mut self,
        source: &mut S,
        plan: &ExportPlan<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ExportError> {
        let size = plan.checkpoint.checkpoint().size;
        for tile in tiles_of(Column::Entries, size) {
            self.write_bundle(source, tile, plan.proofs)?;
            progress(self.done.entries, size);
        }
        for (tile, bytes) in self.builder.partial() {
            self.put(&tile.path(), &bytes)?;
        }
        self.write_proofs(plan)?;
        let attest: String = plan.attest.iter().map(|key| format!("{key}\n")).collect();
        self.put(ATTEST_FILE, attest.as_bytes())?;
        self.put(POLICY_FILE, plan.policy.to_string().as_bytes())?;
        self.put(CHECKPOINT_FILE, plan.checkpoint.to_string().as_bytes())
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.done.bytes += bytes.len() as u64;
        Ok(self.folder.put(path, bytes)?)
    }

    fn write_bundle<S: ExportSource>(
        &mut self,
        source: &mut S,
        tile: Tile,
        proofs: ProofChoice,
    ) -> Result<(), ExportError> {
        let first = tile.index * TILE_WIDTH;
        let entries =
            source.entries(first, first + u64::from(tile.width)).map_err(|why| ExportError::Source(why.into()))?;
        if entries.len() != usize::from(tile.width) {
            return Err(ExportError::Missing(first + entries.len() as u64));
        }
        let bundle = encode_bundle(&entries).map_err(|source| ExportError::Entry { index: first, source })?;
        self.put(&tile.path(), &bundle)?;
        for (index, entry) in (first..).zip(&entries) {
            for (tile, bytes) in self.builder.append(leaf_hash(entry)) {
                self.put(&tile.path(), &bytes)?;
            }
            let recorded = self.write_envelope(source, index, entry)?;
            if proofs == ProofChoice::All || (recorded && proofs == ProofChoice::Recorded) {
                self.proofs.push(index);
            }
        }
        self.done.entries = first + entries.len() as u64;
        Ok(())
    }

    /// Writes the envelope of the execution that the entry records, if it records one.
    fn write_envelope<S: ExportSource>(
        &mut self,
        source: &mut S,
        event: u64,
        entry: &[u8],
    ) -> Result<bool, ExportError> {
        if scan(entry).is_none_or(|scanned| !may_record(scanned.event_type, scanned.observations)) {
            return Ok(false);
        }
        let recorded = Event::from_entry(entry).map_err(|_| RecordError::NoRecord);
        let recorded = recorded.and_then(|event| Recorded::of(&event));
        let recorded = recorded.map_err(|source| ExportError::Record { event, source })?;
        let Some(recorded) = recorded else { return Ok(false) };
        let envelope = source.envelope(&recorded.execution_id).map_err(|why| ExportError::Source(why.into()))?;
        let envelope = envelope.ok_or_else(|| ExportError::NoEnvelope(recorded.execution_id.clone()))?;
        self.put(&envelope_path(&recorded.execution_id), &envelope)?;
        self.done.executions += 1;
        Ok(true)
    }

    fn write_proofs(&mut self, plan: &ExportPlan<'_>) -> Result<(), ExportError> {
        let says = plan.checkpoint.checkpoint();
        let mut tree = TileTree::new(WrittenTiles(self.folder.reader()?), says.size);
        let unreadable = |why: crate::tile::TreeError<std::io::Error>| ExportError::ReadBack(why.to_string());
        let found = root(&mut tree, says.size).map_err(unreadable)?;
        if found != says.root {
            return Err(ExportError::Root { found, expected: says.root });
        }
        let unproven = |why| match why {
            ProveError::Source(why) => unreadable(why),
            ProveError::Merkle(why) => ExportError::ReadBack(why.to_string()),
        };
        for index in std::mem::take(&mut self.proofs) {
            let hashes = prove_inclusion(&mut tree, index, says.size).map_err(unproven)?;
            let proof = TlogProof::new(index, hashes, plan.checkpoint);
            self.put(&proof_path(index), proof.to_string().as_bytes())?;
            self.done.proofs += 1;
        }
        let earlier: std::collections::BTreeSet<u64> = plan.earlier.iter().copied().collect();
        for old in earlier {
            let hashes = prove_consistency(&mut tree, old, says.size).map_err(unproven)?;
            let proof = ConsistencyProof::new(old, hashes, plan.checkpoint);
            self.put(&consistency_path(old, says.size), proof.to_string().as_bytes())?;
        }
        Ok(())
    }
}

/// The tiles of the folder that is being written.
struct WrittenTiles(DiskFolder);

impl TileReader for WrittenTiles {
    type Error = std::io::Error;

    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, std::io::Error> {
        self.0.read(&tile.path(), TILE_BYTES_MAX)
    }
}
