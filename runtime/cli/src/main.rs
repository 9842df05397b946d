//! `remand`: the command for people and scripts; everything goes over the daemon's one socket.
#![forbid(unsafe_code)]

mod arguments;
mod ask;
mod audit;
mod canon;
mod connect;
mod doctor;
mod documents;
mod events;
mod executions;
mod export;
mod failure;
mod manual;
mod out;
mod output;
mod people;
mod policies;
mod run;
mod signals;
mod start;
mod terminal;
mod text;
mod verbs;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Global};
use failure::Failure;
use remand_model::envelope::Command;
use serde_json::json;
use verbs::{ProofVerb, Verb};

/// The exit code for everything that remand itself refused or failed at.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    // The doctor's probes are children of this same program.
    let given: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = remand_host::answer_probe(&given) {
        return ExitCode::from(code);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return unparsed(&error),
    };
    match act(&arguments.global, &arguments.verb) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn act(global: &Global, verb: &Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Run(run) => run::run(global, run),
        Verb::Submit(what) => executions::submit(global, what),
        Verb::Status { id } => executions::status(global, id),
        Verb::Wait { id } => executions::wait(global, id),
        Verb::Logs { id, follow } => executions::logs(global, id, *follow),
        Verb::Ps => ask::ask(global, Command::List, &json!({})),
        Verb::Kill { ids } => executions::kill(global, ids),
        Verb::Proof(proof) => match (&proof.verb, &proof.id) {
            (Some(ProofVerb::Verify { file, trust }), _) => verify::proof(global.format, file, trust),
            (None, Some(id)) => executions::proof(global, id, proof.format),
            (None, None) => Err(Failure::asked("name an execution, or: remand proof verify FILE --key K")),
        },
        Verb::Replay { id } => executions::replay(global, id),
        Verb::Audit(verb) => audit::audit(global, verb),
        Verb::Tenant(verb) => ask::tenant(global, verb),
        Verb::Quota(verb) => ask::quota(global, verb),
        Verb::Token(verb) => ask::tokens(global, verb),
        Verb::Domain(verb) => ask::domain(global, verb),
        Verb::Contract(verb) => ask::contract(global, verb),
        Verb::Plan(verb) => ask::plan(global, verb),
        Verb::State(verb) => ask::state(global, verb),
        Verb::Blob(verb) => ask::blob(global, verb),
        Verb::Nodes => ask::ask(global, Command::Nodes, &json!({})),
        Verb::ClusterRoot => ask::ask(global, Command::ClusterRoot, &json!({})),
        Verb::Gc { dry_run } => ask::ask(global, Command::Sweep, &json!({"dry_run": dry_run})),
        Verb::Policy(verb) => policies::policy(global.format, verb),
        Verb::Doctor { json } => doctor::doctor(global.format, *json),
        Verb::Canon { hash, lines } => canon::canon(*hash, *lines),
        Verb::Schema => manual::schema(),
        Verb::Completions { shell } => manual::completions(*shell),
        Verb::Man { dir } => manual::man(dir.as_deref()),
    }
}

/// Help and version are no failure; a command line that nobody understands is one of ours.
fn unparsed(error: &clap::Error) -> ExitCode {
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    match error.print() {
        Ok(()) if is_help => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}
