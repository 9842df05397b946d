//! What one image may cost, and the meters that hold it to that while its bytes stream by.

use std::cell::Cell;
use std::io::{self, Read};

use crate::error::{ImageError, Result};

/// `PATH_MAX` of Linux without its terminating zero: no path beyond it can be opened.
const PATH_BYTES_CEILING: usize = 4095;
/// One descriptor is held per level while folders are settled.
const DEPTH_CEILING: usize = 256;

/// What one image may cost. Every pass over it (looking, hiding, writing) has these bounds to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Decompressed bytes of all layers together, headers and dropped content included.
    pub bytes: u64,
    /// Headers of all layers and folders made for them together: one inode each at most.
    pub entries: u64,
    /// Components of one name; at most 256 are ever allowed.
    pub depth: usize,
    /// Bytes of one name or of one link's target; at most 4095 (`path_resolution(7)`).
    pub path_bytes: usize,
    /// Layers of an OCI image.
    pub layers: usize,
}

impl Default for Bounds {
    /// 8 GiB, a million entries, 128 deep, names of 4095 bytes, 128 layers: every common image is below a quarter of it.
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 1_000_000, depth: 128, path_bytes: PATH_BYTES_CEILING, layers: 128 }
    }
}

impl Bounds {
    pub(crate) fn clamped(self) -> Self {
        let (depth, path_bytes) = (self.depth.min(DEPTH_CEILING), self.path_bytes.min(PATH_BYTES_CEILING));
        Self { depth, path_bytes, ..self }
    }
}

/// What is left of the bounds in one pass.
#[derive(Debug)]
pub(crate) struct Meter {
    bounds: Bounds,
    bytes_left: Cell<u64>,
    entries_left: Cell<u64>,
    bytes_spent: Cell<bool>,
}

impl Meter {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes_left: Cell::new(bounds.bytes),
            entries_left: Cell::new(bounds.entries),
            bytes_spent: Cell::new(false),
        }
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// A reader that fails once this pass has read more than its bytes.
    pub(crate) fn reader<R: Read>(&self, inner: R) -> Metered<'_, R> {
        Metered { inner, meter: self }
    }

    /// Takes one entry off.
    pub(crate) fn entry(&self, name: &[u8]) -> Result<()> {
        let left = self.entries_left.get();
        self.entries_left.set(left.saturating_sub(1));
        if left == 0 { Err(ImageError::bound("entries", self.bounds.entries, name)) } else { Ok(()) }
    }

    /// What a failed read was: the bound on bytes where that stopped it, the kernel's refusal, else a broken stream.
    pub(crate) fn failure(&self, name: &[u8], source: io::Error) -> ImageError {
        if self.bytes_spent.get() {
            ImageError::bound("decompressed bytes", self.bounds.bytes, name)
        } else if source.raw_os_error().is_some() {
            ImageError::Source(source)
        } else {
            ImageError::broken(name, source)
        }
    }
}

/// See [`Meter::reader`].
#[derive(Debug)]
pub(crate) struct Metered<'m, R> {
    inner: R,
    meter: &'m Meter,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.bytes_left.get();
        // One byte more than is left, so that a stream that ends exactly there is told from one that goes on.
        let wanted = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count as u64 > left {
            self.meter.bytes_spent.set(true);
            return Err(io::Error::other("the bound on decompressed bytes is spent"));
        }
        self.meter.bytes_left.set(left - count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(bytes: u64) -> Bounds {
        Bounds { bytes, ..Bounds::default() }
    }

    #[test]
    fn a_stream_of_exactly_the_bound_is_read_whole() {
        let meter = Meter::new(bounds(5));
        let mut read = Vec::new();
        assert_eq!(meter.reader(&b"12345"[..]).read_to_end(&mut read).ok(), Some(5));
    }

    #[test]
    fn one_byte_beyond_the_bound_is_refused_by_name() {
        let meter = Meter::new(bounds(4));
        let error = meter.reader(&b"12345"[..]).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(matches!(meter.failure(b"x", error), ImageError::Bound { what: "decompressed bytes", max: 4, .. }));
    }

    #[test]
    fn entries_run_out() {
        let meter = Meter::new(Bounds { entries: 1, ..Bounds::default() });
        assert!(meter.entry(b"a").is_ok());
        assert!(matches!(meter.entry(b"b"), Err(ImageError::Bound { what: "entries", max: 1, .. })));
    }
}
