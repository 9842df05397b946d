//! Streams as they come: plain, gzip or zstd, told apart by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::{ImageError, Result};

const BUFFER_BYTES: usize = 64 << 10;
/// Largest window that a zstd frame may ask for: what `zstd --long` of level 22 asks for, and what is allocated at most.
const WINDOW_BYTES_MAX: u64 = 128 << 20;

/// How a stream is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
    Xz,
}

impl Packing {
    /// RFC 1952, 2.3.1; RFC 8878, 3.1.1 and 3.1.2 (a stream of zstd frames may begin with a skippable one).
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X'] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Looks at the first bytes and returns what they say, and the stream as if nothing had been read.
pub(crate) fn look<R: Read>(mut reader: R) -> io::Result<(Packing, impl Read)> {
    let mut start = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut start)?;
    Ok((Packing::of(&start), io::Cursor::new(start).chain(reader)))
}

/// The stream's content.
pub(crate) fn unpacked<'r, R: Read + 'r>(reader: R) -> Result<Box<dyn Read + 'r>> {
    let (packing, reader) = look(reader).map_err(ImageError::Source)?;
    let reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    Ok(match packing {
        Packing::Plain => Box::new(reader),
        Packing::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Packing::Zstd => Box::new(Frames::new(reader)),
        Packing::Xz => return Err(ImageError::unsupported(b"", "is packed with xz", "pack it with gzip or zstd")),
    })
}

/// Zstd frames one after the other, as `zstd` and the tools for seekable layers write them.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        Self { source, decoder, within: false }
    }

    /// Begins the next frame; `false` at the end of the source.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.within = false;
        let (told, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
        if told.is_some() && told != found {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a zstd frame's checksum does not match"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !buffer.is_empty() {
            if !self.within {
                self.within = self.begin()?;
            }
            if !self.within {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            match self.decoder.read(buffer)? {
                0 => self.end()?,
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn frame(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        unpacked(bytes).map_err(io::Error::other)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn zstd_frames_follow_each_other_with_skippable_ones_between() {
        let skippable = [&[0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let whole = [&skippable[..], &frame(b"one"), &skippable, &frame(b"two"), &skippable].concat();
        assert_eq!(read(&whole).unwrap(), b"onetwo");
    }

    #[test]
    fn a_cut_zstd_frame_is_an_error() {
        let whole = frame(&[7; 100_000]);
        assert!(read(&whole[..whole.len() - 5]).is_err());
    }

    #[test]
    fn a_zstd_window_beyond_the_bound_is_refused_before_it_is_allocated() {
        // Magic, frame header descriptor without single segment, window descriptor of 2^41 bytes.
        assert!(read(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00]).is_err());
    }

    #[test]
    fn a_stream_shorter_than_any_magic_is_plain() {
        assert_eq!(read(b"ab").unwrap(), b"ab");
        assert_eq!(read(b"").unwrap(), b"");
    }
}
