//! Documents that cost much to read or to check, and inputs that are larger than anybody needs.

use crate::{goes_on, local, memory_kib, refused_somehow, run_request, starting_nothing};
use remand_model::envelope::{Command, Header, STREAM_BYTES_MAX};
use remand_model::refusal::{Code, Refusal};
use remand_tests::cases;
use remand_tests::kit::Raw;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = cases![
    schemas_that_do_not_end_are_refused_in_time,
    a_pattern_that_is_catastrophic_elsewhere_is_decided_in_time,
    an_input_that_its_schema_refuses_starts_nothing,
    a_huge_enum_is_refused_or_checked_in_time,
    a_hundred_megabytes_of_input_leave_the_memory_flat,
    a_hundred_megabytes_of_blob_leave_the_memory_flat,
    giant_arguments_and_environments_are_refused_at_their_bound,
    answers_that_nobody_reads_are_bounded,
];

/// What a document may cost before it is decided on, on a machine that is busy.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);
/// What the daemon may take beyond what it had, in KiB, for one client whose input is a hundred megabytes.
const MORE_KIB: u64 = 64 << 10;

fn contract(input: &Value) -> Value {
    json!({"contract_id": "costly", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/bin/cat"], "profile": "batch"}, "input_schema": input, "output_schema": {}})
}

/// Registers a contract with this input schema; the refusal where it is refused.
fn register(raw: &mut Raw, schema: &Value) -> Result<Value, Refusal> {
    let began = Instant::now();
    let reply = raw.ask(Command::Contract, &json!({"what": "register", "contract": contract(schema)}));
    assert!(began.elapsed() < DECIDED_WITHIN, "it took {:?}", began.elapsed());
    reply
}

fn schemas_that_do_not_end_are_refused_in_time() -> Verdict {
    let doubling = |n: u32| {
        (
            format!("a{n}"),
            json!({"allOf": [{"$ref": format!("#/$defs/a{}", n + 1)}, {"$ref": format!("#/$defs/a{}", n + 1)}]}),
        )
    };
    let chain = |n: u32| (format!("a{n}"), json!({"$ref": format!("#/$defs/a{}", n + 1)}));
    let defs = |made: &dyn Fn(u32) -> (String, Value), count: u32| {
        let mut all: serde_json::Map<String, Value> = (0..count).map(made).collect();
        all.insert(format!("a{count}"), json!(true));
        json!({"$ref": "#/$defs/a0", "$defs": all})
    };
    let nested = (0..60).fold(json!(true), |inner, _| json!({"not": inner}));
    let bad = [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$dynamicRef": "#x", "$dynamicAnchor": "x"}),
        json!({"$ref": "https://example.org/schema.json"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"$ref": "../../etc/passwd"}),
        json!({"$id": "https://example.org/", "$ref": "x"}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
        defs(&doubling, 30),
        defs(&chain, 2000),
        json!({"allOf": (0..60_000).map(|_| json!({})).collect::<Vec<_>>()}),
        json!({"pattern": "("}),
        json!({"pattern": "(a{1000}){1000}"}),
        json!({"type": "nonsense"}),
        json!({"enum": 5}),
        json!(7),
    ];
    starting_nothing(|| {
        let mut raw = local();
        for schema in &bad {
            let reply = register(&mut raw, schema);
            let text = schema.to_string();
            let refusal = reply.as_ref().err().unwrap_or_else(|| panic!("taken: {:.200}", text)).clone();
            refused_somehow(&raw, reply);
            let codes = [Code::SchemaInvalid, Code::SchemaTooCostly, Code::ContractInvalid];
            assert!(codes.contains(&refusal.code), "{text:.200}: {refusal}");
        }
        // Deep is not endless; either word is good, a stack that overflows is not.
        drop(register(&mut raw, &nested));
        goes_on(&mut raw);
    });
    Verdict::Proved
}

/// Executes the contract `costly` and says how it was refused, or how it ended.
fn execute(raw: &mut Raw, input: &Value) -> Result<Value, Refusal> {
    let began = Instant::now();
    let reply = raw.ask(Command::Contract, &json!({"what": "execute", "contract_id": "costly", "input": input}));
    assert!(began.elapsed() < DECIDED_WITHIN, "it took {:?}", began.elapsed());
    reply
}

fn a_pattern_that_is_catastrophic_elsewhere_is_decided_in_time() -> Verdict {
    let victim = "a".repeat(50_000) + "!";
    starting_nothing(|| {
        for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*a){20}$", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
            let mut raw = local();
            let schema = json!({"type": "object", "properties": {"t": {"type": "string", "pattern": pattern}}});
            match register(&mut raw, &schema) {
                Ok(_) => {
                    let reply = execute(&mut raw, &json!({"t": victim}));
                    assert_eq!(refused_somehow(&raw, reply).code, Code::InputInvalid, "{pattern}");
                }
                refused => drop(refused_somehow(&raw, refused)),
            }
        }
    });
    Verdict::Proved
}

fn an_input_that_its_schema_refuses_starts_nothing() -> Verdict {
    let mut raw = local();
    let schema = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 0}},
        "additionalProperties": false});
    register(&mut raw, &schema).expect("a good schema");
    starting_nothing(|| {
        let deep = (0..60).fold(json!([]), |inner, _| json!([inner]));
        for input in
            [json!({}), json!({"n": -1}), json!({"n": "1"}), json!([]), json!(null), json!({"n": 1, "m": 1}), deep]
        {
            let reply = execute(&mut raw, &input);
            assert_eq!(refused_somehow(&raw, reply).code, Code::InputInvalid, "{input}");
        }
        let reply = execute(&mut raw, &json!({"n": 1, "t": "x".repeat(900_000)}));
        refused_somehow(&raw, reply);
    });
    Verdict::Proved
}

fn a_huge_enum_is_refused_or_checked_in_time() -> Verdict {
    let before = memory_kib().1;
    let mut raw = local();
    for values in [1_000, 60_000] {
        let schema = json!({"enum": (0..values).collect::<Vec<u32>>()});
        if let Err(refusal) = register(&mut raw, &schema) {
            assert!(
                matches!(refusal.code, Code::SchemaTooCostly | Code::SchemaInvalid | Code::ContractInvalid),
                "{refusal}"
            );
            continue;
        }
        starting_nothing(|| {
            let reply = execute(&mut raw, &json!(values));
            assert_eq!(refused_somehow(&raw, reply).code, Code::InputInvalid);
        });
    }
    assert!(memory_kib().1 < before + MORE_KIB, "{} KiB before, {} KiB now", before, memory_kib().1);
    Verdict::Proved
}

/// Sends bytes under a request, in frames of the largest size, and their end.
fn pour(raw: &mut Raw, header: &Header, stream: Command, count: usize) {
    let piece = vec![b'x'; STREAM_BYTES_MAX];
    let header = Header { command: stream, ..header.clone() };
    for _ in 0..count / piece.len() {
        raw.frame(&header, &piece);
    }
    raw.frame(&header, b"");
}

fn a_hundred_megabytes_of_input_leave_the_memory_flat() -> Verdict {
    let before = memory_kib().1;
    let mut raw = local();
    let header = raw.next(Command::Run);
    let mut request = run_request("poured");
    (request["stdin"], request["argv"]) = (json!(true), json!(["/usr/bin/wc", "-c"]));
    raw.frame(&header, request.to_string().as_bytes());
    pour(&mut raw, &header, Command::Stdin, 100 << 20);
    let result = raw.reply().expect("it answers").1.expect("it runs");
    assert_eq!(result["exit_code"], json!(0));
    assert_eq!(result["input"]["bytes"], json!(100 << 20), "{}", result["input"]);
    assert!(memory_kib().1 < before + MORE_KIB, "{before} KiB before, {} KiB now", memory_kib().1);
    Verdict::Proved
}

fn a_hundred_megabytes_of_blob_leave_the_memory_flat() -> Verdict {
    let before = memory_kib().1;
    let mut raw = local();
    let header = raw.next(Command::Blob);
    raw.frame(&header, br#"{"what":"put"}"#);
    pour(&mut raw, &header, Command::Data, 100 << 20);
    let stored = raw.reply().expect("it answers").1.expect("it is taken");
    assert_eq!(stored["bytes"], json!(100 << 20));
    assert!(memory_kib().1 < before + MORE_KIB, "{before} KiB before, {} KiB now", memory_kib().1);
    // And down again, by a client that takes all of it.
    let header = raw.next(Command::Blob);
    raw.frame(&header, json!({"what": "get", "sha256": stored["sha256"]}).to_string().as_bytes());
    raw.reply().expect("it answers").1.expect("it is there");
    assert!(memory_kib().1 < before + MORE_KIB, "{before} KiB before, {} KiB now", memory_kib().1);
    Verdict::Proved
}

fn giant_arguments_and_environments_are_refused_at_their_bound() -> Verdict {
    starting_nothing(|| {
        let mut raw = local();
        let many: Vec<String> = (0..2049).map(|number| number.to_string()).collect();
        let environment: serde_json::Map<String, Value> = (0..3000).map(|n| (format!("V{n}"), json!("x"))).collect();
        let giants = [
            ("argv", json!(many)),
            ("argv", json!(["/bin/echo", "x".repeat(600_000)])),
            ("argv", json!([])),
            ("argv", json!([""])),
            ("argv", json!(["/bin/echo", "a\u{0}b"])),
            ("environment", json!(environment)),
            ("environment", json!({"A": "x".repeat(600_000)})),
            ("environment", json!({"A\u{0}": "x"})),
            ("settings", json!((0..10_000).map(|_| ["limits.memory", "64M"]).collect::<Vec<_>>())),
            ("policy_text", json!("x = ".repeat(200_000))),
        ];
        for (member, value) in giants {
            let mut request = run_request("giant");
            request[member] = value;
            if member == "policy_text" {
                request["policy"] = json!("own.toml");
            }
            if member == "settings" {
                request["dry_run"] = json!(true);
            }
            let reply = raw.ask(Command::Run, &request);
            if member != "settings" {
                refused_somehow(&raw, reply);
            }
        }
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn answers_that_nobody_reads_are_bounded() -> Verdict {
    let before = memory_kib().0;
    let mut deaf: Vec<Raw> = (0..20).map(|_| local()).collect();
    for raw in &mut deaf {
        for _ in 0..50 {
            let header = raw.next(Command::Audit);
            raw.frame(&header, br#"{"limit":1000,"what":"query"}"#);
        }
    }
    let began = Instant::now();
    let ran = stage().run(&["--", "echo", "served"]).expect(0);
    assert!(ran.text() == "served\n" && began.elapsed() < DECIDED_WITHIN, "held up for {:?}", began.elapsed());
    let now = memory_kib().0;
    assert!(now < before + 3 * MORE_KIB, "{before} KiB before, {now} KiB now");
    Verdict::Proved
}
