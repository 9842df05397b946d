//! The entries of an export: each against its leaf and against the rules of events, bundle by bundle.

use std::collections::BTreeMap;

use remand_model::ExecutionId;
use remand_model::event::Event;

use crate::merkle::leaf_hash;
use crate::record::{RecordError, Recorded, may_record};
use crate::scan::scan;
use crate::tile::{BUNDLE_BYTES_MAX, Bundle, Column, Pyramid, TILE_BYTES_MAX, TILE_WIDTH, Tile, decode_tile};

use super::{Export, Fault, Pace, Reason, parallel, read};

/// What the entries showed.
pub(super) struct Entries {
    /// The tree inside of each bundle, in order; only the last one is partial, and only it keeps its rows.
    pub(super) bundles: Vec<BundleTree>,
    /// The executions that they record.
    pub(super) recorded: Vec<Recorded>,
}

/// The tree over one bundle.
pub(super) enum BundleTree {
    /// A full bundle's root.
    Full(remand_model::Digest),
    /// A partial bundle's rows.
    Partial(Pyramid),
}

pub(super) fn verify(export: &Export<'_>, pace: &Pace<'_>) -> Result<Entries, Fault> {
    let count = export.head.size.div_ceil(TILE_WIDTH);
    let done = parallel::run(pace, "bundles of events", count, || (), |(), index| check_bundle(export, index))?;
    let mut entries = Entries { bundles: Vec::with_capacity(done.len()), recorded: Vec::new() };
    for (tree, recorded) in done {
        entries.bundles.push(tree);
        entries.recorded.extend(recorded);
    }
    check_recorded_once(&entries.recorded)?;
    Ok(entries)
}

fn check_bundle(export: &Export<'_>, index: u64) -> Result<(BundleTree, Vec<Recorded>), Fault> {
    let first = index * TILE_WIDTH;
    let name = |column| Tile::of(column, index, export.head.size).expect("a log has the bundles of its size");
    let (bundle, tile) = (name(Column::Entries), name(Column::Hashes(0)));
    let (bundle_path, tile_path) = (bundle.path(), tile.path());
    let bytes = read(export.folder, &bundle_path, BUNDLE_BYTES_MAX, Some(first))?;
    let hashes = read(export.folder, &tile_path, TILE_BYTES_MAX, Some(first))?;
    let hashes = decode_tile(&hashes, tile.width).map_err(|why| Fault::new(&tile_path, Some(first), why))?;
    let (mut entries, mut recorded) = (Bundle::new(&bytes), Vec::new());
    for (event, expected) in (first..).zip(&hashes) {
        let bad = |why: AnyError| Fault::new(&bundle_path, Some(event), why);
        let entry = entries.next_entry().map_err(|why| bad(why.into()))?;
        let found = leaf_hash(entry);
        if found != *expected {
            return Err(bad(Reason::Leaf { found, expected: *expected }.into()));
        }
        recorded.extend(check_event(export, event, entry).map_err(bad)?);
    }
    let last = first + u64::from(bundle.width) - 1;
    entries.finish().map_err(|why| Fault::new(&bundle_path, Some(last), why))?;
    let pyramid = Pyramid::new(hashes);
    let tree = pyramid.full_root().map_or(BundleTree::Partial(pyramid), BundleTree::Full);
    Ok((tree, recorded))
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn check_event(export: &Export<'_>, event_id: u64, entry: &[u8]) -> Result<Option<Recorded>, AnyError> {
    let Some(scanned) = scan(entry) else {
        Event::from_entry(entry)?;
        return Err(Reason::Spelling.into());
    };
    if scanned.event_id != event_id {
        return Err(Reason::EventId(scanned.event_id).into());
    }
    if scanned.tenant_id != export.origin.tenant().as_str().as_bytes() {
        return Err(Reason::Tenant(String::from_utf8_lossy(scanned.tenant_id).into_owned()).into());
    }
    if !may_record(scanned.event_type, scanned.observations) {
        return Ok(None);
    }
    let event = Event::from_entry(entry).map_err(|_| RecordError::NoRecord)?;
    Ok(Recorded::of(&event)?)
}

fn check_recorded_once(recorded: &[Recorded]) -> Result<(), Fault> {
    let mut first: BTreeMap<&ExecutionId, u64> = BTreeMap::new();
    for record in recorded {
        if let Some(first) = first.insert(&record.execution_id, record.event_id) {
            let path = Tile { column: Column::Entries, index: record.event_id / TILE_WIDTH, width: 256 }.path();
            let reason = Reason::RecordedTwice { execution: record.execution_id.to_string(), first };
            return Err(Fault::new(path, Some(record.event_id), reason));
        }
    }
    Ok(())
}
