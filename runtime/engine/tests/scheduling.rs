//! The scheduler under simulated load: thousands of tenants and tasks, a clock that is a number, and no thread.

use std::collections::BTreeMap;

use proptest::prelude::*;
use remand_authority::quota::QuotaRegistry;
use remand_engine::scheduler::{LANE_MAX, QUEUE_MAX, Scheduler, Task, compute_schedule_hash};
use remand_engine::strategy::{Fair, QUANTUM_MS, Strategy, Strict};
use remand_model::quota::{Quota, Usage};
use remand_model::refusal::Code;
use remand_model::role::Role;
use remand_model::{Digest, ExecutionId, TenantId};

fn tenant(number: usize) -> TenantId {
    format!("t{number:05}").parse().expect("a tenant")
}

fn task(owner: usize, number: usize, cost_ms: u64) -> Task {
    let task_id = ExecutionId::from_claims(&Digest::of(format!("{owner}/{number}").as_bytes()));
    let demand = Usage { tasks: 1, cpu_ms: cost_ms, ..Usage::default() };
    Task { task_id, tenant_id: tenant(owner), cost_ms, priority: 0, demand }
}

fn tasks(owner: usize, count: usize, cost_ms: u64) -> Vec<Task> {
    (0..count).map(|number| task(owner, number, cost_ms)).collect()
}

fn quotas(weights: impl IntoIterator<Item = u64>) -> QuotaRegistry {
    let mut registry = QuotaRegistry::default();
    for (number, weight) in weights.into_iter().enumerate() {
        let quota = Quota {
            max_cpu_seconds: 1_000_000,
            max_memory_mb: 1,
            max_disk_mb: 1,
            max_network_kb: 1,
            max_concurrent_tasks: 100,
            max_pids: 1,
            max_output_bytes: 1,
            window_seconds: 60,
            weight,
        };
        registry.register_tenant_quota(&tenant(number), quota, Role::Admin).expect("a quota");
    }
    registry
}

fn fair() -> Scheduler {
    Scheduler::new(Box::new(Fair::default()), 2)
}

fn served(scheduler: &mut Scheduler, budget_ms: u64) -> BTreeMap<TenantId, u64> {
    let mut served = BTreeMap::new();
    let mut spent = 0;
    while spent < budget_ms {
        let Some(ticket) = scheduler.next(|_| true) else { break };
        spent += ticket.task.cost_ms;
        *served.entry(ticket.task.tenant_id).or_default() += ticket.task.cost_ms;
    }
    served
}

/// A small deterministic generator (SplitMix64), so that every run is the same.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Jain's index: 1 where all shares are equal, 1/n where one has everything.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn two_thousand_tenants_with_tasks_of_all_sizes_are_served_by_their_weights() {
    const TENANTS: usize = 2000;
    const ROUNDS: u64 = 12;
    let weight = |owner: usize| 1 + owner as u64 % 4;
    let quotas = quotas((0..TENANTS).map(weight));
    let (mut scheduler, mut seed, mut number) = (fair(), 1, 0);
    let mut submit = |scheduler: &mut Scheduler, owner: usize| {
        number += 1;
        let task = task(owner, number, 50 + random(&mut seed) % 3000);
        assert!(scheduler.schedule(&tenant(owner), &[task], &quotas).expect("scheduled").shed.is_empty());
    };
    for owner in (0..TENANTS).chain(0..TENANTS) {
        submit(&mut scheduler, owner);
    }
    let budget_ms = ROUNDS * QUANTUM_MS * (0..TENANTS).map(weight).sum::<u64>();
    let (mut served, mut spent, mut count) = (vec![0_u64; TENANTS], 0, 0);
    while spent < budget_ms {
        let ticket = scheduler.next(|_| true).expect("there is always work");
        let owner: usize = ticket.task.tenant_id.as_str()[1..].parse().expect("a number");
        (served[owner], spent, count) = (served[owner] + ticket.task.cost_ms, spent + ticket.task.cost_ms, count + 1);
        submit(&mut scheduler, owner);
    }
    let shares: Vec<f64> = (0..TENANTS).map(|owner| served[owner] as f64 / weight(owner) as f64).collect();
    let (most, least) = (shares.iter().copied().fold(0.0, f64::max), shares.iter().copied().fold(f64::MAX, f64::min));
    let bound = (QUANTUM_MS + 2 * 3050) as f64;
    let index = jain(&shares);
    eprintln!(
        "{count} tasks of {TENANTS} tenants: Jain {index:.4}, per weight {least:.0} to {most:.0} ms, bound {bound:.0} ms"
    );
    assert!(most - least <= bound, "{most} - {least} > {bound}");
    assert!(index > 0.99, "{index}");
}

#[test]
fn a_tenant_with_a_thousand_tasks_cannot_delay_one_with_a_single_task() {
    let quotas = quotas([1, 1]);
    let mut scheduler = fair();
    scheduler.schedule(&tenant(0), &tasks(0, LANE_MAX, 100), &quotas).expect("scheduled");
    served(&mut scheduler, 5000);
    scheduler.schedule(&tenant(1), &tasks(1, 1, 100), &quotas).expect("scheduled");
    let before = std::iter::from_fn(|| scheduler.next(|_| true)).position(|ticket| ticket.task.tenant_id == tenant(1));
    let before = before.expect("it is served") as u64 * 100;
    eprintln!("the single task waited for {before} ms of another tenant's work");
    assert!(before <= QUANTUM_MS);
}

#[test]
fn a_long_run_divides_time_as_the_weights_do() {
    let quotas = quotas([1, 2, 5]);
    let mut scheduler = fair();
    for owner in 0..3 {
        scheduler.schedule(&tenant(owner), &tasks(owner, LANE_MAX, 70), &quotas).expect("scheduled");
    }
    let served = served(&mut scheduler, 80_000);
    for (owner, expected) in [(0, 10_000_u64), (1, 20_000), (2, 50_000)] {
        let actual = served[&tenant(owner)];
        assert!(actual.abs_diff(expected) <= 5 * QUANTUM_MS, "tenant {owner}: {actual} of {expected}");
    }
}

#[test]
fn tasks_larger_than_any_quantum_are_served_and_end() {
    let quotas = quotas([1, 1000]);
    let mut scheduler = fair();
    scheduler.schedule(&tenant(0), &tasks(0, 2, 900_000_000), &quotas).expect("scheduled");
    scheduler.schedule(&tenant(1), &tasks(1, 2, 1), &quotas).expect("scheduled");
    assert_eq!(std::iter::from_fn(|| scheduler.next(|_| true)).count(), 4);
}

#[test]
fn a_tenant_that_may_not_run_now_holds_up_nobody() {
    let quotas = quotas([1, 1]);
    let mut scheduler = fair();
    for owner in 0..2 {
        scheduler.schedule(&tenant(owner), &tasks(owner, 3, 10), &quotas).expect("scheduled");
    }
    let others = std::iter::from_fn(|| scheduler.next(|task| task.tenant_id != tenant(0))).count();
    assert_eq!((others, scheduler.len()), (3, 3));
    assert_eq!(std::iter::from_fn(|| scheduler.next(|_| true)).count(), 3);
}

#[test]
fn strict_priority_serves_the_urgent_first_and_equals_in_turn() {
    let quotas = quotas([1, 1]);
    let mut scheduler = Scheduler::new(Box::new(Strict::default()), 1);
    for owner in 0..2 {
        let mut set = tasks(owner, 3, 10);
        set[2].priority = owner as u8 * 9;
        scheduler.schedule(&tenant(owner), &set, &quotas).expect("scheduled");
    }
    let order: Vec<_> = std::iter::from_fn(|| scheduler.next(|_| true)).collect();
    assert_eq!((order[0].task.priority, &order[0].task.tenant_id), (9, &tenant(1)));
    let rest: Vec<&TenantId> = order[1..].iter().map(|ticket| &ticket.task.tenant_id).collect();
    let (zero, one) = (tenant(0), tenant(1));
    assert_eq!(rest, [&zero, &one, &zero, &one, &zero]);
    assert_eq!(order.iter().map(|ticket| ticket.order).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_full_lane_refuses_with_a_hint_and_leaves_others_alone() {
    let quotas = quotas([1, 1]);
    let mut scheduler = fair();
    let scheduled = scheduler.schedule(&tenant(0), &tasks(0, LANE_MAX + 5, 100), &quotas).expect("scheduled");
    assert_eq!((scheduled.queued.len(), scheduled.shed.len()), (LANE_MAX, 5));
    assert!(
        scheduled.shed.iter().all(|shed| shed.refusal.code == Code::QueueFull && shed.refusal.retry_after_ms > Some(0))
    );
    let other = scheduler.schedule(&tenant(1), &tasks(1, 1, 100), &quotas).expect("scheduled");
    assert_eq!(other.queued.len(), 1);
}

#[test]
fn a_full_node_takes_room_from_whoever_holds_most_and_never_from_the_modest() {
    let crowd = QUEUE_MAX / LANE_MAX;
    let quotas = quotas(vec![1; crowd + 2]);
    let mut scheduler = fair();
    for owner in 0..crowd {
        scheduler.schedule(&tenant(owner), &tasks(owner, LANE_MAX, 10), &quotas).expect("scheduled");
    }
    assert_eq!(scheduler.len(), QUEUE_MAX);
    let modest = scheduler.schedule(&tenant(crowd), &tasks(crowd, 3, 10), &quotas).expect("scheduled");
    assert_eq!((modest.queued.len(), modest.shed.len(), scheduler.len()), (3, 3, QUEUE_MAX));
    assert!(modest.shed.iter().all(|shed| shed.refusal.code == Code::TaskShed && shed.task.tenant_id != tenant(crowd)));
    let many = scheduler.schedule(&tenant(crowd + 1), &tasks(crowd + 1, LANE_MAX, 10), &quotas).expect("scheduled");
    assert_eq!(scheduler.len(), QUEUE_MAX, "never above the bound");
    assert!(many.shed.iter().any(|shed| shed.refusal.code == Code::QueueFull), "it may not take more than its share");
    assert!(many.shed.iter().all(|shed| shed.task.tenant_id != tenant(crowd)), "the modest tenant kept its tasks");
}

#[test]
fn what_the_quota_could_never_allow_is_not_queued() {
    let quotas = quotas([1]);
    let mut greedy = task(0, 0, 10);
    greedy.demand.pids = 2;
    let scheduled = fair().schedule(&tenant(0), &[greedy, task(0, 1, 10)], &quotas).expect("scheduled");
    assert_eq!((scheduled.queued.len(), scheduled.shed[0].refusal.code), (1, Code::QuotaTooSmall));
    let nobody = fair().schedule(&tenant(7), &tasks(7, 1, 1), &quotas).expect_err("no quota");
    assert_eq!(nobody.code, Code::QuotaMissing);
}

#[test]
fn a_foreign_or_doubled_task_refuses_the_whole_set() {
    let quotas = quotas([1, 1]);
    let mut scheduler = fair();
    let code = |result: Result<_, remand_model::refusal::Refusal>| {
        result.map(|_: remand_engine::scheduler::Scheduled| ()).expect_err("refused").code
    };
    assert_eq!(code(scheduler.schedule(&tenant(0), &[task(1, 0, 1)], &quotas)), Code::TenantMismatch);
    assert_eq!(code(scheduler.schedule(&tenant(0), &[task(0, 0, 1), task(0, 0, 1)], &quotas)), Code::Conflict);
    scheduler.schedule(&tenant(0), &[task(0, 0, 1)], &quotas).expect("scheduled");
    assert_eq!(code(scheduler.schedule(&tenant(0), &[task(0, 0, 1)], &quotas)), Code::Conflict);
    assert_eq!(scheduler.len(), 1);
}

#[test]
fn a_cancelled_task_is_not_served_and_only_its_tenant_can_cancel_it() {
    let quotas = quotas([1, 1]);
    let mut scheduler = fair();
    scheduler.schedule(&tenant(0), &tasks(0, 2, 10), &quotas).expect("scheduled");
    let victim = task(0, 0, 10);
    assert_eq!(scheduler.cancel(&tenant(1), &victim.task_id).expect_err("foreign").code, Code::NotFound);
    assert_eq!(scheduler.cancel(&tenant(0), &victim.task_id).expect("cancelled"), victim);
    assert_eq!(scheduler.cancel(&tenant(0), &victim.task_id).expect_err("twice").code, Code::NotFound);
    assert_eq!(scheduler.remove_tenant(&tenant(0)), [task(0, 1, 10)]);
    assert!(scheduler.is_empty() && scheduler.next(|_| true).is_none());
}

fn order_of(
    strategy: Box<dyn Strategy>,
    sets: &BTreeMap<usize, Vec<Task>>,
    quotas: &QuotaRegistry,
) -> Vec<ExecutionId> {
    let mut scheduler = Scheduler::new(strategy, 2);
    for (owner, set) in sets {
        scheduler.schedule(&tenant(*owner), set, quotas).expect("scheduled");
    }
    std::iter::from_fn(|| scheduler.next(|_| true)).map(|ticket| ticket.task.task_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hash_and_order_do_not_depend_on_arrival(
        costs in proptest::collection::vec((0_usize..5, 1_u64..5000, 0_u8..3), 1..200),
        seed in any::<u64>(),
    ) {
        let quotas = quotas([1, 2, 3, 4, 5]);
        let all: Vec<Task> = costs.iter().enumerate()
            .map(|(number, (owner, cost, priority))| Task { priority: *priority, ..task(*owner, number, *cost) })
            .collect();
        let mut shuffled = all.clone();
        let mut state = seed;
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, (random(&mut state) % (index as u64 + 1)) as usize);
        }
        prop_assert_eq!(compute_schedule_hash(&all), compute_schedule_hash(&shuffled));
        let by_tenant = |tasks: &[Task]| {
            let mut sets: BTreeMap<usize, Vec<Task>> = BTreeMap::new();
            for task in tasks {
                let owner = task.tenant_id.as_str()[1..].parse().expect("a number");
                sets.entry(owner).or_default().push(task.clone());
            }
            sets
        };
        let (one, other) = (by_tenant(&all), by_tenant(&shuffled));
        prop_assert_eq!(order_of(Box::new(Fair::default()), &one, &quotas), order_of(Box::new(Fair::default()), &other, &quotas));
        prop_assert_eq!(order_of(Box::new(Strict::default()), &one, &quotas), order_of(Box::new(Strict::default()), &other, &quotas));
    }

    #[test]
    fn a_change_of_any_task_changes_the_hash(count in 1_usize..50, index in any::<prop::sample::Index>(), field in 0..4) {
        let before = tasks(0, count, 10);
        let mut after = before.clone();
        let changed = index.get(&before).clone();
        let changed = match field {
            0 => Task { cost_ms: 11, ..changed },
            1 => Task { priority: 1, ..changed },
            2 => Task { tenant_id: tenant(1), ..changed },
            _ => Task { demand: Usage { pids: 1, ..changed.demand }, ..changed },
        };
        after[index.index(count)] = changed;
        prop_assert_ne!(compute_schedule_hash(&before), compute_schedule_hash(&after));
    }

    #[test]
    fn everything_that_was_queued_is_served_exactly_once(
        sets in proptest::collection::vec((0_usize..20, 1_usize..40, 1_u64..4000), 1..20),
    ) {
        let quotas = quotas([1; 20]);
        let mut scheduler = fair();
        let mut expected = Vec::new();
        for (set, (owner, count, cost)) in sets.iter().enumerate() {
            let set: Vec<Task> = (0..*count).map(|number| task(*owner, set * 1000 + number, *cost)).collect();
            expected.extend(scheduler.schedule(&tenant(*owner), &set, &quotas).expect("scheduled").queued);
        }
        let mut served: Vec<_> = std::iter::from_fn(|| scheduler.next(|_| true)).map(|ticket| ticket.task.task_id).collect();
        served.sort();
        expected.sort();
        prop_assert_eq!(served, expected);
    }
}
