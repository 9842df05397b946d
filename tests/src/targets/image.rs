//! Archives of root images.

use remand_image::{Bounds, unpack};
use std::io::Cursor;

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, entries: 200, depth: 16, path_bytes: 255, layers: 8 };

/// Whatever an archive says, nothing but its own folder is made, and after an error nothing at all.
pub fn image(input: &[u8]) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let into = place.path().join("image");
    let unpacked = unpack(Cursor::new(input), &into, &BOUNDS);
    let names: Vec<_> = std::fs::read_dir(place.path()).expect("our own folder").flatten().collect();
    match unpacked {
        Ok(_) => {
            assert!(names.len() == 1 && into.is_dir(), "beside the image: {names:?}");
            assert!(remand_image::remove(&into).expect("it can be removed"));
        }
        Err(error) => assert!(names.is_empty() && !error.to_string().is_empty(), "after {error}: {names:?}"),
    }
}

fn tar(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4755);
        // Names that lead out are written as they are: the library would refuse them.
        header.as_gnu_mut().expect("a GNU header").name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().expect("a GNU header").linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).expect("memory");
    }
    builder.into_inner().expect("memory")
}

pub fn image_seeds() -> Vec<Vec<u8>> {
    use tar::EntryType as Kind;
    let plain = tar(&[
        ("bin/", Kind::Directory, "", b""),
        ("bin/tool", Kind::Regular, "", b"run"),
        ("bin/link", Kind::Symlink, "/etc/passwd", b""),
        ("bin/hard", Kind::Link, "bin/tool", b""),
        ("dev/null", Kind::Char, "", b""),
    ]);
    let hostile = tar(&[
        ("a", Kind::Symlink, "..", b""),
        ("a/b", Kind::Regular, "", b"out"),
        ("../c", Kind::Regular, "", b"out"),
        ("/etc/d", Kind::Regular, "", b"out"),
    ]);
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":2}]}"#;
    let oci = tar(&[("oci-layout", Kind::Regular, "", layout), ("index.json", Kind::Regular, "", index)]);
    vec![plain, hostile, oci]
}
