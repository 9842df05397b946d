//! Bad input to a real daemon: every one gets a deterministic error, starts nothing, and holds nobody up.
#![forbid(unsafe_code)]

mod documents;
mod frames;
mod names;
mod quotas;
mod requests;
mod slow;

use remand_model::envelope::Command;
use remand_model::refusal::{Code, Refusal};
use remand_tests::kit::{Raw, Reply};
use remand_tests::stage::{stage, status};
use remand_tests::suite::Case;
use serde_json::{Value, json};
use std::process::ExitCode;

fn main() -> ExitCode {
    let rooms: [&[Case]; 6] =
        [frames::CASES, requests::CASES, names::CASES, documents::CASES, quotas::CASES, slow::CASES];
    remand_tests::stage::main(&rooms.concat())
}

/// A connection of root's, attached to the tenant that needs no token.
fn local() -> Raw {
    Raw::attached(&stage().place, "local", None)
}

/// How many executions a tenant's chain says were started.
fn starts(tenant: &str) -> usize {
    let mut raw = Raw::attached(&stage().place, tenant, None);
    let asked = json!({"what": "query", "event_type": "EXECUTION_STARTED", "limit": 1000});
    let found = raw.ask(Command::Audit, &asked).expect("root looks");
    found["events"].as_array().expect("a list").len()
}

/// Fails unless `attack` starts nothing.
fn starting_nothing(attack: impl FnOnce()) {
    let before = starts("local");
    attack();
    assert_eq!(starts("local"), before, "something was started");
}

/// Memory of the daemon's own, in KiB: now, and at its highest with files that it mapped.
fn memory_kib() -> (u64, u64) {
    let number = |key: &str| {
        let text = status(stage().daemon(), key).expect("the daemon lives");
        text.split(' ').next().and_then(|text| text.parse().ok()).expect("a number of kB")
    };
    (number("RssAnon"), number("VmHWM"))
}

/// The refusal, which must carry the code and the request's own tenant and trace.
#[track_caller]
fn refused(raw: &Raw, reply: Reply, code: Code) -> Refusal {
    let refusal = refused_somehow(raw, reply);
    assert_eq!(refusal.code, code, "{refusal}");
    refusal
}

/// As [`refused`], with any code that is the caller's own move.
#[track_caller]
fn refused_somehow(raw: &Raw, reply: Reply) -> Refusal {
    let refusal = reply.expect_err("it is refused");
    assert_eq!((refusal.trace_id, &refusal.tenant_id), (raw.header.trace, &raw.header.tenant), "{refusal}");
    assert_ne!(refusal.code, Code::Internal, "{refusal}");
    refusal
}

/// Fails unless the connection still serves.
#[track_caller]
fn goes_on(raw: &mut Raw) {
    assert_eq!(raw.ask(Command::Ping, &json!({})).expect("it goes on"), json!({}));
}

/// A request to run a program.
fn run_request(name: &str) -> Value {
    json!({"protocol_version": "1.0", "request_id": name, "argv": ["/bin/true"], "policy": "batch"})
}
