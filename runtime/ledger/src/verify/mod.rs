//! Verifying an export offline: with a folder, a policy and earlier checkpoints, without database, daemon or root.
//!
//! Everything in the folder is hostile. Every byte of it is checked against the checkpoint that the policy accepts, every
//! entry against the rules of events, and no file may be there that the checkpoint's size and the log's own records do not
//! ask for. Cost is bounded by the size that the log's key signed; nothing here panics. What is found wrong first, in the
//! order of the log, is named.

mod events;
mod files;
mod parallel;
mod records;
mod tree;

use std::error::Error;
use std::fmt;
use std::path::Path;

use remand_model::Digest;

use crate::bundle::{SharedKey, Trust, check_purposes};
use crate::checkpoint::{AllegedCheckpoint, Checkpoint, CheckpointError, Origin};
use crate::dsse::parse_attest_keys;
use crate::export::{ATTEST_FILE, CHECKPOINT_FILE, POLICY_FILE};
use crate::folder::{DiskFolder, Folder};
use crate::keys::{AttestKey, KeyError};
use crate::merkle;
use crate::note::NOTE_BYTES_MAX;
use crate::policy_file::{POLICY_BYTES_MAX, Policy};

use tree::VerifiedTree;

/// How far verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being checked.
    pub what: &'static str,
    /// How many of them have been.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// How to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Threads to use; 0 means one for each processor.
    pub threads: usize,
}

/// What has been checked and held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// How many of them.
    pub count: u64,
}

/// The first thing that is wrong.
#[derive(Debug)]
pub struct Fault {
    /// The file, as a path inside the export, or the name of what was handed in beside it.
    pub path: String,
    /// The first bad event, where one can be named.
    pub event: Option<u64>,
    reason: Box<dyn Error + Send + Sync>,
}

impl Fault {
    fn new(path: impl Into<String>, event: Option<u64>, reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { path: path.into(), event, reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(event) => write!(f, "event {event} is bad: {} does not hold", self.path),
            None => write!(f, "{} does not hold", self.path),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.reason.as_ref())
    }
}

/// What is wrong, where no other module has a word for it.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// An entry does not hash to its leaf.
    #[error("the entry hashes to {found}, its leaf is {expected}")]
    Leaf {
        /// What it hashes to.
        found: Digest,
        /// What the tile says.
        expected: Digest,
    },
    /// A tile above the leaves is not what lies below it.
    #[error("its hash {place} is not the root of the tile below it")]
    Tile {
        /// The place in the tile, from 0.
        place: usize,
    },
    /// An event's id is not its place.
    #[error("the entry says that it is event {0}; entries were dropped, swapped or doubled")]
    EventId(u64),
    /// An event belongs to another tenant.
    #[error("the entry is of tenant {0}, not of this log's")]
    Tenant(String),
    /// The entry is an event that no log of ours writes.
    #[error("the entry is not in its canonical spelling")]
    Spelling,
    /// The same execution is recorded twice.
    #[error("{execution} is recorded by event {first} already")]
    RecordedTwice {
        /// The execution.
        execution: String,
        /// The event that recorded it first.
        first: u64,
    },
    /// A file, link or folder that does not belong there.
    #[error("it does not belong into an export of this size")]
    Foreign,
    /// The entries lead to another root.
    #[error("the entries lead to root {found}, the checkpoint says {expected}")]
    Root {
        /// The root that they lead to.
        found: Digest,
        /// The checkpoint's.
        expected: Digest,
    },
    /// A checkpoint of this log has more entries than there are.
    #[error("it was signed over {earlier} entries, here are {size}: the log was rolled back, or the export is older")]
    RolledBack {
        /// Entries in the earlier checkpoint.
        earlier: u64,
        /// Entries in the export.
        size: u64,
    },
    /// A checkpoint of this log has another root than its first entries lead to.
    #[error(
        "it was signed over {size} entries with root {signed}, the first {size} entries here lead to {found}: history was \
         rewritten, or two views were signed; keep both as evidence"
    )]
    Rewritten {
        /// Entries in that checkpoint.
        size: u64,
        /// Its root.
        signed: Digest,
        /// The root of as many entries here.
        found: Digest,
    },
    /// A file's name and its content disagree.
    #[error("it proves something else than its name says")]
    Name,
    /// A line of the attestation keys is none.
    #[error("line {line} is no attestation key")]
    Attest {
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The statement names another tree than the log had.
    #[error("the statement names another root for the first {0} entries than they lead to")]
    StatementRoot(u64),
    /// A tile changed while it was verified.
    #[error("the file changed while it was verified; verify a copy that nobody writes to")]
    Changed,
}

/// What a verification found.
#[derive(Debug, Default)]
#[must_use]
pub struct Report {
    /// What the accepted checkpoint says, where there is one.
    pub head: Option<Checkpoint>,
    /// The policy's names of the witnesses that cosigned it, with their POSIX times.
    pub cosigned: Vec<(String, u64)>,
    /// What was checked and held, in order.
    pub checks: Vec<Check>,
    /// What a reader should know though nothing is wrong.
    pub remarks: Vec<String>,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

impl Report {
    /// Whether everything held.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.fault.is_none()
    }

    /// How many of `what` were checked and held.
    #[must_use]
    pub fn count(&self, what: &str) -> Option<u64> {
        self.checks.iter().find(|check| check.what == what).map(|check| check.count)
    }

    fn held(&mut self, what: &'static str, count: u64) {
        self.checks.push(Check { what, count });
    }
}

/// Verifies the export in `dir`. `earlier` are checkpoints that the verifier remembers from before.
pub fn verify_export(
    dir: &Path,
    trust: &Trust,
    earlier: &[Vec<u8>],
    options: Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Report {
    match DiskFolder::open(dir) {
        Ok(folder) => verify_folder(&folder, trust, earlier, options, progress),
        Err(why) => Report { fault: Some(Fault::new(dir.display().to_string(), None, why)), ..Report::default() },
    }
}

/// Verifies an export, wherever its folder is.
pub fn verify_folder(
    folder: &dyn Folder,
    trust: &Trust,
    earlier: &[Vec<u8>],
    options: Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Report {
    let mut report = Report::default();
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let verified = verify_steps(folder, trust, earlier, &mut report, &Pace { threads, progress });
    report.fault = verified.err();
    report
}

/// How many work, and whom to tell.
struct Pace<'a> {
    threads: usize,
    progress: &'a (dyn Fn(Progress) + Sync),
}

/// What all steps know about the export.
struct Export<'a> {
    folder: &'a dyn Folder,
    trust: &'a Trust,
    origin: Origin,
    head: Checkpoint,
    checkpoint: Vec<u8>,
}

fn verify_steps(
    folder: &dyn Folder,
    trust: &Trust,
    earlier: &[Vec<u8>],
    report: &mut Report,
    pace: &Pace<'_>,
) -> Result<(), Fault> {
    let export = open(folder, trust, report)?;
    report.held("checkpoint", 1);
    let attest = check_key_files(&export, report)?;
    let names = files::list(folder, export.head.size)?;
    let entries = events::verify(&export, pace)?;
    report.held("events", export.head.size);
    let (tree, tiles) = VerifiedTree::build(&export, entries.bundles)?;
    report.held("tiles", tiles);
    let found = merkle::root(&mut tree.clone(), export.head.size)?;
    if found != export.head.root {
        return Err(Fault::new(CHECKPOINT_FILE, None, Reason::Root { found, expected: export.head.root }));
    }
    records::verify_executions(&export, &tree, &entries.recorded, &attest, pace)?;
    files::check_envelopes(&names, &entries.recorded)?;
    report.held("executions", entries.recorded.len() as u64);
    records::verify_proofs(&export, &tree, &names.proofs, pace)?;
    report.held("inclusion proofs", names.proofs.len() as u64);
    records::verify_consistency(&export, &tree, &names.consistency, pace)?;
    report.held("consistency proofs", names.consistency.len() as u64);
    for (number, bytes) in (1..).zip(earlier) {
        records::verify_earlier(&export, &mut tree.clone(), number, bytes)?;
    }
    report.held("earlier checkpoints", earlier.len() as u64);
    if earlier.is_empty() && report.cosigned.is_empty() {
        report.remarks.push(
            "no witness and no earlier checkpoint was asked for: whoever holds the log's key could have rewritten it"
                .into(),
        );
    }
    Ok(())
}

/// Reads the checkpoint and lets the policy decide on it.
fn open<'a>(folder: &'a dyn Folder, trust: &'a Trust, report: &mut Report) -> Result<Export<'a>, Fault> {
    let checkpoint = read(folder, CHECKPOINT_FILE, NOTE_BYTES_MAX as u64, None)?;
    let fault = |why: Box<dyn Error + Send + Sync>| Fault::new(CHECKPOINT_FILE, None, why);
    let alleged = AllegedCheckpoint::parse(&checkpoint).map_err(|why| fault(why.into()))?;
    let accepted = trust.policy.accept(alleged).map_err(|why| fault(why.into()))?;
    let head = accepted.signed().checkpoint().clone();
    let origin: Origin = head.origin.as_str().parse().map_err(|why: CheckpointError| fault(why.into()))?;
    trust.check_origin(&origin).map_err(|why| fault(why.into()))?;
    report.head = Some(head.clone());
    report.cosigned = accepted.cosigned().to_vec();
    Ok(Export { folder, trust, origin, head, checkpoint })
}

/// The two files of keys are a convenience and decide nothing, but they must be what they seem: a policy that accepts this
/// checkpoint, and keys of one purpose. Returns whose envelopes count: those whom the folder names and the verifier trusts.
fn check_key_files(export: &Export<'_>, report: &mut Report) -> Result<Vec<AttestKey>, Fault> {
    let bytes = read(export.folder, POLICY_FILE, POLICY_BYTES_MAX as u64, None)?;
    let policy = Policy::parse(&bytes).map_err(|why| Fault::new(POLICY_FILE, None, why))?;
    let alleged = AllegedCheckpoint::parse(&export.checkpoint);
    let alleged = alleged.map_err(|why| Fault::new(CHECKPOINT_FILE, None, why))?;
    policy.accept(alleged).map_err(|why| Fault::new(POLICY_FILE, None, why))?;
    if policy != export.trust.policy {
        report.remarks.push("the folder suggests another policy than the one that was used".into());
    }
    let bytes = read(export.folder, ATTEST_FILE, POLICY_BYTES_MAX as u64, None)?;
    let keys = parse_attest_keys(&bytes);
    let keys = keys.map_err(|(line, source)| Fault::new(ATTEST_FILE, None, Reason::Attest { line, source }))?;
    check_purposes(&policy, &keys).map_err(|why: SharedKey| Fault::new(ATTEST_FILE, None, why))?;
    let Some(trusted) = &export.trust.attest else {
        report.remarks.push("attestation keys were taken from the folder; the log alone vouches for statements".into());
        return Ok(keys);
    };
    Ok(keys.into_iter().filter(|key| trusted.contains(key)).collect())
}

fn read(folder: &dyn Folder, path: &str, bytes_max: u64, event: Option<u64>) -> Result<Vec<u8>, Fault> {
    folder.read(path, bytes_max).map_err(|why| Fault::new(path, event, why))
}

#[cfg(test)]
mod tests;
