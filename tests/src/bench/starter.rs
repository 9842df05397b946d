//! Starts one run and waits for its end: as a process of its own, or over a connection that stays.

use super::peers::{Ground, Peer, Workload};
use remand_client::{Captured, Client};
use remand_model::run::RunRequest;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static RUNS: AtomicU64 = AtomicU64::new(0);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The program's exit code, or nothing where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// The last thing that was said about it, for a person.
    pub message: String,
}

/// What starts runs of one peer.
#[derive(Debug)]
pub enum Starter {
    /// A process for each.
    Process(Peer),
    /// One connection for all.
    Connection(Peer, Box<Client>),
}

impl Starter {
    /// A starter for a peer, or why there is none.
    pub fn of(ground: &Ground, peer: Peer) -> Result<Self, String> {
        let served = || ground.served.as_ref().ok_or("no daemon was started for this run");
        match peer {
            Peer::RemandConnected | Peer::RemandVolume => {
                connect(&served()?.socket).map(|client| Self::Connection(peer, Box::new(client)))
            }
            Peer::RemandServed => served().map(|_| Self::Process(peer)).map_err(str::to_owned),
            _ => Ok(Self::Process(peer)),
        }
    }

    /// Runs the workload and gives what came out.
    pub fn rehearse(&mut self, ground: &Ground, workload: Workload) -> Result<Ended, String> {
        match self {
            Self::Process(peer) => {
                let output =
                    command(ground, *peer, workload).output().map_err(|error| format!("cannot start: {error}"))?;
                let message = format!("{}: {}", output.status, last_line(&output.stderr));
                Ok(Ended { code: output.status.code(), stdout: output.stdout, message })
            }
            Self::Connection(peer, client) => ask(client, &ground.request(*peer, workload, &next_id())),
        }
    }

    /// Runs the workload and gives how long it took; nobody looks at its output.
    ///
    /// # Panics
    /// Where it fails: a failed run in the middle of a measurement makes the measurement worthless.
    pub fn timed(&mut self, ground: &Ground, workload: Workload) -> Duration {
        match self {
            Self::Process(peer) => {
                let mut command = command(ground, *peer, workload);
                command.stdout(Stdio::null()).stderr(Stdio::null()); // pipes to read would slow the plain spawn most
                let began = Instant::now();
                let status = command.status().expect("it started in the rehearsal");
                let latency = began.elapsed();
                assert!(status.success(), "{}: {status}", peer.name());
                latency
            }
            Self::Connection(peer, client) => {
                let request = ground.request(*peer, workload, &next_id());
                let began = Instant::now();
                let ended = ask(client, &request).expect("it ran in the rehearsal");
                let latency = began.elapsed();
                assert_eq!(ended.code, Some(0), "{}", ended.message);
                latency
            }
        }
    }
}

fn next_id() -> String {
    format!("remand-bench-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

fn command(ground: &Ground, peer: Peer, workload: Workload) -> Command {
    let mut command = ground.command(peer, workload, &next_id());
    command.stdin(Stdio::null());
    command
}

fn connect(socket: &std::path::Path) -> Result<Client, String> {
    let attached = Client::connect(socket).and_then(|mut client| {
        client.hello()?;
        client.attach(&"local".parse().expect("a plain name"), None)?;
        Ok(client)
    });
    attached.map_err(|error| error.to_string())
}

fn ask(client: &mut Client, request: &RunRequest) -> Result<Ended, String> {
    let mut captured = Captured::default();
    let end = client.run(request, None, &mut captured).map_err(|error| error.to_string())?;
    let message = format!("{:?}", end.result.cause);
    Ok(Ended { code: Some(i32::from(end.result.cause.exit_code())), stdout: captured.stdout, message })
}

/// The last line that says something, without bytes that could break a table.
fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    last.chars().filter(|c| !c.is_control() && *c != '|').take(160).collect()
}
