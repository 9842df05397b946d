//! Notes, tiles, proofs, envelopes, witnesses' words and trust: what a verifier reads from strangers.

use super::export::{NODE, attest_signer, log, log_signer, trust as our_trust};
use remand_ledger::bundle::{ExecutionProof, verify_proof};
use remand_ledger::checkpoint::AllegedCheckpoint;
use remand_ledger::dsse::{Envelope, parse_attest_keys};
use remand_ledger::keys::WitnessSigner;
use remand_ledger::note::{Note, SignatureLine};
use remand_ledger::policy_file::Policy;
use remand_ledger::proof::{ConsistencyProof, TlogProof};
use remand_ledger::provenance::Statement;
use remand_ledger::tile::{Tile, decode_bundle, decode_tile, encode_bundle, encode_tile};
use remand_ledger::witness::{Witness, WitnessStore, WitnessedHead, read_answer};
use remand_model::Digest;

/// A note and a checkpoint have one spelling, and only what the key signed verifies.
pub fn note(input: &[u8]) {
    if let Ok(note) = Note::parse(input) {
        assert_eq!(note.to_string().as_bytes(), input);
        drop(note.verify_log(log_signer().key()));
    }
    if let Some(line) = str::from_utf8(input).ok().and_then(SignatureLine::parse) {
        assert_eq!(line.to_string().as_bytes(), input);
    }
    if let Ok(alleged) = AllegedCheckpoint::parse(input)
        && let Ok(signed) = alleged.verify(log_signer().key())
    {
        let made = checkpoints();
        assert!(made.iter().any(|text| text.starts_with(&signed.checkpoint().to_text())), "a forged checkpoint holds");
    }
}

fn checkpoints() -> Vec<String> {
    let log = log(3);
    (0..=log.size()).map(|size| log_signer().sign(&log.head_at(size)).to_string()).collect()
}

pub fn note_seeds() -> Vec<Vec<u8>> {
    checkpoints().into_iter().map(String::into_bytes).collect()
}

/// The first byte is a bundle's width; the rest is a tile, a bundle, or a path.
pub fn tile(input: &[u8]) {
    let Some((width, bytes)) = input.split_first() else { return };
    let width = u16::from(*width) + 1;
    if let Ok(entries) = decode_bundle(bytes, width) {
        assert_eq!(encode_bundle(&entries).expect("they were read from one"), bytes);
    }
    if let Ok(hashes) = decode_tile(bytes, width) {
        assert_eq!(encode_tile(&hashes), bytes);
    }
    if let Some((path, tile)) = str::from_utf8(bytes).ok().and_then(|path| Some((path, Tile::parse(path)?))) {
        assert_eq!(tile.path(), path);
    }
}

pub fn tile_seeds() -> Vec<Vec<u8>> {
    let log = log(1);
    let with = |width: usize, bytes: Vec<u8>| [vec![(width - 1) as u8], bytes].concat();
    let entries = log.entries();
    let hashes: Vec<Digest> = entries.iter().map(|entry| remand_ledger::merkle::leaf_hash(entry)).collect();
    let bundle = encode_bundle(entries).expect("small");
    let paths = ["tile/0/000.p/5", "tile/entries/x001/234", "tile/7/000", "tile/entries/000.p/255"];
    let paths = paths.iter().map(|path| with(1, path.as_bytes().to_vec()));
    [with(entries.len(), bundle), with(hashes.len(), encode_tile(&hashes))].into_iter().chain(paths).collect()
}

/// Proofs have one spelling; following one never panics.
pub fn proof(input: &[u8]) {
    if let Ok(proof) = TlogProof::parse(input) {
        assert_eq!(proof.to_string().as_bytes(), input);
        drop(proof.verify_path(&Digest::of(b"leaf")));
        if proof.verify(b"an entry that was never logged", &Policy::of_log(log_signer().key().clone())).is_ok() {
            panic!("a proof holds for what was never logged");
        }
    }
    if let Ok(proof) = ConsistencyProof::parse(input) {
        assert_eq!(proof.to_string().as_bytes(), input);
        drop(proof.verify_path(&Digest::of(b"root")));
    }
}

pub fn proof_seeds() -> Vec<Vec<u8>> {
    let mut log = log(3);
    let signed = log_signer().sign(&log.head());
    let size = log.size();
    let mut seeds: Vec<Vec<u8>> =
        (0..size).map(|index| log.inclusion(index, &signed).to_string().into_bytes()).collect();
    seeds.extend((1..size).map(|old| log.consistency(old, &signed).to_string().into_bytes()));
    seeds
}

/// What our key signs in a seed.
const SIGNED: &[u8] = b"{}";

/// An envelope, a statement and a whole proof; only what our keys signed holds.
pub fn dsse(input: &[u8]) {
    if let Ok(envelope) = Envelope::parse(input) {
        let again = Envelope::parse(&envelope.to_bytes()).expect("its own spelling");
        assert_eq!(again.alleged_payload(), envelope.alleged_payload());
        let holds = envelope.verify(Some(&[attest_signer().key().clone()])).is_ok();
        let payload = envelope.alleged_payload();
        assert!(!holds || payload == SIGNED || Statement::parse(payload).is_ok(), "a forged envelope holds");
    }
    if let Ok(statement) = Statement::parse(input) {
        assert_eq!(statement.to_bytes().expect("it was read"), input);
        drop(statement.slsa_view());
    }
    if let Ok(proof) = ExecutionProof::parse(input) {
        let written = proof.to_bytes();
        let again = ExecutionProof::parse(&written).expect("its own spelling");
        assert_eq!(again.to_bytes(), written);
    }
    drop(verify_proof(input, &our_trust()));
    drop(parse_attest_keys(input));
}

pub fn dsse_seeds() -> Vec<Vec<u8>> {
    let mut log = log(2);
    let id = super::export::claims("request-0").execution_id;
    let proof = log.execution_proof(&id, &log_signer()).expect("it was recorded").to_bytes();
    let envelope = Envelope::sign(SIGNED.to_vec(), &attest_signer()).to_bytes();
    vec![proof, envelope, attest_signer().key().to_string().into_bytes()]
}

#[derive(Default)]
struct Heads(Option<WitnessedHead>);

impl WitnessStore for Heads {
    type Error = std::convert::Infallible;

    fn latest(&mut self, _origin: &str) -> Result<Option<WitnessedHead>, Self::Error> {
        Ok(self.0.clone())
    }

    fn advance(&mut self, _origin: &str, _old: Option<u64>, new: &WitnessedHead) -> Result<bool, Self::Error> {
        self.0 = Some(new.clone());
        Ok(true)
    }
}

/// A witness answers every request; it signs only heads that the log's key signed and that extend what it remembers.
pub fn witness(input: &[u8]) {
    let name = "w1.example/witness".parse().expect("a name");
    let witness = Witness::new(WitnessSigner::from_seed(name, &[11; 32]), vec![log_signer().key().clone()]);
    let mut heads = Heads::default();
    let answer = witness.handle_add_checkpoint(&mut heads, input, 1042).expect("the store never fails");
    assert_eq!(answer.status == 200, heads.0.is_some());
    if let Some(head) = &heads.0 {
        let log = log(3);
        let known = (0..=log.size()).any(|size| log.head_at(size).root() == &head.root);
        assert!(known, "a head that the log never had is cosigned");
    }
    let signed = log_signer().sign(&log(1).head());
    drop(read_answer(200, input, &signed, witness.key()));
    drop(read_answer(409, input, &signed, witness.key()));
}

pub fn witness_seeds() -> Vec<Vec<u8>> {
    let mut log = log(3);
    let signed = log_signer().sign(&log.head());
    let first = log.consistency(0, &signed).to_string().into_bytes();
    vec![first, log.consistency(2, &signed).to_string().into_bytes(), b"3\n".to_vec()]
}

/// A policy of trust is read, or its line is named.
pub fn trust(input: &[u8]) {
    match Policy::parse(input) {
        Ok(policy) => {
            assert_eq!(Policy::parse(policy.to_string().as_bytes()).as_ref().ok(), Some(&policy));
            let signed = log_signer().sign(&log(1).head());
            drop(AllegedCheckpoint::parse(signed.to_string().as_bytes()).map(|alleged| policy.accept(alleged)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub fn trust_seeds() -> Vec<Vec<u8>> {
    let witness = |number: u8| {
        let name = format!("w{number}.example/witness").parse().expect("a name");
        WitnessSigner::from_seed(name, &[20 + number; 32]).key().clone()
    };
    let keys: Vec<_> = (1..4).map(witness).collect();
    let policies = [
        Policy::of_log(log_signer().key().clone()),
        Policy::of_log_and_witnesses(log_signer().key(), &keys, 2).expect("a quorum"),
    ];
    let texts = policies.iter().map(|policy| policy.to_string().into_bytes());
    texts.chain([format!("log {NODE}/audit/acme+00000000+AA==\n").into_bytes()]).collect()
}
