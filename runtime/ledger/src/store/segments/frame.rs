//! The bytes of a segment: a magic number, then frames of length, checksum and records.

use std::path::Path;

use remand_model::Digest;

use crate::store::{Head, StateKey, StoreError, TileKey};

/// How a segment begins.
pub(super) const MAGIC: &[u8; 8] = b"rmndseg1";

/// Length and checksum, four bytes each, least significant first.
pub(super) const HEADER_BYTES: usize = 8;

pub(super) enum Record<'a> {
    Event { tenant: u32, event_id: u64, entry: &'a [u8] },
    Tile { key: TileKey, hashes: Vec<Digest> },
    Head(Head),
    State { tenant: u32, key: StateKey, value: Option<&'a [u8]> },
}

/// Shown a record and the offset, within the segment or the batch, of an event's entry.
pub(super) type Show<'a> = dyn FnMut(u64, Record<'_>) + 'a;

pub(super) fn frame(batch: &[u8]) -> Result<Vec<u8>, StoreError> {
    let length = u32::try_from(batch.len()).map_err(|_| StoreError::damaged("a batch of more than 4 GiB"))?;
    Ok([&length.to_le_bytes()[..], &crc32fast::hash(batch).to_le_bytes(), batch].concat())
}

/// Shows the records of every whole frame and returns the length in bytes up to the last of them.
pub(super) fn read_segment(path: &Path, bytes: &[u8], last: bool, show: &mut Show<'_>) -> Result<usize, StoreError> {
    let bad = |at: usize| StoreError::damaged(format!("{} is damaged at byte {at}", path.display()));
    if !bytes.starts_with(MAGIC) {
        // A new segment is synced before its first frame is written.
        return if last && bytes.len() < MAGIC.len() { Ok(0) } else { Err(bad(0)) };
    }
    let mut at = MAGIC.len();
    while at < bytes.len() {
        let Some(batch) = whole_frame(&bytes[at..]) else {
            return if last && is_torn(&bytes[at..]) { Ok(at) } else { Err(bad(at)) };
        };
        let start = at + HEADER_BYTES;
        read_records(batch, &mut |offset, record| show(start as u64 + offset, record)).map_err(|_| bad(at))?;
        at = start + batch.len();
    }
    Ok(at)
}

fn split_header(bytes: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length) as usize, u32::from_le_bytes(*checksum), rest))
}

fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, checksum, rest) = split_header(bytes)?;
    rest.get(..length).filter(|batch| length > 0 && crc32fast::hash(batch) == checksum)
}

/// Whether what is no whole frame can be the last write of a machine that went down: it reaches the end of the file, or
/// nothing of it arrived but its length.
fn is_torn(bytes: &[u8]) -> bool {
    let reaches_end = split_header(bytes).is_none_or(|(length, _, rest)| length >= rest.len());
    reaches_end || bytes.iter().all(|byte| *byte == 0)
}

const EVENT: u8 = 1;
const TILE: u8 = 2;
const HEAD: u8 = 3;
const STATE: u8 = 4;

impl Record<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Event { tenant, event_id, entry } => {
                out.push(EVENT);
                out.extend_from_slice(&tenant.to_le_bytes());
                out.extend_from_slice(&event_id.to_le_bytes());
                chunk(entry, out);
            }
            Self::Tile { key, hashes } => {
                out.push(TILE);
                out.extend_from_slice(&key.tenant.to_le_bytes());
                out.push(key.level);
                out.extend_from_slice(&key.index.to_le_bytes());
                chunk(&hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>(), out);
            }
            Self::Head(head) => {
                out.push(HEAD);
                out.extend_from_slice(&head.number.to_le_bytes());
                for number in [head.size, head.timestamp, head.wall_clock_us] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                chunk(head.root.as_bytes(), out);
                chunk(head.tenant.as_str().as_bytes(), out);
            }
            Self::State { tenant, key, value } => {
                out.push(STATE);
                out.extend_from_slice(&tenant.to_le_bytes());
                chunk(key.namespace().as_bytes(), out);
                chunk(key.key().as_bytes(), out);
                out.push(u8::from(value.is_some()));
                chunk(value.unwrap_or_default(), out);
            }
        }
    }
}

fn chunk(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("entries, tiles, keys and values are far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Shows the records of one batch; the offset is that of an event's entry within the batch.
pub(super) fn read_records(batch: &[u8], show: &mut Show<'_>) -> Result<(), &'static str> {
    let mut reader = Reader { batch, at: 0 };
    while reader.at < batch.len() {
        let (offset, record) = reader.record().ok_or("a batch holds a record that it cannot hold")?;
        show(offset, record);
    }
    Ok(())
}

struct Reader<'a> {
    batch: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.batch.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn small(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn chunk(&mut self) -> Option<&'a [u8]> {
        let length = self.small()? as usize;
        let taken = self.batch.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.chunk()?).ok()
    }

    fn record(&mut self) -> Option<(u64, Record<'a>)> {
        let [kind] = self.take()?;
        let tenant = self.small()?;
        let record = match kind {
            EVENT => {
                let event_id = self.number()?;
                let entry = self.chunk()?;
                return Some(((self.at - entry.len()) as u64, Record::Event { tenant, event_id, entry }));
            }
            TILE => {
                let [level] = self.take()?;
                let key = TileKey { tenant, level, index: self.number()? };
                let hashes = self.chunk()?.as_chunks::<32>().0.iter().copied().map(Digest::from_bytes).collect();
                Record::Tile { key, hashes }
            }
            HEAD => {
                let (size, timestamp, wall_clock_us) = (self.number()?, self.number()?, self.number()?);
                let root = Digest::from_bytes(self.chunk()?.try_into().ok()?);
                let tenant_id = self.text()?.parse().ok()?;
                Record::Head(Head { tenant: tenant_id, number: tenant, size, root, timestamp, wall_clock_us })
            }
            STATE => {
                let key = StateKey::reserved(self.text()?, self.text()?).ok()?;
                let [set] = self.take()?;
                let value = self.chunk()?;
                Record::State { tenant, key, value: (set == 1).then_some(value) }
            }
            _ => return None,
        };
        Some((0, record))
    }
}
