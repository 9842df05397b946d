//! Executions that run without this command: submit, wait, logs, kill, proof, replay.

use std::fmt::Write as _;

use remand_client::ClientError;
use remand_model::ExecutionId;
use remand_model::canonical;
use remand_model::envelope::Command;
use serde_json::{Value, json};

use crate::arguments::{Global, WhatArguments};
use crate::failure::{Failure, say};
use crate::run::{self, Console, Streams};
use crate::signals::Signals;
use crate::verbs::{Format, ProofFormat};
use crate::{ask, connect, output};

pub(crate) fn submit(global: &Global, arguments: &WhatArguments) -> Result<u8, Failure> {
    let mut prepared = run::Prepared::of(arguments)?;
    let mut client = connect::attached(global)?;
    prepared.send_image(&mut client)?;
    let execution_id = client.submit_execution_request(&prepared.request)?;
    match global.format {
        Format::Table => output::put(&format!("{execution_id}\n"))?,
        Format::Json | Format::Jsonl => output::put_json(&json!({"execution_id": execution_id}))?,
    }
    Ok(0)
}

pub(crate) fn wait(global: &Global, id: &ExecutionId) -> Result<u8, Failure> {
    let result = connect::attached(global)?.wait_for_execution(id)?;
    match global.format {
        Format::Table => run::report(&result, None).iter().for_each(|line| say(line)),
        Format::Json | Format::Jsonl => output::put_json(&result)?,
    }
    Ok(result.exit_code)
}

/// Ctrl-C ends the listening; the execution goes on.
pub(crate) fn logs(global: &Global, id: &ExecutionId, follow: bool) -> Result<u8, Failure> {
    const INTERRUPTED: u8 = 128 + 2;
    let mut client = connect::attached(global)?;
    let signals = Signals::catch(true).map_err(Failure::system("catch signals"))?;
    let mut console = Console::new(signals, Streams::AsTheyAre, None, false, false);
    let read = client.read_logs(id, follow, &mut console);
    match read {
        Err(ClientError::Closed | ClientError::Local { .. }) if console.is_cancelled() => Ok(INTERRUPTED),
        read => Ok(read.map(|_| 0)?),
    }
}

pub(crate) fn kill(global: &Global, ids: &[ExecutionId]) -> Result<u8, Failure> {
    let mut client = connect::attached(global)?;
    for id in ids {
        let answer = client.kill_execution(id)?;
        match global.format {
            Format::Table => output::put(&format!("{id}\n"))?,
            format => output::print(&answer, format)?,
        }
    }
    Ok(0)
}

/// The proof's own bytes and nothing else, ready for a file.
pub(crate) fn proof(global: &Global, id: &ExecutionId, format: ProofFormat) -> Result<u8, Failure> {
    let mut client = connect::attached(global)?;
    let proof = match format {
        ProofFormat::Bundle => client.retrieve_execution_proof(id)?,
        ProofFormat::Slsa => client.ask(Command::Proof, &json!({"execution_id": id, "format": "slsa"}))?,
    };
    let value =
        canonical::from_serialize(&proof).map_err(|bad| Failure::asked(format!("the proof is broken: {bad}")))?;
    let mut bytes = canonical::to_bytes(&value);
    bytes.push(b'\n');
    output::put_bytes(&bytes).map(|()| 0)
}

/// 0 where the same came out, 1 where something differs.
pub(crate) fn replay(global: &Global, id: &ExecutionId) -> Result<u8, Failure> {
    let answer = connect::attached(global)?.replay_execution(id)?;
    let is_same = answer["same"].as_bool().unwrap_or(false);
    match global.format {
        Format::Table => output::put(&replayed(&answer))?,
        Format::Json | Format::Jsonl => output::put_json(&answer)?,
    }
    Ok(u8::from(!is_same))
}

fn replayed(answer: &Value) -> String {
    let mut text =
        if answer["same"] == true { String::from("the same came out\n") } else { String::from("it differs\n") };
    for difference in answer["differences"].as_array().into_iter().flatten() {
        let line = crate::text::printable(&difference.to_string());
        writeln!(text, "  {line}").unwrap_or(());
    }
    if let Some(note) = answer["note"].as_str() {
        writeln!(text, "{}", crate::text::printable(note)).unwrap_or(());
    }
    text
}

pub(crate) fn status(global: &Global, id: &ExecutionId) -> Result<u8, Failure> {
    ask::ask(global, Command::Status, &json!({"execution_id": id}))
}
