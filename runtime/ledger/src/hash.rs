//! SHA-256 for the many: the one place that chooses whose implementation hashes the leaves and nodes of whole logs.

use remand_model::Digest;
use sha2::{Digest as _, Sha256};

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

/// SHA-256(0x00 ‖ entry).
pub(crate) fn sha256_leaf(entry: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::new_with_prefix([0]).chain_update(entry).finalize().into())
}

/// SHA-256(0x01 ‖ left ‖ right).
pub(crate) fn sha256_node(left: &Digest, right: &Digest) -> Digest {
    let hasher = Sha256::new_with_prefix([1]).chain_update(left.as_bytes()).chain_update(right.as_bytes());
    Digest::from_bytes(hasher.finalize().into())
}
