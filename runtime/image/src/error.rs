//! What can be wrong with an image or with the place that it goes to, each with the entry's name and what to do next.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Longest name that an error spells, in bytes before escaping.
const SHOWN_BYTES_MAX: usize = 200;

/// Why an image was not unpacked. Names out of the image are escaped: they hold printable ASCII only.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The uploaded bytes are no whole tar, gzip or zstd stream.
    #[error("the image is broken at {entry}; save it again and send it whole")]
    Broken {
        /// The entry, blob or place in the stream.
        entry: String,
        /// What the decoder said.
        source: io::Error,
    },
    /// The image uses something that is not unpacked.
    #[error("in the image, {entry} {what}; {fix}")]
    Unsupported {
        /// The entry.
        entry: String,
        /// What it does, as the rest of a sentence.
        what: &'static str,
        /// What whoever made the image does about it.
        fix: &'static str,
    },
    /// A name that leads out of the image or that no file can have.
    #[error("in the image, {entry} {why}; make the image again without such names")]
    Name {
        /// The refused name.
        entry: String,
        /// What is wrong with it, as the rest of a sentence.
        why: &'static str,
    },
    /// A hard link to something other than a regular file that this image brought before.
    #[error("the image's hard link {entry} -> {target} {why}; make the image again without that link")]
    HardLink {
        /// The link.
        entry: String,
        /// What it points to.
        target: String,
        /// What is wrong with it, as the rest of a sentence.
        why: &'static str,
    },
    /// The image costs more than it may.
    #[error(
        "the image has more than {max} {what} (at {entry}); make it smaller, or the administrator raises the bound"
    )]
    Bound {
        /// Which bound.
        what: &'static str,
        /// Its value.
        max: u64,
        /// The entry that went beyond it.
        entry: String,
    },
    /// A document of an OCI layout cannot be understood.
    #[error("the image's document {name} {why}; save the image again as an OCI archive")]
    Document {
        /// `index.json` or the blob's digest.
        name: String,
        /// What is wrong with it, as the rest of a sentence.
        why: String,
    },
    /// A blob that the layout names is missing, or is not what its digest and size say.
    #[error("the image's blob {digest} {why}; save the image again and send it whole")]
    Blob {
        /// The digest as the layout spells it.
        digest: String,
        /// What is wrong with it, as the rest of a sentence.
        why: String,
    },
    /// No image for this machine in the layout.
    #[error("the image is for {found}, not for {wanted}; save the one for {wanted}")]
    Platform {
        /// What this machine runs, such as `linux/amd64`.
        wanted: String,
        /// What the layout holds.
        found: String,
    },
    /// Several images for this machine in one layout.
    #[error("the archive holds {count} images for this machine; save one image into an archive of its own")]
    Ambiguous {
        /// How many different ones.
        count: usize,
    },
    /// The uploaded bytes could not be read back from the daemon's own disk.
    #[error("the uploaded image cannot be read or spooled; the administrator looks at the daemon's disk")]
    Source(#[source] io::Error),
    /// The kernel refused an operation in the folder for images.
    #[error("cannot {action} {entry} of the image; the administrator looks at the disk of the daemon's state")]
    Disk {
        /// The verb: `create`, `write`, `link`, `replace`, ….
        action: &'static str,
        /// The entry.
        entry: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused an operation on the folder that images are unpacked into.
    #[error("cannot {action} {}; the administrator looks at the daemon's state folder", path.display())]
    Place {
        /// The verb: `open`, `create`, `lock`, `rename`, `remove`, `sync`, ….
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The image is there already.
    #[error("{} is there already; use it, or remove it first", path.display())]
    Exists {
        /// Where the image is.
        path: PathBuf,
    },
    /// The same image is being unpacked by somebody else.
    #[error("{} is being unpacked already; wait for that to end", path.display())]
    Busy {
        /// Where it will be.
        path: PathBuf,
    },
    /// Unpacking failed, and what was written could not be removed either: `sweep` tries again.
    #[error("{} could not be removed after: {cause}; the administrator looks at the daemon's state folder", path.display())]
    Leftover {
        /// The folder that stays behind. It never counts as an image.
        path: PathBuf,
        /// Why unpacking failed.
        cause: Box<ImageError>,
        /// Why it could not be removed.
        source: io::Error,
    },
}

/// The result of an operation on images.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

impl ImageError {
    pub(crate) fn bound(what: &'static str, max: u64, name: &[u8]) -> Self {
        Self::Bound { what, max, entry: shown(name) }
    }

    pub(crate) fn broken(name: &[u8], source: io::Error) -> Self {
        Self::Broken { entry: shown(name), source }
    }

    pub(crate) fn name(name: &[u8], why: &'static str) -> Self {
        Self::Name { entry: shown(name), why }
    }

    pub(crate) fn unsupported(name: &[u8], what: &'static str, fix: &'static str) -> Self {
        Self::Unsupported { entry: shown(name), what, fix }
    }

    pub(crate) fn disk(action: &'static str, name: &[u8], source: Errno) -> Self {
        Self::Disk { action, entry: shown(name), source: source.into() }
    }
}

/// A name out of an image as printable ASCII of bounded length: it can neither end a record nor move a cursor.
pub(crate) fn shown(name: &[u8]) -> String {
    if name.is_empty() {
        return "its beginning".to_owned();
    }
    match name.get(..SHOWN_BYTES_MAX) {
        Some(start) if name.len() > SHOWN_BYTES_MAX => format!("\"{}...\"", start.escape_ascii()),
        _ => format!("\"{}\"", name.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_line_ends_and_escapes_is_shown_as_one_line_of_ascii() {
        assert_eq!(shown(b"a\n\x1b[2J\xff\""), r#""a\n\x1b[2J\xff\"""#);
    }

    #[test]
    fn a_long_name_is_shown_short() {
        assert!(shown(&[b'a'; 5000]).len() < 210);
    }
}
