//! Execution proofs: whole they hold, and every part refuses to be swapped for another's.

use proptest::prelude::*;

use super::*;
use crate::keys::{AttestSigner, LogSigner};
use crate::memory::MemoryLog;
use crate::provenance::{Claims, Seen};
use remand_model::event::{EventType, NewEvent, Subject};

fn attest() -> AttestSigner {
    AttestSigner::from_seed("n/attest".parse().unwrap(), &[5; 32])
}

fn log_signer(tenant: &str) -> LogSigner {
    LogSigner::from_seed(format!("n/audit/{tenant}").parse().unwrap(), &[1; 32])
}

fn claims(tenant: &str, request: &str) -> Claims {
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

fn log(tenant: &str) -> MemoryLog {
    let mut log = MemoryLog::new(format!("n/audit/{tenant}").parse().unwrap());
    for request in ["one", "two"] {
        let claims = claims(tenant, request);
        let started = NewEvent::new(EventType::EXECUTION_STARTED, Subject::from(&claims.execution_id));
        log.append(started, 1).unwrap();
        let seen = Seen { node_id: "n".to_owned(), ..Seen::default() };
        log.record(claims, seen, 2, &attest()).unwrap();
    }
    log
}

fn proof(tenant: &str, request: &str) -> ExecutionProof {
    log(tenant).execution_proof(&claims(tenant, request).execution_id, &log_signer(tenant)).unwrap()
}

fn trust() -> Trust {
    Trust::in_policy(Policy::of_log(log_signer("acme").key().clone()))
        .with_attest(vec![attest().key().clone()])
        .unwrap()
}

#[test]
fn a_proof_is_read_back_and_shows_its_claims() {
    let bytes = proof("acme", "two").to_bytes();
    let verdict = verify_proof(&bytes, &trust()).unwrap();
    assert_eq!(verdict.statement.claims, claims("acme", "two"));
    assert_eq!(verdict.proof_hash, claims("acme", "two").proof_hash());
    assert_eq!((verdict.event_id, verdict.attested), (3, true));
    assert_eq!(ExecutionProof::parse(&bytes).unwrap().to_bytes(), bytes);
}

#[test]
fn the_log_key_alone_is_enough_to_verify_and_the_verdict_says_so() {
    let trust = Trust::in_policy(Policy::of_log(log_signer("acme").key().clone()));
    let verdict = verify_proof(&proof("acme", "one").to_bytes(), &trust).unwrap();
    assert!(!verdict.attested);
}

#[test]
fn a_statement_signed_by_a_stranger_is_refused_where_signers_are_named() {
    let stranger = AttestSigner::from_seed("n/attest".parse().unwrap(), &[6; 32]);
    let mut proof = proof("acme", "one");
    proof.envelope = Envelope::sign(proof.envelope.alleged_payload().to_vec(), &stranger);
    assert!(matches!(proof.verify(&trust()), Err(BundleError::Envelope(EnvelopeError::Untrusted(_)))));
}

#[test]
fn another_executions_envelope_entry_or_name_is_refused() {
    let (one, two) = (proof("acme", "one"), proof("acme", "two"));
    let with_envelope = ExecutionProof { envelope: two.envelope.clone(), ..one.clone() };
    assert!(matches!(with_envelope.verify(&trust()), Err(BundleError::Record(RecordError::OtherStatement { .. }))));
    let with_entry = ExecutionProof { entry: two.entry.clone(), ..one.clone() };
    assert!(matches!(with_entry.verify(&trust()), Err(BundleError::Proof(_))));
    let with_name = ExecutionProof { execution_id: two.execution_id.clone(), ..one };
    assert!(matches!(with_name.verify(&trust()), Err(BundleError::Mismatch("execution"))));
}

#[test]
fn another_tenants_proof_is_refused() {
    assert!(matches!(proof("other", "one").verify(&trust()), Err(BundleError::Proof(_))));
    let both = format!("log {}\n", log_signer("acme").key());
    let other = LogSigner::from_seed("n/audit/other".parse().unwrap(), &[9; 32]);
    let policy = Policy::parse(format!("{both}log {}\nquorum none\n", other.key()).as_bytes()).unwrap();
    let trust = Trust::in_policy(policy).for_origin("n/audit/acme".parse().unwrap());
    let mut log = log("other");
    let proof = log.execution_proof(&claims("other", "one").execution_id, &other).unwrap();
    assert!(matches!(proof.verify(&trust), Err(BundleError::Origin(_))));
}

#[test]
fn an_entry_of_another_tenant_in_ones_own_log_is_refused() {
    let mut log = log("acme");
    let foreign = proof("other", "one");
    log.append_entry(foreign.entry.clone());
    let index = log.size() - 1;
    let checkpoint = log_signer("acme").sign(&log.head());
    let forged = ExecutionProof { proof: log.inclusion(index, &checkpoint), ..foreign };
    assert!(matches!(forged.verify(&trust()), Err(BundleError::Mismatch(_))));
}

#[test]
fn a_key_for_two_purposes_is_refused() {
    let shared = AttestSigner::from_seed("n/attest".parse().unwrap(), &[1; 32]);
    let trust = Trust::in_policy(Policy::of_log(log_signer("acme").key().clone()));
    assert_eq!(trust.with_attest(vec![shared.key().clone()]).unwrap_err(), SharedKey("n/attest".to_owned()));
}

#[test]
fn documents_of_another_form_are_refused() {
    let text = String::from_utf8(proof("acme", "one").to_bytes()).unwrap();
    let changes = [
        ("{\"dsse\"", "{\"a\":1,\"dsse\""),
        ("\"protocol_version\":\"1.0\"", "\"protocol_version\":\"2.0\""),
        ("tlog_proof", "tlog-proof"),
    ];
    for (from, to) in changes {
        assert!(verify_proof(text.replacen(from, to, 1).as_bytes(), &trust()).is_err(), "{to}");
    }
    assert!(verify_proof(text.replace(',', " ,\n").as_bytes(), &trust()).is_ok(), "layout is free");
}

proptest! {
    #[test]
    fn a_flipped_bit_of_a_proof_is_refused(place: prop::sample::Index, bit in 0_u8..8, named: bool) {
        let mut bytes = proof("acme", "one").to_bytes();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let bare = Trust::in_policy(Policy::of_log(log_signer("acme").key().clone()));
        let trust = if named { trust() } else { bare };
        prop_assert!(verify_proof(&bytes, &trust).is_err());
    }
}
