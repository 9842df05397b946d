//! What proofs cost: generation hot and cold, verification, and the offline verification of a whole export.
//!
//! `cargo run --release -p remand-ledger --example notary_bench -- [EVENTS [EXPORT_DIR]]`; the export stays where it is named.

use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remand_ledger::bundle::Trust;
use remand_ledger::export::{ExportPlan, ProofChoice, write_export};
use remand_ledger::folder::{DiskFolder, Folder as _};
use remand_ledger::keys::{AttestSigner, LogSigner};
use remand_ledger::memory::MemoryLog;
use remand_ledger::merkle::prove_inclusion;
use remand_ledger::policy_file::Policy;
use remand_ledger::proof::TlogProof;
use remand_ledger::provenance::{Claims, Seen};
use remand_ledger::tile::{TILE_BYTES_MAX, Tile, TileReader, TileTree};
use remand_ledger::verify::{Options, verify_export};
use remand_model::event::{Cause, EventType, NewEvent, Subject};
use remand_model::{Digest, ExecutionId};

type Outcome<T> = Result<T, Box<dyn Error>>;

const NODE: &str = "node1.example";
/// Events of one execution, as many as a plan of three steps leaves.
const EVENTS_PER_EXECUTION: u64 = 16;
const ROUNDS: u64 = 2000;

struct Tiles(DiskFolder);

impl TileReader for Tiles {
    type Error = std::io::Error;

    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, std::io::Error> {
        self.0.read(&tile.path(), TILE_BYTES_MAX)
    }
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let named = arguments.next().map(PathBuf::from);
    let scratch = tempfile::tempdir()?;
    let dir = named.unwrap_or_else(|| scratch.path().join("export"));
    let signer = LogSigner::from_seed(format!("{NODE}/audit/acme").parse()?, &[1; 32]);
    let attest = AttestSigner::from_seed(format!("{NODE}/attest").parse()?, &[2; 32]);
    let mut log = filled(events, &attest)?;
    let checkpoint = signer.sign(&log.head());
    let policy = Policy::of_log(signer.key().clone());
    let keys = [attest.key().clone()];
    let earlier = [1, events / 2];
    let plan = ExportPlan {
        checkpoint: &checkpoint,
        policy: &policy,
        attest: &keys,
        earlier: &earlier,
        proofs: ProofChoice::Recorded,
    };
    let begun = Instant::now();
    let written = write_export(&mut log, &plan, &dir, &mut |_, _| {})?;
    say(&format!(
        "export written       {:>10.0} events/s   {written:?}",
        per_second(written.entries, begun.elapsed())
    ))?;
    proofs(&dir, &log, &policy, &checkpoint)?;
    let trust = Trust::in_policy(policy.clone()).with_attest(keys.to_vec())?;
    for threads in [1, 2] {
        whole(&dir, &trust, events, threads)?;
    }
    let plan = ExportPlan { proofs: ProofChoice::None, ..plan };
    let mut bare = without_executions(events)?;
    let checkpoint = signer.sign(&bare.head());
    let dir = scratch.path().join("bare");
    write_export(&mut bare, &ExportPlan { checkpoint: &checkpoint, ..plan }, &dir, &mut |_, _| {})?;
    say("the same without envelopes and proof files:")?;
    whole(&dir, &trust, events, 1)?;
    whole(&dir, &trust, events, 2)
}

fn say(line: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn event(number: u64, execution: &ExecutionId, cause: u64) -> NewEvent {
    NewEvent::new(EventType::RESOURCE_LIMIT_CHECK, Subject::from(execution))
        .because(Cause::Event(cause))
        .claim("step", u32::try_from(number % 3).unwrap_or(0))
        .claim("contract_hash", Digest::of(b"contract"))
        .observe("pid", 4711_u16)
}

fn without_executions(events: u64) -> Outcome<MemoryLog> {
    let mut log = MemoryLog::new(format!("{NODE}/audit/acme").parse()?);
    let execution = ExecutionId::from_claims(&Digest::of(b""));
    log.append(NewEvent::new(EventType::EXECUTION_STARTED, Subject::from(&execution)), 1)?;
    for number in 1..events {
        log.append(event(number, &execution, number - 1), 1_767_225_600_000_000 + number)?;
    }
    Ok(log)
}

fn filled(events: u64, attest: &AttestSigner) -> Outcome<MemoryLog> {
    let mut log = MemoryLog::new(format!("{NODE}/audit/acme").parse()?);
    while log.size() < events {
        let request = Digest::of(&log.size().to_be_bytes());
        let execution_id = ExecutionId::from_claims(&request);
        let first = log.append(NewEvent::new(EventType::EXECUTION_STARTED, Subject::from(&execution_id)), 1)?;
        for number in 1..(EVENTS_PER_EXECUTION - 1).min(events - first) {
            log.append(event(number, &execution_id, first), 1_767_225_600_000_000 + number)?;
        }
        if log.size() < events {
            let seen = Seen { node_id: NODE.to_owned(), ..Seen::default() };
            log.record(claims(execution_id, request)?, seen, 2, attest)?;
        }
    }
    Ok(log)
}

fn claims(execution_id: ExecutionId, input_hash: Digest) -> Outcome<Claims> {
    Ok(Claims {
        execution_id,
        tenant_id: "acme".parse()?,
        contract_hash: Digest::of(b"contract"),
        input_hash,
        output_hash: Digest::of(b"output"),
        execution_seed: 7,
        isolation_profile_hash: Digest::of(b"profile"),
        artifacts: Vec::new(),
    })
}

/// A walk over the whole log that never comes near itself soon.
fn places(size: u64) -> impl Iterator<Item = u64> {
    (0..ROUNDS).map(move |round| (round * 0x9e37_79b9) % size)
}

fn proofs(
    dir: &Path,
    log: &MemoryLog,
    policy: &Policy,
    checkpoint: &remand_ledger::checkpoint::SignedCheckpoint,
) -> Outcome<()> {
    let size = log.size();
    let begun = Instant::now();
    for index in places(size) {
        let mut tree = TileTree::new(Tiles(DiskFolder::open(dir)?), size);
        black_box(prove_inclusion(&mut tree, index, size).map_err(|why| format!("{why:?}"))?);
    }
    say(&format!("proof, cold cache    {:>10.1} µs", micros(begun.elapsed())))?;
    let mut tree = TileTree::new(Tiles(DiskFolder::open(dir)?), size);
    let begun = Instant::now();
    for index in places(size) {
        black_box(prove_inclusion(&mut tree, index, size).map_err(|why| format!("{why:?}"))?);
    }
    say(&format!("proof, new leaf tile {:>10.1} µs", micros(begun.elapsed())))?;
    let begun = Instant::now();
    for index in 0..ROUNDS {
        let index = size - 1 - index % 256.min(size);
        black_box(prove_inclusion(&mut tree, index, size).map_err(|why| format!("{why:?}"))?);
    }
    say(&format!("proof, hot           {:>10.1} µs", micros(begun.elapsed())))?;
    let hashes = prove_inclusion(&mut tree, size / 3, size).map_err(|why| format!("{why:?}"))?;
    let text = TlogProof::new(size / 3, hashes, checkpoint).to_string();
    let entry = &log.entries()[usize::try_from(size / 3)?];
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        black_box(TlogProof::parse(text.as_bytes())?.verify(entry, policy)?);
    }
    say(&format!("verify, signature in {:>10.1} µs", micros(begun.elapsed())))
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6 / ROUNDS as f64
}

fn whole(dir: &Path, trust: &Trust, events: u64, threads: usize) -> Outcome<()> {
    let begun = Instant::now();
    let report = verify_export(dir, trust, &[], Options { threads }, &|_| {});
    if let Some(fault) = report.fault {
        return Err(fault.into());
    }
    let took = begun.elapsed();
    say(&format!("export verified      {:>10.0} events/s with {threads} threads, {took:.2?}", per_second(events, took)))
}
