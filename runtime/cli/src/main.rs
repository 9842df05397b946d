//! `remand`: the command for people and scripts; everything goes over the daemon's one socket.
#![forbid(unsafe_code)]

mod arguments;
mod connect;
mod failure;
mod out;
mod run;
mod signals;
mod start;
mod terminal;
mod text;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Verb};
use failure::Failure;

/// The exit code for everything that remand itself refused or failed at.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return unparsed(&error),
    };
    match act(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn act(arguments: Arguments) -> Result<u8, Failure> {
    let global = arguments.global;
    match arguments.verb {
        Verb::Run(run) => run::run(&global, &run),
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
