//! The names in an export: all of them, and nothing that does not belong.

use std::collections::BTreeSet;
use std::io;

use remand_model::ExecutionId;

use crate::checkpoint::parse_decimal;
use crate::export::{
    ATTEST_FILE, CHECKPOINT_FILE, CONSISTENCY_FOLDER, POLICY_FILE, PROOFS_FOLDER, PROVENANCE_FOLDER, TILE_FOLDER,
    consistency_path, envelope_path, proof_path,
};
use crate::folder::{Folder, Kind, Name};
use crate::record::Recorded;
use crate::tile::Tile;

use super::{Fault, Reason};

/// The deepest path of an export: a tile's level, seven groups of digits, and a width.
const DEPTH_MAX: usize = 12;

/// The names that do not follow from the log's size alone.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) proofs: BTreeSet<u64>,
    pub(super) consistency: BTreeSet<(u64, u64)>,
    pub(super) envelopes: BTreeSet<ExecutionId>,
}

/// Lists an export of a log of `size` entries. Stops at the first foreign name, so that a folder full of them costs little.
pub(super) fn list(folder: &dyn Folder, size: u64) -> Result<Names, Fault> {
    let mut lister = Lister { folder, size, names: Names::default() };
    lister.folder("", 0)?;
    Ok(lister.names)
}

/// Checks that there is an envelope for every recorded execution and for no other; that each is there was seen by reading.
pub(super) fn check_envelopes(names: &Names, recorded: &[Recorded]) -> Result<(), Fault> {
    let known: BTreeSet<&ExecutionId> = recorded.iter().map(|record| &record.execution_id).collect();
    match names.envelopes.iter().find(|envelope| !known.contains(envelope)) {
        Some(stranger) => Err(Fault::new(envelope_path(stranger), None, Reason::Foreign)),
        None => Ok(()),
    }
}

struct Lister<'a> {
    folder: &'a dyn Folder,
    size: u64,
    names: Names,
}

impl Lister<'_> {
    fn folder(&mut self, path: &str, depth: usize) -> Result<(), Fault> {
        let mut folders = Vec::new();
        let mut foreign = None;
        let mut count = 0_u64;
        let listed = self.folder.list(path, &mut |Name { name, kind }| {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            count += 1;
            let belongs = match kind {
                Kind::File => take_file(&mut self.names, self.size, &path),
                Kind::Folder => depth < DEPTH_MAX && is_folder(&path),
                Kind::Other => false,
            };
            if !belongs {
                foreign = Some(path);
                return Err(io::Error::other("foreign"));
            }
            if kind == Kind::Folder {
                folders.push(path);
            }
            Ok(())
        });
        if let Some(path) = foreign {
            return Err(Fault::new(path, None, Reason::Foreign));
        }
        listed.map_err(|why| Fault::new(if path.is_empty() { "." } else { path }, None, why))?;
        if count == 0 && !path.is_empty() {
            return Err(Fault::new(path, None, Reason::Foreign));
        }
        folders.into_iter().try_for_each(|below| self.folder(&below, depth + 1))
    }
}

/// Only the fixed folders and what can lead to a tile; that it does is seen when its files are.
fn is_folder(path: &str) -> bool {
    let tile = path == TILE_FOLDER || path.starts_with("tile/");
    tile || [PROOFS_FOLDER, CONSISTENCY_FOLDER, PROVENANCE_FOLDER].contains(&path)
}

fn take_file(names: &mut Names, size: u64, path: &str) -> bool {
    if [CHECKPOINT_FILE, POLICY_FILE, ATTEST_FILE].contains(&path) {
        return true;
    }
    match path.split_once('/') {
        Some((TILE_FOLDER, _)) => Tile::parse(path).is_some_and(|tile| tile.belongs_to(size)),
        Some((PROOFS_FOLDER, name)) => take_proof(names, size, path, name).is_some(),
        Some((CONSISTENCY_FOLDER, name)) => take_consistency(names, size, path, name).is_some(),
        Some((PROVENANCE_FOLDER, name)) => take_envelope(names, size, path, name).is_some(),
        _ => false,
    }
}

fn take_proof(names: &mut Names, size: u64, path: &str, name: &str) -> Option<()> {
    let index = parse_decimal(name.strip_suffix(".tlog-proof")?)?;
    (index < size && proof_path(index) == path).then(|| {
        names.proofs.insert(index);
    })
}

fn take_consistency(names: &mut Names, size: u64, path: &str, name: &str) -> Option<()> {
    let (old, new) = name.strip_suffix(".tlog-consistency")?.split_once('-')?;
    let (old, new) = (parse_decimal(old)?, parse_decimal(new)?);
    (old <= new && new <= size && consistency_path(old, new) == path).then(|| {
        names.consistency.insert((old, new));
    })
}

fn take_envelope(names: &mut Names, size: u64, path: &str, name: &str) -> Option<()> {
    let execution: ExecutionId = name.strip_suffix(".dsse.json")?.parse().ok()?;
    // More envelopes than events cannot all belong, and need not all be remembered to say so.
    ((names.envelopes.len() as u64) < size && envelope_path(&execution) == path).then(|| {
        names.envelopes.insert(execution);
    })
}
