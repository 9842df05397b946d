//! The tree of one log: its growing edge in the writer's memory, and a reader of all of its nodes.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use remand_model::{Digest, TenantId};

use super::{AuditReader, Head, StoreError, TileKey};
use crate::merkle::{Frontier, NodeSource, empty_root, leaf_hash, node_hash};

/// Hashes in a full tile.
pub(crate) const TILE_WIDTH: usize = 256;

/// The last, partial tile of every level, lowest first: all that appending and the newest proofs need.
pub(crate) type Edge = Vec<Arc<Vec<Digest>>>;

/// A log as the writer holds it.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub head: Head,
    frontier: Frontier,
    edge: Edge,
    full: Vec<(TileKey, Vec<Digest>)>,
    grown: BTreeSet<u8>,
}

/// A log as readers see it: as of its last durable commit.
#[derive(Debug)]
pub(crate) struct View {
    pub head: Head,
    pub edge: Edge,
}

impl Chain {
    pub(crate) fn new(tenant: TenantId, number: u32) -> Self {
        let head = Head { tenant, number, size: 0, root: empty_root(), timestamp: 0, wall_clock_us: 0 };
        Self { head, frontier: Frontier::new(), edge: Edge::new(), full: Vec::new(), grown: BTreeSet::new() }
    }

    /// The chain that a store's rows describe, its root computed anew and not yet compared with the head's.
    pub(crate) fn rebuild(reader: &dyn AuditReader, head: Head) -> Result<(Self, Digest), StoreError> {
        let edge = read_edge(reader, &head)?;
        let mut source = EdgeSource { edge: &edge };
        let frontier = Frontier::from_source(&mut source, head.size)?;
        let root = frontier.root();
        Ok((Self { head, frontier, edge, full: Vec::new(), grown: BTreeSet::new() }, root))
    }

    /// Adds a leaf.
    pub(crate) fn append(&mut self, leaf: Digest) {
        let index = self.frontier.append(leaf);
        self.head.size = index + 1;
        self.grow(0, leaf);
    }

    fn grow(&mut self, level: u8, hash: Digest) {
        let place = usize::from(level);
        if self.edge.len() == place {
            self.edge.push(Arc::default());
        }
        let tile = Arc::make_mut(&mut self.edge[place]);
        tile.push(hash);
        if tile.len() < TILE_WIDTH {
            self.grown.insert(level);
            return;
        }
        let tile = std::mem::take(tile);
        let index = (self.head.size >> (8 * (u32::from(level) + 1))) - 1;
        let root = fold_complete(&tile);
        self.grown.remove(&level);
        self.full.push((TileKey { tenant: self.head.number, level, index }, tile));
        self.grow(level + 1, root);
    }

    /// Sets the head's root to the tree's.
    pub(crate) fn settle(&mut self) {
        self.head.root = self.frontier.root();
    }

    /// Hands every tile that changed since the last call, but the partial one of the leaves, to `put`.
    pub(crate) fn take_tiles<E>(&mut self, mut put: impl FnMut(TileKey, &[Digest]) -> Result<(), E>) -> Result<(), E> {
        for (key, tile) in self.full.drain(..) {
            put(key, &tile)?;
        }
        for level in std::mem::take(&mut self.grown).into_iter().filter(|level| *level > 0) {
            let key = TileKey { tenant: self.head.number, level, index: tile_of_edge(self.head.size, level) };
            put(key, &self.edge[usize::from(level)])?;
        }
        Ok(())
    }

    pub(crate) fn view(&self) -> View {
        View { head: self.head.clone(), edge: self.edge.clone() }
    }
}

/// The place, within its level, of the tile that grows.
const fn tile_of_edge(size: u64, level: u8) -> u64 {
    size >> (8 * (level as u32 + 1))
}

/// Hashes in the tile that grows.
const fn width_of_edge(size: u64, level: u8) -> usize {
    (size >> (8 * level as u32)) as usize % TILE_WIDTH
}

fn read_edge(reader: &dyn AuditReader, head: &Head) -> Result<Edge, StoreError> {
    let levels = (0_u8..).take_while(|level| head.size >> (8 * u32::from(*level)) > 0);
    levels
        .map(|level| {
            let width = width_of_edge(head.size, level);
            let index = tile_of_edge(head.size, level);
            read_tile(reader, head, level, index, width).map(Arc::new)
        })
        .collect()
}

/// The first `width` hashes of a tile: stored, or made from the entries where it is the partial one of the leaves.
fn read_tile(
    reader: &dyn AuditReader,
    head: &Head,
    level: u8,
    index: u64,
    width: usize,
) -> Result<Vec<Digest>, StoreError> {
    if width == 0 {
        return Ok(Vec::new());
    }
    let stored = match (level, width) {
        (0, 0..TILE_WIDTH) => read_leaves(reader, head.number, index, width)?,
        _ => reader.tile(TileKey { tenant: head.number, level, index })?.unwrap_or_default(),
    };
    match stored.get(..width) {
        Some(tile) => Ok(tile.to_vec()),
        None => Err(StoreError::damaged(format!(
            "tile {level}/{index} of tenant {} has {} hashes of {width}",
            head.tenant,
            stored.len()
        ))),
    }
}

fn read_leaves(reader: &dyn AuditReader, tenant: u32, index: u64, width: usize) -> Result<Vec<Digest>, StoreError> {
    let from = index * TILE_WIDTH as u64;
    let mut leaves = Vec::with_capacity(width);
    reader.entries(tenant, from, from + width as u64, &mut |id, entry| {
        if id != from + leaves.len() as u64 {
            return ControlFlow::Break(());
        }
        leaves.push(leaf_hash(entry));
        ControlFlow::Continue(())
    })?;
    Ok(leaves)
}

/// The root of a complete subtree over a power of two of hashes.
fn fold_complete(hashes: &[Digest]) -> Digest {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    row[0]
}

/// Where a node lies: tile level, place of its tile, and the tile's hashes that it covers.
struct Covered {
    level: u8,
    tile: u64,
    from: usize,
    to: usize,
}

const fn covered(level: u8, index: u64) -> Covered {
    let height = level as u32 % 8;
    let first = index << height;
    let from = (first % TILE_WIDTH as u64) as usize;
    Covered { level: level / 8, tile: first / TILE_WIDTH as u64, from, to: from + (1 << height) }
}

struct EdgeSource<'a> {
    edge: &'a Edge,
}

impl NodeSource for EdgeSource<'_> {
    type Error = StoreError;

    fn node(&mut self, level: u8, index: u64) -> Result<Digest, StoreError> {
        let place = covered(level, index);
        let hashes = self.edge.get(usize::from(place.level)).and_then(|tile| tile.get(place.from..place.to));
        hashes.map(fold_complete).ok_or_else(|| StoreError::damaged(format!("node {level}/{index} is missing")))
    }
}

/// All complete nodes of one log, as of one durable commit: the source of its proofs, tiles and entries.
///
/// It stays what it is while the log grows. Tiles that were read once are kept in it.
pub struct LogTree {
    reader: Arc<dyn AuditReader>,
    view: Arc<View>,
    tiles: HashMap<(u8, u64), Arc<Vec<Digest>>>,
}

impl LogTree {
    pub(super) fn new(reader: Arc<dyn AuditReader>, view: Arc<View>) -> Self {
        Self { reader, view, tiles: HashMap::new() }
    }

    /// The log as of this tree.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.view.head
    }

    /// The hashes of a tile, at the width that it has in this tree; empty beyond its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tile(&mut self, level: u8, index: u64) -> Result<Arc<Vec<Digest>>, StoreError> {
        if let Some(tile) = self.tiles.get(&(level, index)) {
            return Ok(tile.clone());
        }
        let tile = self.load(level, index)?;
        self.tiles.insert((level, index), tile.clone());
        Ok(tile)
    }

    fn load(&self, level: u8, index: u64) -> Result<Arc<Vec<Digest>>, StoreError> {
        let size = self.view.head.size;
        if index == tile_of_edge(size, level) {
            return Ok(self.view.edge.get(usize::from(level)).cloned().unwrap_or_default());
        }
        let width = if index < tile_of_edge(size, level) { TILE_WIDTH } else { 0 };
        read_tile(self.reader.as_ref(), &self.view.head, level, index, width).map(Arc::new)
    }

    /// The entries from `from` (inclusive) to `to` (exclusive), cut at the tree's size.
    ///
    /// # Errors
    /// [`StoreError`], also where one is missing.
    pub fn entries(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let to = to.min(self.view.head.size);
        let mut entries = Vec::new();
        self.reader.entries(self.view.head.number, from, to, &mut |_, entry| {
            entries.push(entry.to_vec());
            ControlFlow::Continue(())
        })?;
        match entries.len() as u64 == to.saturating_sub(from) {
            true => Ok(entries),
            false => Err(StoreError::damaged(format!("events {from}..{to} of {} have a gap", self.view.head.tenant))),
        }
    }
}

impl NodeSource for LogTree {
    type Error = StoreError;

    fn node(&mut self, level: u8, index: u64) -> Result<Digest, StoreError> {
        let place = covered(level, index);
        let tile = self.tile(place.level, place.tile)?;
        let hashes = tile.get(place.from..place.to);
        hashes.map(fold_complete).ok_or_else(|| StoreError::damaged(format!("node {level}/{index} is missing")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::MemoryTree;

    #[test]
    fn the_edge_and_the_tiles_hold_every_node_of_the_tree() {
        let mut chain = Chain::new("a".parse().unwrap(), 0);
        let mut tree = MemoryTree::default();
        let mut tiles = HashMap::new();
        for n in 0..66_000_u64 {
            let leaf = leaf_hash(&n.to_be_bytes());
            tree.append(leaf);
            chain.append(leaf);
            chain
                .take_tiles(|key, tile| {
                    tiles.insert((key.level, key.index), tile.to_vec());
                    Ok::<(), ()>(())
                })
                .unwrap();
        }
        assert_eq!(chain.head.size, 66_000);
        assert_eq!(tiles[&(0, 257 - 1)][3], tree.node(0, 256 * 256 + 3).unwrap());
        assert_eq!(tiles[&(1, 0)][255], tree.node(8, 255).unwrap());
        assert_eq!(tiles[&(1, 1)], [tree.node(8, 256).unwrap()]);
        assert_eq!(tiles[&(2, 0)], [tree.node(16, 0).unwrap()]);
        assert_eq!(tiles.keys().filter(|(level, _)| *level == 0).count(), 257);
        let mut source = EdgeSource { edge: &chain.edge };
        assert_eq!(Frontier::from_source(&mut source, 66_000).unwrap(), chain.frontier);
    }
}
