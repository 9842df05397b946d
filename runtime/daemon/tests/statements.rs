//! What is stated about executions of every kind: by a request, by a contract, by the steps of a plan.

mod kit;

use kit::{Folder, audit, kinds, place, proof, run, text};
use remand_client::Client;
use remand_ledger::bundle::{Trust, Verdict, verify_proof};
use remand_ledger::dsse::Envelope;
use remand_ledger::policy_file::Policy;
use remand_ledger::verify::{Options, verify_export};
use remand_model::envelope::Command;
use remand_model::{Digest, ExecutionId};
use serde_json::{Value, json};

fn trust(client: &mut Client) -> Trust {
    let root = audit(client, &json!({"what": "root"}));
    let trust = Trust::in_policy(Policy::of_log(text(&root, "log_key").parse().expect("a key")));
    trust.with_attest(vec![text(&root, "attest_key").parse().expect("a key")]).expect("keys of their own")
}

fn proven(client: &mut Client, id: &ExecutionId) -> Verdict {
    let trust = trust(client);
    verify_proof(&proof(client, id), &trust).expect("the proof holds")
}

/// The claims of the event that started it.
fn start(client: &mut Client, id: &ExecutionId) -> Value {
    let asked = json!({"what": "query", "event_type": "EXECUTION_STARTED", "subject": format!("execution:{id}")});
    audit(client, &asked)["events"][0]["payload"]["claims"].clone()
}

fn registered(client: &mut Client) -> Digest {
    let contract = json!({"contract_id": "up", "execution_seed": 7, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/usr/bin/tr", "a-z", "A-Z"], "profile": "batch"},
        "input_schema": {"type": "object", "required": ["T"]}, "output_schema": {"type": "object"}});
    let answer = client.ask(Command::Contract, &json!({"what": "register", "contract": contract}));
    text(&answer.expect("registered"), "contract_hash").parse().expect("a hash")
}

#[test]
fn a_statement_names_the_contract_and_the_token_of_its_start() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let id = run(&mut client, "one", "exit 0").execution_id;
    let (started, statement) = (start(&mut client, &id), proven(&mut client, &id).statement);
    assert_eq!(statement.claims.contract_hash.to_hex(), text(&started, "contract_hash"));
    assert_ne!(statement.claims.contract_hash.to_hex(), text(&started, "request_sha256"));
    assert_eq!(statement.observations.seen.token_id, Some(text(&started, "token_id")));
}

#[test]
fn an_executed_contract_is_stated_with_its_hash_and_seed() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let contract_hash = registered(&mut client);
    let asked = json!({"what": "execute", "contract_id": "up", "input": {"T": "x"}});
    let id = text(&client.ask(Command::Contract, &asked).expect("executed"), "execution_id").parse().expect("an id");
    let claims = proven(&mut client, &id).statement.claims;
    assert_eq!((claims.contract_hash, claims.execution_seed), (contract_hash, 7));
}

#[test]
fn the_slsa_view_is_signed_by_the_attest_key_and_names_the_contract() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let id = run(&mut client, "one", "echo x >/out/f").execution_id;
    let answer = client.ask(Command::Proof, &json!({"execution_id": id, "format": "slsa"})).expect("a view");
    let bytes =
        remand_model::canonical::to_bytes(&remand_model::canonical::from_serialize(&answer).expect("canonical"));
    let envelope = Envelope::parse(&bytes).expect("an envelope");
    let attest = trust(&mut client).attest.expect("a key");
    let view: Value = serde_json::from_slice(envelope.verify(Some(&attest)).expect("signed")).expect("JSON");
    assert_eq!(view["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(view["subject"][0]["name"], "f");
    let contract = proven(&mut client, &id).statement.claims.contract_hash.to_hex();
    assert!(text(&view["predicate"]["buildDefinition"], "buildType").ends_with(&contract), "{view}");
    assert_eq!(view["predicate"]["runDetails"]["metadata"]["invocationId"], id.as_str());
}

#[test]
fn every_step_of_a_plan_is_proven_by_its_last_event_and_leaves_no_sixth() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let contract_hash = registered(&mut client);
    let steps = json!([
        {"domain": "exec", "method": "run", "resource": "up", "params": {"input": {"T": "a"}}},
        {"domain": "state", "method": "set", "resource": "k", "params": {"key": "k", "value": "v"}},
    ]);
    let plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "local", "steps": steps});
    let before = kinds(&mut client).len();
    let report = client.ask(Command::Plan, &json!({"what": "run", "plan": plan})).expect("run");
    assert_eq!(report["state"], "completed", "{report}");
    let recorded = kinds(&mut client)[before..].to_vec();
    assert!(!recorded.iter().any(|kind| kind == "execution_provenance_recorded"), "{recorded:?}");
    let ids: Vec<ExecutionId> =
        (0..2).map(|n| text(&report["released"][n], "execution_id").parse().expect("an id")).collect();
    let [boxed, called] = [&ids[0], &ids[1]].map(|id| proven(&mut client, id).statement);
    assert_eq!((boxed.claims.contract_hash, boxed.claims.execution_seed), (contract_hash, 7));
    assert_eq!(boxed.claims.input_hash, Digest::of(b"{\"T\":\"a\"}"));
    assert!(boxed.observations.seen.resource_usage.contains_key("cpu_user_us"), "{boxed:?}");
    assert_eq!(called.claims.input_hash.to_hex(), text(&start(&mut client, &ids[1]), "params_digest"));
    assert_eq!(called.claims.isolation_profile_hash, Digest::of(b""));
    for (id, statement) in ids.iter().zip([&boxed, &called]) {
        assert_eq!(statement.observations.seen.token_id, Some(text(&start(&mut client, id), "token_id")));
    }
    let folder = place.path().join("export");
    let tenant = client.tenant().expect("attached").clone();
    client.export_audit_log(&tenant, &mut Folder(folder.clone(), None)).expect("an export");
    let report = verify_export(&folder, &trust(&mut client), &[], Options::default(), &|_| {});
    assert!(report.is_ok(), "{report:?}");
    assert!(ids.iter().all(|id| folder.join(format!("provenance/{id}.dsse.json")).is_file()));
    assert_eq!(audit(&mut client, &json!({"what": "verify"}))["ok"], true);
}

#[test]
fn a_step_that_was_open_at_a_kill_is_closed_as_lost_and_can_be_proven() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    let contract = json!({"contract_id": "slow", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/bin/sleep", "1000"], "profile": "batch"}, "input_schema": {}, "output_schema": {}});
    client.ask(Command::Contract, &json!({"what": "register", "contract": contract})).expect("registered");
    let steps = json!([{"domain": "exec", "method": "run", "resource": "slow", "params": {"input": {}}}]);
    let plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "local", "steps": steps});
    let mut watcher = place.client("local");
    std::thread::scope(|scope| {
        scope.spawn(|| client.ask(Command::Plan, &json!({"what": "run", "plan": plan})));
        while !kinds(&mut watcher).iter().any(|kind| kind == "EXECUTION_STARTED") {
            std::thread::yield_now();
        }
        daemon.kill();
    });
    let _daemon = place.start();
    let mut client = place.client("local");
    let lost = audit(&mut client, &json!({"what": "query", "event_type": "EXECUTION_LOST"}));
    let id = text(&lost["events"][0], "subject").trim_start_matches("execution:").parse().expect("an id");
    assert_eq!(proven(&mut client, &id).statement.claims.execution_seed, 1);
}
