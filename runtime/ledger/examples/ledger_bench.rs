//! Measures the ledger beside the disk it runs on: `ledger_bench DIR [EVENTS] [APPENDERS] [TENANTS]`.
//!
//! Prints acknowledged durable events per second, events per sync, CPU per event, acknowledgement latency, the raw
//! fdatasync latency of the same run, and the time to reopen a log of a million events after the process vanished.

use std::error::Error;
use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use remand_ledger::keys::LogSigner;
use remand_ledger::merkle::prove_inclusion;
use remand_ledger::store::Options;
use remand_ledger::{Ledger, Transaction};
use remand_model::event::EventType;
use remand_model::{Digest, ExecutionId, NewEvent, TenantId};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const FILL_EVENTS: u64 = 1_000_000;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: u64| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let dir = PathBuf::from(arguments.first().ok_or("usage: ledger_bench DIR [EVENTS] [APPENDERS] [TENANTS]")?);
    if arguments.get(1).is_some_and(|word| word == "fill") {
        return fill(&dir, number(2, 10)?);
    }
    let (events, appenders, tenants) = (number(1, 200_000)?, number(2, 100)?, number(3, 10)?);
    let mut out = stdout();
    let before = sync_latency(&dir)?;
    append(&mut out, &dir.join("append"), events, appenders, tenants)?;
    let after = sync_latency(&dir)?;
    writeln!(out, "fdatasync of 16 KiB        p50 {before:?} before, {after:?} after")?;
    ack_to_proof(&mut out, &dir)?;
    for tenants in [1, 10, 1000] {
        reopen(&mut out, &dir.join(format!("reopen-{tenants}")), tenants)?;
    }
    Ok(())
}

/// The p50 of 200 appended and synced blocks.
fn sync_latency(dir: &Path) -> Outcome<Duration> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(200);
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[7; 16_384])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(percentile(&mut times, 50))
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

/// CPU time of this process, user and system, in microseconds (proc(5): `stat`, 100 ticks a second).
fn cpu_us() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).ok_or("no such field").map(|text| text.parse::<u64>());
    Ok((ticks(11)?? + ticks(12)??) * 10_000)
}

fn sample(n: u64) -> NewEvent {
    let execution = ExecutionId::from_claims(&Digest::of(&(n / 16).to_be_bytes()));
    NewEvent::new(EventType::RESOURCE_LIMIT_CHECK, &execution)
        .claim("limit", "memory_bytes_max")
        .claim("verdict", "allowed")
        .claim("step", (n % 16) as u32)
        .observe("elapsed_us", (n % 10_000) as u32)
}

fn tenant(n: u64) -> Outcome<TenantId> {
    Ok(format!("tenant-{n}").parse()?)
}

fn append(out: &mut impl Write, dir: &Path, events: u64, appenders: u64, tenants: u64) -> Outcome {
    let ledger = Ledger::open(dir, Options::default())?;
    let names = (0..tenants).map(tenant).collect::<Outcome<Vec<_>>>()?;
    let (cpu, start) = (cpu_us()?, Instant::now());
    let each = events / appenders;
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..appenders)
            .map(|appender| {
                let (ledger, tenant) = (&ledger, &names[(appender % tenants) as usize]);
                scope.spawn(move || run_appender(ledger, tenant, appender << 32, each))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>().concat()
    });
    let (wall, cpu) = (start.elapsed(), cpu_us()? - cpu);
    let stats = ledger.stats();
    if times.len() as u64 != each * appenders || stats.events != each * appenders {
        return Err("not every event was acknowledged".into());
    }
    writeln!(out, "{appenders} appenders, {tenants} tenants, {} events", stats.events)?;
    writeln!(out, "acknowledged events/s      {:.0}", stats.events as f64 / wall.as_secs_f64())?;
    writeln!(out, "events per sync            {:.1}", stats.events as f64 / stats.commits as f64)?;
    writeln!(out, "CPU per event              {:.1} us", cpu as f64 / stats.events as f64)?;
    let p50 = percentile(&mut times, 50);
    writeln!(out, "acknowledgement            p50 {p50:?}, p99 {:?}", percentile(&mut times, 99))?;
    ledger.close()?;
    let size = std::fs::metadata(remand_ledger::store::sqlite::database_path(dir))?.len();
    writeln!(out, "bytes per event on disk    {}", size / stats.events)?;
    Ok(())
}

fn run_appender(ledger: &Ledger, tenant: &TenantId, first: u64, count: u64) -> Vec<Duration> {
    let timed = |n| {
        let start = Instant::now();
        let ack = ledger.append(Transaction::new(tenant.clone()).event(sample(first + n)));
        ack.ok().map(|_| start.elapsed())
    };
    (0..count).filter_map(timed).collect()
}

/// Writes a million events and vanishes without closing anything.
fn fill(dir: &Path, tenants: u64) -> Outcome {
    let options = Options { batch_max: 16, ..Options::default() };
    let ledger = Ledger::open(dir, options)?;
    let (send, receive) = std::sync::mpsc::channel();
    let submit = |first: u64, count: u64, tenant: TenantId| {
        let (events, send) = ((0..count).map(|n| sample(first + n)).collect(), send.clone());
        let done = Box::new(move |outcome| drop(send.send(outcome)));
        ledger.submit(Transaction { tenant, events, ops: Vec::new() }, done);
    };
    // In bulk first, and the last tenth in small groups as they come in use: those fill the write-ahead log.
    let bulk = FILL_EVENTS / 10 * 9;
    for round in 0..bulk / 250 {
        submit(round * 250, 250, tenant(round % tenants)?);
    }
    for n in bulk..FILL_EVENTS {
        submit(n, 1, tenant(n % tenants)?);
    }
    drop(send);
    let waiting = bulk / 250 + FILL_EVENTS - bulk;
    if receive.iter().take(waiting as usize).filter(Result::is_ok).count() as u64 != waiting {
        return Err("not every event was acknowledged".into());
    }
    std::process::abort();
}

/// A lone appender that takes a signed proof with every acknowledgement, each beside a bare sync of as many bytes.
fn ack_to_proof(out: &mut impl Write, dir: &Path) -> Outcome {
    const ROUNDS: u64 = 500;
    let ledger = Ledger::open(&dir.join("append"), Options::default())?;
    let (name, signer) = (tenant(0)?, LogSigner::from_seed("node1.example/audit/tenant-0".parse()?, &[1; 32]));
    let mut probe = File::create(dir.join("sync-probe"))?;
    let (mut syncs, mut acks, mut proofs, mut wholes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let start = Instant::now();
        probe.write_all(&[7; 16_384])?;
        probe.sync_data()?;
        syncs.push(start.elapsed());
        let start = Instant::now();
        let ack = ledger.append(Transaction::new(name.clone()).event(sample(u64::MAX - n)))?;
        let acknowledged = start.elapsed();
        let checkpoint = ledger.sign_checkpoint(&name, &signer)?;
        let proof = ledger.inclusion_proof(&name, ack.events[0].event_id, &checkpoint)?.to_string();
        wholes.push(start.elapsed());
        acks.push(acknowledged);
        proofs.push(start.elapsed() - acknowledged);
        if !proof.contains("node1.example/audit/tenant-0") {
            return Err("a proof without its checkpoint".into());
        }
    }
    std::fs::remove_file(dir.join("sync-probe"))?;
    let [sync, ack, proof, whole] =
        [&mut syncs, &mut acks, &mut proofs, &mut wholes].map(|times| percentile(times, 50));
    writeln!(out, "append to signed proof     p50 {whole:?}: to the acknowledgement {ack:?}, from there {proof:?}")?;
    writeln!(out, "fdatasync beside it        p50 {sync:?}")?;
    Ok(())
}

/// Inclusion proofs over all of the first tenant's log: the first of a fresh process, then all again.
fn prove(out: &mut impl Write, ledger: &Ledger) -> Outcome {
    let mut tree = ledger.tree(&tenant(0)?).ok_or("no such log")?;
    let size = tree.head().size;
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut times = Vec::new();
        for n in 0..500 {
            let start = Instant::now();
            let proof = prove_inclusion(&mut tree, n * (size / 500), size)?;
            times.push(start.elapsed());
            if proof.is_empty() && size > 1 {
                return Err("an empty proof".into());
            }
        }
        rounds.push((percentile(&mut times, 50), percentile(&mut times, 99)));
    }
    writeln!(
        out,
        "inclusion proof of {size}: cold p50 {:?} p99 {:?}, hot p50 {:?} p99 {:?}",
        rounds[0].0, rounds[0].1, rounds[1].0, rounds[1].1
    )?;
    Ok(())
}

fn reopen(out: &mut impl Write, dir: &Path, tenants: u64) -> Outcome {
    if !dir.exists() {
        Command::new(std::env::current_exe()?).arg(dir).args(["fill", &tenants.to_string()]).status()?;
    }
    let start = Instant::now();
    let ledger = Ledger::open(dir, Options::default())?;
    let first = start.elapsed();
    let events: u64 = ledger.heads().iter().map(|head| head.size).sum();
    prove(out, &ledger)?;
    ledger.close()?;
    drop(ledger);
    let start = Instant::now();
    drop(Ledger::open(dir, Options::default())?);
    let again = start.elapsed();
    writeln!(out, "reopen {events} events of {tenants} tenants: {first:?} after a crash, {again:?} after a close")?;
    Ok(())
}
