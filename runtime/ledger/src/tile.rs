//! Tiles of height 8 (C2SP tlog-tiles): their names, their exact widths, their bytes, and the tree read back out of them.
//!
//! A tile of level L holds the roots of up to 256 complete subtrees of 256^L leaves; an entry bundle holds the entries
//! under a tile of level 0. A partial tile is never hashed upwards. Which tiles a log of `size` leaves has follows from
//! `size` alone, and no other file belongs into an export.

use std::collections::BTreeMap;

use remand_model::Digest;

use crate::merkle::{NodeSource, node_hash};

/// Hashes in a full tile and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// The longest entry in bytes: bundles write its length into sixteen bits.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// The largest bundle in bytes.
pub const BUNDLE_BYTES_MAX: u64 = TILE_WIDTH * (ENTRY_BYTES_MAX as u64 + 2);
/// The largest tile in bytes.
pub const TILE_BYTES_MAX: u64 = TILE_WIDTH * 32;
/// Levels of tiles that a tree of fewer than 2^64 leaves can have.
const LEVELS: u8 = 8;
/// Expanded tiles kept in memory by a [`TileTree`]: about 16 KiB each.
const TILES_CACHED_MAX: usize = 64;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Hashes of subtrees of 256^level leaves.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// The name of one tile: what it holds, its place, and how wide it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub column: Column,
    /// Its place among the tiles of its level, from 0.
    pub index: u64,
    /// Hashes or entries in it: 1 to 256, 256 being a full tile.
    pub width: u16,
}

impl Tile {
    /// The tile `index` of `column` in a log of `size` leaves, or nothing where the log has no such tile.
    #[must_use]
    pub fn of(column: Column, index: u64, size: u64) -> Option<Self> {
        let cells = size >> (8 * u32::from(column.level()?));
        let width = cells.checked_sub(index.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        (width > 0).then_some(Self { column, index, width: width as u16 })
    }

    /// Whether all of its 256 places are taken.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width as u64 == TILE_WIDTH
    }

    /// Its path inside a log's folder: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
    #[must_use]
    pub fn path(&self) -> String {
        let column = match self.column {
            Column::Hashes(level) => level.to_string(),
            Column::Entries => "entries".to_owned(),
        };
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        let partial = if self.is_full() { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{column}/{}{partial}", groups.join("/"))
    }

    /// The tile that a path names, where it is spelled exactly as [`Tile::path`] spells it.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (column, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let column = match column {
            "entries" => Column::Entries,
            level => Column::Hashes(level.parse().ok()?),
        };
        let (name, width) = match rest.split_once(".p/") {
            Some((name, width)) => (name, width.parse().ok()?),
            None => (rest, TILE_WIDTH as u16),
        };
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let tile = Self { column, index: digits.parse().ok()?, width };
        // Everything that parsing let pass (signs, zeroes, groups out of order) is refused by comparing the spelling.
        ((1..=TILE_WIDTH as u16).contains(&width) && tile.path() == path).then_some(tile)
    }

    /// Whether a log of `size` leaves has exactly this tile.
    #[must_use]
    pub fn belongs_to(&self, size: u64) -> bool {
        Self::of(self.column, self.index, size) == Some(*self)
    }
}

impl Column {
    fn level(self) -> Option<u8> {
        match self {
            Self::Hashes(level) if level >= LEVELS => None,
            Self::Hashes(level) => Some(level),
            Self::Entries => Some(0),
        }
    }
}

/// All tiles of one column in a log of `size` leaves, in order.
pub fn tiles_of(column: Column, size: u64) -> impl Iterator<Item = Tile> {
    (0..).map_while(move |index| Tile::of(column, index, size))
}

/// Every tile of a log of `size` leaves: entries first, then the hashes from the leaves up.
pub fn all_tiles(size: u64) -> impl Iterator<Item = Tile> {
    let hashes = (0..LEVELS).flat_map(move |level| tiles_of(Column::Hashes(level), size));
    tiles_of(Column::Entries, size).chain(hashes)
}

/// Bytes that are not the tile or bundle that they were read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A tile of hashes has the wrong length.
    #[error("the tile has {found} bytes where its width asks for {expected}; fetch or export it again")]
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes that the width asks for.
        expected: usize,
    },
    /// A bundle ends inside of an entry.
    #[error("the bundle ends inside of its entry {place}; fetch or export it again")]
    Truncated {
        /// The entry's place in the bundle, from 0.
        place: usize,
    },
    /// A bundle has bytes behind its last entry.
    #[error("the bundle has {bytes} bytes behind its last entry; fetch or export it again")]
    Trailing {
        /// Bytes too many.
        bytes: usize,
    },
    /// An entry is longer than a bundle can hold.
    #[error("an entry of {bytes} bytes does not fit; entries have at most {ENTRY_BYTES_MAX}, carry the rest by digest")]
    EntryTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Entries as a bundle: each behind its length in two bytes, most significant first.
///
/// # Errors
/// [`TileError::EntryTooLong`].
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().len() + 2).sum());
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong { bytes: entry.len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// The `width` entries of a bundle.
///
/// # Errors
/// [`TileError::Truncated`] or [`TileError::Trailing`].
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    let mut bundle = Bundle::new(bytes);
    let entries = (0..width).map(|_| bundle.next_entry()).collect::<Result<_, _>>()?;
    bundle.finish()?;
    Ok(entries)
}

/// A bundle that is read entry by entry, so that a reader can judge each before it sees that the next one is cut.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    rest: &'a [u8],
    place: usize,
}

impl<'a> Bundle<'a> {
    /// Begins to read.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, place: 0 }
    }

    /// The next entry.
    ///
    /// # Errors
    /// [`TileError::Truncated`].
    pub fn next_entry(&mut self) -> Result<&'a [u8], TileError> {
        let cut = TileError::Truncated { place: self.place };
        let Some((length, rest)) = self.rest.split_first_chunk::<2>() else { return Err(cut) };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, rest)) = rest.split_at_checked(length) else { return Err(cut) };
        self.rest = rest;
        self.place += 1;
        Ok(entry)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`TileError::Trailing`].
    pub const fn finish(&self) -> Result<(), TileError> {
        if self.rest.is_empty() { Ok(()) } else { Err(TileError::Trailing { bytes: self.rest.len() }) }
    }
}

/// Hashes as the bytes of a tile.
#[must_use]
pub fn encode_tile(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The `width` hashes of a tile.
///
/// # Errors
/// [`TileError::Length`].
pub fn decode_tile(bytes: &[u8], width: u16) -> Result<Vec<Digest>, TileError> {
    let expected = usize::from(width) * 32;
    if bytes.len() != expected {
        return Err(TileError::Length { found: bytes.len(), expected });
    }
    Ok(bytes.as_chunks::<32>().0.iter().copied().map(Digest::from_bytes).collect())
}

/// The complete subtrees inside of one tile, row by row: row 0 is the tile itself, row 8 the root of a full one.
#[derive(Debug, Clone)]
pub struct Pyramid {
    rows: Vec<Vec<Digest>>,
}

impl Pyramid {
    /// Builds the rows above the hashes of a tile.
    #[must_use]
    pub fn new(hashes: Vec<Digest>) -> Self {
        let mut rows = vec![hashes];
        while let Some(row) = rows.last().filter(|row| row.len() > 1 && rows.len() <= LEVELS.into()) {
            rows.push(row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect());
        }
        Self { rows }
    }

    /// The hashes of the tile itself.
    #[must_use]
    pub fn leaves(&self) -> &[Digest] {
        &self.rows[0]
    }

    /// The root of a full tile, or nothing for a partial one.
    #[must_use]
    pub fn full_root(&self) -> Option<Digest> {
        self.get(LEVELS, 0)
    }

    /// The complete subtree `place` of height `row` inside of the tile.
    #[must_use]
    pub fn get(&self, row: u8, place: usize) -> Option<Digest> {
        self.rows.get(usize::from(row))?.get(place).copied()
    }
}

/// Where tiles of hashes are kept.
pub trait TileReader {
    /// Why a tile cannot be read.
    type Error;

    /// The bytes of exactly this tile.
    ///
    /// # Errors
    /// Whatever keeps it from being read, a log without it included.
    fn read_tile(&mut self, tile: Tile) -> Result<Vec<u8>, Self::Error>;
}

/// Why a node could not be read out of tiles.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E> {
    /// The tile could not be read.
    #[error("tile {0} cannot be read")]
    Read(String, #[source] E),
    /// The tile is damaged.
    #[error("tile {0} is damaged")]
    Damaged(String, #[source] TileError),
    /// The tree is too small to have the node.
    #[error("a tree of {size} leaves has no complete node {index} at level {level}")]
    NoNode {
        /// Height above the leaves.
        level: u8,
        /// Place within its level, from 0.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
}

/// The tree of a log of known size, read out of its tiles; the tiles used last stay expanded in memory.
#[derive(Debug)]
pub struct TileTree<R> {
    reader: R,
    size: u64,
    cached: BTreeMap<(u8, u64), (u64, Pyramid)>,
    uses: u64,
}

impl<R: TileReader> TileTree<R> {
    /// The tree of the first `size` leaves; `reader` has the tiles of exactly that size.
    pub fn new(reader: R, size: u64) -> Self {
        Self { reader, size, cached: BTreeMap::new(), uses: 0 }
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    fn load(&mut self, level: u8, tile: Tile) -> Result<(), TreeError<R::Error>> {
        let key = (level, tile.index);
        if self.cached.contains_key(&key) {
            return Ok(());
        }
        if self.cached.len() >= TILES_CACHED_MAX {
            let oldest = self.cached.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| self.cached.remove(&key));
        }
        let bytes = self.reader.read_tile(tile).map_err(|why| TreeError::Read(tile.path(), why))?;
        let hashes = decode_tile(&bytes, tile.width).map_err(|why| TreeError::Damaged(tile.path(), why))?;
        self.cached.insert(key, (0, Pyramid::new(hashes)));
        Ok(())
    }
}

impl<R: TileReader> NodeSource for TileTree<R> {
    type Error = TreeError<R::Error>;

    fn node(&mut self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        let missing = TreeError::NoNode { level, index, size: self.size };
        let (tile_level, row) = (level / 8, level % 8);
        let Some(cell) = index.checked_mul(1 << row) else { return Err(missing) };
        let Some(tile) = Tile::of(Column::Hashes(tile_level), cell / TILE_WIDTH, self.size) else {
            return Err(missing);
        };
        self.load(tile_level, tile)?;
        self.uses += 1;
        let found = self.cached.get_mut(&(tile_level, tile.index)).and_then(|(used, pyramid)| {
            *used = self.uses;
            pyramid.get(row, (cell % TILE_WIDTH) as usize >> row)
        });
        found.ok_or(missing)
    }
}

/// Grows the tiles of a log leaf by leaf: full tiles come out as they fill, partial ones are read off at the end.
#[derive(Debug, Clone, Default)]
pub struct TileBuilder {
    rows: Vec<(u64, Vec<Digest>)>,
}

impl TileBuilder {
    /// The builder of a log without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a leaf by its hash and returns the tiles that it filled, lowest first, with their bytes.
    pub fn append(&mut self, leaf: Digest) -> Vec<(Tile, Vec<u8>)> {
        let (mut cell, mut filled) = (leaf, Vec::new());
        for level in 0..LEVELS {
            if self.rows.len() == usize::from(level) {
                self.rows.push((0, Vec::with_capacity(TILE_WIDTH as usize)));
            }
            let (index, row) = &mut self.rows[usize::from(level)];
            row.push(cell);
            if (row.len() as u64) < TILE_WIDTH {
                break;
            }
            let tile = Tile { column: Column::Hashes(level), index: *index, width: TILE_WIDTH as u16 };
            let pyramid = Pyramid::new(std::mem::take(row));
            *index += 1;
            filled.push((tile, encode_tile(pyramid.leaves())));
            cell = pyramid.full_root().expect("256 hashes have a root");
        }
        filled
    }

    /// The partial tiles of the log as it stands, lowest first, with their bytes.
    #[must_use]
    pub fn partial(&self) -> Vec<(Tile, Vec<u8>)> {
        let rows = self.rows.iter().zip(0_u8..).filter(|((_, row), _)| !row.is_empty());
        let name =
            |level, index, row: &[Digest]| Tile { column: Column::Hashes(level), index, width: row.len() as u16 };
        rows.map(|((index, row), level)| (name(level, *index, row), encode_tile(row))).collect()
    }
}

#[cfg(test)]
#[path = "tile_tests.rs"]
mod tests;
