//! The Merkle tree of a tenant's log: RFC 6962 hashing, the frontier that grows it, and both kinds of proof.
//!
//! Pure arithmetic over digests: where the nodes are kept is the business of a [`NodeSource`]. A leaf is hashed with the
//! prefix 0x00 and a node with 0x01, so that no node can pose as a leaf, and the last leaf of an odd row is never doubled
//! (CVE-2012-2459). What verifies here takes hostile input: it never panics and its cost is bounded by the proof's length.

use remand_model::Digest;

use crate::hash::{sha256, sha256_leaf, sha256_node};

/// A proof can have no more hashes than this: one for each level on either side of a tree of 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 126;

/// The hash of one entry: SHA-256(0x00 ‖ entry), RFC 6962 §2.1.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    sha256_leaf(entry)
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right), RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    sha256_node(left, right)
}

/// The root of the tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Digest {
    sha256(b"")
}

/// Why a proof does not show what it was offered for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The leaf lies outside of the tree.
    #[error("leaf {index} lies outside of a tree of {size} leaves; ask for the proof against a later checkpoint")]
    OutOfRange {
        /// The leaf's index, from 0.
        index: u64,
        /// The tree's size in leaves.
        size: u64,
    },
    /// The older tree is larger than the newer one.
    #[error(
        "a tree of {old} leaves cannot have grown into one of {new}; the log was rolled back or the sizes are swapped"
    )]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// The proof has more or fewer hashes than its place in the tree asks for.
    #[error(
        "the proof has {found} hashes where its sizes ask for another number; it is damaged or made for other sizes"
    )]
    Length {
        /// Hashes in the proof.
        found: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to root {computed}, the checkpoint says {expected}; do not trust this record")]
    Root {
        /// The root that the proof leads to.
        computed: Digest,
        /// The root that was to be reached.
        expected: Digest,
    },
    /// A stored frontier does not have the form that [`Frontier::to_bytes`] gives it.
    #[error("{bytes} bytes are no frontier of {size} leaves; rebuild it from the tiles")]
    Frontier {
        /// The size that its head names.
        size: u64,
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Why a proof could not be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// The question makes no sense for this tree.
    #[error(transparent)]
    Merkle(MerkleError),
    /// The nodes could not be read.
    #[error("the tree's nodes cannot be read")]
    Source(#[source] E),
}

/// Where complete subtrees' hashes are kept: tiles in a database, in a folder, or in memory.
pub trait NodeSource {
    /// Why a node cannot be read.
    type Error;

    /// The root of the complete subtree over leaves `index << level .. (index + 1) << level`.
    ///
    /// # Errors
    /// Whatever keeps the node from being read, a tree without it included.
    fn node(&mut self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// The right edge of a growing tree: the roots of its complete subtrees, largest first; all that appending needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The frontier of the tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash and returns its index.
    pub fn append(&mut self, leaf: Digest) -> u64 {
        let index = self.size;
        let mut node = leaf;
        for _ in 0..index.trailing_ones() {
            let left = self.peaks.pop().expect("a frontier has one peak for each bit of its size");
            node = node_hash(&left, &node);
        }
        self.peaks.push(node);
        self.size += 1;
        index
    }

    /// The tree's root (RFC 6962 MTH).
    #[must_use]
    pub fn root(&self) -> Digest {
        fold_right(&self.peaks).unwrap_or_else(empty_root)
    }

    /// The frontier as bytes: the size as eight bytes, most significant first, then the peaks, largest first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        self.peaks.iter().for_each(|peak| bytes.extend_from_slice(peak.as_bytes()));
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`MerkleError::Frontier`] where the number of peaks does not fit the size.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MerkleError> {
        let refuse = |size| MerkleError::Frontier { size, bytes: bytes.len() };
        let (head, rest) = bytes.split_first_chunk::<8>().ok_or(refuse(0))?;
        let size = u64::from_be_bytes(*head);
        let (peaks, tail) = rest.as_chunks::<32>();
        if !tail.is_empty() || peaks.len() != size.count_ones() as usize {
            return Err(refuse(size));
        }
        Ok(Self { size, peaks: peaks.iter().copied().map(Digest::from_bytes).collect() })
    }

    /// The frontier of the first `size` leaves of a stored tree.
    ///
    /// # Errors
    /// What the source says where it cannot read a node.
    pub fn from_source<S: NodeSource>(source: &mut S, size: u64) -> Result<Self, S::Error> {
        let peaks = range_nodes(0, size).map(|(level, index)| source.node(level, index)).collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }
}

/// A whole tree in memory, every complete node of it: for small logs, for tests, and to hold others' proofs against.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    levels: Vec<Vec<Digest>>,
}

/// A node that the tree does not have (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree has no complete node {index} at level {level}")]
pub struct NoNode {
    /// Height above the leaves.
    pub level: u8,
    /// Place within its level, from 0.
    pub index: u64,
}

impl MemoryTree {
    /// The tree over these leaf hashes.
    pub fn from_leaves(leaves: impl IntoIterator<Item = Digest>) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.append(leaf));
        tree
    }

    /// Adds a leaf by its hash.
    pub fn append(&mut self, leaf: Digest) {
        let mut node = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(node);
            let [.., left, right] = row.as_slice() else { return };
            if row.len() % 2 == 1 {
                return;
            }
            node = node_hash(left, right);
        }
    }

    /// The complete subtree `index` of height `level`, where the tree has it.
    #[must_use]
    pub fn get(&self, level: u8, index: u64) -> Option<Digest> {
        let place = usize::try_from(index).ok()?;
        self.levels.get(usize::from(level))?.get(place).copied()
    }

    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |row| row.len() as u64)
    }
}

impl NodeSource for MemoryTree {
    type Error = NoNode;

    fn node(&mut self, level: u8, index: u64) -> Result<Digest, NoNode> {
        self.get(level, index).ok_or(NoNode { level, index })
    }
}

/// The root of the first `size` leaves.
///
/// # Errors
/// What the source says where it cannot read a node.
pub fn root<S: NodeSource>(source: &mut S, size: u64) -> Result<Digest, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range_root(source, 0, size) }
}

/// The audit path of leaf `index` in the tree of the first `size` leaves, nearest sibling first (RFC 6962 §2.1.1).
///
/// # Errors
/// [`MerkleError::OutOfRange`], or what the source says.
pub fn prove_inclusion<S: NodeSource>(s: &mut S, index: u64, size: u64) -> Result<Vec<Digest>, ProveError<S::Error>> {
    if index >= size {
        return Err(ProveError::Merkle(MerkleError::OutOfRange { index, size }));
    }
    ranges_to_proof(s, inclusion_ranges(index, size))
}

/// The proof that the first `new` leaves begin with the first `old` ones (RFC 6962 §2.1.2). Empty where `old` is 0 or
/// equals `new`: there the roots alone decide.
///
/// # Errors
/// [`MerkleError::Shrunk`], or what the source says.
pub fn prove_consistency<S: NodeSource>(s: &mut S, old: u64, new: u64) -> Result<Vec<Digest>, ProveError<S::Error>> {
    if old > new {
        return Err(ProveError::Merkle(MerkleError::Shrunk { old, new }));
    }
    ranges_to_proof(s, consistency_ranges(old, new))
}

/// Checks that the leaf with hash `leaf` stands at `index` in the tree of `size` leaves with this root (RFC 9162
/// §2.1.3.2).
///
/// # Errors
/// [`MerkleError`]: the proof does not show it.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::OutOfRange { index, size });
    }
    let ranges = inclusion_ranges(index, size);
    if ranges.len() != proof.len() {
        return Err(MerkleError::Length { found: proof.len() });
    }
    let climb = |node: Digest, (range, sibling): (&Range, &Digest)| match range.lo > index {
        true => node_hash(&node, sibling),
        false => node_hash(sibling, &node),
    };
    same_root(ranges.iter().zip(proof).fold(*leaf, climb), root)
}

/// Checks that the tree of `new` leaves with root `new_root` begins with the tree of `old` leaves with root `old_root`
/// (RFC 9162 §2.1.4.2).
///
/// # Errors
/// [`MerkleError`]: the proof does not show it.
pub fn verify_consistency(
    old: u64,
    old_root: &Digest,
    new: u64,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), MerkleError> {
    if old > new {
        return Err(MerkleError::Shrunk { old, new });
    }
    let ranges = consistency_ranges(old, new);
    if ranges.len() != proof.len() {
        return Err(MerkleError::Length { found: proof.len() });
    }
    if old == 0 {
        return same_root(empty_root(), old_root);
    }
    // Every range left of `old` belongs to both trees; the ones right of it only to the newer. Where the older tree is
    // one complete subtree of the newer, its root is not in the proof, because whoever checks has it.
    let starts_whole = old.is_power_of_two() || old == new;
    let (seed, rest) = match (starts_whole, proof.split_first()) {
        (false, Some((first, rest))) => (*first, rest),
        _ => (*old_root, proof),
    };
    let skipped = proof.len() - rest.len();
    let (mut older, mut newer) = (seed, seed);
    for (range, sibling) in ranges.iter().skip(skipped).zip(rest) {
        if range.lo >= old {
            newer = node_hash(&newer, sibling);
        } else {
            older = node_hash(sibling, &older);
            newer = node_hash(sibling, &newer);
        }
    }
    same_root(older, old_root)?;
    same_root(newer, new_root)
}

fn same_root(computed: Digest, expected: &Digest) -> Result<(), MerkleError> {
    if computed == *expected { Ok(()) } else { Err(MerkleError::Root { computed, expected: *expected }) }
}

/// The leaves `lo..hi` of one subtree of the tree: `lo` is a multiple of the subtree's full width.
#[derive(Debug, Clone, Copy)]
struct Range {
    lo: u64,
    hi: u64,
}

/// The largest power of two below `leaves`, where RFC 6962 splits; `leaves` is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

fn inclusion_ranges(index: u64, size: u64) -> Vec<Range> {
    let (mut lo, mut hi) = (0, size);
    let mut ranges = Vec::new();
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        if index < middle {
            ranges.push(Range { lo: middle, hi });
            hi = middle;
        } else {
            ranges.push(Range { lo, hi: middle });
            lo = middle;
        }
    }
    ranges.reverse();
    ranges
}

fn consistency_ranges(old: u64, new: u64) -> Vec<Range> {
    if old == 0 {
        return Vec::new();
    }
    let (mut lo, mut hi) = (0, new);
    let mut ranges = Vec::new();
    while old < hi {
        let middle = lo + split(hi - lo);
        if old <= middle {
            ranges.push(Range { lo: middle, hi });
            hi = middle;
        } else {
            ranges.push(Range { lo, hi: middle });
            lo = middle;
        }
    }
    if lo > 0 {
        ranges.push(Range { lo, hi });
    }
    ranges.reverse();
    ranges
}

/// The complete subtrees that make up the leaves `lo..hi`, as (level, index), largest and leftmost first.
pub(crate) fn range_nodes(lo: u64, hi: u64) -> impl Iterator<Item = (u8, u64)> {
    let mut at = lo;
    std::iter::from_fn(move || {
        let rest = hi.checked_sub(at).filter(|rest| *rest > 0)?;
        let level = rest.ilog2();
        let node = (level as u8, at >> level);
        at += 1 << level;
        Some(node)
    })
}

fn range_root<S: NodeSource>(source: &mut S, lo: u64, hi: u64) -> Result<Digest, S::Error> {
    let nodes = range_nodes(lo, hi).map(|(level, index)| source.node(level, index)).collect::<Result<Vec<_>, _>>()?;
    Ok(fold_right(&nodes).expect("a range has at least one leaf"))
}

fn ranges_to_proof<S: NodeSource>(source: &mut S, ranges: Vec<Range>) -> Result<Vec<Digest>, ProveError<S::Error>> {
    ranges.into_iter().map(|range| range_root(source, range.lo, range.hi).map_err(ProveError::Source)).collect()
}

fn fold_right(nodes: &[Digest]) -> Option<Digest> {
    let (last, left) = nodes.split_last()?;
    Some(left.iter().rev().fold(*last, |right, left| node_hash(left, &right)))
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
