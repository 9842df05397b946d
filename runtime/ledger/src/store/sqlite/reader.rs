//! Reading connections: a small pool, each of them read-only, each read on its own snapshot.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};

use remand_model::{Digest, TenantId};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params, params_from_iter};

use super::{event_row, tile_row};
use crate::store::{AuditReader, EVENTS_MAX, Filed, Filter, Head, StateKey, StateScan, StoreError, TileKey, Visit};

pub(super) const STATE: &str = "SELECT value FROM state WHERE tenant=?1 AND ns=?2 AND key=?3";

/// Connections that are kept, and short reads at once: SQLite keeps the descriptor of a closed connection for as long as any
/// other of this process is open.
const POOL_MAX: usize = 4;

pub(super) struct SqliteReader {
    path: PathBuf,
    pool: Mutex<Pool>,
    /// Rung when a short read has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    short_reads: usize,
}

impl SqliteReader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, pool: Mutex::default(), ended: Condvar::new() }
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&self.path, flags).and_then(|connection| {
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        });
        let unopened = |source| StoreError::Database {
            what: "be opened for reading",
            path: self.path.clone(),
            source: Box::new(source),
        };
        opened.map_err(unopened)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().expect("no thread panics while it holds the pool")
    }

    /// A read that calls nobody back: it waits while as many are under way as connections are kept.
    fn read<T>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut pool = self.pool();
        while pool.short_reads >= POOL_MAX {
            pool = self.ended.wait(pool).expect("no thread panics while it holds the pool");
        }
        pool.short_reads += 1;
        drop(pool);
        let outcome = self.visit(what, read);
        self.pool().short_reads -= 1;
        self.ended.notify_one();
        outcome
    }

    /// A read that calls back for each row, and whose caller may read meanwhile: it waits for nobody.
    fn visit<T>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let idle = self.pool().idle.pop();
        let connection = idle.map_or_else(|| self.connect(), Ok)?;
        let outcome = read(&connection).map_err(StoreError::database(&connection, what))?;
        let mut pool = self.pool();
        if pool.idle.len() < POOL_MAX {
            pool.idle.push(connection);
        }
        Ok(outcome)
    }
}

fn head(row: &Row<'_>) -> rusqlite::Result<Result<Head, StoreError>> {
    let (number, name, size, root, timestamp, wall): (u32, String, i64, [u8; 32], i64, i64) =
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
    let unsigned =
        |n: i64| u64::try_from(n).map_err(|_| StoreError::damaged(format!("the head of tenant {number} is negative")));
    let make = || {
        let tenant: TenantId =
            name.parse().map_err(|error| StoreError::damaged(format!("tenant {number}: {error}")))?;
        Ok(Head {
            tenant,
            number,
            size: unsigned(size)?,
            root: Digest::from_bytes(root),
            timestamp: unsigned(timestamp)?,
            wall_clock_us: unsigned(wall)?,
        })
    };
    Ok(make())
}

fn show(tenant: u32, rows: &mut rusqlite::Rows<'_>, visit: &mut Visit<'_>) -> rusqlite::Result<()> {
    while let Some(row) = rows.next()? {
        let id = (row.get::<_, i64>(0)? - event_row(tenant, 0)) as u64;
        if visit(id, row.get_ref(1)?.as_blob()?) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

impl AuditReader for SqliteReader {
    fn rest(&self) {
        self.pool().idle.clear();
    }

    fn heads(&self) -> Result<Vec<Head>, StoreError> {
        let heads: Vec<Result<Head, StoreError>> = self.read("read the heads", |connection| {
            let mut statement =
                connection.prepare("SELECT no,name,size,root,timestamp,wall FROM tenant ORDER BY no")?;
            statement.query_map([], head)?.collect()
        })?;
        heads.into_iter().collect()
    }

    fn entries(&self, tenant: u32, from: u64, to: u64, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.visit("read events", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT id,bytes FROM ev WHERE id>=?1 AND id<?2 ORDER BY id")?;
            let mut rows = statement.query([event_row(tenant, from), event_row(tenant, to)])?;
            show(tenant, &mut rows, visit)
        })
    }

    fn last_event(&self, tenant: u32) -> Result<Option<u64>, StoreError> {
        let range = [event_row(tenant, 0), event_row(tenant + 1, 0)];
        let last: Option<i64> = self.read("read the last event", |connection| {
            connection
                .prepare_cached("SELECT max(id) FROM ev WHERE id>=?1 AND id<?2")?
                .query_row(range, |row| row.get(0))
        })?;
        Ok(last.map(|id| (id - event_row(tenant, 0)) as u64))
    }

    fn tile(&self, key: TileKey) -> Result<Option<Vec<Digest>>, StoreError> {
        let bytes: Option<Vec<u8>> = self.read("read a tile", |connection| {
            let mut statement = connection.prepare_cached("SELECT bytes FROM tile WHERE id=?1")?;
            statement.query_row([tile_row(key)], |row| row.get(0)).optional()
        })?;
        let hashes = |bytes: Vec<u8>| bytes.as_chunks::<32>().0.iter().copied().map(Digest::from_bytes).collect();
        Ok(bytes.map(hashes))
    }

    fn find(&self, tenant: u32, filter: &Filter, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut sql = String::from("SELECT id,bytes FROM ev WHERE id>=? AND id<?");
        let from = filter.from_id.min(EVENTS_MAX);
        let mut values = vec![Value::from(event_row(tenant, from)), Value::from(event_row(tenant + 1, 0))];
        let mut add = |condition: &str, value: Value| {
            sql.push_str(condition);
            values.push(value);
        };
        if let Some(kind) = &filter.kind {
            add(" AND kind=(SELECT no FROM kind WHERE name=?)", kind.as_str().to_owned().into());
        }
        if let Some(subject) = &filter.subject {
            add(" AND subject=(SELECT no FROM subject WHERE tenant=?", i64::from(tenant).into());
            add(" AND name=?)", subject.as_str().to_owned().into());
        }
        let clock = |us: u64| Value::from(i64::try_from(us).unwrap_or(i64::MAX));
        if let Some(us) = filter.from_us {
            add(" AND wall>=?", clock(us));
        }
        if let Some(us) = filter.until_us {
            add(" AND wall<?", clock(us));
        }
        add(" ORDER BY id LIMIT ?", (filter.limit() as i64).into());
        self.visit("find events", |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            show(tenant, &mut rows, visit)
        })
    }

    fn filed(&self, tenant: u32, from: u64, to: u64) -> Result<Vec<Filed>, StoreError> {
        self.read("read how events are filed", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT coalesce(kind.name,''), coalesce(subject.name,''), wall FROM ev LEFT JOIN kind ON kind.no=ev.kind \
                 LEFT JOIN subject ON subject.no=ev.subject AND subject.tenant=?3 WHERE id>=?1 AND id<?2 ORDER BY id",
            )?;
            let range = params![event_row(tenant, from), event_row(tenant, to), tenant];
            let filed = |row: &Row<'_>| {
                let wall_clock_us = row.get::<_, i64>(2)?.cast_unsigned();
                Ok(Filed { kind: row.get(0)?, subject: row.get(1)?, wall_clock_us })
            };
            statement.query_map(range, filed)?.collect()
        })
    }

    fn state(&self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.read("read a state value", |connection| {
            let mut statement = connection.prepare_cached(STATE)?;
            statement.query_row(params![tenant, key.namespace(), key.key()], |row| row.get(0)).optional()
        })
    }

    fn state_list(&self, tenant: u32, scan: &StateScan<'_>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
        self.read("list state values", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key,value FROM state WHERE tenant=?1 AND ns=?2 AND key>?3 AND key>=?4 \
                 AND substr(key,1,length(?4))=?4 ORDER BY key LIMIT ?5",
            )?;
            let rows = statement.query_map(params![tenant, scan.namespace, scan.after, scan.prefix, limit], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect()
        })
    }
}
