//! Replays: a recorded request runs again, on the same path as any other, and what comes out is compared.
//!
//! The repetition is an execution of its own, with a request id made from the original's, so that the chain shows both.

use std::collections::BTreeMap;

use remand_ledger::Transaction;
use remand_model::digest::hex;
use remand_model::event::NewEvent;
use remand_model::outcome::{Cause, ExecutionResult, OutputFile, Outputs, Stream};
use remand_model::refusal::{Code, Refusal};
use remand_model::run::RunRequest;
use remand_model::{Digest, EventType, ExecutionId, PROTOCOL_VERSION, TenantId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands;
use crate::conversation::{Call, Reply};
use crate::node::Node;
use crate::{journal, limits, run};

/// Bytes shown of each side where two outputs part.
const SHOWN_BYTES: usize = 16;
const NOTE: &str = "no deterministic mode was used: time, randomness and scheduling are the machine's, so that what the \
    program makes of them may legitimately differ";

/// Runs an execution's request again and says what differs.
///
/// # Errors
/// A refusal: it cannot be repeated, or the repetition could not be recorded.
pub async fn replay(node: &Node, call: &mut Call, reply: &Reply, id: &ExecutionId) -> Result<Value, Refusal> {
    let tenant = &commands::tenant(call)?;
    let (request, was) = original(node, tenant, id)?;
    let input = input(node, tenant, &was)?;
    let prepared = run::prepare(node, tenant, &again(node, tenant, id, request)?)?;
    let now = run::attended(node, call, reply, prepared, input).await?;
    let differences = crate::threads::blocking(|| differences(node, tenant, &was, &now))?;
    let event: EventType = "EXECUTION_REPLAYED".parse().map_err(internal)?;
    let event = NewEvent::new(event, id)
        .claim("replay_execution_id", now.execution_id.as_str())
        .claim("same", differences.is_empty());
    drop(node.append(Transaction::new(tenant.clone()).event(event)).await?);
    Ok(json!({
        "protocol_version": PROTOCOL_VERSION,
        "execution_id": id,
        "replay_execution_id": now.execution_id,
        "same": differences.is_empty(),
        "differences": differences,
        "note": NOTE,
    }))
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

fn original(node: &Node, tenant: &TenantId, id: &ExecutionId) -> Result<(RunRequest, ExecutionResult), Refusal> {
    if node.running(tenant, id).is_some() {
        return Err(Refusal::new(Code::Conflict, format!("{id} still runs: wait for its end")).retry_after(500));
    }
    let unknown = || Refusal::new(Code::NotFound, format!("{id}: no execution of this tenant has this id"));
    let request = journal::kept_request(node, tenant, id)?.ok_or_else(unknown)?;
    let was = journal::kept_result(node, tenant, id)?.ok_or_else(unknown)?;
    match was.cause {
        Cause::Lost { .. } => {
            Err(Refusal::new(Code::Conflict, format!("{id} is lost: there is nothing to compare with")))
        }
        _ => Ok((request, was)),
    }
}

/// What went in, from its blob.
fn input(node: &Node, tenant: &TenantId, was: &ExecutionResult) -> Result<Vec<u8>, Refusal> {
    match (was.input.bytes, was.input.kept) {
        (0, _) => Ok(Vec::new()),
        (_, true) => journal::blob(node, tenant, &was.input.sha256),
        (bytes, false) => {
            let detail = format!("the {bytes} bytes of its input were too long to be kept");
            Err(Refusal::new(Code::NotFound, detail))
        }
    }
}

/// The request under a new name, made from the original's id and the log's length, which every replay makes longer.
fn again(node: &Node, tenant: &TenantId, id: &ExecutionId, request: RunRequest) -> Result<RunRequest, Refusal> {
    let size = node.ledger.head(tenant).map_or(0, |head| head.size);
    let mark = &Digest::of(id.as_str().as_bytes()).to_hex()[..16];
    let request_id = format!("replay-{mark}-{size}").parse().map_err(internal)?;
    Ok(RunRequest { request_id, dry_run: false, want_files: false, ..request })
}

/// One thing that is not the same.
#[derive(Debug, Serialize)]
struct Difference {
    what: String,
    was: Value,
    is: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_difference: Option<Value>,
}

impl Difference {
    fn new(what: &str, was: impl Serialize, is: impl Serialize) -> Result<Self, Refusal> {
        let value = |value: Result<Value, serde_json::Error>| value.map_err(internal);
        let (was, is) = (value(serde_json::to_value(was))?, value(serde_json::to_value(is))?);
        Ok(Self { what: what.to_owned(), was, is, first_difference: None })
    }
}

/// Everything that a proof claims, compared: the walls, the input, the end, and what came out.
fn differences(
    node: &Node,
    tenant: &TenantId,
    was: &ExecutionResult,
    now: &ExecutionResult,
) -> Result<Vec<Difference>, Refusal> {
    let mut found = Vec::new();
    let walls = [
        ("policy_sha256", &was.enforced.policy_sha256, &now.enforced.policy_sha256),
        ("confinement_sha256", &was.enforced.confinement_sha256, &now.enforced.confinement_sha256),
    ];
    for (what, was, now) in walls.into_iter().filter(|(_, was, now)| was != now) {
        found.push(Difference::new(what, was, now)?);
    }
    if was.input.sha256 != now.input.sha256 {
        found.push(Difference::new("input", &was.input, &now.input)?);
    }
    if was.cause != now.cause {
        found.push(Difference::new("cause", &was.cause, &now.cause)?);
    }
    let streams =
        [("stdout", &was.outputs.stdout, &now.outputs.stdout), ("stderr", &was.outputs.stderr, &now.outputs.stderr)];
    for (what, was, now) in streams.into_iter().filter(|(_, was, now)| was != now) {
        found.push(stream(node, tenant, what, was, now)?);
    }
    files(node, tenant, &was.outputs, &now.outputs, &mut found)?;
    Ok(found)
}

fn stream(node: &Node, tenant: &TenantId, what: &str, was: &Stream, now: &Stream) -> Result<Difference, Refusal> {
    let mut difference = Difference::new(what, was, now)?;
    let is_short = was.bytes.max(now.bytes) <= limits::COMPARED_BYTES_MAX;
    if is_short && was.sha256 != now.sha256 {
        let (was, now) = (journal::blob(node, tenant, &was.sha256)?, journal::blob(node, tenant, &now.sha256)?);
        difference.first_difference = parting(&was, &now);
    }
    Ok(difference)
}

/// Where two outputs part, and what each has there.
fn parting(was: &[u8], now: &[u8]) -> Option<Value> {
    let offset = was.iter().zip(now).position(|(was, now)| was != now).unwrap_or_else(|| was.len().min(now.len()));
    let shown = |bytes: &[u8]| hex(&bytes[offset..bytes.len().min(offset + SHOWN_BYTES)]);
    (was != now).then(|| json!({"offset": offset, "was": shown(was), "is": shown(now)}))
}

/// The output files by path, each with its place in the pack.
fn packed(outputs: &Outputs) -> BTreeMap<&str, (&OutputFile, u64)> {
    let mut at = 0;
    let place = |file| {
        let file: &OutputFile = file;
        let start = at;
        at += file.bytes;
        (file.path.as_str(), (file, start))
    };
    outputs.files.iter().map(place).collect()
}

fn files(
    node: &Node,
    tenant: &TenantId,
    was: &Outputs,
    now: &Outputs,
    found: &mut Vec<Difference>,
) -> Result<(), Refusal> {
    let (old, new) = (packed(was), packed(now));
    let paths: std::collections::BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let changed: Vec<&str> =
        paths.into_iter().filter(|path| old.get(path).map(|o| o.0) != new.get(path).map(|n| n.0)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let (before, after) = (pack(node, tenant, was)?, pack(node, tenant, now)?);
    for path in changed {
        let (old, new) = (old.get(path), new.get(path));
        let mut difference =
            Difference::new(&format!("file {path}"), old.map(|(file, _)| file), new.map(|(file, _)| file))?;
        let sides = old.zip(before.as_deref()).zip(new.zip(after.as_deref()));
        difference.first_difference =
            sides.and_then(|((old, before), (new, after))| parting(slice(before, *old)?, slice(after, *new)?));
        found.push(difference);
    }
    Ok(())
}

fn slice<'a>(pack: &'a [u8], (file, start): (&OutputFile, u64)) -> Option<&'a [u8]> {
    let (start, length) = (usize::try_from(start).ok()?, usize::try_from(file.bytes).ok()?);
    pack.get(start..start.checked_add(length)?)
}

/// The bytes of all files, where they are few enough to be compared.
fn pack(node: &Node, tenant: &TenantId, outputs: &Outputs) -> Result<Option<Vec<u8>>, Refusal> {
    let bytes: u64 = outputs.files.iter().map(|file| file.bytes).sum();
    let Some(digest) = &outputs.pack_sha256 else { return Ok(Some(Vec::new())) };
    if bytes > limits::COMPARED_BYTES_MAX {
        return Ok(None);
    }
    journal::blob(node, tenant, &digest.parse().map_err(internal)?).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_part_at_their_first_other_byte_or_where_one_ends() {
        assert_eq!(parting(b"same", b"same"), None);
        let found = parting(b"one way", b"one day").expect("they differ");
        assert_eq!(
            (found["offset"].as_u64(), found["was"].as_str(), found["is"].as_str()),
            (Some(4), Some("776179"), Some("646179"))
        );
        let longer = parting(b"one", b"one more").expect("they differ");
        assert_eq!((longer["offset"].as_u64(), longer["was"].as_str()), (Some(3), Some("")));
    }
}
