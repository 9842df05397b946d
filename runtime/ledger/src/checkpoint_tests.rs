//! Checkpoints: what is signed is what is said, and every other spelling is refused.

use proptest::prelude::*;

use super::*;
use crate::merkle::leaf_hash;

fn signer(name: &str) -> LogSigner {
    LogSigner::from_seed(name.parse().unwrap(), &[9; 32])
}

fn head(size: u64) -> CommittedHead {
    let mut frontier = Frontier::new();
    for index in 0..size {
        frontier.append(leaf_hash(&index.to_be_bytes()));
    }
    CommittedHead::after_commit(&frontier)
}

#[test]
fn a_signed_head_is_read_back_and_verified() {
    let signer = signer("node1.example/audit/acme");
    let text = signer.sign(&head(3)).to_string();
    let alleged = AllegedCheckpoint::parse(text.as_bytes()).unwrap();
    assert_eq!(alleged.alleged().size, 3);
    assert_eq!(alleged.verify(signer.key()).unwrap().to_string(), text);
    assert!(text.starts_with("node1.example/audit/acme\n3\n"));
}

#[test]
fn a_checkpoint_of_another_log_is_refused_though_its_signature_holds() {
    let (acme, other) = (signer("n/audit/acme"), signer("n/audit/other"));
    let alleged = AllegedCheckpoint::parse(acme.sign(&head(1)).to_string().as_bytes()).unwrap();
    assert!(matches!(alleged.verify(other.key()), Err(CheckpointError::OtherLog { .. })));
}

#[test]
fn extension_lines_and_other_spellings_are_refused() {
    let signer = signer("n/audit/acme");
    let root = hash_text(head(1).root());
    let texts = [
        format!("n/audit/acme\n1\n{root}\nextension\n"),
        format!("n/audit/acme\n01\n{root}\n"),
        format!("n/audit/acme\n+1\n{root}\n"),
        format!("n/audit/acme\n-1\n{root}\n"),
        format!("n/audit/acme\n9223372036854775808\n{root}\n"),
        format!("n/audit/acme\n\n{root}\n"),
        format!("n/audit/acme\n1\n{root}=\n"),
        "n/audit/acme\n1\nAAAA\n".to_owned(),
        format!("n/audit/acme\n1\n\n{root}\n"),
        format!("\n1\n{root}\n"),
        "n/audit/acme\n1\n".to_owned(),
    ];
    for text in texts {
        let note = Note::sign(text.clone(), &signer).to_string();
        assert!(AllegedCheckpoint::parse(note.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn an_empty_log_has_the_empty_root_and_no_other() {
    let signer = signer("n/audit/acme");
    assert!(AllegedCheckpoint::parse(signer.sign(&head(0)).to_string().as_bytes()).is_ok());
    let forged = format!("n/audit/acme\n0\n{}\n", hash_text(head(1).root()));
    let note = Note::sign(forged, &signer).to_string();
    assert_eq!(AllegedCheckpoint::parse(note.as_bytes()), Err(CheckpointError::EmptyRoot));
}

#[test]
fn an_origin_names_its_node_and_its_tenant() {
    let origin: Origin = "node1.example/audit/acme".parse().unwrap();
    assert_eq!((origin.node(), origin.tenant().as_str()), ("node1.example", "acme"));
    for bad in
        ["", "acme", "/audit/acme", "n/audit/", "n/audit/ACME", "n/audit/a/b", "n/audit/x/audit/y", "a b/audit/c"]
    {
        assert!(bad.parse::<Origin>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn hostile_checkpoints_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(alleged) = AllegedCheckpoint::parse(&bytes) {
            prop_assert_eq!(alleged.to_string().into_bytes(), bytes);
        }
    }

    #[test]
    fn a_flipped_bit_of_a_checkpoint_is_refused(place: prop::sample::Index, bit in 0_u8..8) {
        let signer = signer("n/audit/acme");
        let mut bytes = signer.sign(&head(5)).to_string().into_bytes();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(AllegedCheckpoint::parse(&bytes).and_then(|alleged| alleged.verify(signer.key())).is_err());
    }
}
