//! Quotas and limits at the edge of their numbers.

use crate::{goes_on, local, refused_somehow, run_request, starting_nothing};
use remand_model::envelope::Command;
use remand_model::refusal::Code;
use remand_tests::cases;
use remand_tests::kit::Raw;
use remand_tests::load;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use serde_json::{Value, json};

pub const CASES: &[Case] = cases![
    quotas_that_overflow_are_refused_and_the_old_one_stands,
    limits_that_overflow_are_refused_and_nothing_is_started,
    a_quota_of_nothing_lets_nothing_run,
];

const FIELDS: [&str; 9] = [
    "max_cpu_seconds",
    "max_memory_mb",
    "max_disk_mb",
    "max_network_kb",
    "max_concurrent_tasks",
    "max_pids",
    "max_output_bytes",
    "window_seconds",
    "weight",
];

fn get(raw: &mut Raw, tenant: &str) -> Value {
    raw.ask(Command::Quota, &json!({"what": "get", "tenant_id": tenant})).expect("root looks")["quota"].clone()
}

fn quotas_that_overflow_are_refused_and_the_old_one_stands() -> Verdict {
    let mut raw = local();
    let before = get(&mut raw, "local");
    let numbers = [
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "9007199254740992",
        "-1",
        "1.0",
        "1e3",
        "\"1\"",
        "null",
        "99999999999999999999999999999999999999",
    ];
    for field in FIELDS {
        for number in numbers {
            let mut quota = before.clone();
            quota[field] = json!("HERE");
            let asked = json!({"what": "register", "tenant_id": "local", "quota": quota}).to_string();
            let reply = raw.ask_bytes(Command::Quota, asked.replace("\"HERE\"", number).as_bytes());
            let refusal = refused_somehow(&raw, reply);
            assert!(matches!(refusal.code, Code::Malformed | Code::QuotaInvalid), "{field} {number}: {refusal}");
        }
    }
    // The largest that JSON carries, where a megabyte makes it too large; and where nothing does, but a window's length.
    for field in ["max_cpu_seconds", "max_memory_mb", "max_disk_mb", "max_network_kb", "window_seconds", "weight"] {
        let mut quota = before.clone();
        quota[field] = json!((1_u64 << 53) - 1);
        let reply = raw.ask(Command::Quota, &json!({"what": "register", "tenant_id": "local", "quota": quota}));
        assert_eq!(refused_somehow(&raw, reply).code, Code::QuotaInvalid, "{field}");
    }
    assert_eq!(get(&mut raw, "local"), before);
    Verdict::Proved
}

fn limits_that_overflow_are_refused_and_nothing_is_started() -> Verdict {
    let tenants = load::tenants_named(&stage().place, "edge", 1);
    let mut raw = Raw::attached(&stage().place, tenants[0].name.as_str(), Some(&tenants[0].token));
    let values =
        ["18446744073709551615", "18446744073709551616", "16E", "9007199254740992", "-1", "0x10", "1e3", "", "∞"];
    let limits = ["memory", "disk", "output", "pids", "wall", "cpu", "files"];
    starting_nothing(|| {
        for limit in limits {
            for value in values {
                let mut request = run_request("edge");
                request["settings"] = json!([[format!("limits.{limit}"), value]]);
                let reply = raw.ask(Command::Run, &request);
                assert!(reply.is_err(), "{limit} = {value}: {reply:?}");
                refused_somehow(&raw, reply);
            }
        }
        goes_on(&mut raw);
    });
    let events =
        raw.ask(Command::Audit, &json!({"what": "query", "event_type": "EXECUTION_STARTED"})).expect("it looks");
    assert_eq!(events["events"], json!([]));
    Verdict::Proved
}

fn a_quota_of_nothing_lets_nothing_run() -> Verdict {
    let tenants = load::tenants_named(&stage().place, "nothing", 1);
    let name = tenants[0].name.as_str();
    let mut root = local();
    let mut quota = get(&mut root, name);
    for field in ["max_memory_mb", "max_concurrent_tasks", "max_cpu_seconds", "max_pids"] {
        let kept = quota[field].clone();
        quota[field] = json!(0);
        root.ask(Command::Quota, &json!({"what": "register", "tenant_id": name, "quota": quota}))
            .expect("root sets it");
        let mut raw = Raw::attached(&stage().place, name, Some(&tenants[0].token));
        let reply = raw.ask(Command::Run, &run_request("nothing"));
        let refusal = refused_somehow(&raw, reply);
        assert!(matches!(refusal.code, Code::QuotaTooSmall | Code::QuotaExceeded), "{field}: {refusal}");
        assert!(refusal.detail.contains(field), "{field}: {refusal}");
        quota[field] = kept;
    }
    Verdict::Proved
}
