//! Quotas: refused before the start, counted after the end, never wrapped.

use super::*;

const WINDOW: u64 = 60;

fn clock(wall_s: u64) -> Clock {
    Clock { wall_s, last_event_s: 0, mono_ms: 1_000_000 + wall_s * 1000 }
}

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}

fn quota() -> Quota {
    Quota {
        max_cpu_seconds: 10,
        max_memory_mb: 100,
        max_disk_mb: 10,
        max_network_kb: 0,
        max_concurrent_tasks: 3,
        max_pids: 30,
        max_output_bytes: 1000,
        window_seconds: WINDOW,
        weight: 1,
    }
}

fn ask() -> Usage {
    Usage { cpu_ms: 4000, memory_bytes: 30 << 20, tasks: 1, pids: 10, output_bytes: 100, ..Usage::default() }
}

fn registry() -> QuotaRegistry {
    let mut registry = QuotaRegistry::default();
    registry.register_tenant_quota(&tenant("acme"), quota(), Role::Admin).expect("registered");
    registry
}

fn enforce(registry: &mut QuotaRegistry, asked: &Usage, wall_s: u64) -> Result<Reservation, Refusal> {
    registry.enforce_quota(&tenant("acme"), asked, 5000, &clock(wall_s))
}

#[test]
fn what_fits_is_set_aside_and_what_does_not_is_refused_with_the_numbers() {
    let mut registry = registry();
    let first = enforce(&mut registry, &ask(), 0).expect("fits");
    let second = enforce(&mut registry, &ask(), 0).expect("fits");
    let refusal = enforce(&mut registry, &ask(), 0).expect_err("12 of 10 s");
    assert_eq!(refusal.code, Code::QuotaExceeded);
    assert_eq!(refusal.detail, "max_cpu_seconds: used 0, reserved 8000, asked 4000, limit 10000");
    assert_eq!(refusal.retry_after_ms, Some(5000), "when the first reservation ends at the latest");
    registry.settle(first, &Usage { cpu_ms: 1000, ..Usage::default() }, &clock(1)).expect("an account");
    let third = enforce(&mut registry, &ask(), 1).expect("1 + 4 + 4 of 10 s");
    assert_eq!((second.amounts(), third.tenant_id()), (&ask(), &tenant("acme")));
}

#[test]
fn a_used_up_window_is_refused_until_it_ends_and_then_starts_at_zero() {
    let mut registry = registry();
    let reservation = enforce(&mut registry, &ask(), 70).expect("fits");
    registry.settle(reservation, &Usage { cpu_ms: 9000, ..Usage::default() }, &clock(71)).expect("an account");
    let refusal = enforce(&mut registry, &ask(), 71).expect_err("9 + 4 of 10 s");
    assert_eq!(refusal.retry_after_ms, Some((120 - 71) * 1000));
    let later = enforce(&mut registry, &ask(), 120).expect("a new window");
    assert_eq!(later.amounts(), &ask());
}

#[test]
fn a_clock_that_goes_back_does_not_open_an_earlier_window_again() {
    let mut registry = registry();
    let reservation = enforce(&mut registry, &ask(), 600).expect("fits");
    registry.settle(reservation, &Usage { cpu_ms: 10_000, ..Usage::default() }, &clock(600)).expect("an account");
    assert_eq!(enforce(&mut registry, &ask(), 10).expect_err("still full").code, Code::QuotaExceeded);
    assert_eq!(registry.get_quota(&tenant("acme")).expect("a quota").window.window_start_s, 600);
}

#[test]
fn a_request_above_the_whole_quota_is_refused_without_a_hint() {
    let mut registry = registry();
    let refusal = enforce(&mut registry, &Usage { pids: 31, ..ask() }, 0).expect_err("31 of 30");
    assert_eq!((refusal.code, refusal.retry_after_ms), (Code::QuotaTooSmall, None));
    let refusal = enforce(&mut registry, &Usage { network_bytes: 1, ..ask() }, 0).expect_err("1 of 0");
    assert_eq!(refusal.code, Code::QuotaTooSmall);
}

#[test]
fn a_refused_request_leaves_nothing_set_aside() {
    let mut registry = registry();
    enforce(&mut registry, &Usage { output_bytes: 1001, ..ask() }, 0).expect_err("too much output");
    assert_eq!(registry.get_quota(&tenant("acme")).expect("a quota").reserved, Usage::default());
}

#[test]
fn numbers_at_the_edge_are_refused_and_not_wrapped() {
    let mut registry = registry();
    let kept = enforce(&mut registry, &ask(), 0).expect("fits");
    for dimension in Dimension::ALL {
        let mut asked = Usage::default();
        *asked.get_mut(dimension) = u64::MAX;
        assert_eq!(enforce(&mut registry, &asked, 0).expect_err("all of it").code, Code::QuotaTooSmall);
    }
    let most = Usage { cpu_ms: u64::MAX, disk_bytes: u64::MAX, ..Usage::default() };
    registry.settle(kept, &most, &clock(0)).expect("an account");
    let refusal = enforce(&mut registry, &ask(), 0).expect_err("used up");
    assert_eq!(refusal.code, Code::QuotaExceeded);
}

#[test]
fn a_tenant_without_a_quota_may_use_nothing() {
    let mut registry = registry();
    let refusal = registry.enforce_quota(&tenant("other"), &ask(), 1, &clock(0)).expect_err("no quota");
    assert_eq!(refusal.code, Code::QuotaMissing);
}

#[test]
fn one_tenants_use_is_not_anothers() {
    let mut registry = registry();
    registry.register_tenant_quota(&tenant("other"), quota(), Role::Admin).expect("registered");
    let kept = [enforce(&mut registry, &ask(), 0), enforce(&mut registry, &ask(), 0)];
    assert!(kept.iter().all(Result::is_ok) && enforce(&mut registry, &ask(), 0).is_err());
    assert!(registry.enforce_quota(&tenant("other"), &ask(), 1, &clock(0)).is_ok());
}

#[test]
fn only_an_administrator_changes_a_quota() {
    let mut registry = registry();
    for role in [Role::Viewer, Role::Operator] {
        let refusal = registry.register_tenant_quota(&tenant("acme"), quota(), role).expect_err("refused");
        assert_eq!(refusal.code, Code::RoleTooLow);
    }
}

#[test]
fn what_a_window_used_survives_a_restart() {
    let mut registry = registry();
    let reservation = enforce(&mut registry, &ask(), 5).expect("fits");
    let stored = registry.settle(reservation, &Usage { cpu_ms: 9000, ..ask() }, &clock(6)).expect("an account");
    let mut restarted = self::registry();
    restarted.restore(&tenant("acme"), stored).expect("restored");
    assert_eq!(enforce(&mut restarted, &ask(), 7).expect_err("9 + 4 of 10 s").code, Code::QuotaExceeded);
    assert_eq!(stored.used.memory_bytes, 0, "memory holds at a moment, not over a window");
}

#[test]
fn a_reservation_of_a_tenant_made_anew_gives_nothing_back_to_it() {
    let mut registry = registry();
    let old = enforce(&mut registry, &ask(), 0).expect("fits");
    registry.remove(&tenant("acme"));
    registry.register_tenant_quota(&tenant("acme"), quota(), Role::Admin).expect("registered");
    let new = enforce(&mut registry, &ask(), 0).expect("fits");
    registry.settle(old, &Usage::default(), &clock(0)).expect("an account");
    assert_eq!(registry.get_quota(&tenant("acme")).expect("a quota").reserved, *new.amounts());
}

#[test]
fn settlements_are_differences_that_sum_up_in_any_order() {
    let mut registry = registry();
    let open = [enforce(&mut registry, &ask(), 0).expect("fits"), enforce(&mut registry, &ask(), 0).expect("fits")];
    let used = |cpu_ms| Usage { cpu_ms, ..Usage::default() };
    let settled: Vec<u64> = open
        .into_iter()
        .zip([1000, 3000])
        .map(|(reservation, cpu_ms)| {
            registry.settle(reservation, &used(cpu_ms), &clock(1)).expect("an account").used.cpu_ms
        })
        .collect();
    assert_eq!(settled, [1000, 3000]);
    assert_eq!(registry.get_quota(&tenant("acme")).expect("a quota").window.used.cpu_ms, 4000);
}
