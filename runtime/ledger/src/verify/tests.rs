//! Checkpoints that no honest log signs: what a stolen key can say costs its verifier little.

use remand_model::Digest;

use super::*;
use crate::folder::MemoryFolder;
use crate::keys::LogSigner;
use crate::note::Note;

fn signer() -> LogSigner {
    LogSigner::from_seed("n/audit/acme".parse().unwrap(), &[1; 32])
}

fn folder(size: u64) -> MemoryFolder {
    let head = Checkpoint { origin: "n/audit/acme".parse().unwrap(), size, root: Digest::of(b"any") };
    let mut folder = MemoryFolder::default();
    folder.files.insert("checkpoint".into(), Note::sign(head.to_text(), &signer()).to_string().into_bytes());
    folder.files.insert("policy".into(), Policy::of_log(signer().key().clone()).to_string().into_bytes());
    folder.files.insert("attest".into(), Vec::new());
    folder
}

fn verify(folder: &MemoryFolder) -> Report {
    let trust = Trust::in_policy(Policy::of_log(signer().key().clone()));
    verify_folder(folder, &trust, &[], Options { threads: 2 }, &|_| {})
}

#[test]
fn a_claim_of_as_many_entries_as_can_be_said_ends_at_the_first_that_is_missing() {
    for size in [1, 256, 257, 1 << 40, (1 << 56) + 1, i64::MAX as u64] {
        let report = verify(&folder(size));
        assert_eq!(report.fault.and_then(|fault| fault.event), Some(0), "{size}");
    }
}

#[test]
fn empty_bundles_under_a_large_claim_are_refused_at_the_first() {
    let mut folder = folder(1 << 40);
    folder.files.insert("tile/entries/000".into(), vec![0; 512]);
    folder.files.insert("tile/0/000".into(), vec![0; 8192]);
    assert_eq!(verify(&folder).fault.and_then(|fault| fault.event), Some(0));
}

#[test]
fn proofs_and_consistency_files_of_absurd_sizes_are_foreign() {
    for path in ["proofs/9223372036854775807.tlog-proof", "consistency/0-9223372036854775807.tlog-consistency"] {
        let mut folder = folder(1);
        folder.files.insert(path.into(), Vec::new());
        assert_eq!(verify(&folder).fault.map(|fault| fault.path).as_deref(), Some(path));
    }
}
