//! The command line, as clap reads it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};
use remand_model::{RequestId, TenantId};

use crate::verbs::{Format, Verb};

/// The largest seed that a canonical document can carry.
const SEED_MAX: u64 = (1 << 53) - 1;

/// Runs untrusted programs sealed off, and proves afterwards what ran.
#[derive(Debug, Parser)]
#[command(name = "remand", version, max_term_width = 100, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Global {
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH", env = "REMAND_SOCKET", hide_env_values = true, default_value = remand_client::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    /// The tenant to act for
    #[arg(
        long,
        global = true,
        value_name = "T",
        env = "REMAND_TENANT",
        hide_env_values = true,
        default_value = "local"
    )]
    pub(crate) tenant: TenantId,
    /// File that holds the token; refused where others can read it
    #[arg(long, global = true, value_name = "F", env = "REMAND_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// How answers are printed
    #[arg(short = 'o', long = "output", global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: the program's own 0-123; 124 time limit; 125 remand refused or failed; \
    126 not executable; 127 not found; 128+n signal n.")]
pub(crate) struct RunArguments {
    /// Give the program a terminal of its own
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Forward standard input even from a terminal
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Folder that takes the files which the program left in /out
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print only the result, as JSON, on stdout; all that the program prints goes to stderr
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the result, as JSON, into this file
    #[arg(long, value_name = "F")]
    pub(crate) result_file: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not print the execution's id
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) what: WhatArguments,
}

/// What to run, in which box, under which limits.
#[derive(Debug, Args)]
pub(crate) struct WhatArguments {
    /// Policy: a profile's name or a file
    #[arg(long, value_name = "P", default_value = "batch")]
    pub(crate) policy: String,
    /// Key of a policy file and its value; may be repeated
    #[arg(short = 'p', long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Folder of the host that becomes the root, read-only
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    pub(crate) rootfs: Option<PathBuf>,
    /// OCI image layout or root file system tarball that becomes the root
    #[arg(long, value_name = "DIR_OR_TAR")]
    pub(crate) image: Option<PathBuf>,
    /// Show a host path inside, read-only unless :rw; may be repeated
    #[arg(short = 'v', long = "volume", value_name = "SRC:DST[:ro|rw]")]
    pub(crate) volumes: Vec<String>,
    /// Working folder inside
    #[arg(short = 'w', long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Variable of the program's environment; K alone takes its value from here; may be repeated
    #[arg(short = 'e', long = "env", value_name = "K=V")]
    pub(crate) environment: Vec<String>,
    /// Seed of what is made deterministic
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=SEED_MAX))]
    pub(crate) seed: u64,
    /// How urgent it is, 0 to 255, beside the tenant's other requests
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) priority: u8,
    /// Name of this request: the same twice is the same execution [default: a random one]
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<RequestId>,
    /// Program and arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    /// Memory of all processes together, like 512M
    #[arg(short = 'm', long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Share of processor time, like 1.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Processes and threads alive at once
    #[arg(long, value_name = "N")]
    pub(crate) pids: Option<String>,
    /// Time from start to end, like 30s
    #[arg(long, value_name = "TIME")]
    pub(crate) wall: Option<String>,
    /// Processor time of all processes together, like 10s
    #[arg(long, value_name = "TIME")]
    pub(crate) cpu_time: Option<String>,
    /// Bytes of stdout and stderr together, like 1M
    #[arg(long, value_name = "SIZE")]
    pub(crate) output_max: Option<String>,
    /// Bytes in all writable places together, like 64M
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<String>,
    /// Files and folders in all writable places together
    #[arg(long, value_name = "N")]
    pub(crate) inodes: Option<String>,
    /// Open files of each process
    #[arg(long, value_name = "N")]
    pub(crate) nofile: Option<String>,
}

impl LimitArguments {
    /// The keys of a policy's limits with the values that were given.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("memory", &self.memory),
            ("cpus", &self.cpus),
            ("pids", &self.pids),
            ("wall", &self.wall),
            ("cpu_time", &self.cpu_time),
            ("output", &self.output_max),
            ("disk", &self.disk),
            ("inodes", &self.inodes),
            ("nofile", &self.nofile),
        ];
        all.into_iter().filter_map(|(key, value)| value.as_deref().map(|value| (key, value)))
    }
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
