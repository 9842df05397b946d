//! A tar stream's entries, with extended headers read under a bound: the `tar` crate reads those as long as they say.
//!
//! Formats: POSIX.1-2017 pax, GNU tar's long names, ustar and the oldest tar.

use std::io::Read;

use tar::{Entries, EntryType, Header};

use crate::bounds::Meter;
use crate::error::{ImageError, Result};

/// Longest extended header, in bytes: names have at most 4095, and no kernel keeps attributes of more than 64 KiB each.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
const REPACK: &str = "pack the tar again with another tool, without sparse files";

/// What an entry makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Device,
    Pipe,
}

/// One entry as the stream tells it: nothing about it is checked.
#[derive(Debug)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    /// Seconds since the epoch.
    pub modified: u64,
    /// Bytes of content.
    pub size: u64,
    /// Where the content begins in the stream.
    pub position: u64,
    /// Names an owner or a group other than root.
    pub owned: bool,
    /// How many extended attributes it has.
    pub attributes: u64,
}

/// What extended headers said about the next entry.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<u64>,
    owned: bool,
    attributes: u64,
    any: bool,
}

/// Calls `visit` with every entry and its content, in the order of the stream.
pub(crate) fn each<'a, R: Read + 'a>(
    entries: std::io::Result<Entries<'a, R>>,
    meter: &Meter,
    visit: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let entries = entries.map_err(|source| ImageError::broken(b"", source))?;
    let mut extensions = Extensions::default();
    let mut last = Vec::new();
    for raw in entries.raw(true) {
        let mut raw = raw.map_err(|source| meter.failure(&last, source))?;
        meter.entry(&last)?;
        if extensions.take_in(&mut raw, meter)? {
            continue;
        }
        let entry = extensions.describe(raw.header(), raw.raw_file_position())?;
        visit(&entry, &mut raw)?;
        (last, extensions) = (entry.path, Extensions::default());
    }
    if extensions.any { Err(broken(&last, "an extended header describes no entry")) } else { Ok(()) }
}

/// Whether this describes the next entry, or all that follow, and is none itself.
pub(crate) fn is_extension(header: &Header) -> bool {
    use EntryType::{GNULongLink, GNULongName, XGlobalHeader, XHeader};
    matches!(header.entry_type(), GNULongName | GNULongLink | XHeader | XGlobalHeader)
}

impl Extensions {
    /// Takes an extended header in; `false` where this is an entry of its own.
    fn take_in<R: Read>(&mut self, raw: &mut tar::Entry<'_, R>, meter: &Meter) -> Result<bool> {
        let kind = raw.header().entry_type();
        match kind {
            EntryType::GNULongName => self.path = Some(until_zero(content(raw, meter)?)),
            EntryType::GNULongLink => self.link = Some(until_zero(content(raw, meter)?)),
            EntryType::XHeader => self.read_pax(&content(raw, meter)?)?,
            EntryType::XGlobalHeader => {
                let mut global = Self::default();
                global.read_pax(&content(raw, meter)?)?;
                if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                    return Err(broken(b"", "a global header names or sizes entries"));
                }
                return Ok(true);
            }
            _ => return Ok(false),
        }
        self.any = true;
        Ok(true)
    }

    fn read_pax(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (key, value, rest) =
                pax_record(bytes).ok_or_else(|| broken(b"", "a pax header has a broken record"))?;
            self.note(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn note(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let set = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = set(),
            b"linkpath" => self.link = set(),
            b"size" => self.size = Some(number(value).ok_or_else(|| broken(b"", "a pax size is no number"))?),
            b"mtime" => self.modified = value.split(|byte| *byte == b'.').next().and_then(number),
            b"uid" | b"gid" => self.owned |= number(value) != Some(0),
            _ if key.starts_with(b"GNU.sparse.") => {
                let name = self.path.as_deref().unwrap_or_default();
                return Err(ImageError::unsupported(name, "is a sparse file", REPACK));
            }
            _ if key.starts_with(b"SCHILY.xattr.") || key.starts_with(b"LIBARCHIVE.xattr.") => self.attributes += 1,
            _ => {}
        }
        Ok(())
    }

    fn describe(&mut self, header: &Header, position: u64) -> Result<Entry> {
        let path = self.path.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let fault = |source| ImageError::broken(&path, source);
        let size = header.entry_size().map_err(fault)?;
        if self.size.is_some_and(|told| told != size) {
            // Readers differ in which of the two they believe, so that one archive could be two.
            return Err(broken(&path, "its two headers differ about its size"));
        }
        let link = || self.link.clone().or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let kind = kind(header.entry_type(), &path, link)?;
        let own = |id: std::io::Result<u64>| id.ok() != Some(0);
        Ok(Entry {
            kind,
            mode: header.mode().map_err(fault)?,
            modified: self.modified.or_else(|| header.mtime().ok()).unwrap_or(0),
            size,
            position,
            owned: self.owned || own(header.uid()) || own(header.gid()),
            attributes: self.attributes,
            path,
        })
    }
}

fn kind(kind: EntryType, path: &[u8], link: impl Fn() -> Option<Vec<u8>>) -> Result<Kind> {
    match kind {
        // The oldest tar writes a folder as a file with a slash at its end.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Ok(Kind::Folder),
        EntryType::Regular | EntryType::Continuous => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Folder),
        EntryType::Symlink => Ok(Kind::Symlink(link().unwrap_or_default())),
        EntryType::Link => Ok(Kind::HardLink(link().unwrap_or_default())),
        EntryType::Char | EntryType::Block => Ok(Kind::Device),
        EntryType::Fifo => Ok(Kind::Pipe),
        EntryType::GNUSparse => Err(ImageError::unsupported(path, "is a sparse file", REPACK)),
        _ => Err(ImageError::unsupported(path, "is of an unknown kind", REPACK)),
    }
}

fn content<R: Read>(raw: &mut tar::Entry<'_, R>, meter: &Meter) -> Result<Vec<u8>> {
    let size = raw.header().entry_size().map_err(|source| ImageError::broken(b"", source))?;
    if size > EXTENSION_BYTES_MAX {
        return Err(ImageError::bound("bytes in one extended header", EXTENSION_BYTES_MAX, &raw.path_bytes()));
    }
    let mut bytes = Vec::new();
    raw.read_to_end(&mut bytes).map_err(|source| meter.failure(b"", source))?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(broken(b"", "an extended header is cut short")) }
}

/// `<length> <key>=<value>\n`, the length in decimal and of the whole record: values may hold line ends and zero bytes.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.iter().all(u8::is_ascii_digit) { str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn broken(name: &[u8], what: &'static str) -> ImageError {
    ImageError::broken(name, std::io::Error::new(std::io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_value_may_hold_line_ends() {
        let bytes = b"13 key=a\nb=c\n9 k=rest\n";
        let (key, value, rest) = pax_record(bytes).unwrap();
        assert_eq!((key, value, rest), (&b"key"[..], &b"a\nb=c"[..], &b"9 k=rest\n"[..]));
    }

    #[test]
    fn pax_records_with_lengths_that_lie_are_refused() {
        for bytes in [&b"99 key=value\n"[..], b"5 key=value\n", b"0 k=v\n", b" k=v\n", b"-6 k=v\n", b"5 kv\n", b"1 =\n"]
        {
            assert!(Extensions::default().read_pax(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
