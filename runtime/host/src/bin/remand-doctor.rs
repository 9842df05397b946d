//! `remand-doctor`: the probes alone, for a machine on which nothing else of remand is installed yet.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use remand_host::{Host, answer_probe, probe_all};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = answer_probe(&arguments) {
        return code.into();
    }
    let report = probe_all(&Host::default());
    let text = if arguments.iter().any(|argument| argument == "--json") { report.to_json() } else { report.to_table() };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => report.exit_code().into(),
        Err(_) => ExitCode::from(2),
    }
}
