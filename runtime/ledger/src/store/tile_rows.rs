//! One tile with every complete node over its hashes, so that a proof reads nodes and hashes nothing.

use remand_model::Digest;

use crate::merkle::node_hash;

/// Up to 256 hashes of one level and the nodes above them that are complete (C2SP tlog-tiles, height 8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tile {
    /// By height: the hashes themselves, then the nodes over 2, 4 and so on up to 256 of them.
    rows: [Vec<Digest>; Self::ROWS],
}

impl Tile {
    /// Hashes in a full tile.
    pub const WIDTH: usize = 256;

    const ROWS: usize = 9;

    /// The tile of these hashes, of which there are at most [`Tile::WIDTH`].
    pub(crate) fn of(hashes: &[Digest]) -> Self {
        let mut tile = Self::default();
        hashes.iter().for_each(|hash| tile.push(*hash));
        tile
    }

    pub(crate) fn push(&mut self, hash: Digest) {
        assert!(self.rows[0].len() < Self::WIDTH, "a tile has room for 256 hashes");
        let mut node = hash;
        for row in &mut self.rows {
            row.push(node);
            let [.., left, right] = row.as_slice() else { return };
            if row.len() % 2 == 1 {
                return;
            }
            node = node_hash(left, right);
        }
    }

    /// The hashes, as the tile's file holds them.
    #[must_use]
    pub fn hashes(&self) -> &[Digest] {
        &self.rows[0]
    }

    /// The node over hashes `index << height .. (index + 1) << height`, where it is complete.
    #[must_use]
    pub fn node(&self, height: usize, index: usize) -> Option<Digest> {
        self.rows.get(height)?.get(index).copied()
    }

    /// The node over all 256 hashes of a full tile.
    #[must_use]
    pub fn root(&self) -> Option<Digest> {
        self.node(Self::ROWS - 1, 0)
    }
}
