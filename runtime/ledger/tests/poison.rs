//! After a failed write nothing more is recorded and nothing may run, until the ledger is reopened.

mod store_kit;

use std::io;
use std::sync::Arc;
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
    let store = SqliteStore::open(backend.dir()).unwrap();
    Ledger::open_store(Box::new(Failing { store, commits_left: 2, takes_effect }), options()).unwrap()
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
fn the_error_says_whose_move_it_is_and_why() {
    let backend = Backend::sqlite();
    let ledger = failing(&backend, false);
    let error = (0..3).find_map(|n| ledger.append(one(n)).err()).unwrap();
    assert!(error.to_string().contains("repair the disk and restart"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("could not sync the disk"), "{source}");
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
