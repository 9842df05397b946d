//! The small backend: append-only segment files of framed batches, everything but the entries kept in memory.
//!
//! One batch is one frame, written and synced before the next; so only the last frame of the last segment can be torn, and
//! it was never acknowledged. Opening writes the last segment anew without a torn end and renames it into place: pages whose
//! sync failed in an earlier run may look clean and not be on the disk, and must not lie under what is acknowledged later.

mod frame;
mod memory;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use remand_model::Digest;

use super::sqlite::{FolderLock, lock_folder, sync_folder};
use super::{AuditReader, AuditStore, EventRow, Head, StateKey, StoreError, TileKey};
use frame::{Record, read_segment};
use memory::{Memory, SegmentReader};

/// Bytes after which a segment is full.
const SEGMENT_BYTES: u64 = 16 << 20;

/// A state value that is part of the batch at hand: whose, which, and what it becomes.
type PendingState = (u32, StateKey, Option<Vec<u8>>);

/// The writing side.
pub struct SegmentStore {
    dir: PathBuf,
    memory: Arc<RwLock<Memory>>,
    batch: Vec<u8>,
    pending: Vec<PendingState>,
    current: Option<(File, u64)>,
    lock: FolderLock,
}

impl SegmentStore {
    /// Opens or makes the segments in the folder `dir`.
    ///
    /// # Errors
    /// [`StoreError`]: in use, not readable, or damaged before its last frame.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let lock = lock_folder(dir)?;
        let names = segment_names(dir)?;
        let mut memory = Memory::default();
        for (number, path) in names.iter().enumerate() {
            let bytes = std::fs::read(path).map_err(StoreError::io("read", path))?;
            let last = number + 1 == names.len();
            let length = read_segment(path, &bytes, last, &mut |offset, record| memory.apply(number, offset, record))?;
            if length == 0 {
                // The machine went down while it made this segment: nothing was ever in it.
                std::fs::remove_file(path).map_err(StoreError::io("remove", path))?;
                sync_folder(dir)?;
                continue;
            }
            if last {
                rewrite(dir, path, &bytes[..length])?;
            }
            memory.files.push(Arc::new(File::open(path).map_err(StoreError::io("open", path))?));
        }
        let memory = Arc::new(RwLock::new(memory));
        let dir = dir.to_owned();
        Ok(Self { dir, memory, batch: Vec::new(), pending: Vec::new(), current: None, lock })
    }

    /// The segment to write to, a new one after opening and when the last is full.
    fn current(&mut self) -> Result<&mut (File, u64), StoreError> {
        if self.current.as_ref().is_none_or(|(_, length)| *length >= SEGMENT_BYTES) {
            let mut memory = self.memory.write().expect("no thread panics while it holds the memory");
            let path = segment_path(&self.dir, memory.files.len());
            let open = File::options().create_new(true).read(true).write(true).open(&path);
            let mut file = open.map_err(StoreError::io("make", &path))?;
            file.write_all(frame::MAGIC).map_err(StoreError::io("write", &path))?;
            file.sync_all().map_err(StoreError::io("sync", &path))?;
            sync_folder(&self.dir)?;
            memory.files.push(Arc::new(file.try_clone().map_err(StoreError::io("share", &path))?));
            self.current = Some((file, frame::MAGIC.len() as u64));
        }
        Ok(self.current.as_mut().expect("there is a segment now"))
    }

    fn last_path(&self) -> PathBuf {
        let count = self.memory.read().expect("no thread panics while it holds the memory").files.len();
        segment_path(&self.dir, count.saturating_sub(1))
    }

    fn put(&mut self, record: &Record<'_>) {
        record.write(&mut self.batch);
    }
}

fn segment_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number:08}.seg"))
}

fn segment_names(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut count = 0;
    for item in std::fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let item = item.map_err(StoreError::io("list", dir))?;
        count += usize::from(item.path().extension().is_some_and(|extension| extension == "seg"));
    }
    let names: Vec<_> = (0..count).map(|number| segment_path(dir, number)).collect();
    match names.iter().find(|path| !path.exists()) {
        Some(missing) => Err(StoreError::damaged(format!("{} is missing", missing.display()))),
        None => Ok(names),
    }
}

fn rewrite(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).map_err(StoreError::io("make", &fresh))?;
    file.write_all(bytes).map_err(StoreError::io("write", &fresh))?;
    file.sync_all().map_err(StoreError::io("sync", &fresh))?;
    std::fs::rename(&fresh, path).map_err(StoreError::io("replace", path))?;
    sync_folder(dir)
}

impl AuditStore for SegmentStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.batch.clear();
        self.pending.clear();
        Ok(())
    }

    fn put_event(&mut self, row: &EventRow<'_>) -> Result<(), StoreError> {
        self.put(&Record::Event { tenant: row.tenant, event_id: row.event_id, entry: row.entry });
        Ok(())
    }

    fn put_tile(&mut self, key: TileKey, hashes: &[Digest]) -> Result<(), StoreError> {
        self.put(&Record::Tile { key, hashes: hashes.to_vec() });
        Ok(())
    }

    fn put_head(&mut self, head: &Head) -> Result<(), StoreError> {
        self.put(&Record::Head(head.clone()));
        Ok(())
    }

    fn state(&mut self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        let pending = self.pending.iter().rev().find(|(owner, name, _)| *owner == tenant && name == key);
        match pending {
            Some((_, _, value)) => Ok(value.clone()),
            None => self.reader().state(tenant, key),
        }
    }

    fn put_state(&mut self, tenant: u32, key: &StateKey, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.put(&Record::State { tenant, key: key.clone(), value });
        self.pending.push((tenant, key.clone(), value.map(<[u8]>::to_vec)));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let framed = frame::frame(&self.batch)?;
        let (file, _) = self.current()?;
        let written = file.write_all(&framed).map_err(|error| ("append to", error));
        let synced = written.and_then(|()| file.sync_data().map_err(|error| ("sync", error)));
        synced.map_err(|(what, error)| StoreError::io(what, self.last_path())(error))?;
        self.lock.check_syncs_are_real()?;
        let (_, length) = self.current()?;
        let start = *length + frame::HEADER_BYTES as u64;
        *length += framed.len() as u64;
        let mut memory = self.memory.write().expect("no thread panics while it holds the memory");
        let segment = memory.files.len() - 1;
        frame::read_records(&self.batch, &mut |offset, record| memory.apply(segment, start + offset, record))
            .map_err(StoreError::damaged)
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }

    fn reader(&self) -> Arc<dyn AuditReader> {
        Arc::new(SegmentReader::new(self.memory.clone()))
    }
}
