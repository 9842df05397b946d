//! Plans against real registries, a small real domain and a journal that can fail at any entry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use remand_authority::Clock;
use remand_authority::contracts::ContractRegistry;
use remand_authority::domain::Descriptor;
use remand_authority::permit::{Authority, Demand, Permit};
use remand_authority::token::{RootKey, TokenBytes};
use remand_engine::domain::{Domain, Domains, Done, Need};
use remand_engine::drive::{Caller, Direct, Journal, Report, run};
use remand_engine::events::Entry;
use remand_engine::runner::Ending;
use remand_model::canonical::{self, Object, Value};
use remand_model::grant::{Grant, TokenId, Trigger};
use remand_model::plan::{Frozen, Plan, Step};
use remand_model::quota::{Charge, Quota, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use remand_model::{ExecutionId, RequestId, TenantId};

const GOLDEN: &str = include_str!("golden/three_steps.jsonl");
const CLOCK: Clock = Clock { wall_s: 1000, last_event_s: 1000, mono_ms: 5 };

/// A key-value store: `state.set` and `state.get`.
#[derive(Default)]
struct State {
    values: Mutex<BTreeMap<String, Value>>,
    calls: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn done(verdict: Result<(), Refusal>, output: Vec<u8>) -> Done {
    let claims: Object = [("output_digest".to_owned(), remand_model::Digest::of(&output).into())].into();
    let usage = Usage { cpu_ms: 3, output_bytes: output.len() as u64, ..Usage::default() };
    Done { verdict, claims, observations: Object::new(), usage, output }
}

impl Domain for State {
    fn descriptor(&self) -> Descriptor {
        let text = r#"{"protocol_version":"1.0","domain":"state","version":1,"methods":{
            "get":{"has_effect":false,"role":"viewer","triggers":["manual"]},
            "set":{"has_effect":true,"role":"operator","triggers":["manual"]}}}"#;
        serde_json::from_str(text).expect("a descriptor")
    }

    fn need(&self, _: &TenantId, step: &Step, _: &ContractRegistry) -> Result<Need, Refusal> {
        let stated = step.params().to_value();
        if stated.get("key").and_then(Value::as_text) != Some(step.resource().as_str()) {
            return Err(Refusal::new(Code::InputInvalid, "key is not the step's resource"));
        }
        let mut demand = Demand::inside(0, 100);
        demand.amounts.cpu_ms = 10;
        Ok(Need { contract: None, demand })
    }

    fn execute(&self, permit: &Permit, _: &ExecutionId, params: &Frozen) -> Done {
        self.calls.lock().expect("one thread").push(params.bytes().to_vec());
        let key = permit.resource().as_str().to_owned();
        let params = params.to_value();
        if permit.scope().method.as_str() == "set" {
            self.values.lock().expect("one thread").insert(key, params.get("value").cloned().unwrap_or_default());
            return done(Ok(()), Vec::new());
        }
        match self.values.lock().expect("one thread").get(&key) {
            Some(value) => done(Ok(()), canonical::to_bytes(value)),
            None => done(Err(Refusal::new(Code::StepFailed, key)), Vec::new()),
        }
    }
}

/// Keeps entries; fails from one of them on.
#[derive(Default)]
struct Memory {
    entries: Vec<Entry>,
    counters: BTreeMap<String, u64>,
    fails_at: Option<usize>,
}

impl Journal for Memory {
    fn record(&mut self, entry: Entry) -> Result<u64, Refusal> {
        if self.fails_at.is_some_and(|at| self.entries.len() >= at) {
            return Err(Refusal::new(Code::AuditUnavailable, "no space left on device"));
        }
        let full = |charge: &&Charge| self.counters.get(&charge.key).unwrap_or(&0) + charge.add > charge.max;
        if let Some(charge) = entry.charges.iter().find(full) {
            return Err(Refusal::new(charge.refused_as, &charge.key));
        }
        for charge in &entry.charges {
            *self.counters.entry(charge.key.clone()).or_default() += charge.add;
        }
        for (key, back) in entry.settlement.iter().flat_map(|settlement| &settlement.refunds) {
            *self.counters.get_mut(key).expect("charged before") -= back;
        }
        self.entries.push(entry);
        Ok(self.entries.len() as u64 - 1)
    }
}

impl Memory {
    fn types(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.event.event_type.as_str()).collect()
    }

    fn verdicts(&self) -> Vec<&str> {
        let verdict = |entry: &'_ Entry| entry.event.payload.claims.get("verdict").and_then(Value::as_text).is_some();
        let shown = self.entries.iter().filter(|entry| verdict(entry));
        shown.map(|entry| entry.event.payload.claims["verdict"].as_text().expect("a text")).collect()
    }
}

struct World {
    authority: Authority,
    root: RootKey,
    token: TokenBytes,
    grant: Grant,
    domains: Domains,
    journal: Memory,
    calls: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn quota() -> Quota {
    Quota {
        max_cpu_seconds: 1,
        max_memory_mb: 0,
        max_disk_mb: 1,
        max_network_kb: 0,
        max_concurrent_tasks: 1,
        max_pids: 0,
        max_output_bytes: 250,
        window_seconds: 60,
        weight: 1,
    }
}

impl World {
    fn new(rights: &[&str], calls_max: u64) -> Self {
        let root = RootKey::from_seed(1, &[3; 32]);
        let grant = Grant {
            protocol_version: "1.0".into(),
            token_id: TokenId::from_entropy([2; 16]),
            tenant_id: "acme".parse().expect("a tenant"),
            user_id: "ada".parse().expect("a user"),
            rights: rights.iter().map(|right| right.parse().expect("a right")).collect(),
            triggers: [Trigger::Manual].into(),
            expires_s: 2000,
            calls_max,
            cpu_ms_max: 1000,
            epoch: 0,
        };
        let mut authority = Authority::new(vec![root.public()], 0).expect("an authority");
        authority.quotas.register_tenant_quota(&grant.tenant_id, quota(), Role::Admin).expect("a quota");
        let token = root.mint(&grant, &[4; 32]).expect("a token");
        authority.tokens.admit(authority.tokens.record(&token).expect("a record")).expect("admitted");
        let state = State::default();
        let calls = Arc::clone(&state.calls);
        authority.domains.register_domain(state.descriptor(), Role::Admin).expect("registered");
        let mut domains = Domains::default();
        domains.add(Box::new(state)).expect("added");
        Self { authority, root, token, grant, domains, journal: Memory::default(), calls }
    }

    fn run(&mut self, plan: &str) -> Report {
        let plan = Plan::from_json(plan.as_bytes()).expect("a plan");
        let request: RequestId = "r1".parse().expect("a request's id");
        let (tenant_id, user_id) = (&self.grant.tenant_id, &self.grant.user_id);
        let caller = Caller { tenant_id, user_id, role: Role::Operator, trigger: Trigger::Manual };
        let mut gate = Direct { authority: &mut self.authority, caller, token: &self.token, clock: || CLOCK };
        run(plan, request, &mut gate, &self.domains, &mut self.journal)
    }

    fn reserved(&self) -> Usage {
        self.authority.quotas.get_quota(&self.grant.tenant_id).expect("a quota").reserved
    }

    fn calls(&self) -> usize {
        self.calls.lock().expect("one thread").len()
    }
}

fn plan_of(steps: &[(&str, &str)]) -> String {
    let step = |(method, key): &(&str, &str)| {
        format!(
            r#"{{"domain":"state","method":"{method}","resource":"{key}","params":{{"key":"{key}","value":"v-{key}"}}}}"#
        )
    };
    let steps = steps.iter().map(step).collect::<Vec<_>>().join(",");
    format!(r#"{{"protocol_version":"1.0","plan_id":"p1","tenant_id":"acme","steps":[{steps}]}}"#)
}

fn three() -> String {
    plan_of(&[("set", "a"), ("set", "b"), ("get", "a")])
}

const FIVE: [&str; 5] = [
    "AUTHORIZATION_SCOPE_CHECK",
    "RESOURCE_LIMIT_CHECK",
    "EXECUTION_STARTED",
    "RESOURCE_USAGE_RECORDED",
    "EXECUTION_COMPLETED",
];

#[test]
fn three_steps_leave_exactly_sixteen_events_in_order() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    let report = world.run(&three());
    assert_eq!(report.ending, Ending::Completed);
    let mut expected = vec!["TOKEN_VALIDATION"];
    (0..3).for_each(|_| expected.extend(FIVE));
    assert_eq!(world.journal.types(), expected);
    assert_eq!(world.journal.entries.len(), 16);
}

#[test]
fn the_sixteen_events_equal_the_golden_file() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    let report = world.run(&three());
    assert_eq!(report.ending, Ending::Completed);
    let line = |entry: &Entry| {
        let event = &entry.event;
        let members = [
            ("event_type", Value::from(event.event_type.as_str())),
            ("subject", event.subject.as_str().into()),
            ("claims", event.payload.claims.clone().into()),
            ("observations", event.payload.observations.clone().into()),
        ];
        let members: Object = members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        format!("{}\n", Value::Object(members))
    };
    let actual: String = world.journal.entries.iter().map(line).collect();
    if std::env::var_os("REMAND_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/three_steps.jsonl");
        std::fs::write(path, &actual).expect("the golden file can be written");
        return;
    }
    assert_eq!(actual, GOLDEN);
}

#[test]
fn the_same_plan_under_the_same_request_makes_the_same_claims() {
    let run = || {
        let mut world = World::new(&["state.get=*", "state.set=*"], 10);
        world.run(&three());
        world.journal.entries.iter().map(|entry| entry.event.payload.claims.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn every_event_names_the_one_before_it_as_its_cause() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    world.run(&three());
    for (index, entry) in world.journal.entries.iter().enumerate() {
        let expected = index.checked_sub(1).map(|before| remand_model::event::Cause::Event(before as u64));
        assert_eq!(entry.event.cause, expected);
    }
}

#[test]
fn an_invalid_token_runs_nothing_and_records_every_step_as_aborted() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    let stranger = Grant { token_id: TokenId::from_entropy([9; 16]), ..world.grant.clone() };
    world.token = world.root.mint(&stranger, &[5; 32]).expect("a token");
    let report = world.run(&three());
    assert!(matches!(report.ending, Ending::Failed(None, Refusal { code: Code::TokenUnknown, .. })));
    assert_eq!(world.journal.verdicts(), ["token_unknown", "plan_aborted", "plan_aborted", "plan_aborted"]);
    assert_eq!(world.calls(), 0);
}

#[test]
fn a_scope_that_is_not_held_denies_its_step_and_aborts_the_rest() {
    let mut world = World::new(&["state.set=a"], 10);
    let report = world.run(&three());
    assert!(matches!(report.ending, Ending::Failed(Some(1), Refusal { code: Code::ScopeDenied, .. })));
    let mut expected = vec!["TOKEN_VALIDATION"];
    expected.extend(FIVE);
    expected.extend(["AUTHORIZATION_SCOPE_CHECK", "EXECUTION_DENIED", "EXECUTION_ABORTED"]);
    assert_eq!(world.journal.types(), expected);
    assert_eq!((world.calls(), report.released.len(), world.reserved()), (1, 1, Usage::default()));
}

#[test]
fn a_quota_that_is_used_up_denies_at_the_limit_check() {
    let mut world = World::new(&["state.set=*"], 10);
    world
        .authority
        .quotas
        .register_tenant_quota(&world.grant.tenant_id, Quota { max_output_bytes: 99, ..quota() }, Role::Admin)
        .expect("a quota");
    let report = world.run(&three());
    assert!(matches!(report.ending, Ending::Failed(Some(0), Refusal { code: Code::QuotaTooSmall, .. })));
    assert_eq!(world.journal.types()[1..4], ["AUTHORIZATION_SCOPE_CHECK", "RESOURCE_LIMIT_CHECK", "EXECUTION_DENIED"]);
    assert_eq!(world.calls(), 0);
}

#[test]
fn a_token_whose_calls_are_used_up_is_denied_by_the_counter_of_the_store() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 2);
    let report = world.run(&three());
    assert!(matches!(report.ending, Ending::Failed(Some(2), Refusal { code: Code::CallsExhausted, .. })));
    let tail: Vec<&str> = world.journal.types().split_off(11);
    assert_eq!(tail, ["AUTHORIZATION_SCOPE_CHECK", "RESOURCE_LIMIT_CHECK", "EXECUTION_DENIED"]);
    assert_eq!((world.calls(), world.reserved()), (2, Usage::default()));
}

#[test]
fn a_step_that_fails_is_completed_with_its_reason_and_never_tried_again() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    let report = world.run(&plan_of(&[("set", "a"), ("get", "missing"), ("get", "a")]));
    assert!(matches!(report.ending, Ending::Failed(Some(1), Refusal { code: Code::StepFailed, .. })));
    assert_eq!(world.journal.types()[10..], ["EXECUTION_COMPLETED", "EXECUTION_ABORTED"]);
    assert_eq!((world.calls(), report.released.len()), (2, 1));
}

#[test]
fn wherever_the_log_fails_the_plan_ends_there_and_nothing_unrecorded_is_released() {
    for fails_at in 0..16 {
        let mut world = World::new(&["state.get=*", "state.set=*"], 10);
        world.journal.fails_at = Some(fails_at);
        let report = world.run(&three());
        assert!(matches!(report.ending, Ending::Unrecorded(_)), "entry {fails_at}");
        assert_eq!(world.journal.entries.len(), fails_at);
        let count = |name: &str| world.journal.types().iter().filter(|found| **found == name).count();
        assert_eq!(world.calls(), count("EXECUTION_STARTED"), "an effect without its event at {fails_at}");
        assert_eq!(report.released.len(), count("EXECUTION_COMPLETED"), "a result without its event at {fails_at}");
        assert_eq!(world.reserved(), Usage::default(), "room was kept at {fails_at}");
    }
}

#[test]
fn each_step_gets_its_own_frozen_parameters_and_nothing_else() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    let report = world.run(&three());
    let calls = world.calls.lock().expect("one thread").clone();
    let expected = ["a", "b", "a"].map(|key| format!(r#"{{"key":"{key}","value":"v-{key}"}}"#).into_bytes());
    assert_eq!(calls, expected);
    assert_eq!(report.released[2].output, br#""v-a""#);
}

#[test]
fn unused_processor_time_is_given_back_to_the_tokens_budget() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    world.run(&three());
    let used =
        |suffix: &str| world.journal.counters.iter().find(|(key, _)| key.ends_with(suffix)).map(|(_, used)| *used);
    assert_eq!((used("/calls"), used("/cpu_ms")), (Some(3), Some(9)));
}

#[test]
fn a_plan_of_another_tenant_than_the_token_is_refused() {
    let mut world = World::new(&["state.get=*", "state.set=*"], 10);
    let report = world.run(&three().replace("\"acme\"", "\"other\""));
    assert!(matches!(report.ending, Ending::Failed(None, Refusal { code: Code::TokenTenantMismatch, .. })));
    assert_eq!(world.calls(), 0);
}

#[test]
fn an_unknown_domain_or_method_is_denied() {
    let mut world = World::new(&["state.burn=*", "other.thing=*"], 10);
    let report = world.run(&plan_of(&[("burn", "a")]));
    assert!(matches!(report.ending, Ending::Failed(Some(0), Refusal { code: Code::MethodUnknown, .. })));
    let report = world.run(&plan_of(&[("thing", "a")]).replace("\"state\"", "\"other\""));
    assert!(matches!(report.ending, Ending::Failed(Some(0), Refusal { code: Code::DomainUnknown, .. })));
}
