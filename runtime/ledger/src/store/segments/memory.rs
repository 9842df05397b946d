//! What the segments say, in memory: heads, tiles, state, and where each entry lies.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use remand_model::Digest;
use remand_model::event::Event;

use super::frame::Record;
use crate::store::{AuditReader, Filter, Head, StateKey, StateScan, StoreError, TileKey, Visit};

#[derive(Clone, Copy)]
struct Location {
    segment: usize,
    offset: u64,
    length: usize,
}

#[derive(Default)]
pub(super) struct Memory {
    pub(super) files: Vec<Arc<File>>,
    heads: BTreeMap<u32, Head>,
    events: HashMap<u32, BTreeMap<u64, Location>>,
    tiles: HashMap<TileKey, Vec<Digest>>,
    state: BTreeMap<(u32, String, String), Vec<u8>>,
}

impl Memory {
    pub(super) fn apply(&mut self, segment: usize, offset: u64, record: Record<'_>) {
        match record {
            Record::Event { tenant, event_id, entry } => {
                let location = Location { segment, offset, length: entry.len() };
                self.events.entry(tenant).or_default().insert(event_id, location);
            }
            Record::Tile { key, hashes } => drop(self.tiles.insert(key, hashes)),
            Record::Head(head) => drop(self.heads.insert(head.number, head)),
            Record::State { tenant, key, value } => {
                let place = state_place(tenant, &key);
                match value {
                    Some(value) => drop(self.state.insert(place, value.to_vec())),
                    None => drop(self.state.remove(&place)),
                }
            }
        }
    }
}

fn state_place(tenant: u32, key: &StateKey) -> (u32, String, String) {
    (tenant, key.namespace().to_owned(), key.key().to_owned())
}

pub(super) struct SegmentReader {
    memory: Arc<RwLock<Memory>>,
}

impl SegmentReader {
    pub(super) const fn new(memory: Arc<RwLock<Memory>>) -> Self {
        Self { memory }
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().expect("no thread panics while it holds the memory")
    }

    /// Where entries lie, looked up before any is read: the writer is not kept waiting by a reader's disk.
    fn locate(&self, tenant: u32, from: u64, to: u64) -> Vec<(u64, Location, Arc<File>)> {
        let memory = self.memory();
        let Some(events) = memory.events.get(&tenant).filter(|_| from < to) else { return Vec::new() };
        events.range(from..to).map(|(id, place)| (*id, *place, memory.files[place.segment].clone())).collect()
    }
}

fn read_entry(file: &File, place: Location) -> Result<Vec<u8>, StoreError> {
    let mut entry = vec![0; place.length];
    let read: io::Result<()> = file.read_exact_at(&mut entry, place.offset);
    read.map_err(StoreError::io("read", format!("segment {} at byte {}", place.segment, place.offset)))?;
    Ok(entry)
}

impl AuditReader for SegmentReader {
    fn heads(&self) -> Result<Vec<Head>, StoreError> {
        Ok(self.memory().heads.values().cloned().collect())
    }

    fn entries(&self, tenant: u32, from: u64, to: u64, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        for (id, place, file) in self.locate(tenant, from, to) {
            if visit(id, &read_entry(&file, place)?) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn last_event(&self, tenant: u32) -> Result<Option<u64>, StoreError> {
        Ok(self.memory().events.get(&tenant).and_then(|events| events.keys().next_back().copied()))
    }

    fn tile(&self, key: TileKey) -> Result<Option<Vec<Digest>>, StoreError> {
        Ok(self.memory().tiles.get(&key).cloned())
    }

    fn find(&self, tenant: u32, filter: &Filter, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut left = filter.limit();
        self.entries(tenant, filter.from_id, u64::MAX, &mut |id, entry| {
            // A damaged entry is shown as well: the caller says so, where leaving it out would hide it.
            let wanted = Event::from_entry(entry)
                .map_or(true, |event| filter.wants(id, &event.event_type, &event.subject, event.wall_clock_us));
            if !wanted {
                return ControlFlow::Continue(());
            }
            left -= 1;
            if visit(id, entry) == ControlFlow::Break(()) || left == 0 {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    }

    fn state(&self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.memory().state.get(&state_place(tenant, key)).cloned())
    }

    fn state_list(&self, tenant: u32, scan: &StateScan<'_>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let place = |key: &str| (tenant, scan.namespace.to_owned(), key.to_owned());
        let from = match scan.after >= scan.prefix && !scan.after.is_empty() {
            true => Bound::Excluded(place(scan.after)),
            false => Bound::Included(place(scan.prefix)),
        };
        let memory = self.memory();
        let within = |(owner, namespace, key): &(u32, String, String)| {
            *owner == tenant && namespace == scan.namespace && key.starts_with(scan.prefix)
        };
        let found = memory.state.range((from, Bound::Unbounded)).take_while(|(place, _)| within(place));
        Ok(found.take(scan.limit).map(|((_, _, key), value)| (key.clone(), value.clone())).collect())
    }
}
