//! After a failed write nothing more is recorded and nothing may run, until the ledger is reopened.

mod store_kit;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use remand_ledger::store::sqlite::SqliteStore;
use remand_ledger::store::{AuditReader, AuditStore, EventRow, Head, StoreError, TileKey};
use remand_ledger::{Ack, AppendError, Ledger, StateKey, Transaction};
use remand_model::Digest;
use store_kit::{Backend, event, options, started, tenant};

/// A backend whose `n`th commit fails, either before or after it has taken effect on the disk.
struct Failing {
    store: SqliteStore,
    commits_left: u32,
    takes_effect: bool,
}

fn broken() -> StoreError {
    StoreError::Io { what: "sync", path: "the disk".into(), source: io::Error::other("input/output error") }
}

impl AuditStore for Failing {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.store.begin()
    }

    fn put_event(&mut self, row: &EventRow<'_>) -> Result<(), StoreError> {
        self.store.put_event(row)
    }

    fn put_tile(&mut self, key: TileKey, hashes: &[Digest]) -> Result<(), StoreError> {
        self.store.put_tile(key, hashes)
    }

    fn put_head(&mut self, head: &Head) -> Result<(), StoreError> {
        self.store.put_head(head)
    }

    fn state(&mut self, tenant: u32, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.state(tenant, key)
    }

    fn put_state(&mut self, tenant: u32, key: &StateKey, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.store.put_state(tenant, key, value)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        match self.commits_left.checked_sub(1) {
            Some(left) => {
                self.commits_left = left;
                self.store.commit()
            }
            None if self.takes_effect => self.store.commit().and(Err(broken())),
            None => Err(broken()),
        }
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        self.store.tidy()
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Box::new(self.store).close()
    }

    fn reader(&self) -> Arc<dyn AuditReader> {
        self.store.reader()
    }
}

fn failing(backend: &Backend, takes_effect: bool) -> Ledger {
    failing_again(backend, takes_effect, 1)
}

/// A ledger whose first openings give such a backend, and later ones a sound one.
fn failing_again(backend: &Backend, takes_effect: bool, openings: u32) -> Ledger {
    let (dir, left) = (backend.dir().to_owned(), AtomicU32::new(openings));
    let open = move || -> Result<Box<dyn AuditStore>, StoreError> {
        let store = SqliteStore::open(&dir)?;
        let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { Ok(Box::new(Failing { store, commits_left: 2, takes_effect })) } else { Ok(Box::new(store)) }
    };
    Ledger::open_with(Box::new(open), options()).unwrap()
}

fn one(n: u32) -> Transaction {
    Transaction::new(tenant("a")).event(event(n))
}

fn is_poisoned(outcome: &Result<Ack, AppendError>) -> bool {
    matches!(outcome, Err(error @ AppendError::Poisoned(_)) if error.is_final())
}

#[test]
fn after_a_failed_commit_everything_is_refused_until_the_ledger_is_reopened() {
    for takes_effect in [false, true] {
        let backend = Backend::sqlite();
        let ledger = failing(&backend, takes_effect);
        assert!(ledger.append(one(0)).is_ok());
        assert!(ledger.append(one(1)).is_ok());
        let start = Transaction::new(tenant("a")).event(started(1));
        assert!(is_poisoned(&ledger.append(start.clone())));
        assert!(is_poisoned(&ledger.append(start.clone())));
        assert!(is_poisoned(&ledger.append(Transaction::new(tenant("b")).event(event(0)))));
        assert!(ledger.poisoned().is_some());
        assert_eq!(ledger.head(&tenant("a")).unwrap().size, 2);
        assert!(ledger.close().is_err());
        drop(ledger);
        let ledger = backend.open();
        let size = ledger.verify_chain(&tenant("a")).unwrap().size;
        assert_eq!(size, if takes_effect { 3 } else { 2 });
        assert_eq!(ledger.open_executions().unwrap().len(), usize::from(takes_effect));
        assert!(ledger.append(one(2)).is_ok());
    }
}

#[test]
fn a_poisoned_ledger_is_reopened_with_everything_acknowledged_and_goes_on() {
    for takes_effect in [false, true] {
        let backend = Backend::sqlite();
        let ledger = failing(&backend, takes_effect);
        assert!(ledger.reopen().unwrap().is_none(), "a sound ledger has nothing to reopen");
        let acks: Vec<_> = (0..2).map(|n| ledger.append(one(n)).unwrap()).collect();
        assert!(is_poisoned(&ledger.append(Transaction::new(tenant("a")).event(started(1)))));
        let before = ledger.tree(&tenant("a")).unwrap();
        let found = ledger.reopen().unwrap().expect("it was poisoned");
        assert!(found.cause.to_string().contains("could not sync the disk"), "{}", found.cause);
        assert_eq!(found.unacknowledged, u64::from(takes_effect));
        assert_eq!(ledger.open_executions().unwrap().len(), usize::from(takes_effect));
        assert!(ledger.poisoned().is_none() && ledger.append(one(3)).is_ok());
        let size = ledger.verify_chain(&tenant("a")).unwrap().size;
        assert_eq!(size, 3 + u64::from(takes_effect));
        let entries = ledger.tree(&tenant("a")).unwrap().entries(0, size).unwrap();
        for receipt in acks.iter().flat_map(|ack| &ack.events) {
            assert_eq!(remand_ledger::merkle::leaf_hash(&entries[receipt.event_id as usize]), receipt.leaf);
        }
        assert_eq!(before.entries(0, 9).unwrap(), entries[..2], "a reader from before sees what it saw");
        ledger.close().unwrap();
    }
}

#[test]
fn a_reopening_that_fails_leaves_everything_refused_and_says_why_now() {
    let backend = Backend::sqlite();
    let ledger = failing(&backend, false);
    while ledger.append(one(0)).is_ok() {}
    let moved = backend.dir().join("elsewhere");
    std::fs::rename(backend.dir().join("ledger.db"), &moved).unwrap();
    std::fs::create_dir(backend.dir().join("ledger.db")).unwrap();
    let why = ledger.reopen().unwrap_err().to_string();
    assert!(why.contains("could not open") && why.contains("ledger.db"), "{why}");
    assert!(is_poisoned(&ledger.append(one(1))));
    assert_eq!(ledger.poisoned().unwrap().to_string(), why);
    std::fs::remove_dir(backend.dir().join("ledger.db")).unwrap();
    std::fs::rename(&moved, backend.dir().join("ledger.db")).unwrap();
    assert!(ledger.reopen().unwrap().is_some() && ledger.append(one(1)).is_ok());
}

#[test]
fn a_store_that_lost_acknowledged_events_is_not_reopened() {
    let backend = Backend::sqlite();
    let early = tempfile::tempdir().unwrap();
    let ledger = failing(&backend, false);
    assert!(ledger.append(one(0)).is_ok());
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for name in ["ledger.db", "ledger.db-wal"] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    };
    copy(backend.dir(), early.path());
    while ledger.append(one(1)).is_ok() {}
    copy(early.path(), backend.dir());
    let why = ledger.reopen().unwrap_err();
    assert!(why.is_damage(), "{why}");
    assert!(why.to_string().contains("does not extend the 2 that were acknowledged"), "{why}");
    let refused = ledger.append(one(2)).unwrap_err().to_string();
    assert!(refused.contains("an operator must look at it"), "{refused}");
}

#[test]
fn a_closed_ledger_is_not_reopened() {
    let backend = Backend::sqlite();
    let ledger = failing(&backend, false);
    while ledger.append(one(0)).is_ok() {}
    assert!(ledger.close().is_err());
    assert!(ledger.reopen().unwrap().is_none());
    assert!(ledger.append(one(1)).is_err());
}

#[test]
fn the_error_says_whose_move_it_is_and_why() {
    let backend = Backend::sqlite();
    let ledger = failing(&backend, false);
    let error = (0..3).find_map(|n| ledger.append(one(n)).err()).unwrap();
    assert!(error.to_string().contains("once the cause is gone the next request opens and verifies it"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("could not sync the disk; check its disk"), "{source}");
}

#[test]
fn everyone_who_waits_hears_of_a_failed_write() {
    let backend = Backend::sqlite();
    let ledger = failing(&backend, false);
    let (send, receive) = channel();
    for n in 0..2000 {
        let send = send.clone();
        ledger.submit(one(n), Box::new(move |outcome| drop(send.send(outcome))));
    }
    drop(send);
    let outcomes: Vec<_> = receive.iter().collect();
    assert_eq!(outcomes.len(), 2000);
    let acknowledged = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!(outcomes[acknowledged..].iter().all(is_poisoned));
    drop(ledger);
    assert_eq!(backend.open().verify_chain(&tenant("a")).unwrap().size, acknowledged as u64);
}

#[test]
fn a_full_queue_says_so_and_loses_nothing() {
    let backend = Backend::sqlite();
    let ledger = backend.open_with(remand_ledger::store::Options { queued_per_tenant_max: 4, ..options() });
    let (send, receive) = channel();
    for n in 0..500 {
        let send = send.clone();
        ledger.try_submit(one(n), Box::new(move |outcome| drop(send.send(outcome))));
    }
    drop(send);
    let (done, busy): (Vec<_>, Vec<_>) = receive.iter().partition(Result::is_ok);
    assert!(busy.iter().all(|outcome| matches!(outcome, Err(AppendError::Busy))));
    assert_eq!(done.len() + busy.len(), 500);
    assert_eq!(ledger.verify_chain(&tenant("a")).unwrap().size, done.len() as u64);
}
