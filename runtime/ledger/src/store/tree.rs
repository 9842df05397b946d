//! The tree of one log: its growing edge in the writer's memory, and a reader of all of its nodes.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use remand_model::{Digest, TenantId};

use super::{AuditReader, Head, StoreError, Tile, TileKey};
use crate::merkle::{Frontier, NodeSource, empty_root, leaf_hash};

/// The last, partial tile of every level, lowest first: all that appending and the newest proofs need.
pub(crate) type Edge = Vec<Arc<Tile>>;

/// A log as the writer holds it.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub head: Head,
    frontier: Frontier,
    edge: Edge,
    full: Vec<(TileKey, Arc<Tile>)>,
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
        let Some(root) = tile.root() else {
            self.grown.insert(level);
            return;
        };
        let tile = std::mem::take(&mut self.edge[place]);
        let index = (self.head.size >> (8 * (u32::from(level) + 1))) - 1;
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
            put(key, tile.hashes())?;
        }
        for level in std::mem::take(&mut self.grown).into_iter().filter(|level| *level > 0) {
            let key = TileKey { tenant: self.head.number, level, index: tile_of_edge(self.head.size, level) };
            put(key, self.edge[usize::from(level)].hashes())?;
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
    (size >> (8 * level as u32)) as usize % Tile::WIDTH
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
fn read_tile(reader: &dyn AuditReader, head: &Head, level: u8, index: u64, width: usize) -> Result<Tile, StoreError> {
    if width == 0 {
        return Ok(Tile::default());
    }
    let stored = match (level, width) {
        (0, 0..Tile::WIDTH) => read_leaves(reader, head.number, index, width)?,
        _ => reader.tile(TileKey { tenant: head.number, level, index })?.unwrap_or_default(),
    };
    match stored.get(..width) {
        Some(hashes) => Ok(Tile::of(hashes)),
        None => Err(StoreError::damaged(format!(
            "tile {level}/{index} of tenant {} has {} hashes of {width}",
            head.tenant,
            stored.len()
        ))),
    }
}

fn read_leaves(reader: &dyn AuditReader, tenant: u32, index: u64, width: usize) -> Result<Vec<Digest>, StoreError> {
    let from = index * Tile::WIDTH as u64;
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

/// The node at `level` and `index`: the level and place of its tile, its height in the tile, its place in that row.
const fn place_in_tiles(level: u8, index: u64) -> (u8, u64, usize, usize) {
    let height = level % 8;
    let row = Tile::WIDTH as u64 >> height;
    (level / 8, index / row, height as usize, (index % row) as usize)
}

struct EdgeSource<'a> {
    edge: &'a Edge,
}

impl NodeSource for EdgeSource<'_> {
    type Error = StoreError;

    fn node(&mut self, level: u8, index: u64) -> Result<Digest, StoreError> {
        let (tile_level, _, height, place) = place_in_tiles(level, index);
        let node = self.edge.get(usize::from(tile_level)).and_then(|tile| tile.node(height, place));
        node.ok_or_else(|| StoreError::damaged(format!("node {level}/{index} is missing")))
    }
}

/// All complete nodes of one log, as of one durable commit: the source of its proofs, tiles and entries.
///
/// It stays what it is while the log grows. Full tiles never change and are kept for all trees of a ledger together.
pub struct LogTree {
    reader: Arc<dyn AuditReader>,
    view: Arc<View>,
    cache: Arc<TileCache>,
}

/// Full tiles that were read lately.
#[derive(Default)]
pub(super) struct TileCache {
    tiles: Mutex<HashMap<TileKey, Arc<Tile>>>,
}

impl TileCache {
    /// 16 KiB each.
    const TILES_MAX: usize = 1024;

    fn get(&self, key: TileKey) -> Option<Arc<Tile>> {
        self.tiles.lock().expect("no thread panics while it holds the tiles").get(&key).cloned()
    }

    fn put(&self, key: TileKey, tile: Arc<Tile>) {
        let mut tiles = self.tiles.lock().expect("no thread panics while it holds the tiles");
        if tiles.len() >= Self::TILES_MAX {
            tiles.clear();
        }
        tiles.insert(key, tile);
    }
}

impl LogTree {
    pub(super) fn new(reader: Arc<dyn AuditReader>, view: Arc<View>, cache: Arc<TileCache>) -> Self {
        Self { reader, view, cache }
    }

    /// The log as of this tree.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.view.head
    }

    /// A tile, at the width that it has in this tree; empty beyond its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn tile(&self, level: u8, index: u64) -> Result<Arc<Tile>, StoreError> {
        let head = &self.view.head;
        let growing = if level < 7 { tile_of_edge(head.size, level) } else { 0 };
        if index >= growing {
            let edge = self.view.edge.get(usize::from(level)).filter(|_| index == growing);
            return Ok(edge.cloned().unwrap_or_default());
        }
        let key = TileKey { tenant: head.number, level, index };
        if let Some(tile) = self.cache.get(key) {
            return Ok(tile);
        }
        let tile = Arc::new(read_tile(self.reader.as_ref(), head, level, index, Tile::WIDTH)?);
        self.cache.put(key, tile.clone());
        Ok(tile)
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
        let (tile_level, tile, height, place) = place_in_tiles(level, index);
        let node = self.tile(tile_level, tile)?.node(height, place);
        node.ok_or_else(|| StoreError::damaged(format!("node {level}/{index} is missing")))
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
