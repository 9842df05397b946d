//! What every backend of the ledger must do: one list of tests, run over each.

mod store_kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use remand_ledger::merkle::{Frontier, leaf_hash};
use remand_ledger::store::{Condition, Filter, Options, StateQuota, StateScan};
use remand_ledger::{AppendError, Ledger, Refusal, StateOp, Transaction};
use remand_model::event::{Cause, EventType, Subject};
use remand_model::{Event, NewEvent};
use store_kit::{Backend, event, execution, key, options, started, tenant};

fn one(name: &str, n: u32) -> Transaction {
    Transaction::new(tenant(name)).event(event(n))
}

fn refusal(ledger: &Ledger, transaction: Transaction) -> Refusal {
    match ledger.append(transaction) {
        Err(AppendError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn ids_are_gap_free_from_zero_for_each_tenant(backend: &Backend) {
    let ledger = backend.open();
    for n in 0..5 {
        for name in ["a", "b"] {
            let ack = ledger.append(one(name, n)).unwrap();
            assert_eq!((ack.events[0].event_id, ack.tree_size), (u64::from(n), u64::from(n) + 1));
        }
    }
    let events = ledger.query(&tenant("b"), &Filter::default()).unwrap();
    assert_eq!(events.iter().map(|event| event.event_id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(events.iter().all(|event| event.tenant_id == tenant("b")));
}

fn the_root_is_that_of_the_entries_and_survives_reopening(backend: &Backend) {
    let ledger = backend.open();
    for n in 0..700 {
        assert!(ledger.append(one("a", n)).is_ok());
    }
    let mut frontier = Frontier::new();
    let replayed = ledger.replay(&tenant("a"), |event: Event| {
        frontier.append(leaf_hash(&event.to_entry().unwrap()));
    });
    let root = ledger.get_merkle_root(&tenant("a"));
    assert_eq!(frontier.root().to_hex(), root);
    assert_eq!(replayed.unwrap().root.to_hex(), root);
    ledger.close().unwrap();
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(ledger.get_merkle_root(&tenant("a")), root);
    assert_eq!(ledger.verify_chain(&tenant("a")).unwrap().size, 700);
    assert_eq!(ledger.append(one("a", 700)).unwrap().events[0].event_id, 700);
}

fn a_transaction_of_many_events_names_causes_within_itself(backend: &Backend) {
    let ledger = backend.open();
    ledger.append(one("a", 0)).unwrap().events.truncate(0);
    let both = one("a", 1).event(event(2).because(Cause::Within(0))).event(event(3).because(Cause::Event(0)));
    let ack = ledger.append(both).unwrap();
    assert_eq!(ack.events.iter().map(|receipt| receipt.event_id).collect::<Vec<_>>(), [1, 2, 3]);
    let causes = ledger.query(&tenant("a"), &Filter::default()).unwrap();
    assert_eq!(causes.iter().map(|event| event.causation_id).collect::<Vec<_>>(), [None, None, Some(1), Some(0)]);
}

fn a_cause_that_does_not_come_before_is_refused(backend: &Backend) {
    let ledger = backend.open();
    for cause in [Cause::Event(0), Cause::Event(7), Cause::Within(0), Cause::Within(3)] {
        let late = Transaction::new(tenant("a")).event(event(0).because(cause));
        assert_eq!(refusal(&ledger, late), Refusal::Cause { place: 0 });
    }
    assert!(ledger.head(&tenant("a")).is_none());
}

fn a_refused_transaction_writes_nothing_and_harms_no_other(backend: &Backend) {
    let ledger = backend.open();
    let set = |value: &[u8]| StateOp::Set { key: key("x"), value: value.to_vec() };
    let require = |condition| StateOp::Require { key: key("x"), condition };
    assert!(ledger.append(one("a", 0).op(require(Condition::Absent)).op(set(b"1"))).is_ok());
    let refused = one("a", 1).op(set(b"2")).op(StateOp::Delete { key: key("x") }).op(require(Condition::Present));
    assert_eq!(refusal(&ledger, refused), Refusal::Condition { key: key("x") });
    assert_eq!(ledger.state(&tenant("a"), &key("x")).unwrap().unwrap(), b"1");
    assert_eq!(ledger.head(&tenant("a")).unwrap().size, 1);
    assert!(ledger.append(one("a", 1).op(require(Condition::Equals(b"1".to_vec()))).op(set(b"3"))).is_ok());
    assert_eq!(ledger.state(&tenant("a"), &key("x")).unwrap().unwrap(), b"3");
    assert!(ledger.poisoned().is_none());
}

fn state_does_not_change_without_an_event_unless_it_is_derived(backend: &Backend) {
    let ledger = backend.open();
    let set = StateOp::Set { key: key("x"), value: vec![1] };
    assert_eq!(refusal(&ledger, Transaction::new(tenant("a")).op(set)), Refusal::NoEvent);
    assert_eq!(refusal(&ledger, Transaction::new(tenant("a"))), Refusal::NoEvent);
    let derived = remand_ledger::StateKey::new("derived.note", "latest").unwrap();
    let note = Transaction::new(tenant("a")).op(StateOp::Set { key: derived.clone(), value: vec![2] });
    assert_eq!(refusal(&ledger, note.clone()), Refusal::NoEvent);
    assert!(ledger.append(one("a", 0)).is_ok());
    assert!(ledger.append(note).unwrap().events.is_empty());
    assert_eq!(ledger.state(&tenant("a"), &derived).unwrap().unwrap(), [2]);
    assert_eq!(ledger.head(&tenant("a")).unwrap().size, 1);
}

fn a_counter_is_never_overspent_by_concurrent_users(backend: &Backend) {
    let ledger = backend.open();
    let spent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..20 {
                    let take = StateOp::Count { key: key("uses"), add: 3, max: 100 };
                    match ledger.append(one("a", n).op(take)) {
                        Ok(_) => drop(spent.fetch_add(3, Ordering::Relaxed)),
                        Err(AppendError::Refused(Refusal::Counter { used: 98.., .. })) => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(spent.into_inner(), 99);
    assert_eq!(ledger.counter(&tenant("a"), &key("uses")).unwrap(), 99);
    assert_eq!(ledger.head(&tenant("a")).unwrap().size, 33);
    let back = StateOp::Count { key: key("uses"), add: -99, max: 0 };
    assert!(ledger.append(one("a", 0).op(back.clone())).is_ok());
    assert!(matches!(refusal(&ledger, one("a", 0).op(back)), Refusal::Counter { used: 0, .. }));
}

fn a_metered_namespace_holds_no_more_than_its_quota(backend: &Backend) {
    let ledger = backend.open();
    let quota = StateQuota { bytes_max: 10, keys_max: 2 };
    let set =
        |name: &str, bytes: usize| one("a", 0).op(StateOp::SetMetered { key: key(name), value: vec![0; bytes], quota });
    assert!(ledger.append(set("a", 4)).is_ok());
    assert!(ledger.append(set("b", 4)).is_ok());
    assert!(matches!(refusal(&ledger, set("b", 5)), Refusal::Quota { bytes: 11, .. }));
    assert!(matches!(refusal(&ledger, set("c", 0)), Refusal::Quota { keys: 3, .. }));
    assert!(ledger.append(set("b", 2)).is_ok());
    assert!(ledger.append(one("a", 0).op(StateOp::DeleteMetered { key: key("a") })).is_ok());
    assert!(ledger.append(set("c", 6)).is_ok());
}

fn state_is_listed_in_order_by_prefix_and_page(backend: &Backend) {
    let ledger = backend.open();
    for name in ["b/2", "a", "b/1", "b/3", "c", "b%"] {
        assert!(ledger.append(one("a", 0).op(StateOp::Set { key: key(name), value: name.into() })).is_ok());
    }
    let list = |prefix, after, limit| {
        let scan = StateScan { namespace: "test", prefix, after, limit };
        let found = ledger.state_list(&tenant("a"), &scan).unwrap();
        found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(list("", "", 10), ["a", "b%", "b/1", "b/2", "b/3", "c"]);
    assert_eq!(list("b/", "", 2), ["b/1", "b/2"]);
    assert_eq!(list("b/", "b/2", 10), ["b/3"]);
    assert!(
        ledger
            .state_list(&tenant("b"), &StateScan { namespace: "test", prefix: "", after: "", limit: 1 })
            .unwrap()
            .is_empty()
    );
}

fn tenants_do_not_see_each_others_state(backend: &Backend) {
    let ledger = backend.open();
    assert!(ledger.append(one("a", 0).op(StateOp::Set { key: key("x"), value: vec![1] })).is_ok());
    assert!(ledger.append(one("b", 0).op(StateOp::Require { key: key("x"), condition: Condition::Absent })).is_ok());
    assert_eq!(ledger.state(&tenant("b"), &key("x")).unwrap(), None);
}

fn a_started_receipt_is_given_once_and_an_execution_starts_once(backend: &Backend) {
    let ledger = backend.open();
    let start = || Transaction::new(tenant("a")).event(event(0)).event(started(1));
    let mut ack = ledger.append(start()).unwrap();
    let receipt = ack.take_started(&execution(1)).unwrap();
    assert_eq!((receipt.event_id(), receipt.tenant(), receipt.execution()), (1, &tenant("a"), &execution(1)));
    assert_eq!(receipt.leaf(), &ack.events[1].leaf);
    assert!(ack.take_started(&execution(1)).is_none());
    assert!(matches!(refusal(&ledger, start()), Refusal::AlreadyStarted { event_id: 1, .. }));
}

fn a_completion_without_a_start_is_refused(backend: &Backend) {
    let ledger = backend.open();
    let end = |kind| Transaction::new(tenant("a")).event(NewEvent::new(kind, &execution(1)));
    assert!(matches!(refusal(&ledger, end(EventType::EXECUTION_COMPLETED)), Refusal::NotStarted { .. }));
    assert!(ledger.append(end(EventType::EXECUTION_DENIED)).is_ok());
    assert!(ledger.append(Transaction::new(tenant("a")).event(started(1))).is_ok());
    assert!(ledger.append(end(EventType::EXECUTION_COMPLETED)).is_ok());
    assert!(matches!(refusal(&ledger, end(EventType::EXECUTION_COMPLETED)), Refusal::NotStarted { .. }));
}

fn executions_open_at_the_end_are_found_after_reopening(backend: &Backend) {
    let ledger = backend.open();
    for n in 1..4 {
        assert!(ledger.append(Transaction::new(tenant("a")).event(started(n))).is_ok());
    }
    let done = NewEvent::new(EventType::EXECUTION_COMPLETED, &execution(2));
    assert!(ledger.append(Transaction::new(tenant("a")).event(done)).is_ok());
    drop(ledger);
    let ledger = backend.open();
    let mut open = ledger.open_executions().unwrap();
    open.sort_by_key(|open| open.started_event_id);
    assert_eq!(open.iter().map(|open| open.execution.clone()).collect::<Vec<_>>(), [execution(1), execution(3)]);
    assert_eq!(open[1].started_event_id, 2);
    let lost = NewEvent::new(EventType::EXECUTION_LOST, &execution(1));
    assert!(ledger.append(Transaction::new(tenant("a")).event(lost)).is_ok());
    assert_eq!(ledger.open_executions().unwrap().len(), 1);
}

fn events_are_found_by_kind_subject_time_and_page(backend: &Backend) {
    let clock = Arc::new(AtomicU64::new(0));
    let ledger = backend.open_with(Options { clock: Arc::new(store_kit::Hand(clock.clone())), ..options() });
    for (n, at) in [(1, 100), (2, 300), (3, 200)] {
        clock.store(at, Ordering::Relaxed);
        assert!(ledger.append(Transaction::new(tenant("a")).event(started(n)).event(event(n))).is_ok());
    }
    let find = |filter: Filter| {
        let found = ledger.query(&tenant("a"), &filter).unwrap();
        found.into_iter().map(|event| event.event_id).collect::<Vec<_>>()
    };
    assert_eq!(find(Filter { kind: Some(EventType::EXECUTION_STARTED), ..Filter::default() }), [0, 2, 4]);
    assert_eq!(find(Filter { subject: Some(Subject::from(&execution(2))), ..Filter::default() }), [2]);
    assert_eq!(find(Filter { from_us: Some(200), until_us: Some(300), ..Filter::default() }), [4, 5]);
    assert_eq!(find(Filter { from_id: 1, limit: 2, ..Filter::default() }), [1, 2]);
    assert_eq!(find(Filter { kind: Some("unknown".parse().unwrap()), ..Filter::default() }), [0; 0]);
    assert_eq!(ledger.event(&tenant("a"), 3).unwrap().unwrap().event_id, 3);
    assert!(ledger.event(&tenant("a"), 6).unwrap().is_none());
}

fn a_clock_that_jumps_changes_the_observation_and_nothing_else(backend: &Backend) {
    let clock = Arc::new(AtomicU64::new(0));
    let ledger = backend.open_with(Options { clock: Arc::new(store_kit::Hand(clock.clone())), ..options() });
    let times = [5_000_000, 10, 9_000_000_000_000_000, 0, 7];
    for at in times {
        clock.store(at, Ordering::Relaxed);
        assert!(ledger.append(one("a", 0)).is_ok());
    }
    drop(ledger);
    let events = backend.open().query(&tenant("a"), &Filter::default()).unwrap();
    assert_eq!(events.iter().map(|event| event.wall_clock_us).collect::<Vec<_>>(), times);
    assert_eq!(events.iter().map(|event| event.timestamp).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

fn a_thousand_tenants_keep_a_chain_each(backend: &Backend) {
    let ledger = backend.open();
    let (send, receive) = channel();
    for n in 0..3000_u32 {
        let send = send.clone();
        let done = Box::new(move |outcome| drop(send.send(outcome)));
        ledger.submit(one(&format!("t{}", n % 1000), n), done);
    }
    drop(send);
    assert_eq!(receive.iter().filter(Result::is_ok).count(), 3000);
    drop(ledger);
    let ledger = backend.open();
    assert_eq!(ledger.heads().len(), 1000);
    for head in ledger.heads() {
        assert_eq!(ledger.verify_chain(&head.tenant).unwrap().size, 3);
    }
}

fn concurrent_appenders_leave_no_gap_and_every_ack_is_in_the_chain(backend: &Backend) {
    let ledger = backend.open();
    let acks: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u32)
            .map(|n| {
                let ledger = &ledger;
                scope.spawn(move || {
                    (0..50).map(|_| ledger.append(one(&format!("t{}", n % 3), n)).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(acks.len(), 400);
    for ack in acks {
        let entry =
            ledger.tree(&ack.tenant).unwrap().entries(ack.events[0].event_id, ack.events[0].event_id + 1).unwrap();
        assert_eq!(leaf_hash(&entry[0]), ack.events[0].leaf);
    }
    assert_eq!(ledger.heads().iter().map(|head| ledger.verify_chain(&head.tenant).unwrap().size).sum::<u64>(), 400);
}

fn an_event_that_is_too_long_is_refused_and_the_ledger_goes_on(backend: &Backend) {
    let ledger = backend.open();
    let long = event(0).observe("text", "x".repeat(70_000));
    assert!(matches!(ledger.append(Transaction::new(tenant("a")).event(long)), Err(AppendError::Event(_))));
    assert!(ledger.append(one("a", 0)).is_ok());
}

fn a_closed_ledger_refuses_and_a_second_one_cannot_open(backend: &Backend) {
    let ledger = backend.open();
    assert!(backend.try_open().is_err());
    ledger.close().unwrap();
    assert!(matches!(ledger.append(one("a", 0)), Err(AppendError::Closed)));
}

fn an_unknown_tenant_has_the_empty_chain(backend: &Backend) {
    let ledger = backend.open();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(ledger.get_merkle_root(&tenant("nobody")), empty);
    assert_eq!(ledger.verify_chain(&tenant("nobody")).unwrap().size, 0);
    assert!(ledger.query(&tenant("nobody"), &Filter::default()).unwrap().is_empty());
}

macro_rules! conformance {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                super::$name(&super::Backend::sqlite());
            })*
        }

        mod segments {
            $(#[test]
            fn $name() {
                super::$name(&super::Backend::segments());
            })*
        }
    };
}

conformance! {
    ids_are_gap_free_from_zero_for_each_tenant
    the_root_is_that_of_the_entries_and_survives_reopening
    a_transaction_of_many_events_names_causes_within_itself
    a_cause_that_does_not_come_before_is_refused
    a_refused_transaction_writes_nothing_and_harms_no_other
    state_does_not_change_without_an_event_unless_it_is_derived
    a_counter_is_never_overspent_by_concurrent_users
    a_metered_namespace_holds_no_more_than_its_quota
    state_is_listed_in_order_by_prefix_and_page
    tenants_do_not_see_each_others_state
    a_started_receipt_is_given_once_and_an_execution_starts_once
    a_completion_without_a_start_is_refused
    executions_open_at_the_end_are_found_after_reopening
    events_are_found_by_kind_subject_time_and_page
    a_clock_that_jumps_changes_the_observation_and_nothing_else
    a_thousand_tenants_keep_a_chain_each
    concurrent_appenders_leave_no_gap_and_every_ack_is_in_the_chain
    an_event_that_is_too_long_is_refused_and_the_ledger_goes_on
    a_closed_ledger_refuses_and_a_second_one_cannot_open
    an_unknown_tenant_has_the_empty_chain
}
