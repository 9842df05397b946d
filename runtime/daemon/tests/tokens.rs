//! Tokens in a real daemon: revoked while something runs, narrowed offline, asked for by state and blobs. Needs root.

mod kit;

use std::os::unix::fs::PermissionsExt as _;

use kit::people::{self, NOBODY, ask_as};
use kit::{Place, audit, events_of, kinds, place, request, text};
use remand_client::{Client, ClientError};
use remand_model::ExecutionId;
use remand_model::envelope::Command;
use remand_model::outcome::Cause;
use remand_model::refusal::Code;
use serde_json::{Value, json};

fn submit(client: &mut Client, name: &str, script: &str) -> ExecutionId {
    client.submit_execution_request(&request(name, script)).expect("it is taken")
}

fn revoke(place: &Place, token: &Value) -> Value {
    let ask = json!({"what": "revoke", "tenant_id": "acme", "token_id": text(token, "token_id")});
    place.client("local").ask(Command::Token, &ask).expect("root revokes")
}

fn code<T: std::fmt::Debug>(asked: Result<T, ClientError>) -> Code {
    match asked {
        Err(ClientError::Refused(refusal)) => refusal.code,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[test]
fn revoking_a_token_ends_what_runs_and_waits_under_it_and_nothing_else() {
    let Some(place) = place() else { return };
    let config = people::configured(&place, "[scheduler]\nexecutions_at_once = 2\n");
    let _daemon = place.start_with(&["--config", &config]);
    people::tenant(&place, "acme");
    let (good, bad) = (["root"; 2].map(|user| people::issue(&place, "acme", user, &["exec.run=*"]))).into();
    let (mut others, mut own) = (people::attached(&place, "acme", &good), people::attached(&place, "acme", &bad));
    let other = submit(&mut others, "other", "sleep 1000");
    let runs = submit(&mut own, "runs", "sleep 1000");
    let waits = submit(&mut own, "waits", "sleep 1000");

    let answer = revoke(&place, &bad);
    assert_eq!(answer["ended"].as_array().map(Vec::len), Some(2), "{answer}");
    for id in [&runs, &waits] {
        assert_eq!(others.wait_for_execution(id).expect("its record").cause, Cause::Cancelled);
        let events = events_of(&mut others, id);
        let why = events.iter().find(|event| event["event_type"] == "EXECUTION_REVOKED").expect("the reason");
        let cause = audit(&mut others, &json!({"what": "show", "event_id": why["causation_id"]}));
        assert_eq!(cause["event_type"], "TOKEN_REVOKED");
    }
    assert_eq!(text(&others.query_execution_status(&other).expect("it runs on"), "state"), "running");
    assert_eq!(code(own.submit_execution_request(&request("again", "true"))), Code::TokenRevoked);
    drop(others.kill_execution(&other).expect("it runs"));
}

#[test]
fn revoking_a_token_ends_a_plans_step_and_the_steps_after_it_never_begin() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    people::tenant(&place, "acme");
    let token = people::issue(&place, "acme", "root", &["exec.run=*", "state.set=*"]);
    let mut client = people::attached(&place, "acme", &token);
    let contract = json!({"contract_id": "long", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/bin/sleep", "1000"], "profile": "batch"}, "input_schema": {}, "output_schema": {}});
    drop(client.ask(Command::Contract, &json!({"what": "register", "contract": contract})).expect("registered"));
    let plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "acme", "steps": [
        {"domain": "exec", "method": "run", "resource": "long", "params": {"input": {}}},
        {"domain": "state", "method": "set", "resource": "reached", "params": {"value": "yes"}}]});
    let plan = std::thread::spawn(move || client.ask(Command::Plan, &json!({"what": "run", "plan": plan})));
    let mut root = place.client("acme");
    while root.list_executions().expect("a list")["executions"].as_array().is_none_or(Vec::is_empty) {
        assert!(!plan.is_finished(), "{:?}", plan.join());
        std::thread::yield_now();
    }
    drop(revoke(&place, &token));
    let report = plan.join().expect("no panic").expect("a report");
    assert_eq!((report["state"].as_str(), report["failed_step"].as_u64()), (Some("failed"), Some(0)), "{report}");
    assert_eq!(report["refusal"]["code"], "token_revoked");
    assert!(kinds(&mut root).contains(&"EXECUTION_ABORTED".to_owned()));
    assert_eq!(code(root.ask(Command::State, &json!({"what": "get", "key": "reached"}))), Code::NotFound);
}

#[test]
fn a_token_is_narrowed_offline_never_widened_and_the_narrower_one_holds_in_the_daemon() {
    let Some(place) = place() else { return };
    let Some(remand) = people::remand(&place) else { return };
    let daemon = place.start();
    people::tenant(&place, "acme");
    let rights = ["state.get=*", "state.set=users/*"];
    let held = people::token_file(&place, "held", &people::issue(&place, "acme", "root", &rights), 0);
    assert!(daemon.stop().success());

    let file = |name: &str, narrowing: Value| {
        let path = place.path().join(name).display().to_string();
        std::fs::write(&path, narrowing.to_string()).expect("our own folder");
        path
    };
    let delegate = |token: &str, narrowing: &str, out: &str| {
        let asked = ask_as(0, &place, &remand, &["--token-file", token, "token", "delegate", narrowing, "--out", out]);
        asked.map(|_| out.to_owned())
    };
    let at = |name: &str| place.path().join(name).display().to_string();
    let narrower = delegate(&held, &file("n1", json!({"rights": ["state.set=users/7"], "calls_max": 2})), &at("less"));
    let narrower = narrower.expect("it takes away, and no daemon is needed");
    let mode = std::fs::metadata(&narrower).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (number, wider) in [
        json!({"rights": ["state.set=users/*"]}),
        json!({"rights": ["state.delete=users/7"]}),
        json!({"calls_max": 3}),
        json!({"expires_s": 4_000_000_001_u64}),
        json!({"triggers": ["agent"]}),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = delegate(&narrower, &file("wider", wider), &at(&format!("more{number}"))).expect_err("it widens");
        assert!(refused.contains("delegation_widens"), "{refused}");
        assert!(!place.path().join(format!("more{number}")).exists());
    }

    let _daemon = place.start();
    let ask = |arguments: &[&str]| {
        ask_as(0, &place, &remand, &[&["--tenant", "acme", "--token-file", &narrower], arguments].concat())
    };
    for refused in [&["state", "set", "users/8", "x"][..], &["state", "get", "users/7"]] {
        let said = ask(refused).expect_err("it was taken away");
        assert!(said.contains("scope_denied"), "{said}");
    }
    ask(&["state", "set", "users/7", "one"]).expect("the first call");
    ask(&["state", "set", "users/7", "two"]).expect("the second call");
    let said = ask(&["state", "set", "users/7", "three"]).expect_err("two calls were left");
    assert!(said.contains("calls_exhausted"), "{said}");
    let held = ["--tenant", "acme", "--token-file", &held, "state", "get", "users/7"];
    assert_eq!(ask_as(0, &place, &remand, &held).expect("the wider one goes on")["value"], "two");
}

#[test]
fn an_operators_state_and_blobs_need_a_token_of_that_scope_and_every_refusal_is_an_event() {
    let Some(place) = place() else { return };
    let Some(remand) = people::remand(&place) else { return };
    let access = "[[access]]\nusers = [65534]\nrole = \"operator\"\n";
    let _daemon = place.start_with(&["--config", &people::configured(&place, access)]);
    people::tenant(&place, "acme");
    let reader = people::issue(&place, "acme", "uid-65534", &["state.get=shown/*", "state.list=shown/*", "blob.put=*"]);
    let reader = people::token_file(&place, "reader", &reader, NOBODY);
    let mut root = place.client("acme");
    for key in ["shown/a", "hidden/b"] {
        drop(root.ask(Command::State, &json!({"what": "set", "key": key, "value": "1"})).expect("an admin needs none"));
    }
    let blob = root.put_blob(b"secret").expect("an admin needs none").sha256.to_hex();
    let bare = |arguments: &[&str]| ask_as(NOBODY, &place, &remand, &[&["--tenant", "acme"], arguments].concat());
    let with = |arguments: &[&str]| bare(&[&["--token-file", &reader], arguments].concat());

    for asked in [
        &["state", "get", "shown/a"][..],
        &["state", "set", "shown/a", "2"],
        &["state", "list"],
        &["blob", "get", &blob],
    ] {
        let said = bare(asked).expect_err("a role is no token");
        assert!(said.contains("token_missing"), "{asked:?}: {said}");
    }
    assert_eq!(with(&["state", "get", "shown/a"]).expect("in its scope")["value"], "1");
    with(&["state", "list", "shown/"]).expect("in its scope");
    let document = place.path().join("document").display().to_string();
    std::fs::write(&document, "bytes").expect("our own folder");
    with(&["blob", "put", &document]).expect("in its scope");
    for asked in [
        &["state", "get", "hidden/b"][..],
        &["state", "list"],
        &["state", "set", "shown/a", "2"],
        &["state", "delete", "shown/a"],
        &["blob", "get", &blob],
    ] {
        let said = with(asked).expect_err("outside of its scope");
        assert!(said.contains("scope_denied"), "{asked:?}: {said}");
    }
    let log = kinds(&mut root);
    let count = |kind: &str| log.iter().filter(|found| *found == kind).count();
    assert_eq!((count("REQUEST_REFUSED"), count("AUTHORIZATION_SCOPE_CHECK")), (9, 3), "{log:?}");
}
