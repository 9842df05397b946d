//! The driver of `scripts/bench`: measures, prints the report, writes it to a file.
//!
//! `bench --ground DIR --binaries DIR [--socket PATH --daemon PID] [--rounds N] [--seconds S] [--launchers N] [--only NAME,…] [--out FILE]`
#![forbid(unsafe_code)]

use remand_tests::bench::measure::{self, Load, Samples};
use remand_tests::bench::peers::{Ground, Peer, Served, Workload};
use remand_tests::bench::report;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// How often a parallel block of each peer is repeated.
const BLOCKS: usize = 3;

fn main() -> ExitCode {
    match options().and_then(|options| bench(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::from(125)
        }
    }
}

fn options() -> Result<BTreeMap<String, String>, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut options = BTreeMap::new();
    for pair in words.chunks(2) {
        let name = pair[0].strip_prefix("--").ok_or_else(|| format!("`{}` is no option", pair[0]))?;
        let known = ["ground", "binaries", "socket", "daemon", "rounds", "seconds", "launchers", "only", "out"];
        let value =
            pair.get(1).filter(|_| known.contains(&name)).ok_or_else(|| format!("`{name}`: unknown or no value"))?;
        options.insert(name.to_owned(), value.clone());
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(options: &BTreeMap<String, String>, name: &str, otherwise: T) -> Result<T, String> {
    options.get(name).map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("--{name} {text} is no number")))
}

fn bench(options: &BTreeMap<String, String>) -> Result<(), String> {
    let path = |name: &str| options.get(name).map(Path::new).ok_or_else(|| format!("--{name} is needed"));
    let served = match options.get("socket") {
        Some(socket) => Some(Served { socket: socket.into(), pid: number(options, "daemon", 0)? }),
        None => None,
    };
    let ground =
        Ground::prepare(path("ground")?, path("binaries")?, served).map_err(|error| format!("--ground: {error}"))?;
    let rounds = number(options, "rounds", 200)?;
    let time = Duration::try_from_secs_f64(number(options, "seconds", 2.0)?).map_err(|error| error.to_string())?;
    let load = Load { launchers: number(options, "launchers", 8)?, time, blocks: BLOCKS };
    let only: Option<Vec<&str>> = options.get("only").map(|names| names.split(',').collect());
    let chosen = |peer: &Peer| only.as_ref().is_none_or(|names| names.contains(&peer.name()));
    let before = busy();
    measure::adopt_orphans();
    let sections: Vec<report::Section> =
        Workload::MEASURED.into_iter().map(|workload| section(&ground, workload, &chosen, rounds, &load)).collect();
    let text = report::render(&format!("{} {}", machine(rounds, &load), neighbours(&before)), &sections);
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))?;
    options.get("out").map_or(Ok(()), |file| std::fs::write(file, &text).map_err(|error| format!("{file}: {error}")))
}

fn section(
    ground: &Ground,
    workload: Workload,
    chosen: &dyn Fn(&Peer) -> bool,
    rounds: usize,
    load: &Load,
) -> report::Section {
    let (mut running, mut absent) = (Vec::new(), Vec::new());
    for peer in Peer::ALL.into_iter().filter(|peer| chosen(peer)) {
        match measure::rehearse(ground, peer, workload) {
            Ok(()) => running.push((peer, Samples::default())),
            Err(why) => absent.push((peer, Err(why))),
        }
    }
    let names: Vec<&str> = running.iter().map(|(peer, _)| peer.name()).collect();
    eprintln!("bench: {}: {rounds} rounds of {}", workload.title(), names.join(", "));
    measure::interleave(ground, workload, &mut running, rounds);
    eprintln!("bench: {}: {} launchers", workload.title(), load.launchers);
    measure::saturate(ground, workload, &mut running, load);
    let mut all: Vec<_> = running.into_iter().map(|(peer, samples)| (peer, Ok(samples))).chain(absent).collect();
    all.sort_by_key(|(peer, _)| Peer::ALL.iter().position(|other| other == peer));
    (workload, all)
}

fn machine(rounds: usize, load: &Load) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let versions: Vec<String> = Peer::ALL.into_iter().filter_map(|peer| version(peer.program()?)).collect();
    format!(
        "Kernel {}, {processors} processors; {rounds} rounds; throughput: {} launchers, {BLOCKS} blocks of {} s. {}.",
        kernel.trim(),
        load.launchers,
        load.time.as_secs_f64(),
        versions.join(", ")
    )
}

/// The load average over the last minute.
fn busy() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn neighbours(before: &str) -> String {
    format!("Load average {before} before the run and {} after it.", busy())
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}
