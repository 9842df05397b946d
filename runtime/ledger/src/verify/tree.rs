//! The tree that the entries led to, and the tiles above the leaves held against it.

use std::sync::Arc;

use remand_model::Digest;

use crate::folder::Folder;
use crate::merkle::{MemoryTree, NodeSource};
use crate::tile::{Column, Pyramid, TILE_BYTES_MAX, TILE_WIDTH, Tile, decode_tile, tiles_of};

use super::events::BundleTree;
use super::{Export, Fault, Reason, read};

/// Levels of hashes inside of a tile.
const TILE_HEIGHT: u8 = 8;

/// The tree over the verified entries: the roots of full bundles in memory, leaves read again where they are asked for.
#[derive(Clone)]
pub(super) struct VerifiedTree<'a> {
    folder: &'a dyn Folder,
    size: u64,
    roots: Arc<MemoryTree>,
    last: Arc<Pyramid>,
    read_last: Option<(u64, Arc<Pyramid>)>,
}

impl<'a> VerifiedTree<'a> {
    /// Builds the tree and checks every tile above the leaves; returns how many tiles of hashes the log has.
    pub(super) fn build(export: &Export<'a>, bundles: Vec<BundleTree>) -> Result<(Self, u64), Fault> {
        let (mut roots, mut last) = (MemoryTree::default(), Pyramid::new(Vec::new()));
        for bundle in bundles {
            match bundle {
                BundleTree::Full(root) => roots.append(root),
                BundleTree::Partial(pyramid) => last = pyramid,
            }
        }
        let tiles = export.head.size.div_ceil(TILE_WIDTH) + check_upper_tiles(export, &roots)?;
        let (roots, last) = (Arc::new(roots), Arc::new(last));
        Ok((Self { folder: export.folder, size: export.head.size, roots, last, read_last: None }, tiles))
    }

    /// The leaf of one event.
    pub(super) fn leaf(&mut self, index: u64) -> Result<Digest, Fault> {
        self.node(0, index)
    }

    /// The tree inside of one bundle.
    fn pyramid(&mut self, bundle: u64) -> Result<Arc<Pyramid>, Fault> {
        if bundle == self.size / TILE_WIDTH {
            return Ok(self.last.clone());
        }
        if let Some((read, pyramid)) = &self.read_last
            && *read == bundle
        {
            return Ok(pyramid.clone());
        }
        let path = Tile { column: Column::Hashes(0), index: bundle, width: TILE_WIDTH as u16 }.path();
        let first = Some(bundle.saturating_mul(TILE_WIDTH));
        let hashes = decode_tile(&read(self.folder, &path, TILE_BYTES_MAX, first)?, TILE_WIDTH as u16);
        let pyramid = Arc::new(Pyramid::new(hashes.map_err(|why| Fault::new(&path, first, why))?));
        // The tile was verified a moment ago, and its folder may be written to by somebody else.
        let known = self.roots.get(0, bundle);
        if known.is_none() || pyramid.full_root() != known {
            return Err(Fault::new(&path, first, Reason::Changed));
        }
        self.read_last = Some((bundle, pyramid.clone()));
        Ok(pyramid)
    }
}

impl NodeSource for VerifiedTree<'_> {
    type Error = Fault;

    fn node(&mut self, level: u8, index: u64) -> Result<Digest, Fault> {
        let missing = || Fault::new(format!("node {index} at level {level}"), None, Reason::Changed);
        match level.checked_sub(TILE_HEIGHT) {
            Some(above) => self.roots.get(above, index).ok_or_else(missing),
            None => {
                let cell = index << level;
                let place = (cell % TILE_WIDTH) as usize >> level;
                self.pyramid(cell / TILE_WIDTH)?.get(level, place).ok_or_else(missing)
            }
        }
    }
}

fn check_upper_tiles(export: &Export<'_>, roots: &MemoryTree) -> Result<u64, Fault> {
    let levels =
        (1_u8..).take_while(|level| u32::from(*level) * 8 < 64 && export.head.size >> (8 * u32::from(*level)) > 0);
    let mut count = 0;
    for level in levels {
        for tile in tiles_of(Column::Hashes(level), export.head.size) {
            check_tile(export, roots, tile, level)?;
            count += 1;
        }
    }
    Ok(count)
}

fn check_tile(export: &Export<'_>, roots: &MemoryTree, tile: Tile, level: u8) -> Result<(), Fault> {
    let path = tile.path();
    // The first event below a place of this tile.
    let event_below = |place: usize| (tile.index * TILE_WIDTH + place as u64) << (8 * u32::from(level));
    let bytes = read(export.folder, &path, TILE_BYTES_MAX, Some(event_below(0)))?;
    let hashes = decode_tile(&bytes, tile.width).map_err(|why| Fault::new(&path, Some(event_below(0)), why))?;
    for (place, hash) in hashes.iter().enumerate() {
        let expected = roots.get(TILE_HEIGHT * (level - 1), tile.index * TILE_WIDTH + place as u64);
        if expected.as_ref() != Some(hash) {
            return Err(Fault::new(&path, Some(event_below(place)), Reason::Tile { place }));
        }
    }
    Ok(())
}
