//! A bounded little-endian codec: numbers of fixed width, byte strings and lists behind 32-bit lengths.

use std::fmt;

/// The most bytes of one encoded value.
pub const BYTES_MAX: usize = 1 << 20;
/// The most items of one list.
pub const ITEMS_MAX: usize = 4096;

/// Why bytes are not the value that they were offered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside a value.
    Short,
    /// A length or count is above its bound.
    Long,
    /// Bytes are left behind the value.
    Trailing,
    /// A number stands for no known thing.
    Unknown,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the message ends inside a value",
            Self::Long => "a length in the message is above its bound",
            Self::Trailing => "bytes are left behind the message",
            Self::Unknown => "a number in the message stands for nothing known",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Collects an encoded value.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The encoded value.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    /// A length and the bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).expect("a spec is far smaller than four gigabytes"));
        self.0.extend(value);
    }

    /// A count and each item.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(items.len()).expect("a spec has far fewer than four billion items"));
        items.iter().for_each(|item| each(self, item));
    }
}

/// Takes an encoded value apart.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of at most [`BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`DecodeError::Long`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BYTES_MAX { Err(DecodeError::Long) } else { Ok(Self(bytes)) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// One byte that is 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Short`], [`DecodeError::Unknown`].
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown),
        }
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A length and the bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let size = self.u32()? as usize;
        let (head, rest) = self.0.split_at_checked(size).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    /// A length and the bytes, copied.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn owned(&mut self) -> Result<Vec<u8>, DecodeError> {
        self.bytes().map(<[u8]>::to_vec)
    }

    /// A count of at most [`ITEMS_MAX`] and each item.
    ///
    /// # Errors
    /// [`DecodeError::Long`] and what `each` answers.
    pub fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()? as usize;
        if count > ITEMS_MAX {
            return Err(DecodeError::Long);
        }
        (0..count).map(|_| each(self)).collect()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
