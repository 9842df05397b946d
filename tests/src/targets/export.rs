//! An export in which one file is a stranger's, and a log whose one entry is.

use remand_ledger::bundle::Trust;
use remand_ledger::export::{ExportPlan, ProofChoice, write_export};
use remand_ledger::folder::MemoryFolder;
use remand_ledger::keys::{AttestSigner, LogSigner};
use remand_ledger::memory::MemoryLog;
use remand_ledger::policy_file::Policy;
use remand_ledger::provenance::{Claims, Seen};
use remand_ledger::tile::{encode_bundle, encode_tile};
use remand_ledger::verify::{Options, verify_folder};
use remand_model::event::{EventType, NewEvent, Subject};
use remand_model::{Digest, Event, ExecutionId};
use std::path::Path;
use std::sync::OnceLock;

pub const NODE: &str = "node1.example";
const TENANT: &str = "acme";

pub fn log_signer() -> LogSigner {
    LogSigner::from_seed(format!("{NODE}/audit/{TENANT}").parse().expect("a name"), &[1; 32])
}

pub fn attest_signer() -> AttestSigner {
    AttestSigner::from_seed(format!("{NODE}/attest").parse().expect("a name"), &[2; 32])
}

pub fn trust() -> Trust {
    let policy = Policy::of_log(log_signer().key().clone());
    Trust::in_policy(policy).with_attest(vec![attest_signer().key().clone()]).expect("keys of one purpose each")
}

pub fn claims(request: &str) -> Claims {
    Claims {
        execution_id: ExecutionId::from_claims(&Digest::of(request.as_bytes())),
        tenant_id: TENANT.parse().expect("a name"),
        contract_hash: Digest::of(b"contract"),
        input_hash: Digest::of(request.as_bytes()),
        output_hash: Digest::of(b"output"),
        execution_seed: 7,
        isolation_profile_hash: Digest::of(b"profile"),
        artifacts: Vec::new(),
    }
}

/// A log of executions, three events each, of which the last records its statement.
pub fn log(executions: u64) -> MemoryLog {
    let mut log = MemoryLog::new(format!("{NODE}/audit/{TENANT}").parse().expect("an origin"));
    for number in 0..executions {
        let claims = claims(&format!("request-{number}"));
        let subject = Subject::from(&claims.execution_id);
        for kind in [EventType::EXECUTION_STARTED, EventType::EXECUTION_COMPLETED] {
            let event = NewEvent::new(kind, subject.clone()).claim("n", number as u32).observe("pid", 4711_u16);
            log.append(event, 1_767_225_600_000_000).expect("small");
        }
        let seen = Seen { node_id: NODE.to_owned(), ..Seen::default() };
        log.record(claims, seen, 1_767_225_600_000_001, &attest_signer()).expect("small");
    }
    log
}

/// Entries as logs hold them.
pub fn entries() -> Vec<Vec<u8>> {
    log(2).entries().to_vec()
}

fn honest() -> &'static MemoryFolder {
    static HONEST: OnceLock<MemoryFolder> = OnceLock::new();
    HONEST.get_or_init(|| written(&mut log(2)))
}

fn written(log: &mut MemoryLog) -> MemoryFolder {
    let (checkpoint, dir) = (log_signer().sign(&log.head()), tempfile::tempdir().expect("a temporary folder"));
    let (attest, earlier) = ([attest_signer().key().clone()], [0, log.size() / 2]);
    let policy = trust().policy;
    let plan = ExportPlan {
        checkpoint: &checkpoint,
        policy: &policy,
        attest: &attest,
        earlier: &earlier,
        proofs: ProofChoice::All,
    };
    write_export(log, &plan, &dir.path().join("export"), &mut |_, _| {}).expect("a small export");
    let mut folder = MemoryFolder::default();
    load(&dir.path().join("export"), "", &mut folder);
    folder
}

fn load(dir: &Path, prefix: &str, folder: &mut MemoryFolder) {
    for entry in std::fs::read_dir(dir).expect("our own folder").map(|entry| entry.expect("our own folder")) {
        let path = format!("{prefix}{}", entry.file_name().to_str().expect("a plain name"));
        if entry.path().is_dir() {
            load(&entry.path(), &format!("{path}/"), folder);
        } else {
            folder.files.insert(path, std::fs::read(entry.path()).expect("our own file"));
        }
    }
}

fn holds(folder: &MemoryFolder) -> bool {
    verify_folder(folder, &trust(), &[], Options { threads: 1 }, &|_| {}).is_ok()
}

/// The first byte chooses a file, the rest is its content: the export holds only where nothing was changed, but for the
/// file of keys, which decides nothing.
pub fn export(input: &[u8]) {
    let Some((choice, content)) = input.split_first() else { return };
    let files = &honest().files;
    let (path, original) = files.iter().nth(usize::from(*choice) % files.len()).expect("within");
    let mut folder = MemoryFolder { files: files.clone() };
    folder.files.insert(path.clone(), content.to_vec());
    let decides = !["policy", "attest"].iter().any(|name| path.starts_with(name));
    assert!(!holds(&folder) || !decides || content == original, "a changed {path} holds");
}

pub fn export_seeds() -> Vec<Vec<u8>> {
    let with = |(number, content): (usize, &Vec<u8>)| [&[number as u8], content.as_slice()].concat();
    assert!(holds(honest()), "the export is honest");
    honest().files.values().enumerate().map(with).collect()
}

/// A log whose one entry is the input, signed and exported: it verifies exactly where the model reads the entry as this
/// log's first event.
pub fn entry(input: &[u8]) {
    let mut log = MemoryLog::new(format!("{NODE}/audit/{TENANT}").parse().expect("an origin"));
    log.append_entry(input.to_vec());
    let Ok(bundle) = encode_bundle(&[input]) else { return };
    let mut folder = MemoryFolder::default();
    for name in ["policy", "attest"] {
        folder.files.insert(name.to_owned(), honest().files[name].clone());
    }
    let leaf = remand_ledger::merkle::leaf_hash(input);
    folder.files.insert("checkpoint".into(), log_signer().sign(&log.head()).to_string().into_bytes());
    folder.files.insert("tile/entries/000.p/1".into(), bundle);
    folder.files.insert("tile/0/000.p/1".into(), encode_tile(&[leaf]));
    let read = Event::from_entry(input);
    let is_first = |event: &Event| event.event_id == 0 && event.tenant_id.as_str() == TENANT;
    let is_own = read.as_ref().is_ok_and(is_first);
    // A recorded statement needs its envelope beside the log.
    let records = read.as_ref().is_ok_and(|event| event.event_type == EventType::EXECUTION_PROVENANCE_RECORDED);
    if !records {
        assert_eq!(holds(&folder), is_own, "verifier and model differ: {read:?}");
    }
}

pub fn entry_seeds() -> Vec<Vec<u8>> {
    entries()
}
