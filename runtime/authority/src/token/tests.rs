//! Tokens: what they allow, what they refuse, and in which order.

use std::collections::BTreeSet;

use biscuit_auth::{BlockBuilder, UnverifiedBiscuit};
use remand_model::grant::{Grant, Narrowing, Resource, Right, Scope, TokenId, Trigger, UserId};
use remand_model::quota::Charge;
use remand_model::refusal::{Code, Refusal};
use remand_model::{PROTOCOL_VERSION, TenantId};

use super::*;
use crate::Clock;

const NOW: u64 = 1_700_000_000;

fn at(wall_s: u64) -> Clock {
    Clock { wall_s, last_event_s: NOW, mono_ms: 0 }
}

struct World {
    root: RootKey,
    registry: TokenRegistry,
    tenant: TenantId,
    user: UserId,
}

fn rights(texts: &[&str]) -> BTreeSet<Right> {
    texts.iter().map(|text| text.parse().expect("a right")).collect()
}

fn scope(text: &str) -> Scope {
    text.parse().expect("a scope")
}

fn resource(text: &str) -> Resource {
    text.parse().expect("a resource")
}

fn grant() -> Grant {
    Grant {
        protocol_version: PROTOCOL_VERSION.to_owned(),
        token_id: TokenId::from_entropy([1; 16]),
        tenant_id: "acme".parse().expect("a tenant"),
        user_id: "ada".parse().expect("a user"),
        rights: rights(&["exec.run=*", "state.get=users/*", "state.set=users/7"]),
        triggers: [Trigger::Manual, Trigger::Schedule].into(),
        expires_s: NOW + 60,
        calls_max: 10,
        cpu_ms_max: 5000,
        epoch: 3,
    }
}

impl World {
    fn new() -> Self {
        let root = RootKey::from_seed(1, &[42; 32]);
        let registry = TokenRegistry::new(vec![root.public()], 0).expect("a registry");
        Self { root, registry, tenant: grant().tenant_id, user: grant().user_id }
    }

    fn issue(&mut self, grant: &Grant) -> TokenBytes {
        let token = self.root.mint(grant, &[7; 32]).expect("a token");
        let record = self.registry.record(&token).expect("a record");
        self.registry.admit(record).expect("admitted");
        token
    }

    fn presented(&self) -> Presented<'_> {
        let (tenant_id, user_id) = (&self.tenant, &self.user);
        Presented { tenant_id, user_id, trigger: Trigger::Manual, clock: at(NOW) }
    }

    fn validate_with(
        &mut self,
        token: &TokenBytes,
        change: impl FnOnce(&mut Presented<'_>),
    ) -> Result<VerifiedToken, Refusal> {
        let (tenant, user) = (self.tenant.clone(), self.user.clone());
        let mut presented = Presented { tenant_id: &tenant, user_id: &user, ..self.presented() };
        change(&mut presented);
        let presented = Presented { tenant_id: presented.tenant_id, user_id: presented.user_id, ..presented };
        self.registry.validate(token, &presented)
    }

    fn validate(&mut self, token: &TokenBytes) -> Result<VerifiedToken, Refusal> {
        self.validate_with(token, |_| {})
    }

    fn call(&mut self, token: &TokenBytes, scoped: &str, on: &str) -> Result<Allowed, Refusal> {
        let verified = self.validate(token)?;
        self.registry.check_call(&verified, &scope(scoped), &resource(on), 100, &at(NOW))
    }
}

fn code<T>(result: Result<T, Refusal>) -> Code {
    result.map(|_| ()).expect_err("should be refused").code
}

#[test]
fn a_token_allows_the_calls_that_its_rights_name_and_no_other() {
    let mut world = World::new();
    let token = world.issue(&grant());
    for (scoped, on) in [("exec.run", "anything"), ("state.get", "users/9"), ("state.set", "users/7")] {
        assert!(world.call(&token, scoped, on).is_ok(), "{scoped} {on}");
        assert!(world.call(&token, scoped, on).is_ok(), "{scoped} {on} from the cache");
    }
    for (scoped, on) in [("exec.kill", "x"), ("state.get", "user"), ("state.set", "users/70"), ("blob.put", "")] {
        assert_eq!(code(world.call(&token, scoped, on)), Code::ScopeDenied, "{scoped} {on}");
    }
}

#[test]
fn a_token_of_another_root_key_is_forged() {
    let mut world = World::new();
    let other = RootKey::from_seed(1, &[43; 32]).mint(&grant(), &[7; 32]).expect("a token");
    assert_eq!(code(world.validate(&other)), Code::TokenForged);
    let unknown_id = RootKey::from_seed(2, &[42; 32]).mint(&grant(), &[7; 32]).expect("a token");
    assert_eq!(code(world.validate(&unknown_id)), Code::TokenForged);
}

#[test]
fn every_flipped_bit_of_a_token_is_refused() {
    let mut world = World::new();
    let token = world.issue(&grant());
    for bit in 0..token.expose().len() * 8 {
        let mut bytes = token.expose().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed = TokenBytes::new(bytes).expect("same size");
        let refused = world.validate(&changed).is_err();
        assert!(refused, "bit {bit} was accepted");
    }
}

#[test]
fn garbage_empty_and_oversized_tokens_are_refused_before_anything_is_read() {
    let mut world = World::new();
    assert_eq!(code(TokenBytes::new(vec![])), Code::TokenMissing);
    assert_eq!(code(TokenBytes::new(vec![0; TOKEN_BYTES_MAX + 1])), Code::TokenTooLarge);
    for garbage in [vec![0; 300], vec![0xff; 4096], b"en_not_a_token".to_vec()] {
        assert_eq!(code(world.validate(&TokenBytes::new(garbage).expect("size"))), Code::TokenForged);
    }
}

#[test]
fn a_well_signed_token_that_is_not_in_the_registry_is_refused() {
    let mut world = World::new();
    let token = world.root.mint(&grant(), &[7; 32]).expect("a token");
    assert_eq!(code(world.validate(&token)), Code::TokenUnknown);
    let again = Grant { calls_max: 11, ..grant() };
    world.issue(&again);
    assert_eq!(code(world.validate(&token)), Code::TokenUnknown, "another grant of the same id");
}

#[test]
fn a_revoked_token_is_refused_before_its_existence_user_or_scope_is_looked_at() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let revocation = world.registry.revocation(&grant().token_id, &grant().tenant_id).expect("a revocation");
    world.registry.revoke(revocation.clone()).expect("revoked");
    assert_eq!(code(world.call(&token, "nothing.held", "")), Code::TokenRevoked);
    let stranger: UserId = "eve".parse().expect("a user");
    let tenant = world.tenant.clone();
    let wrong = Presented { tenant_id: &tenant, user_id: &stranger, trigger: Trigger::Agent, clock: at(NOW + 99) };
    assert_eq!(code(world.registry.validate(&token, &wrong)), Code::TokenRevoked);
    let mut empty = TokenRegistry::new(vec![world.root.public()], 0).expect("a registry");
    empty.revoke(revocation).expect("revoked");
    let (tenant, user) = (world.tenant.clone(), world.user.clone());
    let presented = Presented { tenant_id: &tenant, user_id: &user, trigger: Trigger::Manual, clock: at(NOW) };
    assert_eq!(code(empty.validate(&token, &presented)), Code::TokenRevoked, "although it does not exist there");
}

#[test]
fn the_checks_come_in_the_order_exists_tenant_user_trigger_time() {
    let mut world = World::new();
    let (tenant, user): (TenantId, UserId) = ("other".parse().expect("a tenant"), "eve".parse().expect("a user"));
    let token = world.root.mint(&grant(), &[7; 32]).expect("a token");
    let all_wrong = Presented { tenant_id: &tenant, user_id: &user, trigger: Trigger::Agent, clock: at(NOW + 99) };
    assert_eq!(code(world.registry.validate(&token, &all_wrong)), Code::TokenUnknown);
    world.issue(&grant());
    assert_eq!(code(world.registry.validate(&token, &all_wrong)), Code::TokenTenantMismatch);
    let own = grant();
    let tenant_right = Presented { tenant_id: &own.tenant_id, ..all_wrong };
    assert_eq!(code(world.registry.validate(&token, &tenant_right)), Code::TokenUserMismatch);
    let user_right = Presented { user_id: &own.user_id, ..tenant_right };
    assert_eq!(code(world.registry.validate(&token, &user_right)), Code::TokenTriggerDenied);
    let trigger_right = Presented { trigger: Trigger::Manual, ..user_right };
    assert_eq!(code(world.registry.validate(&token, &trigger_right)), Code::TokenExpired);
}

#[test]
fn a_token_revoked_in_the_middle_of_a_plan_stops_the_next_call() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let verified = world.validate(&token).expect("valid");
    let (run, on) = (scope("exec.run"), resource("c"));
    assert!(world.registry.check_call(&verified, &run, &on, 1, &at(NOW)).is_ok());
    let revocation = world.registry.revocation_of(&token).expect("a revocation");
    world.registry.revoke(revocation).expect("revoked");
    assert_eq!(code(world.registry.check_call(&verified, &run, &on, 1, &at(NOW))), Code::TokenRevoked);
}

#[test]
fn a_token_ends_at_its_second_also_in_the_middle_of_a_plan_and_a_clock_that_went_back_stops_everything() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let verified = world.validate(&token).expect("valid");
    let (run, on) = (scope("exec.run"), resource("c"));
    let mut at = |wall_s, last_event_s| {
        world.registry.check_call(&verified, &run, &on, 1, &Clock { wall_s, last_event_s, mono_ms: 0 })
    };
    assert!(at(NOW + 59, NOW).is_ok());
    assert_eq!(code(at(NOW + 60, NOW)), Code::TokenExpired);
    assert_eq!(code(at(u64::MAX, NOW)), Code::TokenExpired);
    assert_eq!(code(at(NOW, NOW + 1)), Code::ClockBackwards);
    assert_eq!(code(world.validate_with(&token, |presented| presented.clock.wall_s = 0)), Code::ClockBackwards);
}

#[test]
fn a_revocation_survives_a_restart_and_covers_every_descendant() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let child = delegate(&token, &Narrowing { calls_max: Some(2), ..Narrowing::default() }, &[8; 32]).expect("a child");
    let grandchild =
        delegate(&child, &Narrowing { calls_max: Some(1), ..Narrowing::default() }, &[9; 32]).expect("a grandchild");
    let stored = serde_json::to_string(&world.registry.revocation_of(&child).expect("a revocation")).expect("json");
    let mut restarted = World::new();
    restarted.issue(&grant());
    restarted.registry.revoke(serde_json::from_str(&stored).expect("reads")).expect("revoked");
    assert!(restarted.validate(&token).is_ok(), "the parent stays valid");
    assert_eq!(code(restarted.validate(&child)), Code::TokenRevoked);
    assert_eq!(code(restarted.validate(&grandchild)), Code::TokenRevoked);
}

#[test]
fn an_earlier_epoch_is_refused() {
    let mut world = World::new();
    let token = world.issue(&grant());
    world.registry.raise_epoch(4);
    world.registry.raise_epoch(1);
    assert_eq!(code(world.validate(&token)), Code::TokenRevoked);
}

#[test]
fn a_delegation_that_would_add_anything_is_refused() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let widening = [
        Narrowing { rights: Some(rights(&["exec.kill=*"])), ..Narrowing::default() },
        Narrowing { rights: Some(rights(&["state.get=*"])), ..Narrowing::default() },
        Narrowing { triggers: Some([Trigger::Agent].into()), ..Narrowing::default() },
        Narrowing { expires_s: Some(NOW + 61), ..Narrowing::default() },
        Narrowing { calls_max: Some(11), ..Narrowing::default() },
        Narrowing { cpu_ms_max: Some(5001), ..Narrowing::default() },
    ];
    for narrowing in &widening {
        assert_eq!(code(delegate(&token, narrowing, &[8; 32])), Code::DelegationWidens, "{narrowing:?}");
    }
    assert_eq!(code(delegate(&token, &Narrowing::default(), &[8; 32])), Code::GrantInvalid);
}

#[test]
fn what_a_parent_gave_up_its_child_cannot_take_back() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let only_run = Narrowing { rights: Some(rights(&["exec.run=a*"])), ..Narrowing::default() };
    let child = delegate(&token, &only_run, &[8; 32]).expect("a child");
    let back = Narrowing { rights: Some(rights(&["state.get=users/*"])), ..Narrowing::default() };
    assert_eq!(code(delegate(&child, &back, &[9; 32])), Code::DelegationWidens);
    assert!(world.call(&child, "exec.run", "abc").is_ok());
    assert_eq!(code(world.call(&child, "exec.run", "b")), Code::ScopeDenied);
    assert_eq!(code(world.call(&child, "state.get", "users/1")), Code::ScopeDenied);
}

/// Appends a block without asking this crate, as an attacker with the library would.
fn append(token: &TokenBytes, source: &str) -> TokenBytes {
    let parent = UnverifiedBiscuit::from(token.expose()).expect("a token");
    let block = BlockBuilder::new().code(source).expect("datalog");
    TokenBytes::new(parent.append(block).expect("appends").to_vec().expect("bytes")).expect("small")
}

#[test]
fn a_right_slipped_into_a_later_block_gives_nothing() {
    let mut world = World::new();
    let token = world.issue(&grant());
    for source in [
        "right_below(\"blob\", \"put\", \"\");",
        "right_below($d, $m, \"\") <- call($d, $m, $r);",
        "narrowing(\"calls=1\"); right_on(\"blob\", \"put\", \"x\");",
        "grant(\"v=1.0\");",
        "check if true;",
        "narrowing(\"calls=99\"); check if call($d, $m, $r);",
    ] {
        assert_eq!(code(world.call(&append(&token, source), "blob.put", "x")), Code::TokenBlockForeign, "{source}");
    }
    let widening = append(
        &token,
        "narrowing(\"rights=blob.put=*\"); check if call(\"blob\", \"put\", $resource), $resource.starts_with(\"\");",
    );
    assert_eq!(code(world.call(&widening, "blob.put", "x")), Code::ScopeDenied, "spelled right, and still not held");
}

#[test]
fn more_than_eight_blocks_are_refused() {
    let mut world = World::new();
    let mut token = world.issue(&grant());
    for calls in (3..10).rev() {
        let narrowing = Narrowing { calls_max: Some(calls), ..Narrowing::default() };
        token = delegate(&token, &narrowing, &[8; 32]).expect("a child");
    }
    assert!(world.validate(&token).is_ok());
    let narrowing = Narrowing { calls_max: Some(1), ..Narrowing::default() };
    assert_eq!(code(delegate(&token, &narrowing, &[8; 32])), Code::TokenTooLarge);
    let ninth = append(&token, "narrowing(\"calls=1\");");
    assert_eq!(code(world.validate(&ninth)), Code::TokenTooLarge);
}

#[test]
fn children_share_their_parents_budget_and_have_their_own_beside_it() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let narrowing = Narrowing { calls_max: Some(2), cpu_ms_max: Some(50), ..Narrowing::default() };
    let child = delegate(&token, &narrowing, &[8; 32]).expect("a child");
    let parents = world.call(&token, "exec.run", "c").expect("allowed");
    let childs = world.call(&child, "exec.run", "c").expect("allowed");
    let keys = |allowed: &Allowed| allowed.charges().iter().map(|charge| charge.key.clone()).collect::<Vec<_>>();
    assert_eq!((parents.charges().len(), childs.charges().len()), (2, 4));
    assert!(keys(&parents).iter().all(|key| keys(&childs).contains(key)));
    let own: Vec<&Charge> = childs.charges().iter().filter(|charge| !keys(&parents).contains(&charge.key)).collect();
    assert_eq!(own.iter().map(|charge| (charge.add, charge.max)).collect::<Vec<_>>(), [(1, 2), (100, 50)]);
    assert_eq!(own[1].refused_as, Code::BudgetExhausted);
}

#[test]
fn unused_processor_time_goes_back_and_calls_do_not() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let allowed = world.call(&token, "exec.run", "c").expect("allowed");
    let back = refund(allowed.charges(), 30);
    assert_eq!(back.len(), 1);
    assert!(back[0].0.ends_with("/cpu_ms") && back[0].1 == 70);
    assert!(refund(allowed.charges(), 5000).is_empty());
}

#[test]
fn what_is_over_is_forgotten_after_the_skew() {
    let mut world = World::new();
    let token = world.issue(&grant());
    let revocation = world.registry.revocation_of(&token).expect("a revocation");
    world.registry.revoke(revocation).expect("revoked");
    world.registry.forget(NOW + 100, 60);
    assert_eq!(world.registry.list(&grant().tenant_id).count(), 1);
    assert_eq!(code(world.validate(&token)), Code::TokenRevoked);
    world.registry.forget(NOW + 121, 60);
    assert_eq!(world.registry.list(&grant().tenant_id).count(), 0);
    assert_eq!(code(world.validate(&token)), Code::TokenUnknown);
}

#[test]
fn no_tenant_can_revoke_anothers_token() {
    let mut world = World::new();
    world.issue(&grant());
    let other: TenantId = "other".parse().expect("a tenant");
    assert_eq!(code(world.registry.revocation(&grant().token_id, &other)), Code::NotFound);
}
