//! Whatever the bytes are: no panic, nothing outside, nothing left; and what is made is only what may be.

mod kit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kit::{Oci, Place, Tar, gzip, zstd};
use proptest::prelude::*;
use remand_image::Bounds;
use tar::EntryType;

fn bounds() -> Bounds {
    Bounds { bytes: 1 << 20, entries: 300, depth: 12, path_bytes: 300, layers: 4 }
}

/// Unpacks, and checks each thing that was made; the kit checks what is outside.
fn survives(bytes: &[u8]) {
    let place = Place::new();
    if place.unpack(bytes, &bounds()).is_ok() {
        is_harmless(&place.image());
    }
}

fn is_harmless(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let facts = fs::symlink_metadata(&path).unwrap();
        let mode = facts.permissions().mode() & 0o7777;
        match facts.file_type() {
            kind if kind.is_dir() => {
                assert_eq!(mode, 0o755, "{path:?}");
                is_harmless(&path);
            }
            kind if kind.is_file() => assert!(mode == 0o755 || mode == 0o644, "{path:?}"),
            kind => assert!(kind.is_symlink(), "{path:?}"),
        }
    }
}

fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh...", "oci-layout", "blobs"])
}

fn path() -> impl Strategy<Value = String> {
    (any::<bool>(), prop::collection::vec(part(), 1..5))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

/// Mostly names without dots, so that unpackings get far.
fn tame_path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "c", ".", "d", ".wh.a", ".wh..wh..opq"]);
    prop_oneof![40 => prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/")), 1 => path()]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![3 => tame_path(), 1 => path(), 1 => Just("../../outside".to_owned()), 1 => Just("/etc".to_owned())]
}

fn entry() -> impl Strategy<Value = (u8, String, String, u32, usize)> {
    (prop::sample::select(b"00000555222211346LKxgSZ".to_vec()), tame_path(), target(), 0..0o10_000u32, 0..1500usize)
}

fn tar() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(entry(), 0..25).prop_map(|entries| {
        let add = |tar: Tar, (kind, name, link, mode, size): (u8, String, String, u32, usize)| {
            let size = if b"125346".contains(&kind) { 0 } else { size };
            tar.entry(EntryType::new(kind), name.as_bytes(), link.as_bytes(), mode, &vec![b'x'; size])
        };
        entries.into_iter().fold(Tar::new(), add).bytes()
    })
}

/// Bytes with a few of them changed.
fn bitten(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let bites = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (bytes, bites).prop_map(|(mut bytes, bites)| {
        for (at, byte) in bites {
            let at = at.index(bytes.len().max(1));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        survives(&bytes);
    }

    #[test]
    fn random_entries_do_no_harm(bytes in tar()) {
        survives(&bytes);
    }

    #[test]
    fn tars_with_bytes_changed_do_no_harm(bytes in bitten(tar())) {
        survives(&bytes);
    }

    #[test]
    fn gzip_streams_with_bytes_changed_do_no_harm(bytes in bitten(tar().prop_map(|tar| gzip(&tar)))) {
        survives(&bytes);
    }

    #[test]
    fn zstd_streams_with_bytes_changed_do_no_harm(bytes in bitten(tar().prop_map(|tar| zstd(&tar)))) {
        survives(&bytes);
    }

    #[test]
    fn random_layers_do_no_harm(layers in prop::collection::vec(tar(), 1..4)) {
        let oci = layers.into_iter().fold(Oci::default(), |oci, layer| oci.layer("", layer));
        survives(&oci.bytes());
    }

    #[test]
    fn layouts_with_bytes_changed_do_no_harm(bytes in bitten(tar().prop_map(|tar| Oci::default().layer("", tar).bytes()))) {
        survives(&bytes);
    }
}
