//! The writer: the one spelling of every value.

use super::{Object, Value};

pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Integer(number) => integer(number.get(), out),
        Value::Text(content) => text(content, out),
        Value::List(items) => list(items, out),
        Value::Object(members) => object(members, out),
    }
}

fn list(items: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        value(item, out);
    }
    out.push(b']');
}

pub(super) fn object(members: &Object, out: &mut Vec<u8>) {
    out.push(b'{');
    for (place, (key, item)) in members.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        text(key, out);
        out.push(b':');
        value(item, out);
    }
    out.push(b'}');
}

fn integer(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

pub(super) fn text(content: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = content.as_bytes();
    while let Some(place) = rest.iter().position(|byte| !is_plain(*byte)) {
        out.extend_from_slice(&rest[..place]);
        let consumed = escape(&rest[place..], out);
        rest = &rest[place + consumed..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Printable ASCII but the quote and the backslash. U+007F is not printable: `CPython` escapes it, other writers do not.
pub(super) const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Escapes the first character of `rest` (valid UTF-8) and returns its length in bytes.
fn escape(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let short = match rest[0] {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => return escape_units(rest, out),
    };
    out.extend_from_slice(&[b'\\', short]);
    1
}

fn escape_units(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let (scalar, length) = first_scalar(rest);
    match scalar.checked_sub(0x1_0000) {
        None => unit(scalar, out),
        Some(astral) => {
            unit(0xd800 | astral >> 10, out);
            unit(0xdc00 | astral & 0x3ff, out);
        }
    }
    length
}

/// The first scalar value of valid UTF-8 and its length in bytes (RFC 3629 §3).
fn first_scalar(utf8: &[u8]) -> (u32, usize) {
    let tail = |place: usize| u32::from(utf8[place] & 0x3f);
    let lead = u32::from(utf8[0]);
    match utf8[0] {
        0..=0x7f => (lead, 1),
        0x80..=0xdf => ((lead & 0x1f) << 6 | tail(1), 2),
        0xe0..=0xef => ((lead & 0x0f) << 12 | tail(1) << 6 | tail(2), 3),
        0xf0.. => ((lead & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4),
    }
}

fn unit(code: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u32| DIGITS[(code >> shift & 15) as usize];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}
