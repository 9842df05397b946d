//! Tars of any badness, layouts around them, and a place that notices what is written outside.
#![allow(dead_code, reason = "every suite uses its own part")]

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use remand_image::{Bounds, ImageError, Unpacked, unpack};
use remand_model::Digest;
use tar::{EntryType, Header};

/// A tar being made: names are taken as they are.
#[derive(Default, Clone)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn entry(mut self, kind: EntryType, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(7);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.raw(content)
    }

    /// Content with its padding.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name.as_bytes(), b"", 0o644, content)
    }

    pub fn folder(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name.as_bytes(), b"", 0o755, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name.as_bytes(), target.as_bytes(), 0o777, b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name.as_bytes(), target.as_bytes(), 0o644, b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.entry(EntryType::XHeader, b"pax", b"", 0o644, &bytes)
    }

    pub fn long_name(self, name: &[u8]) -> Self {
        self.entry(EntryType::GNULongName, b"././@LongLink", b"", 0o644, &[name, b"\0"].concat())
    }

    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// An OCI layout being made.
#[derive(Clone)]
pub struct Oci {
    pub blobs: Vec<(String, Vec<u8>)>,
    pub layers: Vec<String>,
    pub architecture: String,
}

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Default for Oci {
    fn default() -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Self { blobs: Vec::new(), layers: Vec::new(), architecture: architecture.to_owned() }
    }
}

impl Oci {
    pub fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> String {
        let hex = Digest::of(&bytes).to_hex();
        let size = bytes.len();
        self.blobs.push((hex.clone(), bytes));
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{hex}","size":{size}}}"#)
    }

    pub fn layer(mut self, suffix: &str, bytes: Vec<u8>) -> Self {
        let layer = self.blob(&format!("application/vnd.oci.image.layer.v1.tar{suffix}"), bytes);
        self.layers.push(layer);
        self
    }

    pub fn manifest(&mut self) -> String {
        let config = format!(r#"{{"os":"linux","architecture":"{}","rootfs":{{}}}}"#, self.architecture);
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.into_bytes());
        let layers = self.layers.join(",");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#);
        self.blob(MANIFEST, manifest.into_bytes())
    }

    pub fn bytes(mut self) -> Vec<u8> {
        let manifest = self.manifest();
        self.around(&manifest)
    }

    /// The tar with this descriptor in `index.json`.
    pub fn around(&self, descriptors: &str) -> Vec<u8> {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptors}]}}"#);
        let mut tar = Tar::new().folder("blobs/").folder("blobs/sha256/");
        for (hex, bytes) in &self.blobs {
            tar = tar.file(&format!("blobs/sha256/{hex}"), bytes);
        }
        tar.file("index.json", index.as_bytes()).file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).bytes()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A state folder for images, and a folder beside it that must stay as it is.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.state()).unwrap();
        fs::create_dir(place.outside()).unwrap();
        fs::write(place.outside().join("canary"), b"alive").unwrap();
        place
    }

    pub fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    pub fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    pub fn image(&self) -> PathBuf {
        self.state().join("image")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.image().join(name)
    }

    pub fn unpack(&self, bytes: &[u8], bounds: &Bounds) -> Result<Unpacked, ImageError> {
        let result = unpack(Cursor::new(bytes), &self.image(), bounds);
        assert_eq!(names(self.0.path()), ["outside", "state"], "something was made outside");
        assert_eq!(names(&self.outside()), ["canary"], "something was made outside");
        assert_eq!(fs::read(self.outside().join("canary")).unwrap(), b"alive", "something was changed outside");
        let expected: &[&str] = if result.is_ok() { &["image"] } else { &[] };
        assert_eq!(names(&self.state()), expected, "something was left behind");
        result
    }
}

/// Unpacks what must be accepted.
#[track_caller]
pub fn accepted(bytes: &[u8]) -> (Place, Unpacked) {
    let place = Place::new();
    let unpacked = place.unpack(bytes, &Bounds::default()).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    (place, unpacked)
}

/// Unpacks what must be refused.
#[track_caller]
pub fn refused(bytes: &[u8]) -> ImageError {
    refused_within(bytes, &Bounds::default())
}

#[track_caller]
pub fn refused_within(bytes: &[u8], bounds: &Bounds) -> ImageError {
    let error = Place::new().unpack(bytes, bounds).unwrap_err();
    assert!(error.to_string().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{error:?}");
    error
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
