//! An OCI image layout inside a tar that can be read at any place: found by one pass over its headers.
//!
//! Nothing of a blob is used before all of it was read once and its size and digest were right.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};

use remand_model::Digest;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::bounds::{Bounds, Meter};
use crate::documents::{self, Config, Descriptor, Index, Manifest, Marker, Role};
use crate::entries::{self, Entry, Kind};
use crate::error::{ImageError, Result};
use crate::name::Name;

/// Longest JSON document, in bytes: what registries accept as a manifest.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// How many indexes may lead to each other; `index.json`, one per image and one more are seen in the wild.
const INDEX_DEPTH_MAX: usize = 4;
const CHUNK_BYTES: usize = 64 << 10;

/// Where in the tar a file's content is.
#[derive(Debug, Clone, Copy)]
struct Place {
    position: u64,
    size: u64,
}

/// What of a tar's entries can belong to a layout.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    marker: Option<Place>,
    index: Option<Place>,
    blobs: HashMap<Digest, Place>,
    /// `docker save` of old wrote `manifest.json` and `<id>/layer.tar`, and no layout.
    old_docker: (bool, bool),
}

/// A layout and the tar that holds it.
pub(crate) struct Layout<'s, S> {
    source: &'s mut S,
    contents: Contents,
    verified: HashSet<Digest>,
}

/// Reads the headers of an uncompressed tar.
pub(crate) fn look<S: Read + Seek>(source: &mut S, bounds: Bounds) -> Result<Contents> {
    source.rewind().map_err(ImageError::Source)?;
    let meter = Meter::new(bounds);
    let mut contents = Contents::default();
    let mut archive = tar::Archive::new(source);
    entries::each(archive.entries_with_seek(), &meter, &mut |entry, _| contents.note(entry, &bounds))?;
    Ok(contents)
}

/// Whether a tar that begins with this name may be a layout.
pub(crate) fn may_begin(name: &[u8]) -> bool {
    let first = name.split(|byte| *byte == b'/').find(|part| !part.is_empty() && *part != b".");
    first.is_some_and(|part| [&b"oci-layout"[..], b"index.json", b"blobs", b"manifest.json"].contains(&part))
}

impl Contents {
    /// Whether this is a layout; an error where it is something that looks like one and is none.
    pub(crate) fn is_layout(&self) -> Result<bool> {
        if self.marker.is_some() && self.index.is_some() {
            return Ok(true);
        }
        if self.old_docker == (true, true) {
            let fix = "convert it: skopeo copy docker-archive:IMAGE.tar oci-archive:NEW.tar";
            return Err(ImageError::unsupported(b"manifest.json", "is that of an archive by an old docker save", fix));
        }
        Ok(false)
    }

    fn note(&mut self, entry: &Entry, bounds: &Bounds) -> Result<()> {
        if entry.kind != Kind::File {
            return Ok(());
        }
        let name = Name::parse(&entry.path, bounds)?;
        let place = Place { position: entry.position, size: entry.size };
        match name.as_bytes() {
            b"oci-layout" => self.marker = Some(place),
            b"index.json" => self.index = Some(place),
            b"manifest.json" => self.old_docker.0 = true,
            other => {
                self.old_docker.1 |= other.ends_with(b"/layer.tar");
                let hex = other.strip_prefix(b"blobs/sha256/").and_then(|hex| str::from_utf8(hex).ok());
                if let Some(digest) = hex.and_then(|hex| hex.parse().ok()) {
                    self.blobs.insert(digest, place);
                }
            }
        }
        Ok(())
    }
}

impl<'s, S: Read + Seek> Layout<'s, S> {
    pub(crate) fn new(source: &'s mut S, contents: Contents) -> Self {
        Self { source, contents, verified: HashSet::new() }
    }

    /// The layers of the image for this machine, lowest first.
    pub(crate) fn layers(&mut self, bounds: &Bounds) -> Result<Vec<Descriptor>> {
        let marker: Marker = self.top("oci-layout", self.contents.marker)?;
        if !marker.image_layout_version.starts_with("1.") {
            return Err(document("oci-layout", "is of another version than 1"));
        }
        let index: Index = self.top("index.json", self.contents.index)?;
        let manifest = self.manifest(index)?;
        if manifest.config.role() == Role::Config {
            documents::check(&self.document::<Config>(&manifest.config)?)?;
        }
        if manifest.layers.len() > bounds.layers {
            return Err(ImageError::bound("layers", bounds.layers as u64, b"index.json"));
        }
        match manifest.layers.iter().find(|layer| layer.role() != Role::Layer) {
            Some(layer) => Err(layer.fault("is no tar layer, but something of another kind")),
            None => Ok(manifest.layers),
        }
    }

    /// The bytes of a layer, as they are packed, after all of them were verified.
    pub(crate) fn layer(&mut self, layer: &Descriptor) -> Result<impl Read> {
        let digest = layer.sha256()?;
        let place = self.place(layer, digest)?;
        if !self.verified.contains(&digest) {
            self.verify(layer, digest, place)?;
            self.verified.insert(digest);
        }
        self.at(place)
    }

    fn manifest(&mut self, mut index: Index) -> Result<Manifest> {
        for _ in 0..INDEX_DEPTH_MAX {
            if index.schema_version != 2 {
                return Err(document("index.json", "is of another schema version than 2"));
            }
            let chosen = documents::choose(&index.manifests)?;
            if chosen.role() == Role::Index {
                index = self.document(chosen)?;
                continue;
            }
            let manifest: Manifest = self.document(chosen)?;
            return match manifest.schema_version {
                2 => Ok(manifest),
                _ => Err(chosen.fault("is a manifest of another schema version than 2")),
            };
        }
        Err(ImageError::bound("indexes inside each other", INDEX_DEPTH_MAX as u64, b"index.json"))
    }

    fn top<T: DeserializeOwned>(&mut self, name: &'static str, place: Option<Place>) -> Result<T> {
        let place = place.ok_or_else(|| document(name, "is missing"))?;
        if place.size > DOCUMENT_BYTES_MAX {
            return Err(document(name, format!("is longer than {DOCUMENT_BYTES_MAX} bytes")));
        }
        parse(name, &self.read(place)?)
    }

    fn document<T: DeserializeOwned>(&mut self, descriptor: &Descriptor) -> Result<T> {
        let digest = descriptor.sha256()?;
        let place = self.place(descriptor, digest)?;
        if place.size > DOCUMENT_BYTES_MAX {
            return Err(document(&descriptor.digest, format!("is longer than {DOCUMENT_BYTES_MAX} bytes")));
        }
        let bytes = self.read(place)?;
        if Digest::of(&bytes) != digest {
            return Err(descriptor.fault("does not have that digest"));
        }
        parse(&descriptor.digest, &bytes)
    }

    fn place(&self, descriptor: &Descriptor, digest: Digest) -> Result<Place> {
        let found = self.contents.blobs.get(&digest).copied();
        let place = found.ok_or_else(|| descriptor.fault("is missing from the archive"))?;
        if place.size == descriptor.size {
            Ok(place)
        } else {
            Err(descriptor.fault(format!("has {} bytes instead of {}", place.size, descriptor.size)))
        }
    }

    fn verify(&mut self, descriptor: &Descriptor, digest: Digest, place: Place) -> Result<()> {
        let mut reader = self.at(place)?;
        let (mut hash, mut chunk, mut total) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
        loop {
            let count = reader.read(&mut chunk).map_err(ImageError::Source)?;
            if count == 0 {
                break;
            }
            total += count as u64;
            hash.update(&chunk[..count]);
        }
        if total != place.size {
            return Err(descriptor.fault("is cut short"));
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found == digest { Ok(()) } else { Err(descriptor.fault("does not have that digest")) }
    }

    fn read(&mut self, place: Place) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.at(place)?.read_to_end(&mut bytes).map_err(ImageError::Source)?;
        Ok(bytes)
    }

    fn at(&mut self, place: Place) -> Result<std::io::Take<&mut S>> {
        self.source.seek(SeekFrom::Start(place.position)).map_err(ImageError::Source)?;
        Ok(self.source.by_ref().take(place.size))
    }
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| document(name, format!("is not what OCI says: {error}")))
}

fn document(name: &str, why: impl Into<String>) -> ImageError {
    let why = why.into();
    ImageError::Document { name: crate::error::shown(name.as_bytes()), why: why.escape_default().to_string() }
}
