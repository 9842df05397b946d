//! The strict reader: recursive descent over bytes, bounded in depth, that knows the place of whatever it refuses.

use std::collections::btree_map::Entry;

use super::encode::is_plain;
use super::{CanonError, DEPTH_MAX, INTEGER_MAX, Integer, Object, Reason, Value};

pub(super) fn document(bytes: &[u8]) -> Result<Value, CanonError> {
    let mut reader = Reader { bytes, at: 0 };
    let read = reader.document();
    read.map_err(|reason| {
        let line = 1 + bytes[..reader.at].iter().filter(|byte| **byte == b'\n').count();
        CanonError::Refused { reason, byte: reader.at, line }
    })
}

/// `at` stands on the offending byte whenever a method fails, and never beyond the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Value, Reason> {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(Reason::ByteOrderMark);
        }
        let value = self.value(DEPTH_MAX)?;
        self.skip_space();
        if self.at == self.bytes.len() { Ok(value) } else { Err(Reason::Trailing) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The refusal of what stands at `at`.
    fn unexpected(&self, expected: &'static str) -> Reason {
        match self.peek() {
            None => Reason::End(expected),
            Some(byte) if byte.is_ascii() => Reason::Unexpected { found: byte.into(), expected },
            Some(_) => {
                match self.bytes[self.at..].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
                    Some(found) => Reason::Unexpected { found, expected },
                    None => Reason::NotUtf8,
                }
            }
        }
    }

    fn value(&mut self, levels: usize) -> Result<Value, Reason> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(levels),
            Some(b'[') => self.list(levels),
            Some(b'"') => self.text().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b'n') => self.word(b"null", Value::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &'static [u8], value: Value) -> Result<Value, Reason> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.unexpected("true, false or null"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn open(&mut self, levels: usize) -> Result<usize, Reason> {
        let below = levels.checked_sub(1).ok_or(Reason::TooDeep)?;
        self.at += 1;
        self.skip_space();
        Ok(below)
    }

    /// Steps over `,` and says true, or over `close` and says false.
    fn goes_on(&mut self, close: u8, expected: &'static str) -> Result<bool, Reason> {
        self.skip_space();
        let goes_on = match self.peek() {
            Some(b',') => true,
            Some(byte) if byte == close => false,
            _ => return Err(self.unexpected(expected)),
        };
        self.at += 1;
        Ok(goes_on)
    }

    fn list(&mut self, levels: usize) -> Result<Value, Reason> {
        let below = self.open(levels)?;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(below)?);
            if !self.goes_on(b']', "',' or ']'")? {
                return Ok(Value::List(items));
            }
        }
    }

    fn object(&mut self, levels: usize) -> Result<Value, Reason> {
        let below = self.open(levels)?;
        let mut members = Object::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.member(&mut members, below)?;
            if !self.goes_on(b'}', "',' or '}'")? {
                return Ok(Value::Object(members));
            }
        }
    }

    fn member(&mut self, members: &mut Object, levels: usize) -> Result<(), Reason> {
        self.skip_space();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key"));
        }
        let key = self.text()?;
        let place = match members.entry(key) {
            Entry::Vacant(place) => place,
            Entry::Occupied(twice) => {
                self.at = start;
                return Err(Reason::DuplicateKey(twice.key().clone()));
            }
        };
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        place.insert(self.value(levels)?);
        Ok(())
    }

    fn number(&mut self) -> Result<Value, Reason> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.at;
        let mut magnitude = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            // Saturating is enough: whatever overflows is beyond 53 bits.
            magnitude = magnitude.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - first;
        if digits == 0 {
            return Err(self.unexpected("a digit"));
        }
        let refusal = match self.peek() {
            Some(b'.' | b'e' | b'E') => Some(Reason::Fraction),
            _ if digits > 1 && self.bytes[first] == b'0' => Some(Reason::LeadingZero),
            _ if negative && magnitude == 0 => Some(Reason::MinusZero),
            _ if magnitude > INTEGER_MAX => Some(Reason::TooLarge),
            _ => None,
        };
        if let Some(reason) = refusal {
            self.at = start;
            return Err(reason);
        }
        Integer::try_from(if negative { -magnitude } else { magnitude }).map(Value::Integer)
    }

    fn text(&mut self) -> Result<String, Reason> {
        self.at += 1;
        let plain = self.plain_run();
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(as_ascii(plain));
        }
        let mut text = as_ascii(plain);
        loop {
            match self.peek() {
                None => return Err(Reason::End("the end of a text")),
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape()?),
                Some(0..0x20) => return Err(Reason::ControlCharacter),
                Some(_) => self.raw_run(&mut text)?,
            }
        }
        self.at += 1;
        Ok(text)
    }

    fn plain_run(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Takes raw bytes up to the next quote, backslash or control character.
    fn raw_run(&mut self, text: &mut String) -> Result<(), Reason> {
        let rest = &self.bytes[self.at..];
        let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let run = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        match std::str::from_utf8(run) {
            Ok(valid) => text.push_str(valid),
            Err(error) => {
                self.at += error.valid_up_to();
                return Err(if is_encoded_surrogate(&self.bytes[self.at..]) {
                    Reason::LoneSurrogate
                } else {
                    Reason::NotUtf8
                });
            }
        }
        self.at += run.len();
        Ok(())
    }

    fn escape(&mut self) -> Result<char, Reason> {
        let short = match self.bytes.get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => return self.escaped_units(),
            _ => return Err(Reason::BadEscape),
        };
        self.at += 2;
        Ok(short)
    }

    fn escaped_units(&mut self) -> Result<char, Reason> {
        let high = self.unit(self.at).ok_or(Reason::BadEscape)?;
        let (scalar, length) = match high {
            0xd800..=0xdbff => match self.unit(self.at + 6) {
                Some(low @ 0xdc00..=0xdfff) => (0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff), 12),
                _ => return Err(Reason::LoneSurrogate),
            },
            _ => (high, 6),
        };
        let scalar = char::from_u32(scalar).ok_or(Reason::LoneSurrogate)?;
        self.at += length;
        Ok(scalar)
    }

    /// The code unit that the six bytes `\uXXXX` at `at` spell.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
    }
}

fn as_ascii(plain: &[u8]) -> String {
    String::from_utf8(plain.to_vec()).expect("a run of printable ASCII is UTF-8")
}

/// Whether these bytes begin with a surrogate in the three-byte form that UTF-8 forbids (CESU-8).
fn is_encoded_surrogate(bytes: &[u8]) -> bool {
    matches!(bytes, [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..])
}
