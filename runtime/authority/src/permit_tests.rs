//! Permits: every one of their parts can refuse.

use remand_model::grant::{Grant, Trigger};
use remand_model::quota::Quota;

use super::*;
use crate::contracts::tests::{contract, domains};
use crate::token::{Presented, Revocation, RootKey};

const CLOCK: Clock = Clock { wall_s: 1000, last_event_s: 1000, mono_ms: 5 };

fn grant(rights: &[&str]) -> Grant {
    Grant {
        protocol_version: "1.0".into(),
        token_id: TokenId::from_entropy([1; 16]),
        tenant_id: "acme".parse().expect("a tenant"),
        user_id: "ada".parse().expect("a user"),
        rights: rights.iter().map(|right| right.parse().expect("a right")).collect(),
        triggers: [Trigger::Manual].into(),
        expires_s: 2000,
        calls_max: 10,
        cpu_ms_max: 5000,
        epoch: 0,
    }
}

fn quota() -> Quota {
    Quota {
        max_cpu_seconds: 2,
        max_memory_mb: 2048,
        max_disk_mb: 1024,
        max_network_kb: 0,
        max_concurrent_tasks: 8,
        max_pids: 1000,
        max_output_bytes: 1 << 30,
        window_seconds: 60,
        weight: 1,
    }
}

fn world(rights: &[&str]) -> (Authority, VerifiedToken) {
    let root = RootKey::from_seed(1, &[4; 32]);
    let mut authority = Authority::new(vec![root.public()], 0).expect("an authority");
    authority.domains = domains();
    let grant = grant(rights);
    authority.quotas.register_tenant_quota(&grant.tenant_id, quota(), Role::Admin).expect("a quota");
    let bytes = root.mint(&grant, &[5; 32]).expect("a token");
    let record = authority.tokens.record(&bytes).expect("a record");
    authority.tokens.admit(record).expect("admitted");
    let (tenant_id, user_id) = (&grant.tenant_id, &grant.user_id);
    let presented = Presented { tenant_id, user_id, trigger: Trigger::Manual, clock: CLOCK };
    let token = authority.tokens.validate(&bytes, &presented).expect("valid");
    (authority, token)
}

fn authorize(authority: &mut Authority, token: &VerifiedToken, role: Role) -> Result<Scoped, Refusal> {
    let tenant = token.tenant_id().clone();
    let (contract, _) = authority.contracts.register_contract(&tenant, contract(1), None, &authority.domains)?;
    let demand = Demand::of(&contract.contract().limits, 0);
    let (scope, resource) = ("exec.run".parse().expect("a scope"), "count".parse().expect("a resource"));
    let call = Call { scope: &scope, resource: &resource, contract: Some(contract), demand };
    authority.authorize(token, role, call, &CLOCK)
}

#[test]
fn a_permit_needs_token_domain_contract_and_quota_and_gives_room_back_when_settled() {
    let (mut authority, token) = world(&["exec.run=count"]);
    let scoped = authorize(&mut authority, &token, Role::Operator).expect("scoped");
    let permit = authority.permit(scoped, &CLOCK).expect("a permit");
    assert_eq!((permit.reserved().cpu_ms, permit.charges().len()), (1000, 2));
    assert!(permit.contract_hash().is_some());
    let used = Usage { cpu_ms: 400, ..Usage::default() };
    let settlement = authority.settle(permit, &used, &CLOCK);
    assert_eq!(settlement.refunds.iter().map(|(_, back)| *back).collect::<Vec<_>>(), [600]);
    assert_eq!(settlement.window.expect("a window").used.cpu_ms, 400);
    let standing = authority.quotas.get_quota(token.tenant_id()).expect("a quota");
    assert_eq!(standing.reserved, Usage::default());
}

#[test]
fn the_third_of_two_seconds_is_refused_by_the_quota() {
    let (mut authority, token) = world(&["exec.run=*"]);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let scoped = authorize(&mut authority, &token, Role::Operator).expect("scoped");
        kept.push(authority.permit(scoped, &CLOCK).expect("a permit"));
    }
    let scoped = authorize(&mut authority, &token, Role::Operator).expect("scoped");
    assert_eq!(authority.permit(scoped, &CLOCK).expect_err("3 of 2 s").code, Code::QuotaExceeded);
    assert_eq!(kept.len(), 2);
}

#[test]
fn a_viewer_cannot_execute_even_with_a_token() {
    let (mut authority, token) = world(&["exec.run=*"]);
    assert_eq!(authorize(&mut authority, &token, Role::Viewer).expect_err("a viewer").code, Code::RoleTooLow);
}

#[test]
fn a_contract_that_requires_more_than_the_token_holds_is_an_escalation() {
    let (mut authority, token) = world(&["exec.run=*"]);
    let tenant = token.tenant_id().clone();
    let mut asking = contract(1);
    asking.capability_requirements.extend(["state.get".parse::<Scope>().expect("a scope")]);
    let registered = authority.contracts.register_contract(&tenant, asking, None, &authority.domains);
    let (contract, _) = registered.expect("registered");
    let demand = Demand::of(&contract.contract().limits, 0);
    let (scope, resource) = ("exec.run".parse().expect("a scope"), "count".parse().expect("a resource"));
    let call = Call { scope: &scope, resource: &resource, contract: Some(contract), demand };
    let refusal = authority.authorize(&token, Role::Operator, call, &CLOCK).expect_err("refused");
    assert_eq!(refusal.code, Code::EscalationBlocked);
}

#[test]
fn a_revoked_domain_or_token_stops_the_next_call() {
    let (mut authority, token) = world(&["exec.run=*"]);
    let revocation: Revocation =
        authority.tokens.revocation(token.token_id(), token.tenant_id()).expect("a revocation");
    let (mut other, other_token) = world(&["exec.run=*"]);
    authority.tokens.revoke(revocation).expect("revoked");
    assert_eq!(authorize(&mut authority, &token, Role::Operator).expect_err("token").code, Code::TokenRevoked);
    let scoped = authorize(&mut other, &other_token, Role::Operator);
    assert!(scoped.is_ok());
    other.domains.revoke_domain(&"exec".parse().expect("a name"), Role::Admin).map(drop).expect("revoked");
    assert_eq!(authorize(&mut other, &other_token, Role::Operator).expect_err("domain").code, Code::DomainRevoked);
}
