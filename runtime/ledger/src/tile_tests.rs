//! Tiles at the sizes where their widths change, and names that only look like tiles.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::merkle::{Frontier, MemoryTree, leaf_hash, prove_consistency, prove_inclusion, root};

struct Shelf(BTreeMap<Tile, Vec<u8>>);

impl TileReader for Shelf {
    type Error = Infallible;

    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, Infallible> {
        Ok(self.0[&tile].clone())
    }
}

fn leaf(index: u64) -> Digest {
    leaf_hash(&index.to_be_bytes())
}

fn shelf(size: u64) -> Shelf {
    let mut builder = TileBuilder::new();
    let mut tiles: BTreeMap<_, _> = (0..size).flat_map(|index| builder.append(leaf(index))).collect();
    tiles.extend(builder.partial());
    Shelf(tiles)
}

fn count(level: u8, size: u64) -> (usize, Vec<u16>) {
    let tiles: Vec<_> = tiles_of(Column::Hashes(level), size).collect();
    let partial = tiles.iter().filter(|tile| !tile.is_full()).map(|tile| tile.width).collect();
    (tiles.iter().filter(|tile| tile.is_full()).count(), partial)
}

#[test]
fn seventy_thousand_leaves_have_the_tiles_that_the_specification_counts() {
    assert_eq!(count(0, 70_000), (273, vec![112]));
    assert_eq!(count(1, 70_000), (1, vec![17]));
    assert_eq!(count(2, 70_000), (0, vec![1]));
    assert_eq!(count(3, 70_000), (0, vec![]));
}

#[test]
fn a_log_of_256_leaves_has_one_full_tile_and_one_of_width_one_above_it() {
    let paths: Vec<_> = all_tiles(256).map(|tile| tile.path()).collect();
    assert_eq!(paths, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(all_tiles(0).count(), 0);
}

#[test]
fn the_builder_makes_exactly_the_tiles_of_its_size() {
    for size in [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537] {
        let named: Vec<_> = (0..LEVELS).flat_map(|level| tiles_of(Column::Hashes(level), size)).collect();
        let mut built: Vec<_> = shelf(size).0.into_keys().collect();
        built.sort();
        assert_eq!(built, named, "size {size}");
    }
}

#[test]
fn the_tree_out_of_tiles_is_the_tree_in_memory() {
    for size in [1, 2, 255, 256, 257, 65_535, 65_536, 65_537] {
        let mut memory = MemoryTree::from_leaves((0..size).map(leaf));
        let mut tiles = TileTree::new(shelf(size), size);
        assert_eq!(root(&mut tiles, size).unwrap(), root(&mut memory, size).unwrap());
        assert_eq!(Frontier::from_source(&mut tiles, size).unwrap(), Frontier::from_source(&mut memory, size).unwrap());
        for index in [0, size / 3, size / 2, size - 1] {
            let expected = prove_inclusion(&mut memory, index, size).unwrap();
            assert_eq!(prove_inclusion(&mut tiles, index, size).unwrap(), expected, "{index} of {size}");
            let expected = prove_consistency(&mut memory, index, size).unwrap();
            assert_eq!(prove_consistency(&mut tiles, index, size).unwrap(), expected, "{index} to {size}");
        }
    }
}

#[test]
fn an_index_is_spelled_in_groups_of_three_digits() {
    let tile = Tile { column: Column::Hashes(0), index: 1_234_067, width: 256 };
    assert_eq!(tile.path(), "tile/0/x001/x234/067");
    assert_eq!(Tile::parse("tile/0/x001/x234/067"), Some(tile));
    let partial = Tile { column: Column::Entries, index: 0, width: 7 };
    assert_eq!(Tile::parse("tile/entries/000.p/7"), Some(partial));
}

#[test]
fn a_path_with_any_other_spelling_names_no_tile() {
    for bad in [
        "tile/0/0",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/1000",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/07",
        "tile/0/001/x000",
        "tile/0/+01",
        "tile/-1/000",
        "tile/0/000/",
        "tile/0/000.p/",
        "tile//000",
        "tile/entries/../000",
        "tile/0/x018/x446/x744/x073/x709/x551/x616",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(Tile::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_bundle_that_is_cut_or_padded_is_refused() {
    let bytes = encode_bundle(&[&b"one"[..], b"", b"three"]).unwrap();
    assert_eq!(decode_bundle(&bytes, 3).unwrap(), [&b"one"[..], b"", b"three"]);
    assert_eq!(decode_bundle(&bytes, 2), Err(TileError::Trailing { bytes: 7 }));
    assert_eq!(decode_bundle(&bytes, 4), Err(TileError::Truncated { place: 3 }));
    assert_eq!(decode_bundle(&bytes[..bytes.len() - 1], 3), Err(TileError::Truncated { place: 2 }));
    assert!(encode_bundle(&[vec![0; ENTRY_BYTES_MAX]]).is_ok());
    assert!(encode_bundle(&[vec![0; ENTRY_BYTES_MAX + 1]]).is_err());
}

proptest! {
    #[test]
    fn every_tile_survives_its_own_path(level in 0_u8..8, index: u64, width in 1_u16..=256, entries: bool) {
        let column = if entries { Column::Entries } else { Column::Hashes(level) };
        let tile = Tile { column, index, width };
        prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
    }

    #[test]
    fn hostile_bundles_and_paths_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), width in 0_u16..300, path in ".{0,40}") {
        if let Ok(entries) = decode_bundle(&bytes, width) {
            prop_assert_eq!(encode_bundle(&entries).unwrap(), bytes);
        }
        if let Some(tile) = Tile::parse(&path) {
            prop_assert_eq!(tile.path(), path);
        }
    }

    #[test]
    fn no_tile_of_a_log_is_outside_of_it(size: u64, index: u64, level: u8) {
        if let Some(tile) = Tile::of(Column::Hashes(level), index, size) {
            prop_assert!(tile.belongs_to(size) && tile.width >= 1);
        }
    }
}
