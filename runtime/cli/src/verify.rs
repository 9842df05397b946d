//! Verifies exports and proofs offline, with keys that the verifier brings and never with those beside the evidence.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use remand_ledger::bundle::{BUNDLE_BYTES_MAX, Trust, Verdict, verify_proof};
use remand_ledger::keys::{AttestKey, LogKey, WitnessKey};
use remand_ledger::policy_file::Policy;
use remand_ledger::provenance::Artifact;
use remand_ledger::verify::{Options, Progress, Report, verify_export};
use serde_json::json;

use crate::failure::{Failure, say};
use crate::output;
use crate::text::printable;
use crate::verbs::{Format, TrustArguments};

/// The longest key, checkpoint or policy file, in bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;
const NEXT: &str = "name a readable file";

/// Prints what was checked and the first thing that is wrong. 0 where everything held, 1 where not.
pub(crate) fn export(format: Format, dir: &Path, prev: &[PathBuf], trust: &TrustArguments) -> Result<u8, Failure> {
    let trust = trusted(trust)?;
    let earlier = prev.iter().map(|path| read(path, SMALL_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
    let bar = bar();
    let show = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_message(progress.what);
        bar.set_position(progress.done);
    };
    let report = verify_export(dir, &trust, &earlier, Options::default(), &show);
    bar.finish_and_clear();
    if format == Format::Table {
        print(&report)?;
    } else {
        output::put_json(&document(&report))?;
    }
    Ok(u8::from(!report.is_ok()))
}

/// Drawn only where standard error is a terminal.
fn bar() -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
    let bar = indicatif::ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut text = String::new();
    if let Some(head) = &report.head {
        text += &format!("log {} with {} events, root {}\n", printable(&head.origin.to_string()), head.size, head.root);
    }
    for (witness, time) in &report.cosigned {
        text += &format!("cosigned by {} at {time}\n", printable(witness));
    }
    for check in &report.checks {
        text += &format!("ok  {} {}\n", check.count, check.what);
    }
    output::put(&text)?;
    report.remarks.iter().for_each(|remark| say(remark));
    match &report.fault {
        Some(fault) => say(&chain(fault)),
        None => output::put("everything held\n")?,
    }
    Ok(())
}

fn document(report: &Report) -> serde_json::Value {
    let checks: Vec<_> = report.checks.iter().map(|check| json!({"count": check.count, "what": check.what})).collect();
    let fault =
        report.fault.as_ref().map(|fault| json!({"event_id": fault.event, "path": fault.path, "why": chain(fault)}));
    let head = report.head.as_ref();
    json!({
        "checks": checks,
        "cosigned": report.cosigned,
        "fault": fault,
        "ok": report.is_ok(),
        "origin": head.map(|head| head.origin.to_string()),
        "remarks": report.remarks,
        "root_hash": head.map(|head| head.root),
        "tree_size": head.map(|head| head.size),
    })
}

/// 0 where the proof holds, 1 where not.
pub(crate) fn proof(format: Format, file: &Path, trust: &TrustArguments) -> Result<u8, Failure> {
    let trust = trusted(trust)?;
    let bytes = read(file, BUNDLE_BYTES_MAX as u64)?;
    let verdict = match verify_proof(&bytes, &trust) {
        Ok(verdict) => verdict,
        Err(error) => {
            if format != Format::Table {
                output::put_json(&json!({"ok": false, "why": chain(&error)}))?;
            }
            say(&format!("the proof does not hold: {}", chain(&error)));
            return Ok(1);
        }
    };
    if !verdict.attested {
        say(
            "the log alone vouches for the statement; name the node's attestation key with --attest to check its signature",
        );
    }
    output::print(&verified(&verdict), format).map(|()| 0)
}

/// What holds, and what it says.
fn verified(verdict: &Verdict) -> serde_json::Value {
    let (claims, seen) = (&verdict.statement.claims, &verdict.statement.observations.seen);
    let cosigned: Vec<_> = verdict.checkpoint.cosigned().iter().map(|(witness, _)| witness).collect();
    let artifact = |found: &Artifact| json!({"name": found.name, "sha256": found.sha256});
    json!({
        "ok": true,
        "attested": verdict.attested,
        "cosigned": cosigned,
        "event_id": verdict.event_id,
        "origin": verdict.origin.to_string(),
        "proof_hash": verdict.proof_hash,
        "execution_id": claims.execution_id,
        "tenant_id": claims.tenant_id,
        "claims": {
            "contract_hash": claims.contract_hash,
            "input_hash": claims.input_hash,
            "output_hash": claims.output_hash,
            "execution_seed": claims.execution_seed,
            "isolation_profile_hash": claims.isolation_profile_hash,
            "artifacts": claims.artifacts.iter().map(artifact).collect::<Vec<_>>(),
        },
        "seen": {
            "node_id": seen.node_id,
            "token_id": seen.token_id,
            "cluster_schedule_hash": seen.cluster_schedule_hash,
            "resource_usage": seen.resource_usage,
        },
    })
}

fn trusted(arguments: &TrustArguments) -> Result<Trust, Failure> {
    let wrong = |what: &str, error: &dyn std::error::Error| Failure::asked(format!("{what}: {}", chain(error)));
    let policy = match (&arguments.policy_file, &arguments.key) {
        (Some(path), _) => {
            let bytes = read(path, SMALL_BYTES_MAX)?;
            Policy::parse(&bytes).map_err(|error| wrong("--policy-file", &error))?
        }
        (None, Some(key)) => {
            let key: LogKey = key_text(key)?.parse().map_err(|error| wrong("--key", &error))?;
            let keys = arguments
                .witness
                .iter()
                .map(|key| key_text(key)?.parse::<WitnessKey>().map_err(|error| wrong("--witness", &error)));
            let witnesses = keys.collect::<Result<Vec<_>, _>>()?;
            let policy = Policy::of_log_and_witnesses(&key, &witnesses, witnesses.len());
            policy.map_err(|error| wrong("--witness", &error))?
        }
        (None, None) => return Err(Failure::asked("nobody is trusted; name the log's key with --key")),
    };
    let mut trust = Trust::in_policy(policy);
    if let Some(origin) = &arguments.origin {
        trust = trust.for_origin(origin.parse().map_err(|error| wrong("--origin", &error))?);
    }
    if arguments.attest.is_empty() {
        return Ok(trust);
    }
    let keys = arguments
        .attest
        .iter()
        .map(|key| key_text(key)?.parse::<AttestKey>().map_err(|error| wrong("--attest", &error)));
    trust.with_attest(keys.collect::<Result<Vec<_>, _>>()?).map_err(|error| wrong("--attest", &error))
}

/// A verifier key holds a `+`; what is the name of a file instead is read.
fn key_text(given: &str) -> Result<String, Failure> {
    if given.contains('+') && fs::metadata(given).is_err() {
        return Ok(given.to_owned());
    }
    let bytes = read(Path::new(given), SMALL_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::asked(format!("{given} holds no verifier key")))?;
    Ok(text.trim().to_owned())
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Failure::file("open", path, NEXT))?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(Failure::file("read", path, NEXT))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::asked(format!("{} has more than {bytes_max} bytes; name another file", path.display())));
    }
    Ok(bytes)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    printable(&text)
}
