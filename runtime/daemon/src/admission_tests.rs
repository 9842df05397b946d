//! The line of a node, without a node: turns, who gives up, who is refused.

use super::*;

use remand_engine::strategy::Fair;
use remand_model::Digest;
use remand_model::quota::{Quota, Usage};
use remand_model::role::Role;

fn quotas() -> QuotaRegistry {
    let mut quotas = QuotaRegistry::default();
    let quota = Quota {
        max_cpu_seconds: 100,
        max_memory_mb: 1,
        max_disk_mb: 1,
        max_network_kb: 1,
        max_concurrent_tasks: 100,
        max_pids: 1,
        max_output_bytes: 1,
        window_seconds: 60,
        weight: 1,
    };
    for tenant in ["acme", "globex"] {
        let tenant = tenant.parse().expect("a name");
        quotas.register_tenant_quota(&tenant, quota, Role::Admin).expect("a quota");
    }
    quotas
}

fn line(executions_at_once: u64, queue_per_tenant: usize, queue_total: usize) -> Admission {
    Admission::new(Box::new(Fair::default()), Bounds { executions_at_once, queue_per_tenant, queue_total })
}

fn task(tenant: &str, name: &str) -> Task {
    Task {
        task_id: ExecutionId::from_claims(&Digest::of(name.as_bytes())),
        tenant_id: tenant.parse().expect("a name"),
        cost_ms: 1000,
        priority: 0,
        demand: Usage { tasks: 1, ..Usage::default() },
    }
}

fn up(line: &Admission, tenant: &str, name: &str) -> Place {
    line.line_up(task(tenant, name), &quotas()).expect("there is room in the line")
}

fn now(place: Place) -> Turn {
    match place {
        Place::Now(turn) => turn,
        Place::Later(_) => panic!("there is room, and it waits"),
    }
}

/// The turn, where it has come.
fn come(place: Place) -> Result<Turn, Place> {
    match place {
        Place::Now(turn) => Ok(turn),
        Place::Later(mut waiting) => match waiting.told.try_recv() {
            Ok(told) => Ok(told.expect("it was not refused")),
            Err(_nothing_yet) => Err(Place::Later(waiting)),
        },
    }
}

#[test]
fn a_lone_execution_has_its_turn_at_once() {
    let line = line(1, 4, 4);
    for name in ["a", "b"] {
        let turn = now(up(&line, "acme", name));
        assert_eq!(turn.placed().schedule_hash, hash_of_set(name));
    }
    assert_eq!(line.waiting_count(), 0);
}

fn hash_of_set(name: &str) -> Digest {
    remand_engine::scheduler::compute_schedule_hash(&[task("acme", name)]).expect("a set")
}

#[test]
fn a_turn_that_ends_is_the_next_tenants() {
    let line = line(1, 4, 8);
    let first = now(up(&line, "acme", "1"));
    let mut places = ["2", "3"].map(|name| up(&line, "acme", name)).map(Some);
    let other = up(&line, "globex", "4");
    drop(first);
    let own: Vec<_> = places.iter_mut().filter_map(|place| come(place.take()?).ok()).collect();
    let others = come(other).ok();
    assert_eq!(own.len() + usize::from(others.is_some()), 1, "one turn, one of them");
    drop((own, others));
}

#[test]
fn everybody_in_the_line_comes_to_a_turn_and_tenants_alternate() {
    let line = line(1, 8, 16);
    let mut turn = now(up(&line, "acme", "first"));
    let mut waiting: Vec<(&str, Place)> = Vec::new();
    for (tenant, name) in [("acme", "1"), ("acme", "2"), ("acme", "3"), ("globex", "4"), ("globex", "5")] {
        waiting.push((tenant, up(&line, tenant, name)));
    }
    let mut order = Vec::new();
    while !waiting.is_empty() {
        drop(turn);
        let mut next = None;
        for (tenant, place) in std::mem::take(&mut waiting) {
            match come(place) {
                Ok(turn) => (order.push(tenant), next = Some(turn)).1,
                Err(place) => waiting.push((tenant, place)),
            }
        }
        turn = next.expect("a free turn is given to somebody");
    }
    assert_eq!(order.iter().filter(|tenant| **tenant == "globex").count(), 2);
    assert!(order[..4].iter().filter(|tenant| **tenant == "globex").count() == 2, "{order:?}");
}

#[test]
fn who_gives_up_leaves_the_line_and_takes_no_turn_along() {
    let line = line(1, 4, 4);
    let first = now(up(&line, "acme", "1"));
    let (second, third) = (up(&line, "acme", "2"), up(&line, "acme", "3"));
    drop(second);
    assert_eq!(line.waiting_count(), 1);
    drop(first);
    // The third has it unread; dropped so, it goes back to whoever comes next.
    drop(third);
    assert!(!up(&line, "acme", "4").waits());
}

#[test]
fn a_full_lane_refuses_with_a_hint_and_a_full_node_takes_room_from_who_holds_most() {
    let line = line(1, 2, 2);
    let _running = now(up(&line, "acme", "1"));
    let (_second, third) = (up(&line, "acme", "2"), up(&line, "acme", "3"));
    let refused = line.line_up(task("acme", "4"), &quotas()).err().expect("the lane is full");
    assert_eq!((refused.code, refused.retry_after_ms.is_some()), (Code::QueueFull, true));
    assert!(up(&line, "globex", "5").waits());
    let Place::Later(mut third) = third else { panic!("it waits") };
    let shed = third.told.try_recv().expect("it was told").err().expect("it gave way");
    assert_eq!((shed.code, shed.retry_after_ms.is_some()), (Code::TaskShed, true));
}
