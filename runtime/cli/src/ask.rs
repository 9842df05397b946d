//! Commands that are one request and one answer.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use remand_authority::token::{self, TokenBytes};
use remand_client::Client;
use remand_model::TenantId;
use remand_model::envelope::Command;
use remand_model::grant::Narrowing;
use remand_model::quota::Quota;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::failure::{Failure, say_plain};
use crate::verbs::{
    BlobVerb, ContractVerb, DomainVerb, PlanVerb, QuotaArguments, QuotaVerb, StateVerb, TenantVerb, TokenVerb,
};
use crate::{connect, documents, output};

/// Asks and prints the answer.
pub(crate) fn ask(global: &Global, command: Command, payload: &Value) -> Result<u8, Failure> {
    let mut client = connect::attached(global)?;
    answer(&mut client, global, command, payload)
}

fn answer(client: &mut Client, global: &Global, command: Command, payload: &Value) -> Result<u8, Failure> {
    let answer = client.ask(command, payload)?;
    output::print(&answer, global.format).map(|()| 0)
}

pub(crate) fn tenant(global: &Global, verb: &TenantVerb) -> Result<u8, Failure> {
    let of = |what: &str, name: &TenantId| json!({"tenant_id": name, "what": what});
    let payload = match verb {
        TenantVerb::Create { name } => of("create", name),
        TenantVerb::List => json!({"what": "list"}),
        TenantVerb::Show { name } => of("show", name),
        TenantVerb::Suspend { name } => of("suspend", name),
        TenantVerb::Resume { name } => of("resume", name),
        TenantVerb::Delete { name } => of("delete", name),
    };
    ask(global, Command::Tenant, &payload)
}

pub(crate) fn quota(global: &Global, verb: &QuotaVerb) -> Result<u8, Failure> {
    let payload = match verb {
        QuotaVerb::Set(given) => json!({"quota": quota_of(given), "tenant_id": given.name, "what": "register"}),
        QuotaVerb::Get { name } => json!({"tenant_id": name, "what": "get"}),
    };
    ask(global, Command::Quota, &payload)
}

const fn quota_of(given: &QuotaArguments) -> Quota {
    Quota {
        max_cpu_seconds: given.max_cpu_seconds,
        max_memory_mb: given.max_memory_mb,
        max_disk_mb: given.max_disk_mb,
        max_network_kb: given.max_network_kb,
        max_concurrent_tasks: given.max_concurrent_tasks,
        max_pids: given.max_pids,
        max_output_bytes: given.max_output_bytes,
        window_seconds: given.window_seconds,
        weight: given.weight,
    }
}

pub(crate) fn tokens(global: &Global, verb: &TokenVerb) -> Result<u8, Failure> {
    match verb {
        TokenVerb::Issue { grant, out } => issue(global, grant, out),
        TokenVerb::Delegate { narrowing, out } => delegate(global, narrowing, out),
        TokenVerb::Revoke { token_id } => ask(global, Command::Token, &json!({"token_id": token_id, "what": "revoke"})),
        TokenVerb::List => ask(global, Command::Token, &json!({"what": "list"})),
    }
}

/// The token goes into a file of its owner's and is never printed.
fn issue(global: &Global, grant: &Path, out: &Path) -> Result<u8, Failure> {
    let grant = documents::read(grant)?;
    let mut file = new_file(out)?;
    let mut client = connect::attached(global)?;
    let mut issued = client.ask(Command::Token, &json!({"grant": grant, "what": "issue"}))?;
    let token = issued.as_object_mut().and_then(|members| members.remove("token"));
    let token = token.as_ref().and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(Failure::asked("the daemon issued no token; see its log"));
    }
    let written = writeln!(file, "{token}").and_then(|()| file.sync_all());
    written.map_err(Failure::file("write", out, "revoke the token and issue another one"))?;
    say_plain(&format!("token in {}", out.display()));
    output::print(&issued, global.format).map(|()| 0)
}

/// Offline, as whoever holds a token can always do. What would widen it is refused here, and by the daemon all the same.
fn delegate(global: &Global, narrowing: &Path, out: &Path) -> Result<u8, Failure> {
    const NEXT: &str = "correct the narrowing";
    let held = global.token_file.as_deref();
    let held = held.ok_or_else(|| Failure::asked("name the token that is narrowed with --token-file"))?;
    let wrong = |why: &dyn std::fmt::Display| Failure::asked(format!("{}: {why}; {NEXT}", narrowing.display()));
    let document = documents::read(narrowing)?;
    let narrowing: Narrowing = serde_json::from_value(document).map_err(|bad| wrong(&bad))?;
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|bad| Failure::system("ask for random bytes")(io::Error::other(bad)))?;
    let held = TokenBytes::from_text(&connect::token(held)?).map_err(|bad| Failure::asked(bad.to_string()))?;
    let narrower = token::delegate(&held, &narrowing, &entropy).map_err(|bad| wrong(&bad))?;
    let mut file = new_file(out)?;
    let written = writeln!(file, "{}", narrower.to_text()).and_then(|()| file.sync_all());
    written.map_err(Failure::file("write", out, "remove it and try again"))?;
    say_plain(&format!("token in {}", out.display()));
    Ok(0)
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(Failure::file("make", path, "name a file that does not exist yet with --out"))
}

pub(crate) fn domain(global: &Global, verb: &DomainVerb) -> Result<u8, Failure> {
    let payload = match verb {
        DomainVerb::Register { file } => json!({"descriptor": documents::read(file)?, "what": "register"}),
        DomainVerb::Revoke { name } => json!({"domain": name, "what": "revoke"}),
        DomainVerb::Get { name } => json!({"domain": name, "what": "get"}),
        DomainVerb::List => json!({"what": "list"}),
    };
    ask(global, Command::Domain, &payload)
}

pub(crate) fn contract(global: &Global, verb: &ContractVerb) -> Result<u8, Failure> {
    let payload = match verb {
        ContractVerb::Register { file } => return draft(global, file, "register"),
        ContractVerb::Validate { file } => return draft(global, file, "validate"),
        ContractVerb::Get { name } => json!({"contract_id": name, "what": "get"}),
        ContractVerb::Hash { name } => json!({"contract_id": name, "what": "hash"}),
        ContractVerb::List => json!({"what": "list"}),
        ContractVerb::Execute { name, input } => {
            json!({"contract_id": name, "input": documents::read(input)?, "what": "execute"})
        }
    };
    ask(global, Command::Contract, &payload)
}

fn draft(global: &Global, file: &Path, what: &str) -> Result<u8, Failure> {
    let mut contract = documents::read(file)?;
    let mut client = connect::attached(global)?;
    documents::send_sources(&mut client, &mut contract, file)?;
    answer(&mut client, global, Command::Contract, &json!({"contract": contract, "what": what}))
}

pub(crate) fn plan(global: &Global, verb: &PlanVerb) -> Result<u8, Failure> {
    let payload = match verb {
        PlanVerb::Check { file } => json!({"plan": documents::read(file)?, "what": "check"}),
        PlanVerb::Run { file } => json!({"plan": documents::read(file)?, "what": "run"}),
        PlanVerb::Show { name } => json!({"plan_id": name, "what": "show"}),
    };
    let answer = connect::attached(global)?.ask(Command::Plan, &payload)?;
    output::print(&answer, global.format)?;
    // A plan that was run and did not come to its end is a failure of the command.
    Ok(u8::from(matches!(verb, PlanVerb::Run { .. }) && answer["state"] != "completed"))
}

pub(crate) fn state(global: &Global, verb: &StateVerb) -> Result<u8, Failure> {
    let payload = match verb {
        StateVerb::Get { key } => json!({"key": key, "what": "get"}),
        StateVerb::Set { key, value } => json!({"key": key, "value": value, "what": "set"}),
        StateVerb::List { prefix } => json!({"prefix": prefix, "what": "list"}),
        StateVerb::Delete { key } => json!({"key": key, "what": "delete"}),
    };
    ask(global, Command::State, &payload)
}

pub(crate) fn blob(global: &Global, verb: &BlobVerb) -> Result<u8, Failure> {
    match verb {
        BlobVerb::List => return ask(global, Command::Blob, &json!({"what": "list"})),
        BlobVerb::Remove { sha256 } => {
            return ask(global, Command::Blob, &json!({"sha256": sha256, "what": "remove"}));
        }
        BlobVerb::Put { file } => {
            let mut client = connect::attached(global)?;
            let stored = documents::send_file(&mut client, file)?;
            output::print(&json!({"bytes": stored.bytes, "sha256": stored.sha256}), global.format)?;
        }
        BlobVerb::Get { sha256, out } => {
            let mut file: Box<dyn Write> = match out {
                Some(path) => Box::new(new_file(path)?),
                None => Box::new(io::stdout().lock()),
            };
            connect::attached(global)?.download(sha256, &mut file)?;
            file.flush().map_err(Failure::system("write the blob"))?;
        }
    }
    Ok(0)
}
