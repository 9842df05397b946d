//! Names of entries: checked once, then a list of plain components that can only lead down.

use crate::bounds::Bounds;
use crate::error::{ImageError, Result};

/// `NAME_MAX` of Linux.
const COMPONENT_BYTES_MAX: usize = 255;
/// OCI image specification, layer.md, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const METADATA: &[u8] = b".wh..wh.";

/// Components joined by single slashes, none of them empty, `.` or `..`, no zero byte; empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(Vec<u8>);

/// What a name says in a layer, apart from naming a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whiteout {
    /// The name is gone from the layers below.
    Hides(Name),
    /// All that the layers below hold in this folder is gone.
    Opaque(Name),
    /// Bookkeeping of the tool that made the layer.
    Metadata,
}

impl Name {
    /// Takes leading slashes, empty components and `.` away; refuses `..`, zero bytes and what is beyond the bounds.
    pub(crate) fn parse(raw: &[u8], bounds: &Bounds) -> Result<Self> {
        if raw.contains(&0) {
            return Err(ImageError::name(raw, "has a zero byte in its name"));
        }
        let components = || raw.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        if components().any(|part| part == b"..") {
            return Err(ImageError::name(raw, "has \"..\" in its name"));
        }
        if components().any(|part| part.len() > COMPONENT_BYTES_MAX) {
            return Err(ImageError::bound("bytes in one part of a name", COMPONENT_BYTES_MAX as u64, raw));
        }
        if components().count() > bounds.depth {
            return Err(ImageError::bound("folders inside each other", bounds.depth as u64, raw));
        }
        let joined = components().collect::<Vec<_>>().join(&b'/');
        if joined.len() > bounds.path_bytes {
            return Err(ImageError::bound("bytes in one name", bounds.path_bytes as u64, raw));
        }
        Ok(Self(joined))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// The folder that holds it and its own name there; nothing for the root.
    pub(crate) fn split(&self) -> Option<(Self, &[u8])> {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some((Self(self.0[..at].to_vec()), &self.0[at + 1..])),
            None if self.0.is_empty() => None,
            None => Some((Self(Vec::new()), &self.0)),
        }
    }

    /// What this name says in a layer; an error where it would hide `.`, `..` or nothing at all.
    pub(crate) fn whiteout(&self) -> Result<Option<Whiteout>> {
        let Some((folder, last)) = self.split() else { return Ok(None) };
        if folder.components().any(|part| part.starts_with(WHITEOUT)) {
            return Ok(Some(Whiteout::Metadata));
        }
        match last.strip_prefix(WHITEOUT) {
            None => Ok(None),
            Some(_) if last == OPAQUE => Ok(Some(Whiteout::Opaque(folder))),
            Some(_) if last.starts_with(METADATA) => Ok(Some(Whiteout::Metadata)),
            Some(b"" | b"." | b"..") => Err(ImageError::name(&self.0, "is a whiteout of no name")),
            Some(hidden) => Ok(Some(Whiteout::Hides(folder.child(hidden)))),
        }
    }

    fn child(mut self, last: &[u8]) -> Self {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(last);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &[u8]) -> Result<Name> {
        Name::parse(raw, &Bounds::default())
    }

    fn whiteout(raw: &[u8]) -> Option<Whiteout> {
        parse(raw).unwrap().whiteout().unwrap()
    }

    #[test]
    fn absolute_and_dotted_spellings_become_plain_ones() {
        assert_eq!(parse(b"/etc/./passwd").unwrap().as_bytes(), b"etc/passwd");
        assert_eq!(parse(b".//a///b/").unwrap().as_bytes(), b"a/b");
        assert_eq!(parse(b"./").unwrap().as_bytes(), b"");
        assert_eq!(parse(b"..a/...").unwrap().as_bytes(), b"..a/...");
    }

    #[test]
    fn names_that_lead_up_are_refused_wherever_the_dots_stand() {
        for raw in [&b".."[..], b"../a", b"a/..", b"a/../b", b"/..", b"./../a"] {
            assert!(matches!(parse(raw), Err(ImageError::Name { .. })), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn a_zero_byte_is_refused() {
        assert!(matches!(parse(b"a\0b"), Err(ImageError::Name { .. })));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let bounds = Bounds { depth: 2, path_bytes: 4, ..Bounds::default() };
        assert!(Name::parse(b"ab/c", &bounds).is_ok());
        assert!(matches!(Name::parse(b"a/b/c", &bounds), Err(ImageError::Bound { max: 2, .. })));
        assert!(matches!(Name::parse(b"abcde", &bounds), Err(ImageError::Bound { max: 4, .. })));
        assert!(matches!(parse(&[b'a'; 256]), Err(ImageError::Bound { max: 255, .. })));
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        assert_eq!(whiteout(b"a/.wh.b"), Some(Whiteout::Hides(parse(b"a/b").unwrap())));
        assert_eq!(whiteout(b"a/.wh..wh..opq"), Some(Whiteout::Opaque(parse(b"a").unwrap())));
        assert_eq!(whiteout(b".wh..wh..opq"), Some(Whiteout::Opaque(parse(b"").unwrap())));
        assert_eq!(whiteout(b".wh..wh.plnk/1.2"), Some(Whiteout::Metadata));
        assert_eq!(whiteout(b".wh.a/b"), Some(Whiteout::Metadata));
        assert_eq!(whiteout(b"a/.whx"), None);
    }

    #[test]
    fn a_whiteout_that_would_hide_the_parent_is_refused() {
        for raw in [&b"a/.wh..."[..], b"a/.wh..", b".wh.", b".wh..."] {
            assert!(matches!(parse(raw).unwrap().whiteout(), Err(ImageError::Name { .. })), "{}", raw.escape_ascii());
        }
    }
}
