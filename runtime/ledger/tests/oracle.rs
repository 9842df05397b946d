//! Our trees, tiles and notes against other people's implementations of the same specifications.

mod kit;

use remand_ledger::merkle::{MemoryTree, leaf_hash, prove_consistency, prove_inclusion, root};
use remand_ledger::tile::{Tile, all_tiles};
use signed_note::{StandardVerifier, VerifierList};
use tlog_tiles::tlog;

struct Stored(Vec<tlog::Hash>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

fn trees(size: u64) -> (MemoryTree, Stored) {
    let (mut ours, mut theirs) = (MemoryTree::default(), Stored(Vec::new()));
    for index in 0..size {
        let entry = format!("entry {index}");
        ours.append(leaf_hash(entry.as_bytes()));
        let hashes = tlog::stored_hashes(index, entry.as_bytes(), &theirs).unwrap();
        theirs.0.extend(hashes);
    }
    (ours, theirs)
}

fn raw(proof: &[remand_model::Digest]) -> Vec<[u8; 32]> {
    proof.iter().map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn proofs_equal_those_of_another_implementation() {
    let (mut ours, theirs) = trees(600);
    for size in [1_u64, 2, 3, 255, 256, 257, 511, 512, 513, 600] {
        let whole = tlog::tree_hash(size, &theirs).unwrap();
        assert_eq!(root(&mut ours, size).unwrap().as_bytes(), &whole.0);
        for index in (0..size).step_by(7) {
            let expected: Vec<_> =
                tlog::prove_record(size, index, &theirs).unwrap().iter().map(|hash| hash.0).collect();
            assert_eq!(raw(&prove_inclusion(&mut ours, index, size).unwrap()), expected);
            let expected = tlog::prove_tree(size, index + 1, &theirs).unwrap();
            let ours = prove_consistency(&mut ours, index + 1, size).unwrap();
            assert_eq!(raw(&ours), expected.iter().map(|hash| hash.0).collect::<Vec<_>>());
            let old = tlog::tree_hash(index + 1, &theirs).unwrap();
            tlog::check_tree(&expected, size, whole, index + 1, old).unwrap();
        }
    }
}

#[test]
fn tiles_have_the_names_that_another_implementation_gives_them() {
    for size in [1_u64, 255, 256, 257, 70_000, 1_234_067] {
        let mut theirs: Vec<Tile> = tlog_tiles::tile::Tile::new_tiles(8, 0, size)
            .into_iter()
            .map(|tile| {
                // Theirs begins with the height of the tiles, which is always 8 here.
                let path = tile.path().replacen("tile/8/", "tile/", 1);
                Tile::parse(&path).unwrap_or_else(|| panic!("{path}"))
            })
            .collect();
        let mut ours: Vec<Tile> = all_tiles(size).filter(|tile| !tile.path().contains("entries")).collect();
        theirs.sort();
        theirs.dedup();
        ours.sort();
        assert_eq!(ours, theirs, "size {size}");
    }
}

#[test]
fn checkpoints_are_verified_by_another_implementation() {
    let log = kit::log("acme", 3);
    let signer = kit::log_signer("acme");
    let text = signer.sign(&log.head()).to_string();
    let note = signed_note::Note::from_bytes(text.as_bytes()).unwrap();
    let verifier = StandardVerifier::new(&signer.key().to_string()).unwrap();
    let (verified, _) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!(verified.len(), 1);
    let checkpoint = tlog_tiles::checkpoint::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), ("node1.example/audit/acme", 15));
    assert_eq!(&checkpoint.hash().0, log.head().root().as_bytes());
}
