//! Identifiers that lead elsewhere, in every place that takes one.

use crate::{goes_on, local, refused_somehow, run_request, starting_nothing};
use remand_model::envelope::Command;
use remand_model::refusal::{Code, Move, Refusal};
use remand_tests::cases;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

pub const CASES: &[Case] = cases![
    no_name_leads_anywhere_in_any_place_that_takes_one,
    no_path_of_a_request_leads_anywhere,
    a_key_of_the_state_is_any_text_within_its_bounds_and_no_path,
];

/// Names that would leave their place, end a string, or be taken for another.
fn bad_names() -> Vec<String> {
    let long = "a".repeat(300);
    let fixed = [
        "",
        ".",
        "..",
        "../x",
        "../../etc/passwd",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "a\0",
        "a\0b",
        "\0",
        "a\n",
        "a b",
        " a",
        "-a",
        "A",
        "é",
        "ａ",
        "a\u{202e}b",
        "\u{200b}a",
        "a\u{301}",
        "𝒶",
        "%2e%2e%2f",
        "a'; DROP TABLE events; --",
        "$(id)",
        "a:b",
        "*",
        "\u{1b}[2J",
        "\u{feff}a",
    ];
    fixed.iter().map(|name| (*name).to_owned()).chain([long]).collect()
}

type Place = (&'static str, Command, fn(&str) -> Value);

fn plan(member: &str, name: &str) -> Value {
    let mut plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "local", "steps": [
        {"domain": "state", "method": "get", "resource": "k", "params": {"key": "k"}}]});
    match member {
        "plan_id" | "tenant_id" => plan[member] = json!(name),
        _ => plan["steps"][0][member] = json!(name),
    }
    json!({"what": "run", "plan": plan})
}

fn grant(member: &str, value: Value) -> Value {
    let mut grant = json!({"tenant_id": "local", "rights": ["exec.run=*"], "triggers": ["manual"],
        "expires_s": 4_000_000_000_u64, "calls_max": 1, "cpu_ms_max": 1});
    grant[member] = value;
    json!({"what": "issue", "grant": grant})
}

fn contract(change: impl FnOnce(&mut Value)) -> Value {
    let mut contract = json!({"contract_id": "c", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/bin/cat"], "profile": "batch"}, "input_schema": {}, "output_schema": {}});
    change(&mut contract);
    json!({"what": "register", "contract": contract})
}

fn run_with(member: &str, value: Value) -> Value {
    let mut request = run_request("named");
    request[member] = value;
    request
}

const PLACES: &[Place] = &[
    ("tenant create", Command::Tenant, |name| json!({"what": "create", "tenant_id": name})),
    ("tenant show", Command::Tenant, |name| json!({"what": "show", "tenant_id": name})),
    ("tenant delete", Command::Tenant, |name| json!({"what": "delete", "tenant_id": name})),
    ("quota get", Command::Quota, |name| json!({"what": "get", "tenant_id": name})),
    ("quota register", Command::Quota, |name| json!({"what": "register", "tenant_id": name, "quota": quota()})),
    ("audit tenant", Command::Audit, |name| json!({"what": "log", "tenant_id": name})),
    ("audit event type", Command::Audit, |name| json!({"what": "query", "event_type": format!("/{name}")})),
    ("run request id", Command::Run, |name| run_with("request_id", json!(name))),
    ("submit request id", Command::Submit, |name| run_with("request_id", json!(name))),
    ("run contract", Command::Run, |name| {
        run_with("contract", json!({"contract_id": name, "contract_hash": "0".repeat(64)}))
    }),
    ("run contract hash", Command::Run, |name| {
        run_with("contract", json!({"contract_id": "c", "contract_hash": name}))
    }),
    ("run image", Command::Run, |name| run_with("root", json!({"kind": "image", "sha256": name}))),
    ("status", Command::Status, |name| json!({"execution_id": name})),
    ("status, with its mark", Command::Status, |name| json!({"execution_id": format!("exec_{name}")})),
    ("wait", Command::Wait, |name| json!({"execution_id": name})),
    ("logs", Command::Logs, |name| json!({"execution_id": name})),
    ("kill", Command::Kill, |name| json!({"execution_id": name})),
    ("proof", Command::Proof, |name| json!({"execution_id": name})),
    ("replay", Command::Replay, |name| json!({"execution_id": name})),
    ("blob get", Command::Blob, |name| json!({"what": "get", "sha256": name})),
    ("token revoke", Command::Token, |name| json!({"what": "revoke", "token_id": name})),
    ("token tenant", Command::Token, |name| grant("tenant_id", json!(name))),
    ("token user", Command::Token, |name| grant("user_id", json!(name))),
    ("token id", Command::Token, |name| grant("token_id", json!(name))),
    ("token right", Command::Token, |name| grant("rights", json!([name]))),
    ("token domain", Command::Token, |name| grant("rights", json!([format!("{name}.run=*")]))),
    ("token trigger", Command::Token, |name| grant("triggers", json!([name]))),
    ("domain get", Command::Domain, |name| json!({"what": "get", "domain": name})),
    ("domain revoke", Command::Domain, |name| json!({"what": "revoke", "domain": name})),
    ("contract id", Command::Contract, |name| contract(|contract| contract["contract_id"] = json!(name))),
    ("contract root", Command::Contract, |name| contract(|contract| contract["program"]["root"] = json!(name))),
    ("contract profile", Command::Contract, |name| contract(|contract| contract["program"]["profile"] = json!(name))),
    ("contract scope", Command::Contract, |name| {
        contract(|contract| contract["capability_requirements"] = json!([name]))
    }),
    ("contract get", Command::Contract, |name| json!({"what": "get", "contract_id": name})),
    ("contract execute", Command::Contract, |name| json!({"what": "execute", "contract_id": name, "input": {}})),
    ("plan id", Command::Plan, |name| plan("plan_id", name)),
    ("plan tenant", Command::Plan, |name| plan("tenant_id", name)),
    ("plan domain", Command::Plan, |name| plan("domain", name)),
    ("plan method", Command::Plan, |name| plan("method", name)),
    ("plan show", Command::Plan, |name| json!({"what": "show", "plan_id": name})),
];

fn quota() -> Value {
    json!({"max_cpu_seconds": 1, "max_memory_mb": 1, "max_disk_mb": 1, "max_network_kb": 0, "max_concurrent_tasks": 1,
        "max_pids": 1, "max_output_bytes": 1, "window_seconds": 60, "weight": 1})
}

/// Every name below a folder, two levels deep: what an identifier of somebody's could have made there.
fn names(folder: &Path) -> BTreeSet<String> {
    let below = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let both = below(folder).flat_map(|path| below(&path).chain([path.clone()]).collect::<Vec<_>>());
    both.map(|path| path.display().to_string()).collect()
}

fn is_callers(refusal: &Refusal) -> bool {
    // A role, a token or a domain that is missing is an administrator's: nothing was done all the same.
    refusal.whose_move() == Move::Caller || refusal.code == Code::DomainUnknown
}

fn no_name_leads_anywhere_in_any_place_that_takes_one() -> Verdict {
    let place = stage().place.path().to_owned();
    let before = (names(&place), names(Path::new("/tmp")).len());
    starting_nothing(|| {
        let mut raw = local();
        for (what, command, payload) in PLACES {
            for name in bad_names() {
                let reply = raw.ask(*command, &payload(&name));
                assert!(reply.is_err(), "{what} {name:?}: {reply:?}");
                let refusal = refused_somehow(&raw, reply);
                assert!(is_callers(&refusal), "{what} {name:?}: {refusal}");
                let printable = !refusal.detail.chars().any(|c| c.is_control() || c == '\u{202e}');
                assert!(printable && refusal.detail.len() <= 400, "{what} {name:?}: {:?}", refusal.detail);
            }
        }
        goes_on(&mut raw);
    });
    let new: Vec<_> = names(&place).difference(&before.0).cloned().collect();
    assert!(new.iter().all(|path| path.contains("/state/ledger")), "a name made {new:?}");
    Verdict::Proved
}

fn no_path_of_a_request_leads_anywhere() -> Verdict {
    let volume = |source: &str, target: &str| json!([{"source": source, "target": target, "writable": false}]);
    let long = format!("/{}", "a".repeat(5000));
    let paths = ["", "x", "../etc", "/../etc", "/etc/../root", "/./etc", "//etc", "/etc/", "/a\0b", long.as_str()];
    starting_nothing(|| {
        let mut raw = local();
        for path in paths {
            let requests = [
                run_with("folder", json!(path)),
                run_with("volumes", volume(path, "/shown")),
                run_with("volumes", volume("/usr", path)),
                run_with("root", json!({"kind": "folder", "path": path})),
            ];
            for request in requests {
                let reply = raw.ask(Command::Run, &request);
                assert!(reply.is_err(), "taken: {request:.300}");
                refused_somehow(&raw, reply);
            }
        }
        for target in ["/", "/proc", "/proc/self", "/dev", "/dev/shm/x", "/out", "/sys", "/etc", "/tmp/x"] {
            let reply = raw.ask(Command::Run, &run_with("volumes", volume("/usr", target)));
            assert!(reply.is_err(), "{target}");
            refused_somehow(&raw, reply);
        }
        for (member, value) in [
            ("policy", json!("../../etc/passwd")),
            ("policy", json!("/etc/passwd")),
            ("policy_text", json!("extends = \"/etc/passwd\"")),
            ("settings", json!([["limits.memory", "../1"]])),
        ] {
            let reply = raw.ask(Command::Run, &run_with(member, value));
            refused_somehow(&raw, reply);
        }
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn a_key_of_the_state_is_any_text_within_its_bounds_and_no_path() -> Verdict {
    let before = names(stage().place.path());
    let mut raw = local();
    for key in bad_names() {
        let set = raw.ask(Command::State, &json!({"what": "set", "key": key, "value": "v"}));
        match set {
            // A key that is taken is a text of the store's, and comes back as it was.
            Ok(_) => {
                let read = raw.ask(Command::State, &json!({"what": "get", "key": key})).expect("it was taken");
                assert_eq!((&read["key"], &read["value"]), (&json!(key), &json!("v")));
            }
            Err(_) => drop(refused_somehow(&raw, set)),
        }
    }
    let new: Vec<_> = names(stage().place.path()).difference(&before).cloned().collect();
    assert!(new.iter().all(|path| path.contains("/state/ledger")), "a key made {new:?}");
    Verdict::Proved
}
