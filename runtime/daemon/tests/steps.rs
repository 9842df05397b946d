//! Contracts and the steps of plans, each tried against a real daemon. Needs root.

mod kit;

use kit::people::{self, ask_as};
use kit::{Place, events_of, kinds, place, text};
use remand_client::{Client, ClientError};
use remand_model::envelope::Command;
use remand_model::refusal::Code;
use remand_model::{Digest, ExecutionId};
use serde_json::{Value, json};

/// A client of a tenant, with a token for all that is tried here.
fn equipped(place: &Place) -> Client {
    people::tenant(place, "acme");
    let rights = [
        "exec.run=*",
        "state.get=*",
        "state.set=*",
        "state.list=*",
        "state.delete=*",
        "blob.put=*",
        "blob.get=*",
        "events.query=*",
    ];
    people::attached(place, "acme", &people::issue(place, "acme", "root", &rights))
}

fn step(domain: &str, method: &str, resource: &str, params: Value) -> Value {
    json!({"domain": domain, "method": method, "resource": resource, "params": params})
}

fn run(client: &mut Client, id: &str, steps: &[Value]) -> Value {
    let plan = json!({"protocol_version": "1.0", "plan_id": id, "tenant_id": "acme", "steps": steps});
    client.ask(Command::Plan, &json!({"what": "run", "plan": plan})).expect("a report")
}

fn outputs(report: &Value) -> Vec<String> {
    report["released"].as_array().expect("a list").iter().map(|released| text(released, "output")).collect()
}

fn register(client: &mut Client, id: &str, argv: &[&str], output_schema: Value) {
    let contract = json!({"contract_id": id, "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": argv, "profile": "batch"}, "input_schema": {}, "output_schema": output_schema});
    drop(client.ask(Command::Contract, &json!({"what": "register", "contract": contract})).expect("registered"));
}

#[test]
fn a_plan_puts_and_gets_blobs_and_reads_its_tenants_events() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = equipped(&place);
    let digest = Digest::of(b"kept").to_hex();
    let steps = [
        step("blob", "put", "note", json!({"text": "kept"})),
        step("blob", "get", &digest, json!({})),
        step("events", "query", "all", json!({"type": "BLOB_STORED"})),
    ];
    let report = run(&mut client, "blobs", &steps);
    assert_eq!(report["state"], "completed", "{report}");
    let outputs = outputs(&report);
    assert_eq!(outputs[..2], [digest.clone(), "kept".to_owned()]);
    let events: Value = serde_json::from_str(&outputs[2]).expect("JSON");
    assert_eq!((events.as_array().map(Vec::len), &events[0]["payload"]["claims"]["sha256"]), (Some(1), &json!(digest)));
    let mut back = Vec::new();
    client.download(&digest.parse().expect("a digest"), &mut back).expect("it is there after the plan, too");
    assert_eq!(back, b"kept");
}

#[test]
fn a_step_that_asks_for_what_is_not_there_or_wrongly_is_refused_with_its_reason() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = equipped(&place);
    let nothing = Digest::of(b"never put").to_hex();
    let report = run(&mut client, "missing", &[step("blob", "get", &nothing, json!({}))]);
    assert_eq!((&report["state"], &report["refusal"]["code"]), (&json!("failed"), &json!("not_found")), "{report}");
    for (domain, method, resource, params) in [
        ("blob", "put", "note", json!({})),
        ("blob", "get", "no-digest", json!({})),
        ("blob", "get", &nothing, json!({"text": "x"})),
        ("events", "query", "all", json!({"kind": "BLOB_STORED"})),
    ] {
        let plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "acme",
            "steps": [step(domain, method, resource, params.clone())]});
        match client.ask(Command::Plan, &json!({"what": "check", "plan": plan})) {
            Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, Code::PlanInvalid, "{params}"),
            taken => panic!("{domain}.{method} {params}: {taken:?}"),
        }
    }
}

#[test]
fn an_output_that_its_schema_refuses_is_not_released_neither_by_a_contract_nor_by_a_plan() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = equipped(&place);
    register(
        &mut client,
        "wrong",
        &["/bin/echo", "{\"n\":\"text\"}"],
        json!({"properties": {"n": {"type": "integer"}}}),
    );
    let execute = json!({"what": "execute", "contract_id": "wrong", "input": {}});
    match client.ask(Command::Contract, &execute) {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, Code::OutputInvalid),
        released => panic!("{released:?}"),
    }
    assert!(kinds(&mut client).contains(&"EXECUTION_COMPLETED".to_owned()), "it ran, and its end is in the chain");

    let steps =
        [step("exec", "run", "wrong", json!({"input": {}})), step("state", "set", "after", json!({"value": "1"}))];
    let report = run(&mut client, "wrong", &steps);
    assert_eq!(report["refusal"]["code"], "output_invalid", "{report}");
    assert_eq!((&report["failed_step"], outputs(&report).len()), (&json!(0), 0));
    assert!(kinds(&mut client).contains(&"EXECUTION_ABORTED".to_owned()));
}

#[test]
fn the_steps_of_a_plan_take_their_turns_and_say_so() {
    let Some(place) = place() else { return };
    let config = people::configured(&place, "[scheduler]\nexecutions_at_once = 1\n");
    let _daemon = place.start_with(&["--config", &config]);
    let mut client = equipped(&place);
    register(&mut client, "fast", &["/bin/echo", "{}"], json!({}));
    let mut other = place.client("local");
    let first = other.submit_execution_request(&kit::request("first", "sleep 1000")).expect("it is taken");
    let steps = [step("exec", "run", "fast", json!({"input": {}})), step("exec", "run", "fast", json!({"input": {}}))];
    let plan = std::thread::spawn(move || (run(&mut client, "turns", &steps), client));
    while other.list_cluster_nodes().expect("nodes")["nodes"][0]["queued"] != 1 {
        assert!(!plan.is_finished(), "it did not wait");
        std::thread::yield_now();
    }
    drop(other.kill_execution(&first).expect("it runs"));
    let (report, mut client) = plan.join().expect("no panic");
    assert_eq!(report["state"], "completed", "{report}");
    let order = |client: &mut Client, place: usize| {
        let id: ExecutionId = text(&report["released"][place], "execution_id").parse().expect("an id");
        let events = events_of(client, &id);
        let started = events.iter().find(|event| event["event_type"] == "EXECUTION_STARTED").expect("it started");
        started["payload"]["observations"]["schedule_order"].as_u64().expect("a number")
    };
    assert_eq!((order(&mut client, 0), order(&mut client, 1)), (1, 2));
}

#[test]
fn a_contract_ships_its_program_by_content_and_no_other_bytes_run_under_its_hash() {
    let Some(place) = place() else { return };
    let Some(remand) = people::remand(&place) else { return };
    let _daemon = place.start();
    people::tenant(&place, "acme");
    let token = people::issue(&place, "acme", "root", &["exec.run=*", "blob.put=*"]);
    let token = people::token_file(&place, "token", &token, 0);
    let ask = |arguments: &[&str]| {
        ask_as(0, &place, &remand, &[&["--tenant", "acme", "--token-file", &token], arguments].concat())
    };
    let file = |name: &str, text: &str| {
        std::fs::write(place.path().join(name), text).expect("our own folder");
        place.path().join(name).display().to_string()
    };
    let contract = |more: &str| {
        format!(
            "contract_id = \"up\"\nexecution_seed = 1\ncapability_requirements = [\"exec.run\"]\ninput_schema = {{}}\n\
             output_schema = {{ type = \"object\" }}\n[program]\nargv = [\"/app/up\"]\nprofile = \"batch\"\n\
             [[program.files]]\npath = \"/app/up\"\nsource = \"up.sh\"\nexecutable = true\n{more}"
        )
    };
    file("up.sh", "#!/bin/sh\nexec tr a-z A-Z\n");
    let first = ask(&["contract", "register", &file("up.toml", &contract(""))]).expect("registered, with its program");
    let input = file("input.json", "{\"A\":\"b\"}");
    let done = ask(&["contract", "execute", "up", "--input", &input]).expect("executed");
    assert_eq!(done["output"], json!({"A": "B"}), "{done}");

    let stated = format!("digest = \"{}\"\n", Digest::of(b"something else"));
    let refused = ask(&["contract", "register", &file("lie.toml", &contract(&stated))]).expect_err("not these bytes");
    assert!(refused.contains("has digest"), "{refused}");
    file("up.sh", "#!/bin/sh\nexec tr A-Z a-z\n");
    let second = ask(&["contract", "register", &file("up.toml", &contract(""))]).expect("another program");
    assert_ne!(first["contract_hash"], second["contract_hash"]);
    let done = ask(&["contract", "execute", "up", "--input", &input]).expect("the newer one");
    assert_eq!(done["output"], json!({"a": "b"}), "{done}");
}

#[test]
fn a_file_of_a_contract_that_is_not_executable_is_read_and_never_executed() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = equipped(&place);
    let script = client.put_blob(b"#!/bin/sh\necho '{}'\n").expect("put").sha256;
    let contract = |argv: Value, executable: bool| {
        json!({"contract_id": "file", "execution_seed": 1, "capability_requirements": ["exec.run"],
            "program": {"argv": argv, "profile": "batch",
                "files": [{"path": "/app/file", "digest": script, "executable": executable}]},
            "input_schema": {}, "output_schema": {}})
    };
    let mut exit = |argv: Value, executable: bool| {
        let register = json!({"what": "register", "contract": contract(argv, executable)});
        drop(client.ask(Command::Contract, &register).expect("registered"));
        let done = client.ask(Command::Contract, &json!({"what": "execute", "contract_id": "file", "input": {}}));
        done.expect("a result")["exit_code"].as_u64()
    };
    assert_eq!(exit(json!(["/app/file"]), false), Some(126));
    assert_eq!(exit(json!(["/bin/sh", "/app/file"]), false), Some(0));
    assert_eq!(exit(json!(["/app/file"]), true), Some(0));
    assert_eq!(exit(json!(["/bin/sh", "-c", "echo x >/app/file || echo '{}'"]), true), Some(0));
}
