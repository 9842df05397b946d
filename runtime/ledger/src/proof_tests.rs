//! Proof files: whole they verify without help, changed in any place they do not.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::CommittedHead;
use crate::keys::LogSigner;
use crate::merkle::{Frontier, MemoryTree, prove_consistency, prove_inclusion, root};

const SIZE: u64 = 300;

fn signer() -> LogSigner {
    LogSigner::from_seed("n/audit/acme".parse().unwrap(), &[1; 32])
}

fn policy() -> Policy {
    Policy::of_log(signer().key().clone())
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn tree(size: u64) -> MemoryTree {
    MemoryTree::from_leaves((0..size).map(|index| leaf_hash(&entry(index))))
}

fn checkpoint(size: u64) -> SignedCheckpoint {
    let frontier = Frontier::from_source(&mut tree(size), size).unwrap();
    signer().sign(&CommittedHead::after_commit(&frontier))
}

fn proof(index: u64) -> TlogProof {
    TlogProof::new(index, prove_inclusion(&mut tree(SIZE), index, SIZE).unwrap(), &checkpoint(SIZE))
}

fn consistency(old: u64) -> ConsistencyProof {
    ConsistencyProof::new(old, prove_consistency(&mut tree(SIZE), old, SIZE).unwrap(), &checkpoint(SIZE))
}

#[test]
fn a_proof_file_is_read_back_and_verifies() {
    let text = proof(42).to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 42\n"));
    let read = TlogProof::parse(text.as_bytes()).unwrap();
    assert_eq!(read.to_string(), text);
    let accepted = read.verify(&entry(42), &policy()).unwrap();
    assert_eq!(accepted.signed().checkpoint().size, SIZE);
    assert!(matches!(read.verify(&entry(43), &policy()), Err(ProofError::Merkle(_))));
}

#[test]
fn an_extra_line_is_read_over_and_kept() {
    let text = proof(0).to_string().replacen("\nindex", "\nextra aGVsbG8=\nindex", 1);
    let read = TlogProof::parse(text.as_bytes()).unwrap();
    assert_eq!(read.to_string(), text);
    assert!(read.verify(&entry(0), &policy()).is_ok());
}

#[test]
fn a_log_of_one_entry_has_a_proof_without_hashes() {
    let text = TlogProof::new(0, Vec::new(), &checkpoint(1)).to_string();
    assert!(TlogProof::parse(text.as_bytes()).unwrap().verify(&entry(0), &policy()).is_ok());
}

#[test]
fn a_consistency_file_is_read_back_and_verifies() {
    for old in [0, 1, 255, 256, 257, SIZE] {
        let text = consistency(old).to_string();
        let read = ConsistencyProof::parse(text.as_bytes()).unwrap();
        assert_eq!((read.to_string(), read.old()), (text, old));
        assert!(read.verify_path(&root(&mut tree(old), old).unwrap()).is_ok());
        assert!(read.verify_path(&leaf_hash(b"another root")).is_err());
    }
}

#[test]
fn malformed_proofs_are_refused() {
    let text = proof(42).to_string();
    let hash = format!("{}\n", hash_text(&leaf_hash(b"")));
    let bad = [
        String::new(),
        text.replace("@v1", "@v2"),
        text.replace("index 42", "index 042"),
        text.replace("index 42", "index -1"),
        text.replacen("\nindex 42", "", 1),
        text.replacen("\n\n", "\n", 1),
        text.replacen("index 42\n", &format!("index 42\n{}", hash.repeat(64)), 1),
        text.replacen("\nindex", "\nextra !\nindex", 1),
        text.replacen('\n', "\r\n", 1),
    ];
    for bad in bad {
        assert!(TlogProof::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_of_a_proof_file_is_refused(index in 0..SIZE, place: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = proof(index).to_string().into_bytes();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let verdict = TlogProof::parse(&bytes).and_then(|proof| proof.verify(&entry(index), &policy()));
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn hostile_proof_files_never_panic(text in "(c2sp.org/tlog-proof@v1|old 3)?(\n|index 3|[A-Za-z+/]{43}=|old 1|extra |—|.){0,40}") {
        if let Ok(proof) = TlogProof::parse(text.as_bytes()) {
            prop_assert_eq!(proof.to_string(), text.clone());
        }
        if let Ok(proof) = ConsistencyProof::parse(text.as_bytes()) {
            prop_assert_eq!(proof.to_string(), text);
        }
    }
}
