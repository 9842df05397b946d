//! A fast reader for entries in bulk: it accepts exactly what `Event::from_entry` accepts, without building the event.
//!
//! Canonical bytes have one spelling, so that a single pass can check it: fixed member names in a fixed order, plain
//! integers, keys that rise by code point, escapes only where there is no other way. Whatever it does not accept is read
//! again by the model to say why. A differential test holds the two against each other.

use std::cmp::Ordering;

use remand_model::PROTOCOL_VERSION;
use remand_model::canonical::{DEPTH_MAX, INTEGER_MAX};

/// What verification needs of an entry, borrowed from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned<'a> {
    pub(crate) causation_id: Option<u64>,
    pub(crate) event_id: u64,
    pub(crate) event_type: &'a [u8],
    pub(crate) claims: &'a [u8],
    pub(crate) observations: &'a [u8],
    pub(crate) tenant_id: &'a [u8],
}

/// The entry, where it is the canonical spelling of an event whose cause comes before it.
pub(crate) fn scan(entry: &[u8]) -> Option<Scanned<'_>> {
    let mut at = Cursor { rest: entry };
    at.literal(b"{\"causation_id\":")?;
    let causation_id = if at.literal(b"null").is_some() { None } else { Some(at.natural()?) };
    at.literal(b",\"event_id\":")?;
    let event_id = at.natural()?;
    at.literal(b",\"event_type\":")?;
    let event_type = at.text().filter(|kind| is_kind(kind))?;
    at.literal(b",\"payload\":{\"claims\":")?;
    // The entry and its payload are two of the levels that a document may have.
    let claims = at.object_bytes(DEPTH_MAX - 2)?;
    at.literal(b",\"observations\":")?;
    let observations = at.object_bytes(DEPTH_MAX - 2)?;
    at.literal(b"},\"protocol_version\":\"")?;
    at.literal(PROTOCOL_VERSION.as_bytes())?;
    at.literal(b"\",\"subject\":")?;
    at.text().filter(|subject| is_subject(subject))?;
    at.literal(b",\"tenant_id\":")?;
    let tenant_id = at.text().filter(|tenant| str::from_utf8(tenant).is_ok_and(remand_model::ids::is_name))?;
    at.literal(b",\"timestamp\":")?;
    at.natural()?;
    at.literal(b",\"wall_clock_us\":")?;
    at.natural()?;
    at.literal(b"}")?;
    let ordered = causation_id.is_none_or(|cause| cause < event_id);
    let fits = entry.len() <= crate::tile::ENTRY_BYTES_MAX;
    (at.rest.is_empty() && ordered && fits).then_some(Scanned {
        causation_id,
        event_id,
        event_type,
        claims,
        observations,
        tenant_id,
    })
}

fn is_kind(kind: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    (1..=64).contains(&kind.len()) && kind[0].is_ascii_alphabetic() && kind.iter().all(inner)
}

/// Printable ASCII without spaces; of the escapes only the quote's and the backslash's spell such characters.
fn is_subject(spelled: &[u8]) -> bool {
    let (mut length, mut rest) = (0_usize, spelled);
    while let Some((first, behind)) = rest.split_first() {
        rest = match (first, behind.split_first()) {
            (b'\\', Some((b'"' | b'\\', behind))) => behind,
            (b'!'..=b'[' | b']'..=b'~', _) => behind,
            _ => return false,
        };
        length += 1;
    }
    (1..=255).contains(&length)
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(bytes)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, behind) = self.rest.split_first()?;
        self.rest = behind;
        Some(*first)
    }

    /// An integer from 0 to 2^53 − 1.
    fn natural(&mut self) -> Option<u64> {
        let digits = self.rest.iter().take(17).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, behind) = self.rest.split_at(digits);
        if digits.is_empty() || digits.len() > 16 || (digits[0] == b'0' && digits.len() > 1) {
            return None;
        }
        self.rest = behind;
        let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
        (number <= INTEGER_MAX.unsigned_abs()).then_some(number)
    }

    /// A text; returns what stands between its quotes, escapes and all.
    fn text(&mut self) -> Option<&'a [u8]> {
        self.literal(b"\"")?;
        let whole = self.rest;
        loop {
            match self.byte()? {
                b'"' => return Some(&whole[..whole.len() - self.rest.len() - 1]),
                b'\\' => self.escape()?,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.byte()? {
            b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f' => Some(()),
            b'u' => match self.unit()? {
                0x08..=0x0a | 0x0c | 0x0d | 0x20..=0x7e | 0xdc00..=0xdfff => None,
                0xd800..=0xdbff => {
                    self.literal(b"\\u")?;
                    matches!(self.unit()?, 0xdc00..=0xdfff).then_some(())
                }
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn unit(&mut self) -> Option<u16> {
        let (digits, behind) = self.rest.split_first_chunk::<4>()?;
        self.rest = behind;
        hex_unit(digits)
    }

    fn value(&mut self, levels: usize) -> Option<()> {
        match self.rest.first()? {
            b'{' => self.object(levels),
            b'[' => self.list(levels),
            b'"' => self.text().map(|_| ()),
            b'-' => {
                self.literal(b"-")?;
                self.natural().filter(|number| *number > 0).map(|_| ())
            }
            b'0'..=b'9' => self.natural().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => None,
        }
    }

    fn list(&mut self, levels: usize) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        self.literal(b"[")?;
        if self.literal(b"]").is_some() {
            return Some(());
        }
        loop {
            self.value(levels)?;
            match self.byte()? {
                b']' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }

    fn object_bytes(&mut self, levels: usize) -> Option<&'a [u8]> {
        let whole = self.rest;
        self.object(levels)?;
        Some(&whole[..whole.len() - self.rest.len()])
    }

    fn object(&mut self, levels: usize) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        self.literal(b"{")?;
        if self.literal(b"}").is_some() {
            return Some(());
        }
        let mut last: Option<&[u8]> = None;
        loop {
            let key = self.text()?;
            if last.is_some_and(|last| compare(last, key) != Ordering::Less) {
                return None;
            }
            last = Some(key);
            self.literal(b":")?;
            self.value(levels)?;
            match self.byte()? {
                b'}' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }
}

fn hex_unit(digits: &[u8; 4]) -> Option<u16> {
    digits.iter().try_fold(0, |unit, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(unit << 4 | u16::from(value))
    })
}

/// The order of two spelled keys by code point.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    if left.contains(&b'\\') || right.contains(&b'\\') { unescape(left).cmp(unescape(right)) } else { left.cmp(right) }
}

/// The code points of a text that [`Cursor::text`] has accepted.
fn unescape(spelled: &[u8]) -> impl Iterator<Item = u32> {
    let mut rest = spelled;
    std::iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        if *first != b'\\' {
            return Some(u32::from(*first));
        }
        let (kind, behind) = rest.split_first()?;
        rest = behind;
        Some(match kind {
            b'n' => 0x0a,
            b'r' => 0x0d,
            b't' => 0x09,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'u' => take_scalar(&mut rest)?,
            plain => u32::from(*plain),
        })
    })
}

/// The code point behind `\u`, whose second half stands behind another `\u` where it is a pair.
fn take_scalar(rest: &mut &[u8]) -> Option<u32> {
    let (digits, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    let unit = u32::from(hex_unit(digits)?);
    if !(0xd800..0xdc00).contains(&unit) {
        return Some(unit);
    }
    let (digits, behind) = behind.strip_prefix(b"\\u")?.split_first_chunk::<4>()?;
    *rest = behind;
    let low = u32::from(hex_unit(digits)?);
    Some(0x1_0000 + ((unit & 0x3ff) << 10 | low & 0x3ff))
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
