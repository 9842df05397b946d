//! Canonical JSON: one spelling for every value, so that its SHA-256 can stand for it.
//!
//! The domain is objects, arrays, strings of Unicode scalar values, `true`, `false`, `null` and integers of at most 53 bits.
//! Everything else is refused with its place: fractions, exponents, `-0`, larger integers, duplicate keys, lone surrogates,
//! invalid UTF-8, a byte-order mark, bytes after the document, more than [`DEPTH_MAX`] levels. On this domain the bytes equal
//! those of `CPython`'s `json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=True)`. It is not RFC 8785:
//! keys are sorted by code point, and everything but printable ASCII is escaped. Ratios travel as integer micro-units, larger
//! numbers as decimal strings.

mod encode;
mod parse;
mod serde_value;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Digest;

/// The deepest nesting of arrays and objects: `[[]]` has depth 2.
pub const DEPTH_MAX: usize = 64;

/// The largest magnitude of an integer: 2^53 − 1, what every JSON reader keeps exactly.
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// An object's members, sorted by key (UTF-8 byte order, which is code-point order).
pub type Object = BTreeMap<String, Value>;

/// A value of the canonical domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of at most 53 bits.
    Integer(Integer),
    /// A text of Unicode scalar values, not normalised.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Object),
}

/// An integer within ±[`INTEGER_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Integer(i64);

/// Why bytes or a value are outside of the canonical domain.
#[derive(Debug, thiserror::Error)]
pub enum CanonError {
    /// The document was refused at this place.
    #[error("not canonical JSON at byte {byte} (line {line}): {reason}")]
    Refused {
        /// What is wrong there.
        reason: Reason,
        /// Offset in bytes, from 0.
        byte: usize,
        /// Line, from 1.
        line: usize,
    },
    /// A value of the program has no canonical form.
    #[error("the value has no canonical form: {reason}")]
    Unrepresentable {
        /// What cannot be written.
        reason: Reason,
    },
    /// The document is canonical JSON, but of another shape than asked for.
    #[error("the document does not have the expected shape")]
    Shape(#[source] serde_json::Error),
}

/// What is outside of the domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A fraction or an exponent, `1.0` included.
    #[error("a number with a fraction or exponent; write ratios as integers of micro-units")]
    Fraction,
    /// `-0`.
    #[error("minus zero; write 0")]
    MinusZero,
    /// `01`.
    #[error("a number with a leading zero")]
    LeadingZero,
    /// An integer beyond ±(2^53 − 1).
    #[error("an integer beyond 2^53 - 1; write it as a decimal string")]
    TooLarge,
    /// The same key twice in one object, after unescaping.
    #[error("the key {0:?} twice in one object")]
    DuplicateKey(String),
    /// Half of a surrogate pair.
    #[error("a lone surrogate")]
    LoneSurrogate,
    /// A byte sequence that is not UTF-8.
    #[error("bytes that are not UTF-8")]
    NotUtf8,
    /// U+FEFF before the document.
    #[error("a byte-order mark")]
    ByteOrderMark,
    /// Something after the document.
    #[error("bytes after the end of the document")]
    Trailing,
    /// More than [`DEPTH_MAX`] levels.
    #[error("more than {DEPTH_MAX} levels of arrays and objects")]
    TooDeep,
    /// An escape that JSON does not have.
    #[error("an unknown or cut escape")]
    BadEscape,
    /// A control character inside of a text.
    #[error("a raw control character inside of a text; escape it")]
    ControlCharacter,
    /// The document ends too early.
    #[error("the end of the document where {0} was expected")]
    End(&'static str),
    /// Another byte was expected.
    #[error("{found:?} where {expected} was expected")]
    Unexpected {
        /// The byte found, as a character.
        found: char,
        /// What could have stood there.
        expected: &'static str,
    },
    /// A kind of value that JSON or this domain does not have.
    #[error("{0}")]
    Foreign(String),
}

/// Reads one document. Whitespace and key order are free; everything outside of the domain is refused.
///
/// ```
/// use remand_model::canonical::{parse, to_bytes};
/// let value = parse(r#" {"b": [1, "é"], "a": null} "#.as_bytes())?;
/// assert_eq!(to_bytes(&value), br#"{"a":null,"b":[1,"\u00e9"]}"#);
/// assert_eq!(parse(b"[1.0]").unwrap_err().to_string(),
///     "not canonical JSON at byte 1 (line 1): a number with a fraction or exponent; write ratios as integers of micro-units");
/// # Ok::<(), remand_model::canonical::CanonError>(())
/// ```
///
/// # Errors
/// [`CanonError::Refused`] with the place of the first byte outside of the domain.
pub fn parse(bytes: &[u8]) -> Result<Value, CanonError> {
    parse::document(bytes)
}

/// The canonical bytes of `value`.
#[must_use]
pub fn to_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode::value(value, &mut out);
    out
}

/// Appends the canonical bytes of `value` to `out`.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    encode::value(value, out);
}

/// Appends the canonical bytes of an object's members to `out`.
pub fn write_object(members: &Object, out: &mut Vec<u8>) {
    encode::object(members, out);
}

/// Appends the canonical spelling of a text, quotes included, to `out`.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    encode::text(text, out);
}

/// SHA-256 over the canonical bytes of `value`: the hash of everything.
#[must_use]
pub fn hash(value: &Value) -> Digest {
    Digest::of(&to_bytes(value))
}

/// The canonical value of anything that serde can serialize.
///
/// # Errors
/// [`CanonError::Unrepresentable`]: a float, bytes, a large integer, a key that is no text, a duplicate key, too deep.
pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Value, CanonError> {
    let value = value.serialize(serde_value::ToValue)?;
    value.check_depth()?;
    Ok(value)
}

/// Reads one document of the canonical domain straight into `T`.
///
/// # Errors
/// [`CanonError::Refused`] where it is outside of the domain, [`CanonError::Shape`] where it is no `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CanonError> {
    parse(bytes)?;
    serde_json::from_slice(bytes).map_err(CanonError::Shape)
}

/// Whether `bytes` are the canonical spelling of what they say.
#[must_use]
pub fn is_canonical(bytes: &[u8]) -> bool {
    parse(bytes).is_ok_and(|value| to_bytes(&value) == bytes)
}

impl Value {
    /// The value as `T`.
    ///
    /// # Errors
    /// [`CanonError::Shape`] where it is no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CanonError> {
        serde_json::from_slice(&to_bytes(self)).map_err(CanonError::Shape)
    }

    /// The member `key` of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }

    /// The members, where it is an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// The text, where it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, where it is one.
    #[must_use]
    pub const fn as_i64(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(number.0) } else { None }
    }

    /// The number, where it is one that is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_i64().and_then(|number| u64::try_from(number).ok())
    }

    /// The items, where it is an array.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The truth, where it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// Refuses a value built by hand that nests deeper than a document may.
    ///
    /// # Errors
    /// [`Reason::TooDeep`].
    pub fn check_depth(&self) -> Result<(), CanonError> {
        if self.is_deeper_than(DEPTH_MAX) { Err(Reason::TooDeep.into()) } else { Ok(()) }
    }

    /// The same where the value stands below `above` levels of an enclosing document.
    pub(crate) fn check_depth_below(&self, above: usize) -> Result<(), CanonError> {
        if self.is_deeper_than(DEPTH_MAX - above) { Err(Reason::TooDeep.into()) } else { Ok(()) }
    }

    fn is_deeper_than(&self, levels: usize) -> bool {
        match self {
            Self::List(items) => levels == 0 || items.iter().any(|item| item.is_deeper_than(levels - 1)),
            Self::Object(members) => levels == 0 || members.values().any(|item| item.is_deeper_than(levels - 1)),
            _ => false,
        }
    }
}

impl Integer {
    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Integer {
    type Error = Reason;

    fn try_from(number: i64) -> Result<Self, Reason> {
        if number.unsigned_abs() <= INTEGER_MAX.unsigned_abs() { Ok(Self(number)) } else { Err(Reason::TooLarge) }
    }
}

impl TryFrom<u64> for Integer {
    type Error = Reason;

    fn try_from(number: u64) -> Result<Self, Reason> {
        i64::try_from(number).map_err(|_| Reason::TooLarge)?.try_into()
    }
}

impl TryFrom<u64> for Value {
    type Error = Reason;

    fn try_from(number: u64) -> Result<Self, Reason> {
        number.try_into().map(Self::Integer)
    }
}

impl TryFrom<i64> for Value {
    type Error = Reason;

    fn try_from(number: i64) -> Result<Self, Reason> {
        number.try_into().map(Self::Integer)
    }
}

macro_rules! small_integers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Self {
                Self::Integer(Integer(i64::from(number)))
            }
        }
    )*};
}
small_integers!(u8, u16, u32, i8, i16, i32);

macro_rules! plain_values {
    ($($kind:ty => $make:expr),* $(,)?) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                let make: fn($kind) -> Self = $make;
                make(value)
            }
        }
    )*};
}
plain_values! {
    bool => Self::Bool,
    String => Self::Text,
    &str => |text| Self::Text(text.to_owned()),
    Vec<Self> => Self::List,
    Object => Self::Object,
    Digest => |digest| Self::Text(digest.to_hex()),
    Integer => Self::Integer,
}

impl From<Reason> for CanonError {
    fn from(reason: Reason) -> Self {
        Self::Unrepresentable { reason }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&to_bytes(self)))
    }
}

#[cfg(test)]
#[path = "canonical/tests.rs"]
mod tests;
