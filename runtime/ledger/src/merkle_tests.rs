//! The tree against a naive one, written straight from RFC 6962 and sharing no arithmetic with it.

use proptest::prelude::*;

use super::*;

const BOUNDARIES: [u64; 16] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 255, 256, 257, 1000];

fn leaves(count: u64) -> Vec<Digest> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn naive_root(d: &[Digest]) -> Digest {
    match d {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let k = d.len().next_power_of_two() / 2;
            node_hash(&naive_root(&d[..k]), &naive_root(&d[k..]))
        }
    }
}

fn naive_path(m: usize, d: &[Digest]) -> Vec<Digest> {
    if d.len() == 1 {
        return Vec::new();
    }
    let k = d.len().next_power_of_two() / 2;
    let (mut path, sibling) = match m < k {
        true => (naive_path(m, &d[..k]), naive_root(&d[k..])),
        false => (naive_path(m - k, &d[k..]), naive_root(&d[..k])),
    };
    path.push(sibling);
    path
}

fn naive_subproof(m: usize, d: &[Digest], complete: bool) -> Vec<Digest> {
    if m == d.len() {
        return if complete { Vec::new() } else { vec![naive_root(d)] };
    }
    let k = d.len().next_power_of_two() / 2;
    let (mut proof, sibling) = match m <= k {
        true => (naive_subproof(m, &d[..k], complete), naive_root(&d[k..])),
        false => (naive_subproof(m - k, &d[k..], false), naive_root(&d[..k])),
    };
    proof.push(sibling);
    proof
}

#[test]
fn leaves_and_nodes_carry_the_prefixes_of_rfc_6962() {
    assert_eq!(empty_root().to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(leaf_hash(b"").to_hex(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    let (left, right) = (leaf_hash(b"a"), leaf_hash(b"b"));
    let spelled = [&[1][..], left.as_bytes(), right.as_bytes()].concat();
    assert_eq!(node_hash(&left, &right), Digest::of(&spelled));
}

#[test]
fn the_frontier_has_the_root_of_the_naive_tree_at_every_size() {
    let all = leaves(600);
    let mut frontier = Frontier::new();
    for (size, leaf) in all.iter().enumerate() {
        assert_eq!(frontier.root(), naive_root(&all[..size]), "size {size}");
        assert_eq!(frontier.append(*leaf), size as u64);
    }
}

#[test]
fn roots_agree_around_the_boundaries_of_two_levels_of_tiles() {
    let all = leaves(65_537);
    let mut tree = MemoryTree::from_leaves(all.iter().copied());
    for size in [65_535_u64, 65_536, 65_537] {
        let naive = naive_root(&all[..size as usize]);
        assert_eq!(root(&mut tree, size).unwrap(), naive);
        assert_eq!(Frontier::from_source(&mut tree, size).unwrap().root(), naive);
        for index in [0, 1, 255, 256, 257, 65_534] {
            let proof = prove_inclusion(&mut tree, index, size).unwrap();
            assert_eq!(proof, naive_path(index as usize, &all[..size as usize]));
            verify_inclusion(&all[index as usize], index, size, &proof, &naive).unwrap();
        }
    }
}

#[test]
fn every_inclusion_proof_equals_the_naive_one_and_verifies() {
    let all = leaves(1000);
    let mut tree = MemoryTree::from_leaves(all.iter().copied());
    for size in BOUNDARIES.into_iter().filter(|size| *size <= 257) {
        let d = &all[..size as usize];
        for index in 0..size {
            let proof = prove_inclusion(&mut tree, index, size).unwrap();
            assert_eq!(proof, naive_path(index as usize, d), "{index} of {size}");
            verify_inclusion(&d[index as usize], index, size, &proof, &naive_root(d)).unwrap();
        }
    }
}

#[test]
fn every_consistency_proof_equals_the_naive_one_and_verifies() {
    let all = leaves(1000);
    let mut tree = MemoryTree::from_leaves(all.iter().copied());
    for new in BOUNDARIES {
        for old in BOUNDARIES.into_iter().filter(|old| *old <= new) {
            let (d, was) = (&all[..new as usize], &all[..old as usize]);
            let proof = prove_consistency(&mut tree, old, new).unwrap();
            let naive = if old == 0 { Vec::new() } else { naive_subproof(old as usize, d, true) };
            assert_eq!(proof, naive, "{old} to {new}");
            verify_consistency(old, &naive_root(was), new, &naive_root(d), &proof).unwrap();
        }
    }
}

#[test]
fn a_question_outside_of_the_tree_is_refused() {
    let mut tree = MemoryTree::from_leaves(leaves(4));
    let out = MerkleError::OutOfRange { index: 4, size: 4 };
    assert_eq!(prove_inclusion(&mut tree, 4, 4), Err(ProveError::Merkle(out)));
    assert_eq!(prove_consistency(&mut tree, 5, 4), Err(ProveError::Merkle(MerkleError::Shrunk { old: 5, new: 4 })));
    assert!(matches!(prove_inclusion(&mut tree, 4, 9), Err(ProveError::Source(NoNode { .. }))));
}

#[test]
fn a_node_cannot_pose_as_a_leaf() {
    let all = leaves(4);
    let whole = naive_root(&all);
    let inner = node_hash(&all[0], &all[1]);
    let short = [node_hash(&all[2], &all[3])];
    assert!(verify_inclusion(&inner, 0, 4, &short, &whole).is_err());
    let spelled = [all[0].as_bytes().as_slice(), all[1].as_bytes()].concat();
    assert!(verify_inclusion(&leaf_hash(&spelled), 0, 2, &short, &whole).is_err());
}

#[test]
fn a_frontier_survives_its_own_bytes_and_no_others() {
    let mut frontier = Frontier::new();
    leaves(421).into_iter().for_each(|leaf| {
        frontier.append(leaf);
    });
    let bytes = frontier.to_bytes();
    assert_eq!(Frontier::from_bytes(&bytes), Ok(frontier));
    assert!(Frontier::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(Frontier::from_bytes(&bytes[..bytes.len() - 32]).is_err());
    assert!(Frontier::from_bytes(&[]).is_err());
}

proptest! {
    #[test]
    fn a_proof_with_one_flipped_bit_is_refused(size in 2_u64..400, place in any::<prop::sample::Index>(), bit in 0_usize..256) {
        let all = leaves(size);
        let whole = naive_root(&all);
        let mut tree = MemoryTree::from_leaves(all.iter().copied());
        let index = place.index(all.len()) as u64;
        let mut proof = prove_inclusion(&mut tree, index, size).unwrap();
        let at = place.index(proof.len());
        let mut bytes = *proof[at].as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        proof[at] = Digest::from_bytes(bytes);
        prop_assert!(verify_inclusion(&all[index as usize], index, size, &proof, &whole).is_err());
    }

    #[test]
    fn a_proof_for_another_place_or_size_is_refused(size in 2_u64..400, index in 0_u64..400, other in 0_u64..400) {
        let all = leaves(size);
        let whole = naive_root(&all);
        let index = index % size;
        let other = other % size;
        let proof = prove_inclusion(&mut MemoryTree::from_leaves(all.iter().copied()), index, size).unwrap();
        let leaf = all[index as usize];
        prop_assert_eq!(verify_inclusion(&leaf, other, size, &proof, &whole).is_ok(), other == index);
        prop_assert!(verify_inclusion(&leaf, index, size, &proof[1..], &whole).is_err());
        let longer = [proof.clone(), vec![leaf]].concat();
        prop_assert!(verify_inclusion(&leaf, index, size, &longer, &whole).is_err());
    }

    #[test]
    fn a_history_with_one_leaf_rewritten_is_not_consistent(old in 1_u64..200, more in 0_u64..200, place in any::<prop::sample::Index>()) {
        let new = old + more;
        let honest = leaves(old);
        let mut forged = leaves(new);
        forged[place.index(old as usize)] = leaf_hash(b"forged");
        let mut tree = MemoryTree::from_leaves(forged.iter().copied());
        let proof = prove_consistency(&mut tree, old, new).unwrap();
        prop_assert!(verify_consistency(old, &naive_root(&honest), new, &naive_root(&forged), &proof).is_err());
    }

    #[test]
    fn hostile_proofs_never_panic(index: u64, size: u64, raw in prop::collection::vec(any::<[u8; 32]>(), 0..130)) {
        let proof: Vec<Digest> = raw.into_iter().map(Digest::from_bytes).collect();
        let any = leaf_hash(b"");
        prop_assert!(verify_inclusion(&any, index, size, &proof, &any).is_err() || size == 1);
        prop_assert!(verify_consistency(index, &any, size, &any, &proof).is_err() || index == size);
    }
}
