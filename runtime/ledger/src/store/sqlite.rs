//! The default backend: one `SQLite` database in WAL mode, synced at every commit, with one writing connection.
//!
//! SQLite's own automatic checkpoint hides its errors, so the writer checkpoints by hand and a failure there poisons the
//! ledger like any other. `synchronous=NORMAL` would lose the last commits with the power and is asserted against.

mod reader;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use remand_model::Digest;
use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::{AuditReader, AuditStore, EventRow, Head, StateKey, StoreError, TileKey};
use reader::SqliteReader;

/// The database's file name within its folder.
pub const DATABASE_FILE: &str = "ledger.db";

/// Pages of write-ahead log after which it is copied into the database.
const CHECKPOINT_PAGES: u32 = 4000;

/// "rmnd": `PRAGMA application_id`.
const APPLICATION_ID: i32 = 0x726d_6e64;

const FORMAT: i32 = 2;

/// State has row ids: values of some kilobytes, stored beside their keys, would be read whole whenever keys are compared.
const SCHEMA: &str = "
CREATE TABLE tenant(no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, root BLOB NOT NULL,
    timestamp INTEGER NOT NULL, wall INTEGER NOT NULL) STRICT;
CREATE TABLE kind(no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE subject(no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE(tenant, name)) STRICT;
CREATE TABLE ev(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, subject INTEGER NOT NULL, wall INTEGER NOT NULL,
    bytes BLOB NOT NULL) STRICT;
CREATE INDEX ev_subject ON ev(subject);
CREATE TABLE tile(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE state(no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, ns TEXT NOT NULL, key TEXT NOT NULL,
    value BLOB NOT NULL, UNIQUE(tenant, ns, key)) STRICT;
";

/// The row id of an event.
pub(super) const fn event_row(tenant: u32, event_id: u64) -> i64 {
    (tenant as i64) << 40 | event_id as i64
}

/// The row id of a tile: within a tenant's 40 bits, 4 for the level and 36 for the place.
pub(super) const fn tile_row(key: TileKey) -> i64 {
    (key.tenant as i64) << 40 | (key.level as i64) << 36 | key.index as i64
}

/// The writing side.
pub struct SqliteStore {
    connection: Connection,
    reader: Arc<SqliteReader>,
    kinds: HashMap<String, i64>,
    subjects: SubjectNumbers,
    wal_pages: Arc<AtomicU32>,
    lock: FolderLock,
}

impl SqliteStore {
    /// Opens or makes the database in the folder `dir`.
    ///
    /// # Errors
    /// [`StoreError`]: in use, not readable, or no database of this program.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let lock = lock_folder(dir)?;
        let path = dir.join(DATABASE_FILE);
        let mut connection = open_database(&path)?;
        configure_writer(&connection)?;
        prepare_schema(&connection)?;
        fold_in_log(&connection)?;
        sync_folder(dir)?;
        let wal_pages = Arc::new(AtomicU32::new(0));
        let seen = wal_pages.clone();
        let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            seen.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(StoreError::database(&connection, "watch its log"))?;
        connection.set_prepared_statement_cache_capacity(32);
        let kinds = read_kinds(&connection)?;
        let reader = Arc::new(SqliteReader::new(path));
        Ok(Self { connection, reader, kinds, subjects: SubjectNumbers::default(), wal_pages, lock })
    }

    fn cached(&self, sql: &'static str) -> Result<CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).map_err(StoreError::database(&self.connection, "prepare a statement"))
    }

    fn kind(&mut self, name: &str) -> Result<i64, StoreError> {
        if let Some(no) = self.kinds.get(name) {
            return Ok(*no);
        }
        let done = self.cached("INSERT INTO kind(name) VALUES(?1)")?.insert([name]);
        let no = done.map_err(StoreError::database(&self.connection, "add a kind of event"))?;
        self.kinds.insert(name.to_owned(), no);
        Ok(no)
    }

    fn subject(&mut self, tenant: u32, name: &str) -> Result<i64, StoreError> {
        if let Some(no) = self.subjects.get(tenant, name) {
            return Ok(no);
        }
        let found = self
            .cached("SELECT no FROM subject WHERE tenant=?1 AND name=?2")?
            .query_row(params![tenant, name], |row| row.get(0))
            .optional()
            .map_err(StoreError::database(&self.connection, "look up a subject"))?;
        let no = match found {
            Some(no) => no,
            None => {
                let done = self.cached("INSERT INTO subject(tenant,name) VALUES(?1,?2)")?.insert(params![tenant, name]);
                done.map_err(StoreError::database(&self.connection, "add a subject"))?
            }
        };
        self.subjects.put(tenant, name, no);
        Ok(no)
    }
}

impl AuditStore for SqliteStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        let done = self.cached("BEGIN IMMEDIATE")?.execute([]);
        done.map(drop).map_err(StoreError::database(&self.connection, "begin a batch"))
    }

    fn put_event(&mut self, row: &EventRow<'_>) -> Result<(), StoreError> {
        let kind = self.kind(row.kind.as_str())?;
        let subject = self.subject(row.tenant, row.subject.as_str())?;
        let id = event_row(row.tenant, row.event_id);
        let done = self.cached("INSERT INTO ev(id,kind,subject,wall,bytes) VALUES(?1,?2,?3,?4,?5)")?.execute(params![
            id,
            kind,
            subject,
            row.wall_clock_us as i64,
            row.entry
        ]);
        done.map(drop).map_err(StoreError::database(&self.connection, "add an event"))
    }

    fn put_tile(&mut self, key: TileKey, hashes: &[Digest]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let done =
            self.cached("INSERT OR REPLACE INTO tile(id,bytes) VALUES(?1,?2)")?.execute(params![tile_row(key), bytes]);
        done.map(drop).map_err(StoreError::database(&self.connection, "add a tile"))
    }

    fn put_head(&mut self, head: &Head) -> Result<(), StoreError> {
        let done = self
            .cached(
                "INSERT INTO tenant(no,name,size,root,timestamp,wall) VALUES(?1,?2,?3,?4,?5,?6) ON CONFLICT(no) \
                 DO UPDATE SET size=excluded.size,root=excluded.root,timestamp=excluded.timestamp,wall=excluded.wall",
            )?
            .execute(params![
                head.number,
                head.tenant.as_str(),
                head.size as i64,
                head.root.as_bytes(),
                head.timestamp as i64,
                head.wall_clock_us as i64
            ]);
        done.map(drop).map_err(StoreError::database(&self.connection, "set a head"))
    }

    fn state(&mut self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.cached(reader::STATE)?
            .query_row(params![tenant, key.namespace(), key.key()], |row| row.get(0))
            .optional()
            .map_err(StoreError::database(&self.connection, "read a state value"))
    }

    fn put_state(&mut self, tenant: u32, key: &StateKey, value: Option<&[u8]>) -> Result<(), StoreError> {
        let (namespace, name) = (key.namespace(), key.key());
        let done = match value {
            Some(value) => self
                .cached(
                    "INSERT INTO state(tenant,ns,key,value) VALUES(?1,?2,?3,?4) \
                     ON CONFLICT(tenant,ns,key) DO UPDATE SET value=excluded.value",
                )?
                .execute(params![tenant, namespace, name, value]),
            None => self
                .cached("DELETE FROM state WHERE tenant=?1 AND ns=?2 AND key=?3")?
                .execute(params![tenant, namespace, name]),
        };
        done.map(drop).map_err(StoreError::database(&self.connection, "set a state value"))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let done = self.cached("COMMIT")?.execute([]);
        done.map(drop).map_err(StoreError::database(&self.connection, "commit a batch"))?;
        self.lock.check_syncs_are_real()
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        if self.wal_pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
            return Ok(());
        }
        self.wal_pages.store(0, Ordering::Relaxed);
        checkpoint(&self.connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
        self.lock.check_syncs_are_real()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.reader.rest();
        checkpoint(&self.connection, "PRAGMA wal_checkpoint(PASSIVE)")
    }

    fn reader(&self) -> Arc<dyn AuditReader> {
        self.reader.clone()
    }
}

/// Numbers of recent subjects, so that an execution's events find theirs without a look-up.
#[derive(Default)]
struct SubjectNumbers {
    recent: HashMap<(u32, String), i64>,
}

impl SubjectNumbers {
    const MAX: usize = 16_384;

    fn get(&self, tenant: u32, name: &str) -> Option<i64> {
        self.recent.get(&(tenant, name.to_owned())).copied()
    }

    fn put(&mut self, tenant: u32, name: &str, no: i64) {
        if self.recent.len() >= Self::MAX {
            self.recent.clear();
        }
        self.recent.insert((tenant, name.to_owned()), no);
    }
}

/// Keeps other processes out of a folder.
pub(super) struct FolderLock {
    file: File,
    dir: PathBuf,
}

impl FolderLock {
    /// Asked after every sync and before anything is acknowledged.
    ///
    /// Where ext4 was forced read-only by hand (sysrq), open files still take writes, and fdatasync(2) answers with success
    /// and does nothing. A file system stays read-only once it is, so that a sync before a writable answer was a real one.
    pub(super) fn check_syncs_are_real(&self) -> Result<(), StoreError> {
        let fail = |errno: rustix::io::Errno| StoreError::io("sync", &self.dir)(errno.into());
        let flags = rustix::fs::fstatvfs(&self.file).map_err(fail)?.f_flag;
        if flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) { Err(fail(rustix::io::Errno::ROFS)) } else { Ok(()) }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A process that is being started by another thread holds a copy until its exec, so closing alone might not do.
        self.file.unlock().unwrap_or_default();
    }
}

pub(super) fn lock_folder(dir: &Path) -> Result<FolderLock, StoreError> {
    std::fs::create_dir_all(dir).map_err(StoreError::io("make", dir))?;
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(StoreError::io("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(FolderLock { file: lock, dir: dir.to_owned() }),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::Io { what: "lock", path, source }),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", dir))
}

/// Opens the database. Where that fails the file is tried by ordinary means: SQLite does not hand on what the system said.
fn open_database(path: &Path) -> Result<Connection, StoreError> {
    let probe = |source| match File::options().create(true).truncate(false).read(true).write(true).open(path) {
        Err(system) => StoreError::io("open", path)(system),
        Ok(_) => StoreError::Database { what: "be opened", path: path.to_owned(), source: Box::new(source) },
    };
    Connection::open(path).map_err(probe)
}

fn configure_writer(connection: &Connection) -> Result<(), StoreError> {
    let fail = || StoreError::database(connection, "be configured");
    connection.pragma_update(None, "page_size", 4096).map_err(fail())?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(fail())?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail())?;
    connection.pragma_update(None, "cache_size", -16_384).map_err(fail())?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(fail())?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(())).map_err(fail())?;
    // After a failed sync the last close must not copy the log into the database.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fail())?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(fail())?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).map_err(fail())?;
    assert!(mode == "wal" && synchronous == 2, "a ledger is in WAL mode and syncs at every commit");
    Ok(())
}

fn prepare_schema(connection: &Connection) -> Result<(), StoreError> {
    let fail = || StoreError::database(connection, "read its format");
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fail())?;
    let format: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail())?;
    match (id, format) {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (0, 0) => {
            let make = format!(
                "BEGIN; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT;"
            );
            connection.execute_batch(&make).map_err(StoreError::database(connection, "make its tables"))
        }
        _ => Err(StoreError::damaged(format!(
            "{DATABASE_FILE} has format {id:#x}/{format}, not {APPLICATION_ID:#x}/{FORMAT}"
        ))),
    }
}

/// Copies what an earlier run left in the write-ahead log into the database and syncs it.
///
/// Pages whose sync failed in that run may be clean in the page cache and yet not on the disk. Copying writes them anew, so
/// that what is acknowledged later never stands on them.
fn fold_in_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(StoreError::database(connection, "copy its log into its file"))?;
    let path = || connection.path().unwrap_or_default().into();
    if busy == 0 { Ok(()) } else { Err(StoreError::InUse { path: path() }) }
}

fn checkpoint(connection: &Connection, pragma: &str) -> Result<(), StoreError> {
    connection.query_row(pragma, [], |_| Ok(())).map_err(StoreError::database(connection, "copy its log into its file"))
}

fn read_kinds(connection: &Connection) -> Result<HashMap<String, i64>, StoreError> {
    let read = || -> rusqlite::Result<_> {
        let mut statement = connection.prepare("SELECT name, no FROM kind")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().map_err(StoreError::database(connection, "read the kinds of events"))
}

/// Where a database of this program lies.
#[must_use]
pub fn database_path(dir: &Path) -> PathBuf {
    dir.join(DATABASE_FILE)
}
