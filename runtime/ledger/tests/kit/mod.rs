//! A small log with executions, its keys, and its export: what the suites around exports begin with.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use remand_ledger::bundle::Trust;
use remand_ledger::checkpoint::{AllegedCheckpoint, SignedCheckpoint};
use remand_ledger::export::{ExportPlan, Exported, ProofChoice, write_export};
use remand_ledger::folder::MemoryFolder;
use remand_ledger::keys::{AttestSigner, LogSigner, WitnessSigner};
use remand_ledger::memory::MemoryLog;
use remand_ledger::policy_file::Policy;
use remand_ledger::proof::ConsistencyProof;
use remand_ledger::provenance::{Claims, Seen};
use remand_ledger::verify::{Options, Report, verify_folder};
use remand_ledger::witness::{Reply, Witness, WitnessStore, WitnessedHead, read_answer};
use remand_model::event::{Cause, EventType, NewEvent, Subject};
use remand_model::{Digest, ExecutionId};

pub const NODE: &str = "node1.example";

pub fn log_signer(tenant: &str) -> LogSigner {
    LogSigner::from_seed(format!("{NODE}/audit/{tenant}").parse().unwrap(), &[1; 32])
}

pub fn attest_signer() -> AttestSigner {
    AttestSigner::from_seed(format!("{NODE}/attest").parse().unwrap(), &[2; 32])
}

pub fn witness(number: u8) -> Witness {
    let signer = WitnessSigner::from_seed(format!("w{number}.example/witness").parse().unwrap(), &[10 + number; 32]);
    Witness::new(signer, vec![log_signer("acme").key().clone()])
}

pub fn claims(tenant: &str, request: &str) -> Claims {
    Claims {
        execution_id: ExecutionId::from_claims(&Digest::of(request.as_bytes())),
        tenant_id: tenant.parse().unwrap(),
        contract_hash: Digest::of(b"contract"),
        input_hash: Digest::of(request.as_bytes()),
        output_hash: Digest::of(b"output"),
        execution_seed: 7,
        isolation_profile_hash: Digest::of(b"profile"),
        artifacts: Vec::new(),
    }
}

/// Appends the events of one execution: five, of which the last records its statement.
pub fn run(log: &mut MemoryLog, tenant: &str, request: &str) {
    let claims = claims(tenant, request);
    let subject = Subject::from(&claims.execution_id);
    let event = |kind, subject: &Subject| NewEvent::new(kind, subject.clone()).claim("request", request);
    let first = log.append(event(EventType::AUTHORIZATION_SCOPE_CHECK, &subject), 1).unwrap();
    for kind in [EventType::RESOURCE_LIMIT_CHECK, EventType::EXECUTION_STARTED, EventType::EXECUTION_COMPLETED] {
        let event = event(kind, &subject).because(Cause::Event(first)).observe("pid", 4711_u16);
        log.append(event, 1_767_225_600_000_000).unwrap();
    }
    let resource_usage = BTreeMap::from([("cpu_user_us".to_owned(), 1500), ("memory_peak_bytes".to_owned(), 1 << 20)]);
    let seen = Seen { node_id: NODE.to_owned(), resource_usage, ..Seen::default() };
    log.record(claims, seen, 1_767_225_600_000_001, &attest_signer()).unwrap();
}

/// A log of `executions` executions, five events each.
pub fn log(tenant: &str, executions: u64) -> MemoryLog {
    let mut log = MemoryLog::new(format!("{NODE}/audit/{tenant}").parse().unwrap());
    (0..executions).for_each(|number| run(&mut log, tenant, &format!("request-{number}")));
    log
}

pub fn policy(tenant: &str) -> Policy {
    Policy::of_log(log_signer(tenant).key().clone())
}

pub fn trust(tenant: &str) -> Trust {
    Trust::in_policy(policy(tenant)).with_attest(vec![attest_signer().key().clone()]).unwrap()
}

/// Trust that asks for a cosignature of each of these witnesses.
pub fn witnessed_policy(witnesses: &[Witness], threshold: usize) -> Policy {
    let keys: Vec<_> = witnesses.iter().map(|witness| witness.key().clone()).collect();
    Policy::of_log_and_witnesses(log_signer("acme").key(), &keys, threshold).unwrap()
}

#[derive(Default)]
pub struct Heads(pub BTreeMap<String, WitnessedHead>);

impl WitnessStore for Heads {
    type Error = std::convert::Infallible;

    fn latest(&mut self, origin: &str) -> Result<Option<WitnessedHead>, Self::Error> {
        Ok(self.0.get(origin).cloned())
    }

    fn advance(&mut self, origin: &str, old: Option<u64>, new: &WitnessedHead) -> Result<bool, Self::Error> {
        let same = self.0.get(origin).map(|head| head.size) == old;
        if same {
            self.0.insert(origin.to_owned(), new.clone());
        }
        Ok(same)
    }
}

/// Asks a witness for its cosignature; the refusal's status where it refuses.
pub fn cosign(
    checkpoint: &mut SignedCheckpoint,
    proof: &ConsistencyProof,
    witness: &Witness,
    heads: &mut Heads,
) -> Result<(), u16> {
    let answer = witness.handle_add_checkpoint(heads, proof.to_string().as_bytes(), 1042).unwrap();
    match read_answer(answer.status, &answer.body, checkpoint, witness.key()) {
        Ok(Reply::Cosigned { line, .. }) => {
            checkpoint.put_cosignature(line).unwrap();
            Ok(())
        }
        _ => Err(answer.status),
    }
}

pub fn export_to(log: &mut MemoryLog, checkpoint: &SignedCheckpoint, policy: &Policy, dir: &Path) -> Exported {
    let earlier: Vec<u64> = [0, 1, log.size() / 2].into_iter().filter(|size| *size <= log.size()).collect();
    let attest = [attest_signer().key().clone()];
    let plan = ExportPlan { checkpoint, policy, attest: &attest, earlier: &earlier, proofs: ProofChoice::All };
    write_export(log, &plan, dir, &mut |_, _| {}).unwrap()
}

pub fn export(log: &mut MemoryLog, checkpoint: &SignedCheckpoint, policy: &Policy) -> MemoryFolder {
    let dir = tempfile::tempdir().unwrap();
    export_to(log, checkpoint, policy, &dir.path().join("export"));
    load(&dir.path().join("export"))
}

/// An honest export of a log whose checkpoint its key alone signed.
pub fn plain_export(tenant: &str, executions: u64) -> MemoryFolder {
    let mut log = log(tenant, executions);
    let checkpoint = log_signer(tenant).sign(&log.head());
    export(&mut log, &checkpoint, &policy(tenant))
}

pub fn load(dir: &Path) -> MemoryFolder {
    let mut folder = MemoryFolder::default();
    load_below(dir, "", &mut folder);
    folder
}

fn load_below(dir: &Path, prefix: &str, folder: &mut MemoryFolder) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            load_below(&entry.path(), &format!("{path}/"), folder);
        } else {
            folder.files.insert(path, std::fs::read(entry.path()).unwrap());
        }
    }
}

pub fn verify(folder: &MemoryFolder, trust: &Trust) -> Report {
    verify_with(folder, trust, &[])
}

pub fn verify_with(folder: &MemoryFolder, trust: &Trust, earlier: &[Vec<u8>]) -> Report {
    verify_folder(folder, trust, earlier, Options { threads: 2 }, &|_| {})
}

/// The fault with its causes, as a person reads it.
pub fn told(report: &Report) -> String {
    let Some(fault) = &report.fault else { return "no fault".to_owned() };
    let mut told = fault.to_string();
    let mut cause = std::error::Error::source(fault);
    while let Some(why) = cause {
        told += &format!(": {why}");
        cause = why.source();
    }
    told
}

pub fn signed(bytes: &[u8]) -> AllegedCheckpoint {
    AllegedCheckpoint::parse(bytes).unwrap()
}
