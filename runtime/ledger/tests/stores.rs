//! Tenants' state and blobs: what they hold is recorded, limited, and whole.

mod store_kit;

use remand_ledger::blob::{BlobError, BlobStore};
use remand_ledger::state::{DEFAULT_QUOTA, Expected, StateError, TenantState};
use remand_ledger::store::{Filter, StateQuota};
use remand_ledger::{AppendError, Ledger, Refusal, Transaction};
use remand_model::event::{EventType, NewEvent, Subject};
use remand_model::{Digest, TenantId};
use store_kit::{Backend, tenant};

fn about() -> Subject {
    Subject::from(&tenant("a"))
}

fn kinds(ledger: &Ledger, tenant: &TenantId) -> Vec<String> {
    let events = ledger.query(tenant, &Filter::default()).unwrap();
    events.into_iter().map(|event| event.event_type.to_string()).collect()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, StateError>) -> Refusal {
    match outcome {
        Err(StateError::Append(AppendError::Refused(refusal))) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_operation_on_state_is_an_event() {
    let ledger = Backend::sqlite().open();
    let state = TenantState::new(ledger.clone(), tenant("a"), DEFAULT_QUOTA);
    assert_eq!(state.get(&about(), "k").unwrap(), None);
    state.set(&about(), "k", b"v", Expected::Absent).unwrap();
    assert_eq!(state.get(&about(), "k").unwrap().unwrap(), b"v");
    assert_eq!(state.list(&about(), "", "").unwrap(), ["k"]);
    assert!(state.delete(&about(), "k").unwrap());
    assert!(!state.delete(&about(), "k").unwrap());
    let all = ["STATE_READ", "STATE_SET", "STATE_READ", "STATE_LISTED", "STATE_DELETED", "STATE_DELETED"];
    assert_eq!(kinds(&ledger, &tenant("a")), all);
    let set = ledger.event(&tenant("a"), 1).unwrap().unwrap();
    assert_eq!(set.payload.claims["sha256"].as_text().unwrap(), Digest::of(b"v").to_hex());
}

#[test]
fn a_value_is_set_only_where_it_is_as_expected() {
    let ledger = Backend::sqlite().open();
    let state = TenantState::new(ledger.clone(), tenant("a"), DEFAULT_QUOTA);
    assert!(matches!(refusal(state.set(&about(), "k", b"2", Expected::Value(b"1"))), Refusal::Condition { .. }));
    state.set(&about(), "k", b"1", Expected::Anything).unwrap();
    assert!(matches!(refusal(state.set(&about(), "k", b"2", Expected::Absent)), Refusal::Condition { .. }));
    state.set(&about(), "k", b"2", Expected::Value(b"1")).unwrap();
    assert_eq!(state.get(&about(), "k").unwrap().unwrap(), b"2");
    assert_eq!(ledger.head(&tenant("a")).unwrap().size, 3);
}

#[test]
fn state_stays_within_its_quota_and_its_tenant() {
    let ledger = Backend::sqlite().open();
    let quota = StateQuota { bytes_max: 200, keys_max: 2 };
    let state = TenantState::new(ledger.clone(), tenant("a"), quota);
    state.set(&about(), "k", &[0; 60], Expected::Anything).unwrap();
    assert!(matches!(refusal(state.set(&about(), "l", &[0; 160], Expected::Anything)), Refusal::Quota { .. }));
    state.set(&about(), "l", &[0; 60], Expected::Anything).unwrap();
    assert!(matches!(refusal(state.set(&about(), "m", &[], Expected::Anything)), Refusal::Quota { .. }));
    let other = TenantState::new(ledger, tenant("b"), quota);
    assert_eq!(other.get(&about(), "k").unwrap(), None);
    for bad in ["", "a\0b", &"x".repeat(513)] {
        assert!(matches!(state.get(&about(), bad), Err(StateError::Key(_))));
    }
}

#[test]
fn concurrent_changes_of_one_key_are_all_recorded_in_order() {
    let backend = Backend::sqlite();
    let ledger = backend.open();
    let state = TenantState::new(ledger.clone(), tenant("a"), DEFAULT_QUOTA);
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let state = &state;
            scope.spawn(move || {
                for round in 0..10 {
                    state.set(&about(), "k", &[n, round], Expected::Anything).unwrap();
                }
            });
        }
    });
    let last = ledger.event(&tenant("a"), 39).unwrap().unwrap();
    let value = state.get(&about(), "k").unwrap().unwrap();
    assert_eq!(last.payload.claims["sha256"].as_text().unwrap(), Digest::of(&value).to_hex());
}

struct Blobs {
    backend: Backend,
    ledger: Ledger,
    blobs: BlobStore,
}

fn blobs() -> Blobs {
    let backend = Backend::sqlite();
    let ledger = backend.open();
    let blobs = BlobStore::open(&backend.dir().join("blobs"), ledger.clone()).unwrap();
    Blobs { backend, ledger, blobs }
}

impl Blobs {
    fn store_and_name(&self, bytes: &[u8], tenant_bytes_max: u64) -> Result<Digest, AppendError> {
        let stored = self.blobs.put(&tenant("a"), bytes, 1 << 20).unwrap();
        let named = NewEvent::new("output_stored".parse().unwrap(), about()).claim("sha256", *stored.digest());
        let ops = stored.keep_ops(tenant_bytes_max).to_vec();
        drop(self.ledger.append(Transaction { tenant: tenant("a"), events: vec![named], ops })?);
        Ok(*stored.digest())
    }

    fn release(&self, digest: &Digest, bytes: u64) {
        let released = NewEvent::new("output_released".parse().unwrap(), about()).claim("sha256", *digest);
        let ops = BlobStore::release_ops(digest, bytes).to_vec();
        drop(self.ledger.append(Transaction { tenant: tenant("a"), events: vec![released], ops }).unwrap());
    }

    fn file(&self, digest: &Digest) -> std::path::PathBuf {
        let hex = digest.to_hex();
        self.backend.dir().join("blobs/a").join(&hex[..2]).join(&hex[2..])
    }
}

#[test]
fn a_blob_is_found_by_its_digest_and_only_by_its_tenant() {
    let Blobs { blobs, backend: _backend, .. } = &blobs();
    let stored = blobs.put(&tenant("a"), b"hello", 5).unwrap();
    assert_eq!((stored.digest(), stored.bytes()), (&Digest::of(b"hello"), 5));
    assert_eq!(blobs.read(&tenant("a"), stored.digest(), 5).unwrap(), b"hello");
    assert!(matches!(blobs.read(&tenant("b"), stored.digest(), 5), Err(BlobError::Missing { .. })));
    assert!(matches!(blobs.read(&tenant("a"), stored.digest(), 4), Err(BlobError::TooLong { .. })));
}

#[test]
fn a_blob_beyond_its_limit_leaves_nothing() {
    let all = blobs();
    let mut writer = all.blobs.writer(&tenant("a"), 10).unwrap();
    writer.take_all(&mut &[1; 10][..]).unwrap();
    assert!(matches!(writer.take(&[1]), Err(BlobError::TooLong { bytes_max: 10 })));
    drop(writer);
    assert!(all.blobs.list(&tenant("a")).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(all.backend.dir().join("blobs/.new")).unwrap().count(), 0);
}

#[test]
fn a_damaged_or_missing_blob_is_noticed_when_read_and_when_checked() {
    let all = blobs();
    let (one, two) = (all.store_and_name(b"one", 100).unwrap(), all.store_and_name(b"two", 100).unwrap());
    assert!(all.blobs.check(&tenant("a")).unwrap().is_empty());
    std::fs::write(all.file(&one), b"0ne").unwrap();
    std::fs::remove_file(all.file(&two)).unwrap();
    assert!(matches!(all.blobs.read(&tenant("a"), &one, 100), Err(BlobError::Damaged { .. })));
    assert_eq!(all.blobs.check(&tenant("a")).unwrap().len(), 2);
    assert!(all.store_and_name(b"one", 100).is_ok());
    assert_eq!(all.blobs.read(&tenant("a"), &one, 100).unwrap(), b"one");
}

#[test]
fn referenced_bytes_stay_within_the_tenants_limit() {
    let all = blobs();
    assert!(all.store_and_name(&[1; 60], 100).is_ok());
    let refused = all.store_and_name(&[2; 60], 100);
    assert!(matches!(refused, Err(AppendError::Refused(Refusal::Counter { used: 60, .. }))));
    assert!(all.store_and_name(&[3; 40], 100).is_ok());
}

#[test]
fn collection_spares_what_is_referred_to_or_held() {
    let all = blobs();
    let named = all.store_and_name(b"named", 100).unwrap();
    let held = all.blobs.put(&tenant("a"), b"held", 100).unwrap();
    assert_eq!(all.blobs.collect(&tenant("a"), &about()).unwrap().blobs, 0);
    assert!(all.blobs.read(&tenant("a"), &named, 100).is_ok());
    drop(held);
    assert_eq!(all.blobs.collect(&tenant("a"), &about()).unwrap().blobs, 1);
    assert_eq!(kinds(&all.ledger, &tenant("a")), ["output_stored"]);
}

#[test]
fn collection_of_what_the_chain_named_says_so_first() {
    let all = blobs();
    let digest = all.store_and_name(b"twice", 100).unwrap();
    all.store_and_name(b"twice", 100).unwrap();
    all.release(&digest, 5);
    assert_eq!(all.blobs.collect(&tenant("a"), &about()).unwrap().blobs, 0);
    all.release(&digest, 5);
    let again = all.blobs.hold(&tenant("a"), &digest).unwrap();
    assert_eq!(all.blobs.collect(&tenant("a"), &about()).unwrap().blobs, 0);
    drop(again);
    assert_eq!(all.blobs.collect(&tenant("a"), &about()).unwrap().bytes, 5);
    assert!(matches!(all.blobs.hold(&tenant("a"), &digest), Err(BlobError::Missing { .. })));
    let filter = Filter { kind: Some(EventType::BLOB_REMOVED), ..Filter::default() };
    let removed = all.ledger.query(&tenant("a"), &filter).unwrap();
    assert_eq!(removed[0].payload.claims["sha256"].as_text().unwrap(), digest.to_hex());
    assert_eq!(all.blobs.references(&tenant("a"), &digest).unwrap(), 0);
}

#[test]
fn collection_removes_nothing_that_it_cannot_record() {
    let all = blobs();
    let digest = all.store_and_name(b"kept", 100).unwrap();
    all.release(&digest, 4);
    all.ledger.close().unwrap();
    assert!(matches!(all.blobs.collect(&tenant("a"), &about()), Err(BlobError::Append(AppendError::Closed))));
    assert_eq!(all.blobs.read(&tenant("a"), &digest, 100).unwrap(), b"kept");
}
