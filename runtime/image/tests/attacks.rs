//! Images that mean harm: refused or made harmless, with nothing outside touched and nothing left behind.

mod kit;

use std::fs;

use kit::{INDEX, MANIFEST, Oci, Place, Tar, accepted, gzip, names, refused, refused_within, zstd};
use remand_image::{Bounds, ImageError};
use tar::EntryType;

fn bounds() -> Bounds {
    Bounds { bytes: 1 << 20, entries: 50, ..Bounds::default() }
}

#[test]
fn a_file_below_a_link_replaces_the_link_and_never_goes_through_it() {
    let place = Place::new();
    let outside = place.outside();
    let tar = Tar::new().symlink("a", outside.to_str().unwrap()).file("a/passwd", b"x").file("a/canary", b"dead");
    let unpacked = place.unpack(&tar.bytes(), &Bounds::default()).unwrap();
    assert!(fs::symlink_metadata(place.path("a")).unwrap().is_dir());
    assert_eq!((names(&place.path("a")), unpacked.written.links_replaced), (vec!["canary".into(), "passwd".into()], 1));
}

#[test]
fn links_in_the_middle_of_a_name_are_not_followed_either() {
    let place = Place::new();
    let tar = Tar::new().folder("d/").symlink("d/up", "../..").symlink("d/self", ".");
    let tar = tar.file("d/up/outside/new", b"x").folder("d/self/inner/").file("d/self/inner/f", b"y");
    place.unpack(&tar.bytes(), &Bounds::default()).unwrap();
    assert!(place.path("d/up/outside/new").is_file() && place.path("d/self/inner/f").is_file());
}

#[test]
fn a_file_over_a_link_replaces_the_link() {
    let place = Place::new();
    let canary = place.outside().join("canary");
    let tar = Tar::new().symlink("a", canary.to_str().unwrap()).file("a", b"dead");
    place.unpack(&tar.bytes(), &Bounds::default()).unwrap();
    assert_eq!(fs::read(place.path("a")).unwrap(), b"dead");
}

#[test]
fn names_that_lead_up_are_refused_in_every_format() {
    for name in ["../x", "a/../../x", "..", "/../x", "a/.."] {
        let header = refused(&Tar::new().file("a", b"").file(name, b"dead").bytes());
        let gnu = refused(&Tar::new().long_name(name.as_bytes()).file("short", b"dead").bytes());
        let pax = refused(&Tar::new().pax(&[("path", name.as_bytes())]).file("short", b"dead").bytes());
        for error in [header, gnu, pax] {
            assert!(matches!(&error, ImageError::Name { entry, .. } if entry.contains("..")), "{error}");
        }
    }
}

#[test]
fn absolute_names_land_inside() {
    let place = Place::new();
    let name = place.outside().join("canary");
    let tar = Tar::new().long_name(name.as_os_str().as_encoded_bytes()).file("short", b"dead");
    place.unpack(&tar.bytes(), &Bounds::default()).unwrap();
    let inside = place.path(name.to_str().unwrap().trim_start_matches('/'));
    assert_eq!(fs::read(inside).unwrap(), b"dead");
}

#[test]
fn hard_links_to_anything_but_a_file_of_the_image_are_refused() {
    let canary = "/etc/hostname";
    let before = Tar::new().symlink("out", "/etc").symlink("direct", canary).folder("d/");
    for target in [canary, "out/hostname", "direct", "d", "nothing", "", ".", "d/../direct"] {
        let error = refused(&before.clone().hard_link("link", target).bytes());
        assert!(matches!(error, ImageError::HardLink { .. } | ImageError::Name { .. }), "{target}: {error}");
    }
}

#[test]
fn a_hard_link_that_would_remove_its_own_target_is_refused() {
    let error = refused(&Tar::new().file("d/f", b"").hard_link("d", "d/f").bytes());
    assert!(matches!(error, ImageError::HardLink { .. }), "{error}");
}

#[test]
fn nothing_stands_in_the_place_of_the_root() {
    for tar in
        [Tar::new().symlink("./", "/etc"), Tar::new().file(".", b"x"), Tar::new().file("a", b"").hard_link("/", "a")]
    {
        let error = refused(&tar.bytes());
        assert!(matches!(error, ImageError::Name { .. }), "{error}");
    }
}

#[test]
fn whiteouts_cannot_reach_the_parent_nor_through_links() {
    let place = Place::new();
    let below = Tar::new().folder("d/").symlink("out", place.outside().to_str().unwrap());
    let layered = |above: Tar| Oci::default().layer("", below.clone().bytes()).layer("", above.bytes()).bytes();
    for name in ["d/.wh...", "d/.wh..", ".wh..."] {
        let error = refused(&layered(Tar::new().file(name, b"")));
        assert!(matches!(error, ImageError::Name { .. }), "{name}: {error}");
    }
    let above = Tar::new().file("out/.wh.canary", b"").file("out/.wh..wh..opq", b"").file("x", b"");
    let unpacked = place.unpack(&layered(above), &Bounds::default()).unwrap();
    assert_eq!(unpacked.written.hidden, 0);
}

#[test]
fn bombs_of_every_packing_end_at_the_bound_on_bytes() {
    let tar = Tar::new().file("zeros", &vec![0; 4 << 20]).bytes();
    let oci = Oci::default().layer("+gzip", gzip(&tar));
    for bytes in [tar.clone(), gzip(&tar), zstd(&tar), oci.bytes(), gzip(&gzip(&tar))] {
        let error = refused_within(&bytes, &bounds());
        let expected =
            matches!(error, ImageError::Bound { what: "decompressed bytes", .. } | ImageError::Broken { .. });
        assert!(expected, "{error}");
    }
}

#[test]
fn one_bomb_named_by_many_layers_is_counted_every_time() {
    let mut oci = Oci::default().layer("+gzip", gzip(&Tar::new().file("f", &vec![0; 300 << 10]).bytes()));
    oci.layers = vec![oci.layers[0].clone(); 4];
    let error = refused_within(&oci.bytes(), &bounds());
    assert!(matches!(error, ImageError::Bound { what: "decompressed bytes", .. }), "{error}");
}

#[test]
fn content_that_is_dropped_counts_too() {
    let mut tar = Tar::new();
    for _ in 0..3 {
        tar = tar.entry(EntryType::Fifo, b"pipe", b"", 0o644, &vec![0; 500 << 10]);
    }
    let error = refused_within(&gzip(&tar.bytes()), &bounds());
    assert!(matches!(error, ImageError::Bound { what: "decompressed bytes", .. }), "{error}");
}

#[test]
fn entries_are_bounded_and_so_are_the_folders_they_imply() {
    let many = (0..60).fold(Tar::new(), |tar, at| tar.file(&format!("f{at}"), b""));
    let implied = (0..9).fold(Tar::new(), |tar, at| tar.file(&format!("{at}/b/c/d/e/f/g"), b""));
    for tar in [many, implied] {
        let error = refused_within(&gzip(&tar.bytes()), &bounds());
        assert!(matches!(error, ImageError::Bound { what: "entries", max: 50, .. }), "{error}");
    }
}

#[test]
fn depth_lengths_and_layers_are_bounded() {
    let deep = vec!["d"; 200].join("/");
    let long = vec!["d".repeat(200); 30].join("/");
    let wide = "w".repeat(300);
    for name in [deep, long, wide] {
        let error = refused(&Tar::new().long_name(name.as_bytes()).file("short", b"").bytes());
        assert!(matches!(error, ImageError::Bound { .. }), "{error}");
    }
    let target = "t".repeat(5000);
    let error = refused(&Tar::new().pax(&[("linkpath", target.as_bytes())]).symlink("l", "t").bytes());
    assert!(matches!(error, ImageError::Bound { what: "bytes in one link's target", .. }), "{error}");
    let mut oci = Oci::default().layer("", Tar::new().file("f", b"").bytes());
    oci.layers = vec![oci.layers[0].clone(); 9];
    let error = refused_within(&oci.bytes(), &Bounds { layers: 8, ..Bounds::default() });
    assert!(matches!(error, ImageError::Bound { what: "layers", max: 8, .. }), "{error}");
}

#[test]
fn extended_headers_are_bounded_before_they_are_read() {
    let big = vec![b'a'; 2 << 20];
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        let error = refused(&gzip(&Tar::new().entry(kind, b"x", b"", 0o644, &big).file("f", b"").bytes()));
        assert!(matches!(error, ImageError::Bound { what: "bytes in one extended header", .. }), "{error}");
    }
}

#[test]
fn headers_that_two_readers_would_read_differently_are_refused() {
    let size = Tar::new().pax(&[("size", b"0")]).file("f", &[1; 512]);
    let sparse = Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("f", b"");
    let old_sparse = Tar::new().entry(EntryType::GNUSparse, b"f", b"", 0o644, b"");
    let global = Tar::new().entry(EntryType::XGlobalHeader, b"g", b"", 0o644, b"10 path=x\n").file("f", b"");
    let unknown = Tar::new().entry(EntryType::new(b'Z'), b"f", b"", 0o644, b"");
    let dangling = Tar::new().file("f", b"").pax(&[("path", b"x")]);
    for tar in [size, sparse, old_sparse, global, unknown, dangling] {
        let error = refused(&tar.bytes());
        assert!(matches!(error, ImageError::Broken { .. } | ImageError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn links_without_a_target_are_refused() {
    let error = refused(&Tar::new().symlink("l", "").bytes());
    assert!(matches!(error, ImageError::Name { .. }), "{error}");
    let error = refused(&Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("l", "x").bytes());
    assert!(matches!(error, ImageError::Name { .. }), "{error}");
}

#[test]
fn what_is_cut_short_is_refused_at_every_place() {
    let tar = Tar::new().file("a", &[7; 3000]).bytes();
    for bytes in [tar[..100].to_vec(), tar[..1000].to_vec(), tar[..3000].to_vec(), Vec::new(), vec![0; 1024]] {
        let error = refused(&bytes);
        assert!(matches!(error, ImageError::Broken { .. }), "{} bytes: {error}", bytes.len());
    }
    for whole in [gzip(&tar), zstd(&tar)] {
        assert!(matches!(refused(&whole[..whole.len() / 2]), ImageError::Broken { .. }));
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused_before_it_is_used() {
    let oci = Oci::default().layer("", Tar::new().file("f", b"").bytes());
    let place_of = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|part| part == text).unwrap();
    let good = oci.clone().bytes();
    for part in [&b"\"architecture\""[..], b"\"layers\"", b"ustar  \0"] {
        let mut bytes = good.clone();
        // The third header of the outer tar is the layer's; the first such text within content is the layer's own.
        let at = if part.starts_with(b"ustar") { 3 * 512 + 10 } else { place_of(&bytes, part) };
        bytes[at] ^= 1;
        let error = refused(&bytes);
        assert!(matches!(&error, ImageError::Blob { why, .. } if why.contains("digest")), "{error}");
    }
}

#[test]
fn blobs_that_are_missing_or_of_another_size_are_refused() {
    let mut oci = Oci::default().layer("", Tar::new().file("f", b"").bytes());
    let layer = oci.layers[0].clone();
    oci.layers[0] = layer.replace("\"size\":", "\"size\":1");
    assert!(matches!(refused(&oci.clone().bytes()), ImageError::Blob { why, .. } if why.contains("instead of")));
    oci.layers[0] = layer;
    oci.blobs.clear();
    assert!(matches!(refused(&oci.bytes()), ImageError::Blob { why, .. } if why.contains("missing")));
}

#[test]
fn a_digest_that_is_a_path_opens_nothing() {
    let text = format!(r#"{{"mediaType":"{MANIFEST}","digest":"sha256:../../../etc/passwd","size":1}}"#);
    assert!(matches!(refused(&Oci::default().around(&text)), ImageError::Blob { .. }));
}

#[test]
fn indexes_inside_each_other_end() {
    let mut oci = Oci::default();
    let mut inner = oci.manifest();
    for _ in 0..6 {
        inner = oci.blob(INDEX, format!(r#"{{"schemaVersion":2,"manifests":[{inner}]}}"#).into_bytes());
    }
    let error = refused(&oci.around(&inner));
    assert!(matches!(error, ImageError::Bound { what: "indexes inside each other", .. }), "{error}");
}

#[test]
fn documents_that_are_deep_long_or_no_json_are_refused() {
    let deep = format!(r#"{{"schemaVersion":2,"manifests":[],"x":{}}}"#, "[".repeat(100_000));
    let long = format!(r#"{{"schemaVersion":2,"manifests":[],"x":"{}"}}"#, "a".repeat(5 << 20));
    for text in [deep, long, "\x1b[2J".to_owned(), String::new()] {
        let tar =
            Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", text.as_bytes());
        let error = refused(&tar.bytes());
        assert!(matches!(error, ImageError::Document { .. }), "{error}");
    }
}

#[test]
fn an_image_for_another_machine_is_refused() {
    let oci = Oci { architecture: "s390x".to_owned(), ..Oci::default() }.layer("", Tar::new().file("f", b"").bytes());
    assert!(matches!(refused(&oci.bytes()), ImageError::Platform { found, .. } if found.contains("s390x")));
}

#[test]
fn layers_of_other_kinds_are_refused() {
    let oci = Oci::default().layer("+encrypted", b"x".to_vec());
    assert!(matches!(refused(&oci.bytes()), ImageError::Blob { why, .. } if why.contains("kind")));
}

#[test]
fn errors_name_the_entry_in_one_line_of_printable_text() {
    let tar = Tar::new().entry(EntryType::Regular, b"../\n\x1b]0;x\x07", b"", 0o644, b"");
    let text = refused(&tar.bytes()).to_string();
    assert!(text.contains(r"../\n\x1b]0;x\x07"), "{text}");
}

#[test]
fn an_xz_tar_is_refused_with_what_to_use_instead() {
    assert!(refused(b"\xfd7zXZ\0rest").to_string().contains("gzip or zstd"));
}

#[test]
fn a_folder_with_much_in_it_can_be_replaced_by_a_file() {
    let full = (0..500).fold(Tar::new(), |tar, at| tar.file(&format!("d/{}/{at}/f", at % 7), b""));
    let (place, _) = accepted(&full.file("d", b"small").bytes());
    assert_eq!(fs::read(place.path("d")).unwrap(), b"small");
}
