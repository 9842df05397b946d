//! The two halves of the power loss test: what appends until the power goes, and what looks at the disk afterwards.
//!
//! `power_loss write DIR [DEVICE OFFSET]` says each acknowledged event in a line `ack TENANT EVENT_ID LEAF`, after its sync. With
//! a device it also writes how many lines there were into that block, past all caches, so that a log of the disk's writes tells
//! which acknowledgements came before which of them. A DIR named `segments` is written by that backend. `power_loss check DIR ACKS [COUNT]` reopens the ledger, verifies every
//! chain and looks up what the lines of the file ACKS, or its first COUNT, tell.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use remand_ledger::merkle::leaf_hash;
use remand_ledger::store::segments::SegmentStore;
use remand_ledger::store::{Filter, OpenError, Options};
use remand_ledger::{Ack, Ledger, StateKey, StateOp, Transaction};
use remand_model::event::{EventType, NewEvent};
use remand_model::{Digest, TenantId};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const TENANTS: u32 = 4;
const APPENDERS: u32 = 8;
/// Events of one transaction: they and the count beside them are durable together or not at all.
const EVENTS_TOGETHER: u64 = 2;

fn main() -> Outcome<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", dir] => write(Path::new(dir), None),
        ["write", dir, device, offset] => write(Path::new(dir), Some(Block::open(device, offset.parse()?)?)),
        ["check", dir, acks] => check(Path::new(dir), &read_acks(acks, usize::MAX)?),
        ["check", dir, acks, count] => check(Path::new(dir), &read_acks(acks, count.parse()?)?),
        _ => Err("usage: power_loss write DIR [DEVICE OFFSET] | check DIR ACKS [COUNT]".into()),
    }
}

/// The block that tells how many acknowledgements went out.
struct Block {
    device: File,
    offset: u64,
}

/// A block in memory, aligned as open(2) wants it for `O_DIRECT`.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

impl Block {
    fn open(device: &str, offset: u64) -> Outcome<Self> {
        let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
        let device = OpenOptions::new().write(true).custom_flags(flags).open(device)?;
        Ok(Self { device, offset })
    }

    fn tell(&self, count: u64) -> Outcome {
        let mut block = Box::new(Aligned([0; 4096]));
        block.0[..10].copy_from_slice(format!("{count:010}").as_bytes());
        Ok(self.device.write_all_at(&block.0, self.offset)?)
    }
}

/// Where acknowledgements go, one transaction's after the other's.
struct Witness {
    lines: u64,
    block: Option<Block>,
}

impl Witness {
    fn tell(&mut self, ack: &Ack) -> Outcome {
        let line = |receipt: &remand_ledger::store::Receipt| {
            format!("ack {} {} {}\n", ack.tenant, receipt.event_id, receipt.leaf)
        };
        let text: String = ack.events.iter().map(line).collect();
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        self.lines += ack.events.len() as u64;
        self.block.as_ref().map_or(Ok(()), |block| block.tell(self.lines))
    }
}

/// The folder's name says which backend it is of.
fn open(dir: &Path) -> Result<Ledger, OpenError> {
    if dir.file_name().is_none_or(|name| name != "segments") {
        return Ledger::open(dir, Options::default());
    }
    let dir = dir.to_owned();
    Ledger::open_with(Box::new(move || Ok(Box::new(SegmentStore::open(&dir)?))), Options::default())
}

fn write(dir: &Path, block: Option<Block>) -> Outcome<ExitCode> {
    let ledger = open(dir)?;
    let witness = Mutex::new(Witness { lines: 0, block });
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let appender = |number| {
            let (ledger, witness) = (&ledger, &witness);
            scope.spawn(move || append(ledger, witness, number))
        };
        let threads: Vec<_> = (0..APPENDERS).map(appender).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err("an appender panicked".into()))).collect()
    });
    for refusal in outcomes.into_iter().filter_map(Result::err) {
        let cause = refusal.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        writeln!(stdout(), "refused {refusal}{cause}")?;
    }
    Ok(ExitCode::from(3))
}

/// Appends until it is refused.
fn append(ledger: &Ledger, witness: &Mutex<Witness>, number: u32) -> Outcome {
    let tenant = tenant(number % TENANTS)?;
    for round in 0_u32.. {
        let transaction = (0..EVENTS_TOGETHER).fold(Transaction::new(tenant.clone()), |transaction, place| {
            let subject = tenant.clone();
            let event = NewEvent::new(EventType::RESOURCE_LIMIT_CHECK, &subject)
                .claim("appender", number)
                .claim("round", round)
                .observe("place", place as u32);
            transaction.event(event)
        });
        let ack = ledger.append(transaction.op(StateOp::Count { key: counter()?, add: 1, max: u64::MAX }))?;
        witness.lock().map_err(|_| "an appender panicked")?.tell(&ack)?;
    }
    Ok(())
}

fn tenant(number: u32) -> Outcome<TenantId> {
    Ok(format!("tenant-{number}").parse()?)
}

fn counter() -> Outcome<StateKey> {
    Ok(StateKey::new("test", "transactions")?)
}

type Told = HashMap<TenantId, Vec<(u64, Digest)>>;

/// What whole lines tell; the last one may have been cut by the loss itself.
fn read_acks(path: &str, count: usize) -> Outcome<Told> {
    let mut told = Told::new();
    let mut lines = BufReader::new(File::open(path)?);
    let (mut line, mut seen) = (String::new(), 0);
    while seen < count && lines.read_line(&mut line)? > 0 {
        if let Some((tenant, event_id, leaf)) = parse(&line) {
            told.entry(tenant).or_default().push((event_id, leaf));
            seen += 1;
        }
        line.clear();
    }
    match count {
        usize::MAX => Ok(told),
        _ if seen == count => Ok(told),
        _ => Err(format!("{path} has {seen} acknowledgements, not {count}").into()),
    }
}

fn parse(line: &str) -> Option<(TenantId, u64, Digest)> {
    let mut words = line.strip_suffix('\n')?.trim_end().strip_prefix("ack ")?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn check(dir: &Path, told: &Told) -> Outcome<ExitCode> {
    let acknowledged: usize = told.values().map(Vec::len).sum();
    let ledger = match open(dir) {
        Ok(ledger) => ledger,
        Err(error) => {
            writeln!(stdout(), "checked {acknowledged} lost {acknowledged} found 0: it does not open: {error}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let (mut found, mut lost) = (0, 0);
    for head in ledger.heads() {
        found += verify(&ledger, &head.tenant)?;
    }
    for (tenant, events) in told {
        lost += missing(&ledger, tenant, events)?;
    }
    writeln!(stdout(), "checked {acknowledged} lost {lost} found {found}")?;
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Verifies one chain and that the state beside it counts the same transactions; how many events it has.
fn verify(ledger: &Ledger, tenant: &TenantId) -> Outcome<u64> {
    let size = ledger.verify_chain(tenant)?.size;
    let counted = ledger.counter(tenant, &counter()?)? * EVENTS_TOGETHER;
    let filter = Filter { from_id: size.saturating_sub(1), ..Filter::default() };
    let last = ledger.query(tenant, &filter)?.len() as u64;
    if counted != size || last != size.min(1) {
        return Err(format!("{tenant} has {size} events, its state counts {counted}, {last} is the last").into());
    }
    Ok(size)
}

/// How many of these events a log does not have, or has with another content.
fn missing(ledger: &Ledger, tenant: &TenantId, events: &[(u64, Digest)]) -> Outcome<usize> {
    let Some(tree) = ledger.tree(tenant) else { return Ok(events.len()) };
    let entries = tree.entries(0, tree.head().size)?;
    let leaves: Vec<Digest> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let is_there = |(id, leaf): &(u64, Digest)| usize::try_from(*id).is_ok_and(|id| leaves.get(id) == Some(leaf));
    Ok(events.iter().filter(|told| !is_there(told)).count())
}
