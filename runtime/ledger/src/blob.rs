//! Outputs and programs by their SHA-256: plain files, a folder for each tenant, references counted beside the events.
//!
//! A blob is written, hashed and synced first, then named by an event whose transaction takes a reference; it is hashed again
//! whenever it is read. Tenants share nothing, not even equal bytes: what one has stored cannot be felt by another. Collection
//! removes what nothing refers to, and what a chain once named only after an event of that chain says so.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use remand_model::{Digest, EventType, NewEvent, Subject, TenantId};
use sha2::{Digest as _, Sha256};

use crate::store::{
    AppendError, Condition, Ledger, StateKey, StateOp, StateScan, StoreError, Transaction, sync_folder,
};

/// The namespace of reference counts: digest to counter.
pub const REFERENCES_NAMESPACE: &str = "blob.references";

/// The namespace of the counter of referenced bytes.
pub const BYTES_NAMESPACE: &str = "blob.bytes";

/// Why a blob was not stored, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The bytes go on beyond their limit.
    #[error("the blob is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// There is no such blob.
    #[error("tenant {tenant} has no blob {digest}")]
    Missing {
        /// Whose.
        tenant: TenantId,
        /// Which.
        digest: Digest,
    },
    /// The file is not what its name says.
    #[error("blob {digest} of tenant {tenant} is damaged: it hashes to {found}; restore it from a backup")]
    Damaged {
        /// Whose.
        tenant: TenantId,
        /// Which.
        digest: Digest,
        /// What the file hashes to.
        found: Digest,
    },
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The removal could not be recorded, so nothing was removed.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A node's blobs.
#[derive(Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    ledger: Ledger,
    /// Blobs that somebody holds: collection must not touch them.
    held: Mutex<HashMap<(TenantId, Digest), usize>>,
    temporary: AtomicU64,
}

/// A blob that is on the disk and stays there while this is held. Hold it until the transaction that refers to it is
/// acknowledged.
#[must_use]
pub struct Stored {
    store: Arc<Inner>,
    tenant: TenantId,
    digest: Digest,
    bytes: u64,
}

/// Takes a blob's bytes, hashing them on the way; dropped before [`BlobWriter::finish`] it leaves nothing.
pub struct BlobWriter {
    store: Arc<Inner>,
    tenant: TenantId,
    path: PathBuf,
    file: Option<File>,
    hasher: Sha256,
    bytes: u64,
    bytes_max: u64,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, HashMap<(TenantId, Digest), usize>> {
        self.held.lock().expect("no thread panics while it holds the list")
    }

    fn path(&self, tenant: &TenantId, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.root.join(tenant.as_str()).join(&hex[..2]).join(&hex[2..])
    }
}

fn references(digest: &Digest) -> StateKey {
    StateKey::new(REFERENCES_NAMESPACE, &digest.to_hex()).expect("a digest is a state key")
}

fn total_bytes() -> StateKey {
    StateKey::new(BYTES_NAMESPACE, "total").expect("a constant is a state key")
}

impl BlobStore {
    /// Opens or makes the blobs below `root`; what unfinished writers of an earlier run left is removed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(root: &Path, ledger: Ledger) -> Result<Self, StoreError> {
        let temporary = root.join(".new");
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(StoreError::io("clear", &temporary))?;
        }
        std::fs::create_dir_all(&temporary).map_err(StoreError::io("make", &temporary))?;
        sync_folder(root)?;
        let inner = Inner { root: root.to_owned(), ledger, held: Mutex::default(), temporary: AtomicU64::new(0) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A writer for a blob of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn writer(&self, tenant: &TenantId, bytes_max: u64) -> Result<BlobWriter, StoreError> {
        let number = self.inner.temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.root.join(".new").join(number.to_string());
        let file = File::options().create_new(true).write(true).open(&path).map_err(StoreError::io("make", &path))?;
        let (store, tenant) = (self.inner.clone(), tenant.clone());
        Ok(BlobWriter { store, tenant, path, file: Some(file), hasher: Sha256::new(), bytes: 0, bytes_max })
    }

    /// Stores bytes at once.
    ///
    /// # Errors
    /// [`BlobError::TooLong`], [`StoreError`].
    pub fn put(&self, tenant: &TenantId, bytes: &[u8], bytes_max: u64) -> Result<Stored, BlobError> {
        let mut writer = self.writer(tenant, bytes_max)?;
        writer.take(bytes)?;
        writer.finish()
    }

    /// Holds a blob that is there already, to refer to it once more.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`StoreError`].
    pub fn hold(&self, tenant: &TenantId, digest: &Digest) -> Result<Stored, BlobError> {
        let mut held = self.inner.held();
        let path = self.inner.path(tenant, digest);
        let bytes = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(tenant, digest)),
            Err(error) => return Err(StoreError::io("look at", path)(error).into()),
        };
        *held.entry((tenant.clone(), *digest)).or_default() += 1;
        drop(held);
        Ok(Stored { store: self.inner.clone(), tenant: tenant.clone(), digest: *digest, bytes })
    }

    fn missing(&self, tenant: &TenantId, digest: &Digest) -> BlobError {
        BlobError::Missing { tenant: tenant.clone(), digest: *digest }
    }

    /// A blob's bytes, hashed anew.
    ///
    /// # Errors
    /// [`BlobError`]: missing, longer than `bytes_max`, damaged, or not readable.
    pub fn read(&self, tenant: &TenantId, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        let path = self.inner.path(tenant, digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(tenant, digest)),
            Err(error) => return Err(StoreError::io("open", path)(error).into()),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(BlobError::TooLong { bytes_max });
        }
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(BlobError::Damaged { tenant: tenant.clone(), digest: *digest, found }),
        }
    }

    /// A blob's file at its beginning, hashed anew: for what may be too long to be held in memory.
    ///
    /// # Errors
    /// [`BlobError`]: missing, damaged, or not readable.
    pub fn open_blob(&self, tenant: &TenantId, digest: &Digest) -> Result<File, BlobError> {
        let path = self.inner.path(tenant, digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing(tenant, digest)),
            Err(error) => return Err(StoreError::io("open", path)(error).into()),
        };
        let (mut hasher, mut chunk) = (Sha256::new(), vec![0; 256 << 10]);
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => hasher.update(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("read", path)(error).into()),
            }
        }
        let found = Digest::from_bytes(hasher.finalize().into());
        if found != *digest {
            return Err(BlobError::Damaged { tenant: tenant.clone(), digest: *digest, found });
        }
        file.rewind().map_err(StoreError::io("read", path))?;
        Ok(file)
    }

    /// The operations that give a reference back; put them into the transaction whose event says so.
    #[must_use]
    pub fn release_ops(digest: &Digest, bytes: u64) -> [StateOp; 2] {
        [count(references(digest), -1, u64::MAX), count(total_bytes(), -bytes.cast_signed(), u64::MAX)]
    }

    /// How often a blob is referred to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn references(&self, tenant: &TenantId, digest: &Digest) -> Result<u64, StoreError> {
        self.inner.ledger.counter(tenant, &references(digest))
    }

    /// Removes the tenant's blobs that nothing refers to and nobody holds. A blob that the chain once named is removed only
    /// after a `BLOB_REMOVED` event is durable.
    ///
    /// # Errors
    /// [`BlobError`]; what was not removed is still there.
    pub fn collect(&self, tenant: &TenantId, about: &Subject) -> Result<Collected, BlobError> {
        let mut collected = Collected::default();
        for (digest, bytes) in self.list(tenant)? {
            if self.remove_unreferenced(tenant, about, &digest, bytes)? {
                collected.blobs += 1;
                collected.bytes += bytes;
            }
        }
        Ok(collected)
    }

    /// What [`Self::collect`] would remove.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn unreferenced(&self, tenant: &TenantId) -> Result<Collected, BlobError> {
        let mut found = Collected::default();
        for (digest, bytes) in self.list(tenant)? {
            let is_held = self.inner.held().contains_key(&(tenant.clone(), digest));
            if !is_held && self.references(tenant, &digest)? == 0 {
                found.blobs += 1;
                found.bytes += bytes;
            }
        }
        Ok(found)
    }

    fn remove_unreferenced(
        &self,
        tenant: &TenantId,
        about: &Subject,
        digest: &Digest,
        bytes: u64,
    ) -> Result<bool, BlobError> {
        // Held throughout: nobody may begin to refer to the blob between the look and the removal.
        let held = self.inner.held();
        if held.contains_key(&(tenant.clone(), *digest)) {
            return Ok(false);
        }
        let key = references(digest);
        match self.inner.ledger.state(tenant, &key)? {
            Some(count) if count != [0; 8] => return Ok(false),
            Some(count) => self.record_removal(tenant, about, digest, bytes, count)?,
            None => {}
        }
        let path = self.inner.path(tenant, digest);
        std::fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        drop(held);
        Ok(true)
    }

    fn record_removal(
        &self,
        tenant: &TenantId,
        about: &Subject,
        digest: &Digest,
        bytes: u64,
        count: Vec<u8>,
    ) -> Result<(), AppendError> {
        let key = references(digest);
        let removed = NewEvent::new(EventType::BLOB_REMOVED, about.clone())
            .claim("sha256", *digest)
            .claim("bytes", bytes.to_string());
        let transaction = Transaction::new(tenant.clone())
            .event(removed)
            .op(StateOp::Require { key: key.clone(), condition: Condition::Equals(count) })
            .op(StateOp::Delete { key });
        self.inner.ledger.append(transaction).map(drop)
    }

    /// Every blob of a tenant with its length in bytes, in no order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn list(&self, tenant: &TenantId) -> Result<Vec<(Digest, u64)>, StoreError> {
        let root = self.inner.root.join(tenant.as_str());
        let mut blobs = Vec::new();
        if !root.exists() {
            return Ok(blobs);
        }
        for shelf in folder(&root)? {
            let prefix = shelf.file_name().to_string_lossy().into_owned();
            for file in folder(&shelf.path())? {
                let name = prefix.clone() + &file.file_name().to_string_lossy();
                let bytes = file.metadata().map_err(StoreError::io("look at", file.path()))?.len();
                blobs.extend(name.parse().ok().map(|digest| (digest, bytes)));
            }
        }
        Ok(blobs)
    }

    /// The blobs that a tenant's chain refers to and that are missing or damaged.
    ///
    /// # Errors
    /// [`StoreError`]: the check itself failed.
    pub fn check(&self, tenant: &TenantId) -> Result<Vec<BlobError>, StoreError> {
        let mut faults = Vec::new();
        let mut after = String::new();
        loop {
            let scan = StateScan { namespace: REFERENCES_NAMESPACE, prefix: "", after: &after, limit: 1000 };
            let page = self.inner.ledger.state_list(tenant, &scan)?;
            let Some((last, _)) = page.last() else { return Ok(faults) };
            after.clone_from(last);
            for (name, _) in page.iter().filter(|(_, count)| *count != [0; 8]) {
                let digest = name.parse().map_err(|_| StoreError::damaged(format!("{name:?} is no digest")))?;
                match self.read(tenant, &digest, u64::MAX - 1) {
                    Err(BlobError::Store(error)) => return Err(error),
                    other => faults.extend(other.err()),
                }
            }
        }
    }
}

const fn count(key: StateKey, add: i64, max: u64) -> StateOp {
    StateOp::Count { key, add, max }
}

fn folder(path: &Path) -> Result<Vec<std::fs::DirEntry>, StoreError> {
    let entries = std::fs::read_dir(path).and_then(Iterator::collect);
    entries.map_err(StoreError::io("list", path))
}

impl Stored {
    /// The SHA-256 of the bytes.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Their number.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The operations that take a reference, refused where the tenant would refer to more than `tenant_bytes_max` bytes; put
    /// them into the transaction whose event names the blob.
    #[must_use]
    pub fn keep_ops(&self, tenant_bytes_max: u64) -> [StateOp; 2] {
        let bytes = self.bytes.cast_signed();
        [count(references(&self.digest), 1, u64::MAX), count(total_bytes(), bytes, tenant_bytes_max)]
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let mut held = self.store.held();
        let place = (self.tenant.clone(), self.digest);
        if let Some(count) = held.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                held.remove(&place);
            }
        }
    }
}

impl BlobWriter {
    /// Takes more bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLong`], [`StoreError`]; drop the writer.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(BlobError::TooLong { bytes_max: self.bytes_max });
        }
        let file = self.file.as_mut().expect("a writer has its file until it is finished");
        file.write_all(bytes).map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Takes everything that `source` has.
    ///
    /// # Errors
    /// As [`BlobWriter::take`].
    pub fn take_all(&mut self, source: &mut impl Read) -> Result<(), BlobError> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match source.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => self.take(&chunk[..length])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("read", "the source of a blob")(error).into()),
            }
        }
    }

    /// Makes the blob durable under its digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish(mut self) -> Result<Stored, BlobError> {
        let digest = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        let file = self.file.take().expect("a writer has its file until it is finished");
        file.sync_all().map_err(StoreError::io("sync", &self.path))?;
        let path = self.store.path(&self.tenant, &digest);
        let shelf = path.parent().expect("a blob lies in a folder");
        let mut held = self.store.held();
        make_folder(&self.store.root.join(self.tenant.as_str()), &self.store.root)?;
        make_folder(shelf, &self.store.root.join(self.tenant.as_str()))?;
        // Over an equal blob, too: should that one be damaged, it is whole again.
        std::fs::rename(&self.path, &path).map_err(StoreError::io("name", &path))?;
        sync_folder(shelf)?;
        *held.entry((self.tenant.clone(), digest)).or_default() += 1;
        drop(held);
        Ok(Stored { store: self.store.clone(), tenant: self.tenant.clone(), digest, bytes: self.bytes })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            // What cannot be removed now is removed when the store is opened next.
            std::fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

fn make_folder(path: &Path, parent: &Path) -> Result<(), StoreError> {
    match std::fs::create_dir(path) {
        Ok(()) => sync_folder(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::io("make", path)(error)),
    }
}
