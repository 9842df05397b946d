//! `remandd`, the runtime daemon: see the library for the story.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser as _;
use remand_daemon::boot::boot;
use remand_daemon::config::{Arguments, Config};
use remand_daemon::inherited::{self, Bounded};
use remand_daemon::limits;
use remand_daemon::serve::serve;
use tracing_subscriber::EnvFilter;

/// `EX_CONFIG` of sysexits.h: whoever restarts a daemon that failed need not try this again.
const MISCONFIGURED: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("REMAND_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let bytes_max = if arguments.until_idle { limits::COMMANDS_LOG_BYTES_MAX } else { u64::MAX };
    let log = Mutex::new(Bounded::new(std::io::stderr(), bytes_max));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log).with_ansi(false).init();
    let config = match Config::new(arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("remandd: {error}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remandd: {error}");
            ExitCode::from(125)
        }
    }
}

fn start(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    inherited::close_rest()?;
    let booted = boot(config)?;
    // Not before: a second thread would keep the root that this one gave away.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(booted, || {
        if writeln!(std::io::stdout(), "ready").is_err() {
            tracing::debug!("nobody waits to hear that the daemon is ready");
        }
    }))?;
    Ok(())
}
