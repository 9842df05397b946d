//! What clients send: canonical JSON, frames, and the documents in them.

use remand_model::canonical::{self, Value};
use remand_model::contract::{Contract, Draft};
use remand_model::envelope::{Command, HEADER_BYTES, Header};
use remand_model::grant::Grant;
use remand_model::outcome::ExecutionResult;
use remand_model::plan::Plan;
use remand_model::quota::Quota;
use remand_model::refusal::Refusal;
use remand_model::role::{Arming, Role};
use remand_model::run::RunRequest;
use remand_model::{Digest, Event, Limits, TraceId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// One spelling, and the same document as another parser reads.
pub fn canonical(input: &[u8]) {
    let value = match canonical::parse(input) {
        Ok(value) => value,
        Err(refusal) => return assert!(!refusal.to_string().is_empty()),
    };
    let spelled = canonical::to_bytes(&value);
    assert!(spelled.is_ascii() && canonical::is_canonical(&spelled));
    assert_eq!(canonical::parse(&spelled).ok().as_ref(), Some(&value));
    let other: serde_json::Value = serde_json::from_slice(input).expect("what is canonical is JSON");
    assert_eq!(canonical::from_serialize(&other).ok().as_ref(), Some(&value));
    assert_eq!(serde_json::to_value(&value).expect("a value is JSON"), other);
}

pub fn canonical_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#" {"b": [1, "é"], "a": null} "#,
        r#"{"a":"\u00e9\ud83d\ude00\n\"\\\/","b":[true,false,-9007199254740991,9007199254740991,0]}"#,
        r#"[[[[[[[[]]]]]]],{},{"":{"":[]}},"\u0000\u001f\u007f"]"#,
        "1.0",
        "-0",
        r#"{"a":1,"a":2}"#,
        r#""\ud800""#,
        "12345678901234567890",
        "[1e3]",
        "nul",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A header that was read is written as the same bytes, its minor version apart.
pub fn envelope(input: &[u8]) {
    let Some(head) = input.first_chunk::<HEADER_BYTES>() else { return };
    match Header::decode(head) {
        Ok((header, size)) => {
            let mut written = header.encode(size);
            written[5] = head[5];
            assert_eq!(&written, head);
        }
        Err(refusal) => assert_eq!(refusal.trace_id.0, head[32..48]),
    }
}

pub fn envelope_seeds() -> Vec<Vec<u8>> {
    let header = |command: &Command| Header {
        command: *command,
        role: Role::Operator,
        arming: Arming::Armed,
        tenant: "acme".parse().ok(),
        trace: TraceId([9; 16]),
        sequence: 3,
        lease: 7,
    };
    Command::ALL.iter().map(|command| header(command).encode(5).to_vec()).collect()
}

/// An entry has one spelling.
pub fn event(input: &[u8]) {
    if let Ok(event) = Event::from_entry(input) {
        assert_eq!(event.to_entry().expect("what was read can be written"), input);
    }
}

pub fn event_seeds() -> Vec<Vec<u8>> {
    super::export::entries()
}

/// A contract keeps its hash through its own spelling, and a draft is sealed or refused.
pub fn contract(input: &[u8]) {
    if let Ok(contract) = Contract::from_json(input) {
        let value = contract.to_value().expect("its numbers were read from JSON");
        let again = Contract::from_value(&value).expect("its own spelling");
        assert_eq!(again.hash(), contract.hash());
    }
    let drafts =
        [Draft::from_json(input).ok(), str::from_utf8(input).ok().and_then(|text| Draft::from_toml(text).ok())];
    for draft in drafts.into_iter().flatten() {
        let named: BTreeMap<String, Digest> =
            draft.files().map(|(path, _)| (path.to_owned(), Digest::of(path.as_bytes()))).collect();
        if let Ok(sealed) = draft.seal(Digest::of(b"policy"), &named) {
            sealed.hash().expect("what was sealed has a hash");
        }
    }
}

pub fn contract_seeds() -> Vec<Vec<u8>> {
    let draft = json!({
        "contract_id": "up", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/usr/bin/tr", "a-z", "A-Z"], "profile": "batch", "env": {"A": "b"}, "files": []},
        "input_schema": {"type": "object", "required": ["T"]}, "output_schema": {"type": "object"},
    });
    let toml = "contract_id = \"up\"\nexecution_seed = 1\ncapability_requirements = [\"exec.run\"]\n[program]\n\
        argv = [\"/bin/cat\"]\nprofile = \"batch\"\n[input_schema]\ntype = \"object\"\n[output_schema]\ntype = \"object\"\n";
    let sealed = Draft::from_json(&bytes(&draft)).and_then(|draft| draft.seal(Digest::of(b"p"), &BTreeMap::new()));
    let sealed = sealed.and_then(|sealed| sealed.to_value()).expect("a good draft");
    vec![bytes(&draft), toml.into(), canonical::to_bytes(&sealed)]
}

/// A plan's hash is that of its own spelling.
pub fn plan(input: &[u8]) {
    let Ok(plan) = Plan::from_json(input) else { return };
    let again = Plan::from_json(&canonical::to_bytes(&plan.to_value())).expect("its own spelling");
    assert_eq!((again.hash(), again.steps()), (plan.hash(), plan.steps()));
}

pub fn plan_seeds() -> Vec<Vec<u8>> {
    let step = |domain: &str, method: &str, params: serde_json::Value| json!({"domain": domain, "method": method, "resource": "up", "params": params});
    let steps = [
        step("exec", "run", json!({"input": {"T": "a"}})),
        step("state", "set", json!({"key": "up", "value": "v"})),
        step("blob", "get", json!({})),
    ];
    let plan = |steps: &[serde_json::Value]| {
        bytes(&json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "acme", "steps": steps}))
    };
    vec![plan(&steps[..1]), plan(&steps), plan(&[])]
}

/// What was read is written and read again as the same.
fn stays<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &Value) {
    let Ok(document) = value.decode::<T>() else { return };
    let Ok(written) = canonical::from_serialize(&document) else { return };
    assert_eq!(written.decode::<T>().expect("its own spelling"), document);
}

/// Requests, quotas, grants, limits, refusals and results.
pub fn documents(input: &[u8]) {
    let Ok(value) = canonical::parse(input) else { return };
    stays::<RunRequest>(&value);
    stays::<Grant>(&value);
    stays::<Limits>(&value);
    stays::<Refusal>(&value);
    stays::<ExecutionResult>(&value);
    stays::<Quota>(&value);
    if let Ok(quota) = value.decode::<Quota>()
        && let Ok(ceiling) = quota.ceiling()
    {
        assert!(ceiling.memory_bytes >= quota.max_memory_mb && ceiling.plus(&ceiling).minus(&ceiling) == ceiling);
    }
}

pub fn documents_seeds() -> Vec<Vec<u8>> {
    let mut request = RunRequest::new("r".parse().expect("a name"), vec!["/bin/true".into()]);
    request.settings.push(("limits.memory".into(), "64M".into()));
    request.environment.insert("A".into(), "b".into());
    let quota = json!({
        "max_cpu_seconds": 60, "max_memory_mb": 512, "max_disk_mb": 64, "max_network_kb": 0, "max_concurrent_tasks": 2,
        "max_pids": 128, "max_output_bytes": 1_048_576, "window_seconds": 60, "weight": 1,
    });
    let grant = json!({
        "protocol_version": "1.0", "token_id": format!("tok_{}", "0".repeat(32)), "tenant_id": "acme", "user_id": "root",
        "rights": ["exec.run=*"], "triggers": ["manual"], "expires_s": 4_000_000_000_u64, "calls_max": 20,
        "cpu_ms_max": 900_000, "epoch": 0,
    });
    let refusal = Refusal::new(remand_model::refusal::Code::QuotaExceeded, "tasks").retry_after(5);
    let written =
        |value: &dyn Fn() -> Result<Value, canonical::CanonError>| canonical::to_bytes(&value().expect("small"));
    vec![
        written(&|| canonical::from_serialize(&request)),
        bytes(&quota),
        bytes(&grant),
        written(&|| canonical::from_serialize(&refusal)),
        written(&|| canonical::from_serialize(&Limits::default())),
    ]
}
