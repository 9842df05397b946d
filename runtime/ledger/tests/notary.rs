//! The notary over the durable store: what is recorded can be proven, exported and witnessed, and only what was committed.

mod kit;

use kit::{attest_signer, claims, log_signer, policy, trust};
use remand_ledger::bundle::verify_proof;
use remand_ledger::export::{ExportPlan, ProofChoice, write_export};
use remand_ledger::keys::AttestSigner;
use remand_ledger::notary::{NotaryError, Recording};
use remand_ledger::provenance::Seen;
use remand_ledger::store::{Ledger, Options};
use remand_ledger::verify::verify_export;
use remand_ledger::witness::{Reply, read_answer};
use remand_model::event::{EventType, NewEvent, Subject};
use remand_model::{ExecutionId, TenantId};

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn open(dir: &std::path::Path) -> Ledger {
    Ledger::open(dir, Options::default()).unwrap()
}

/// Runs one execution on paper: started, completed, recorded.
fn run(ledger: &Ledger, request: &str, signer: &AttestSigner) -> Result<u64, NotaryError> {
    let claims = claims("acme", request);
    let mut cause = None;
    for kind in [EventType::EXECUTION_STARTED, EventType::EXECUTION_COMPLETED] {
        let event = NewEvent::new(kind, Subject::from(&claims.execution_id));
        let transaction = remand_ledger::Transaction::new(acme()).event(event);
        cause = Some(ledger.append(transaction).unwrap().events[0].event_id);
    }
    record(ledger, request, cause, signer)
}

fn record(ledger: &Ledger, request: &str, cause: Option<u64>, signer: &AttestSigner) -> Result<u64, NotaryError> {
    let origin = "node1.example/audit/acme".parse().unwrap();
    let seen = Seen { node_id: kit::NODE.to_owned(), ..Seen::default() };
    ledger.record_provenance(Recording { claims: claims("acme", request), seen, cause, origin: &origin, signer })
}

#[test]
fn a_recorded_execution_is_found_and_proven_offline() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for number in 0..100 {
        run(&ledger, &format!("request-{number}"), &attest_signer()).unwrap();
    }
    let execution = claims("acme", "request-42").execution_id;
    let found = ledger.get_provenance(&acme(), &execution).unwrap().unwrap();
    assert_eq!((found.statement.claims.clone(), found.event_id), (claims("acme", "request-42"), 128));
    let checkpoint = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
    let proof = ledger.execution_proof(&acme(), &execution, &checkpoint).unwrap().to_bytes();
    let verdict = verify_proof(&proof, &trust("acme")).unwrap();
    assert_eq!((verdict.statement, verdict.event_id), (found.statement, 128));
}

#[test]
fn an_unknown_execution_has_no_provenance_and_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    run(&ledger, "one", &attest_signer()).unwrap();
    let unknown: ExecutionId = claims("acme", "two").execution_id;
    assert_eq!(ledger.get_provenance(&acme(), &unknown).unwrap(), None);
    let checkpoint = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
    let refused = ledger.execution_proof(&acme(), &unknown, &checkpoint);
    assert!(matches!(refused, Err(NotaryError::NotRecorded(_))));
}

#[test]
fn an_execution_is_recorded_once_and_the_second_record_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    run(&ledger, "one", &attest_signer()).unwrap();
    let before = ledger.head(&acme()).unwrap();
    assert!(matches!(record(&ledger, "one", None, &attest_signer()), Err(NotaryError::Append(_))));
    assert_eq!(ledger.head(&acme()).unwrap(), before);
}

#[test]
fn the_provenance_chain_is_verified_with_the_keys_that_signed_it_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let stranger = AttestSigner::from_seed("other.example/attest".parse().unwrap(), &[77; 32]);
    run(&ledger, "one", &attest_signer()).unwrap();
    run(&ledger, "two", &attest_signer()).unwrap();
    let keys = [attest_signer().key().clone()];
    let found = ledger.verify_provenance_chain(&acme(), Some(&keys)).unwrap();
    assert_eq!((found.records, found.size, found.root), (2, 6, ledger.head(&acme()).unwrap().root));
    run(&ledger, "three", &stranger).unwrap();
    assert!(matches!(ledger.verify_provenance_chain(&acme(), Some(&keys)), Err(NotaryError::Envelope { .. })));
    assert_eq!(ledger.verify_provenance_chain(&acme(), None).unwrap().records, 3);
}

#[test]
fn an_export_of_the_store_is_verified_without_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("state"));
    for number in 0..100 {
        run(&ledger, &format!("request-{number}"), &attest_signer()).unwrap();
    }
    let earlier = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap().to_string().into_bytes();
    run(&ledger, "last", &attest_signer()).unwrap();
    let checkpoint = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
    // The log goes on while it is exported; the export stays at its checkpoint.
    run(&ledger, "later", &attest_signer()).unwrap();
    let attest = [attest_signer().key().clone()];
    let policy = policy("acme");
    let plan = ExportPlan {
        checkpoint: &checkpoint,
        policy: &policy,
        attest: &attest,
        earlier: &[300],
        proofs: ProofChoice::default(),
    };
    let place = dir.path().join("export");
    let mut source = ledger.export_source(&acme()).unwrap();
    write_export(&mut source, &plan, &place, &mut |_, _| {}).unwrap();
    ledger.close().unwrap();
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let report = verify_export(&place, &trust("acme"), &[earlier], remand_ledger::verify::Options::default(), &|_| {});
    assert!(report.is_ok(), "{}", kit::told(&report));
    assert_eq!((report.count("events"), report.count("executions")), (Some(303), Some(101)));
    assert_eq!(report.count("inclusion proofs"), Some(101));
}

#[test]
fn an_export_is_replaced_whole_and_a_foreign_folder_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("state"));
    let place = dir.path().join("export");
    let attest = [attest_signer().key().clone()];
    let policy = policy("acme");
    for number in 0..3 {
        run(&ledger, &format!("request-{number}"), &attest_signer()).unwrap();
        let checkpoint = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
        let plan = ExportPlan {
            checkpoint: &checkpoint,
            policy: &policy,
            attest: &attest,
            earlier: &[],
            proofs: ProofChoice::All,
        };
        write_export(&mut ledger.export_source(&acme()).unwrap(), &plan, &place, &mut |_, _| {}).unwrap();
        let report = verify_export(&place, &trust("acme"), &[], remand_ledger::verify::Options::default(), &|_| {});
        assert!(report.is_ok(), "{}", kit::told(&report));
        let home = dir.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("thesis.tex"), "years of work").unwrap();
        assert!(write_export(&mut ledger.export_source(&acme()).unwrap(), &plan, &home, &mut |_, _| {}).is_err());
        assert_eq!(std::fs::read(home.join("thesis.tex")).unwrap(), b"years of work");
    }
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing partial stays behind: {names:?}");
}

#[test]
fn a_link_or_a_fifo_in_an_export_is_refused_without_being_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = kit::log("acme", 3);
    let place = dir.path().join("export");
    let checkpoint = log_signer("acme").sign(&log.head());
    kit::export_to(&mut log, &checkpoint, &policy("acme"), &place);
    let check = || verify_export(&place, &trust("acme"), &[], remand_ledger::verify::Options::default(), &|_| {});
    assert!(check().is_ok());
    let bundle = place.join("tile/0/000.p/15");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&bundle, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &bundle).unwrap();
    assert!(!check().is_ok());
    std::fs::remove_file(&bundle).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &bundle, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(!check().is_ok());
    std::fs::remove_file(&bundle).unwrap();
    std::fs::rename(&elsewhere, &bundle).unwrap();
    assert!(check().is_ok());
}

#[test]
fn a_log_that_does_not_extend_what_was_signed_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ledger, restored) = (open(dir.path()), open(other.path()));
    run(&ledger, "one", &attest_signer()).unwrap();
    run(&ledger, "two", &attest_signer()).unwrap();
    let signed = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
    assert!(ledger.check_extends(&acme(), &signed).is_ok());
    run(&ledger, "three", &attest_signer()).unwrap();
    assert!(ledger.check_extends(&acme(), &signed).is_ok());
    run(&restored, "one", &attest_signer()).unwrap();
    assert!(matches!(restored.check_extends(&acme(), &signed), Err(NotaryError::NotExtended { signed: 6, size: 3 })));
    run(&restored, "other", &attest_signer()).unwrap();
    assert!(matches!(restored.check_extends(&acme(), &signed), Err(NotaryError::NotExtended { signed: 6, size: 6 })));
}

#[test]
fn a_kept_checkpoint_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    run(&ledger, "one", &attest_signer()).unwrap();
    let signed = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
    ledger.keep_checkpoint(&acme(), &signed).unwrap();
    ledger.close().unwrap();
    drop(ledger);
    let ledger = open(dir.path());
    assert_eq!(ledger.kept_checkpoint(&acme(), log_signer("acme").key()).unwrap(), Some(signed));
}

#[test]
fn another_tenants_key_signs_nothing_here() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    run(&ledger, "one", &attest_signer()).unwrap();
    assert!(matches!(ledger.sign_checkpoint(&acme(), &log_signer("other")), Err(NotaryError::OtherLog { .. })));
    let nobody: TenantId = "nobody".parse().unwrap();
    assert!(matches!(ledger.sign_checkpoint(&nobody, &log_signer("nobody")), Err(NotaryError::NoLog(_))));
}

#[test]
fn one_ledger_witnesses_anothers_log_and_remembers_it_after_reopening() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ledger, witness_ledger) = (open(dir.path()), open(other.path()));
    let (witness, node) = (kit::witness(1), "node".parse::<TenantId>().unwrap());
    let mut old = 0;
    for number in 0..3 {
        run(&ledger, &format!("request-{number}"), &attest_signer()).unwrap();
        let checkpoint = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
        let request = ledger.consistency_proof(&acme(), old, &checkpoint).unwrap().to_string();
        let mut heads = witness_ledger.witness_heads(node.clone());
        let answer = witness.handle_add_checkpoint(&mut heads, request.as_bytes(), 1042).unwrap();
        let reply = read_answer(answer.status, &answer.body, &checkpoint, witness.key()).unwrap();
        assert!(matches!(reply, Reply::Cosigned { time_s: 1042, .. }));
        let again = witness.handle_add_checkpoint(&mut heads, request.as_bytes(), 1042).unwrap();
        assert_eq!((again.status, again.body), (409, format!("{}\n", checkpoint.checkpoint().size).into_bytes()));
        old = checkpoint.checkpoint().size;
    }
    witness_ledger.close().unwrap();
    drop(witness_ledger);
    let reopened = open(other.path());
    let checkpoint = ledger.sign_checkpoint(&acme(), &log_signer("acme")).unwrap();
    let request = ledger.consistency_proof(&acme(), 0, &checkpoint).unwrap().to_string();
    let answer = witness.handle_add_checkpoint(&mut reopened.witness_heads(node), request.as_bytes(), 1042).unwrap();
    assert_eq!((answer.status, answer.body), (409, b"9\n".to_vec()));
}
