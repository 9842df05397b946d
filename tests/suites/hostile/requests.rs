//! Requests that are well formed frames and nothing else: unknown words, payloads of every wrong shape, other tenants' things.

use crate::{goes_on, local, refused, refused_somehow, run_request, starting_nothing};
use remand_model::envelope::{Command, Header};
use remand_model::refusal::Code;
use remand_tests::cases;
use remand_tests::kit::Raw;
use remand_tests::load;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use serde_json::{Value, json};

pub const CASES: &[Case] = cases![
    every_command_answers_every_wrong_payload_and_goes_on,
    unknown_words_and_members_are_refused,
    what_is_no_canonical_json_is_refused_with_its_place,
    another_tenants_things_are_as_if_they_were_not_there,
    a_role_and_an_arming_that_were_not_given_do_nothing,
    the_same_bad_request_gets_the_same_refusal,
];

/// Commands that a client may ask for, but for those that change the conversation itself.
fn commands() -> impl Iterator<Item = Command> {
    let talk =
        |command: &Command| matches!(command, Command::Hello | Command::Attach | Command::Renew | Command::Detach);
    let requests = Command::ALL.iter().copied().filter(|command| (*command as u16) < 0x4000);
    requests.filter(move |command| !talk(command))
}

fn every_command_answers_every_wrong_payload_and_goes_on() -> Verdict {
    let words = ["create", "register", "issue", "run", "get", "set", "put", "execute", "query", "revoke", "\u{0}", ""];
    let mut payloads: Vec<Value> =
        vec![json!(null), json!([]), json!({}), json!("run"), json!(-1), json!({"": {"": []}})];
    payloads.extend(words.iter().map(|word| json!({"what": word})));
    payloads.extend(words.iter().map(|word| json!({"what": word, "tenant_id": [], "execution_id": 7, "plan": "x"})));
    payloads.extend([json!({"what": ["run"]}), json!({"what": {"what": "run"}}), json!({"what": null})]);
    starting_nothing(|| {
        let mut raw = local();
        for command in commands() {
            for payload in &payloads {
                // A blob's upload waits for its bytes: the end of them comes behind it.
                let header = raw.next(command);
                raw.frame(&header, payload.to_string().as_bytes());
                raw.frame(&Header { command: Command::Data, ..header }, b"");
                let (header, reply) = raw.reply().unwrap_or_else(|| panic!("{command:?} {payload}: hung up"));
                assert_eq!(header.sequence, raw.header.sequence, "{command:?} {payload}");
                if let Err(refusal) = reply {
                    assert_ne!(refusal.code, Code::Internal, "{command:?} {payload}: {refusal}");
                    assert_eq!((refusal.trace_id, &refusal.tenant_id), (raw.header.trace, &raw.header.tenant));
                }
            }
        }
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn unknown_words_and_members_are_refused() -> Verdict {
    starting_nothing(|| {
        let mut raw = local();
        let spoken = [
            Command::Audit,
            Command::Tenant,
            Command::Quota,
            Command::Token,
            Command::Domain,
            Command::Contract,
            Command::Plan,
            Command::State,
            Command::Blob,
        ];
        for command in spoken {
            let reply = raw.ask(command, &json!({"what": "overthrow"}));
            refused(&raw, reply, Code::CommandUnknown);
        }
        let mut request = run_request("surplus");
        request["as_root"] = json!(true);
        for command in [Command::Run, Command::Submit] {
            let reply = raw.ask(command, &request);
            assert!(refused(&raw, reply, Code::Malformed).detail.contains("as_root"));
        }
        let reply = raw.ask(Command::Tenant, &json!({"what": "show", "tenant_id": "local", "also": 1}));
        refused(&raw, reply, Code::Malformed);
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn what_is_no_canonical_json_is_refused_with_its_place() -> Verdict {
    let deep = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    let bad: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"{}{}".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{\"a\":1,\"a\":2}".to_vec(),
        b"{\"a\":1.5}".to_vec(),
        b"{\"a\":1e400}".to_vec(),
        b"{\"a\":9007199254740993}".to_vec(),
        b"{\"a\":-18446744073709551616}".to_vec(),
        b"{\"a\":\"\\ud800\"}".to_vec(),
        b"{\"a\":NaN}".to_vec(),
        deep("[", "]").into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        "[".repeat(1 << 20).into_bytes(),
        format!("[{}0]", "0,".repeat(400_000)).into_bytes(),
    ];
    starting_nothing(|| {
        let mut raw = local();
        for payload in &bad {
            let reply = raw.ask_bytes(Command::Run, payload);
            refused(&raw, reply, Code::Malformed);
        }
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn another_tenants_things_are_as_if_they_were_not_there() -> Verdict {
    let place = &stage().place;
    let tenants = load::tenants(place, 2);
    let (own, other) = (&tenants[0], &tenants[1]);
    let attach = |tenant: &load::Tenant| Raw::attached(place, tenant.name.as_str(), Some(&tenant.token));
    let mut theirs = attach(other);
    let mut secret = run_request("theirs");
    secret["argv"] = json!(["/bin/echo", "theirs alone"]);
    let ran = theirs.ask(Command::Run, &secret).expect("they may");
    theirs.ask(Command::State, &json!({"what": "set", "key": "secret", "value": "theirs"})).expect("they may");
    let mut raw = attach(own);
    // The header's tenant is the one attached to, or nothing is done.
    let header = Header { tenant: Some(other.name.clone()), ..raw.next(Command::State) };
    raw.frame(&header, json!({"what": "get", "key": "secret"}).to_string().as_bytes());
    let refusal = raw.reply().expect("it answers").1.expect_err("it is another's");
    assert_eq!((refusal.code, refusal.tenant_id), (Code::TenantMismatch, Some(other.name.clone())));
    let nobodys = json!({"execution_id": format!("exec_{}", "0".repeat(32))});
    let named = json!({"execution_id": ran["execution_id"]});
    for command in [Command::Status, Command::Wait, Command::Logs, Command::Kill, Command::Proof, Command::Replay] {
        let [there, nowhere] = [&named, &nobodys].map(|payload| {
            let reply = raw.ask(command, payload);
            refused_somehow(&raw, reply).code
        });
        assert_eq!((there, nowhere), (Code::NotFound, Code::NotFound), "{command:?} tells what is there");
    }
    let reply = raw.ask(Command::State, &json!({"what": "get", "key": "secret"}));
    refused(&raw, reply, Code::NotFound);
    let stdout = &ran["outputs"]["stdout"]["sha256"];
    let blob = raw.ask(Command::Blob, &json!({"what": "get", "sha256": stdout}));
    refused(&raw, blob, Code::NotFound);
    let audit = raw.ask(Command::Audit, &json!({"what": "log", "tenant_id": other.name}));
    refused(&raw, audit, Code::TenantMismatch);
    let plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": other.name, "steps": [
        {"domain": "state", "method": "get", "resource": "secret", "params": {"key": "secret"}}]});
    let reply = raw.ask(Command::Plan, &json!({"what": "run", "plan": plan}));
    refused(&raw, reply, Code::TenantMismatch);
    let mut stranger = Raw::greeted(place);
    let reply = stranger.attach(other.name.as_str(), Some(&own.token));
    refused(&stranger, reply, Code::TokenTenantMismatch);
    goes_on(&mut raw);
    Verdict::Proved
}

fn a_role_and_an_arming_that_were_not_given_do_nothing() -> Verdict {
    use remand_model::role::{Arming, Role};
    starting_nothing(|| {
        let mut raw = local();
        (raw.header.role, raw.header.arming) = (Role::Viewer, Arming::Armed);
        let reply = raw.ask(Command::Run, &run_request("viewer"));
        refused(&raw, reply, Code::RoleTooLow);
        (raw.header.role, raw.header.arming) = (Role::Admin, Arming::Safe);
        let reply = raw.ask(Command::Run, &run_request("safe"));
        refused(&raw, reply, Code::NotArmed);
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn the_same_bad_request_gets_the_same_refusal() -> Verdict {
    let requests = [
        (Command::Run, json!({"what": 1})),
        (Command::Contract, json!({"what": "register", "contract": {}})),
        (Command::Plan, json!({"what": "run", "plan": {"steps": []}})),
        (Command::Status, json!({"execution_id": "exec_"})),
        (Command::Token, json!({"what": "issue", "grant": {"rights": ["*=*"]}})),
    ];
    for (command, payload) in &requests {
        let told: Vec<_> = (0..3)
            .map(|_| {
                let mut raw = local();
                let reply = raw.ask(*command, payload);
                refused_somehow(&raw, reply)
            })
            .collect();
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    }
    Verdict::Proved
}
