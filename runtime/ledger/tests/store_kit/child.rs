//! A process that appends and says on its standard output what was acknowledged, and the check of what it left behind.
//!
//! It is this test program itself, started again for the one test named `the_child_appends`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use remand_ledger::store::{Condition, Filter};
use remand_ledger::{Ledger, StateOp, Transaction};
use remand_model::Digest;
use remand_model::event::{EventType, NewEvent};

use super::{event, execution, key, open, options, started, tenant};

const DIR: &str = "REMAND_TEST_CHILD_DIR";
const SEGMENTS: &str = "REMAND_TEST_CHILD_SEGMENTS";
const ROUNDS: &str = "REMAND_TEST_CHILD_ROUNDS";
const THREADS: &str = "REMAND_TEST_CHILD_THREADS";
const REOPENINGS: &str = "REMAND_TEST_CHILD_REOPENINGS";

/// One run of the child.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub dir: &'a Path,
    pub segments: bool,
    pub threads: u32,
    pub rounds: u32,
    /// How often at most the child has a store opened anew that was refused; 0: it gives up.
    pub reopenings: u32,
}

/// One acknowledged event as the child told it.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub tenant: String,
    pub event_id: u64,
    pub leaf: Digest,
}

impl Run<'_> {
    /// The command that runs the child, after the words of `prefix`.
    pub fn command(&self, prefix: &[String]) -> Command {
        let program = std::env::current_exe().unwrap();
        let mut words = prefix.iter().cloned().chain([program.to_str().unwrap().to_owned()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["--exact", "the_child_appends", "--nocapture", "--test-threads=1"]);
        command.env(DIR, self.dir).env(SEGMENTS, u8::from(self.segments).to_string());
        command.env(ROUNDS, self.rounds.to_string()).env(THREADS, self.threads.to_string());
        command.env(REOPENINGS, self.reopenings.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
        command
    }

    /// Opens what the child left, and checks that every told event is there and that nothing else is wrong.
    pub fn check(&self, told: &[Told]) -> Ledger {
        let ledger = open(self.dir, self.segments, options()).unwrap();
        for head in ledger.heads() {
            let mut leaves = Vec::new();
            let size = ledger.verify_chain(&head.tenant).unwrap().size;
            let entries = ledger.tree(&head.tenant).unwrap().entries(0, size).unwrap();
            leaves.extend(entries.iter().map(|entry| remand_ledger::merkle::leaf_hash(entry)));
            for told in told.iter().filter(|told| told.tenant == head.tenant.as_str()) {
                assert_eq!(leaves.get(told.event_id as usize), Some(&told.leaf), "{told:?}");
            }
            let rounds = ledger.counter(&head.tenant, &key("rounds")).unwrap();
            let filter = Filter { kind: Some("sample".parse().unwrap()), ..Filter::default() };
            assert_eq!(ledger.query(&head.tenant, &filter).unwrap().len() as u64, rounds, "state and events differ");
        }
        let names: Vec<_> = ledger.heads().iter().map(|head| head.tenant.to_string()).collect();
        assert!(told.iter().all(|told| names.contains(&told.tenant)), "a tenant is lost");
        for open in ledger.open_executions().unwrap() {
            let lost = NewEvent::new(EventType::EXECUTION_LOST, &open.execution);
            assert!(ledger.append(Transaction::new(open.tenant).event(lost)).is_ok());
        }
        ledger
    }
}

/// Reads acknowledgements until there are `enough`, or the child's end.
pub fn read_acks(lines: &mut impl BufRead, enough: usize) -> Vec<Told> {
    let mut told = Vec::new();
    let mut line = String::new();
    while told.len() < enough && lines.read_line(&mut line).unwrap() > 0 {
        // A line without its end was cut by the kill.
        if line.ends_with('\n') {
            told.extend(parse(&line));
        }
        line.clear();
    }
    told
}

fn parse(line: &str) -> Option<Told> {
    let mut words = line.trim_end().strip_prefix("ack ")?.split(' ');
    let tenant = words.next()?.to_owned();
    Some(Told { tenant, event_id: words.next()?.parse().ok()?, leaf: words.next()?.parse().ok()? })
}

/// The child's standard output, line by line.
pub fn lines(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    BufReader::new(child.stdout.take().unwrap())
}

/// What the child does; nothing where this process is not the child.
pub fn run_if_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u32>().unwrap();
    // The test harness has begun a line of its own.
    say("\n");
    let (rounds, threads, mut reopenings) = (number(ROUNDS), number(THREADS), number(REOPENINGS));
    let ledger = loop {
        match open(Path::new(&dir), number(SEGMENTS) == 1, options()) {
            Ok(ledger) => break ledger,
            Err(error) => say(&format!("refused {error}\n")),
        }
        if reopenings == 0 {
            return;
        }
        reopenings -= 1;
    };
    say("opened\n");
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let ledger = &ledger;
            scope.spawn(move || append_rounds(ledger, thread, rounds, reopenings));
        }
    });
    if let Err(error) = ledger.close() {
        say(&format!("refused {error}\n"));
    }
}

fn append_rounds(ledger: &Ledger, thread: u32, rounds: u32, mut reopenings: u32) {
    for round in 0..rounds {
        let unique = std::process::id().wrapping_mul(7919).wrapping_add(thread << 20).wrapping_add(round);
        if !append_round(ledger, &format!("t{}", thread % 3), unique) && !reopen(ledger, &mut reopenings) {
            return;
        }
    }
}

/// Whether the ledger was opened anew; tried at once and again, as the fault may last for some calls.
fn reopen(ledger: &Ledger, left: &mut u32) -> bool {
    while *left > 0 {
        *left -= 1;
        match ledger.reopen() {
            Ok(found) => {
                assert!(found.is_some(), "refused, and yet sound");
                say("opened\n");
                return true;
            }
            Err(error) => say(&format!("refused {error}\n")),
        }
    }
    false
}

/// A start with its state, then the end: the end is asked for only with the start's receipt in hand.
fn append_round(ledger: &Ledger, name: &str, unique: u32) -> bool {
    let start = Transaction::new(tenant(name)).event(event(unique)).event(started(unique)).op(StateOp::Count {
        key: key("rounds"),
        add: 1,
        max: u64::MAX,
    });
    let Some(mut ack) = told(ledger, start) else { return false };
    let receipt = ack.take_started(&execution(unique)).unwrap();
    let end = Transaction::new(tenant(name))
        .event(NewEvent::new(EventType::EXECUTION_COMPLETED, receipt.execution()))
        .op(StateOp::Require { key: key("rounds"), condition: Condition::Present });
    told(ledger, end).is_some()
}

fn told(ledger: &Ledger, transaction: Transaction) -> Option<remand_ledger::Ack> {
    match ledger.append(transaction) {
        Ok(ack) => {
            let line = |receipt: &remand_ledger::store::Receipt| {
                format!("ack {} {} {}\n", ack.tenant, receipt.event_id, receipt.leaf)
            };
            say(&ack.events.iter().map(line).collect::<String>());
            Some(ack)
        }
        Err(error) => {
            say(&format!("refused {error}\n"));
            None
        }
    }
}

fn say(text: &str) {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// How often each tenant's name was told, for a round's summary.
pub fn tally(told: &[Told]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    told.iter().for_each(|told| *tally.entry(told.tenant.as_str()).or_default() += 1);
    tally
}
