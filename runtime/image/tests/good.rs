//! Images as people make them come out as they should.

mod kit;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use kit::{INDEX, MANIFEST, Oci, Place, Tar, accepted, gzip, mode, names, refused, zstd};
use remand_image::{Bounds, Form, ImageError};
use tar::EntryType;

fn small() -> Tar {
    Tar::new()
        .folder("./")
        .folder("./usr/")
        .entry(EntryType::Regular, b"./usr/tool", b"", 0o700, b"#!")
        .file("./usr/data", b"text")
        .symlink("./bin", "usr")
        .hard_link("./usr/same", "./usr/tool")
}

fn is_small(place: &Place) {
    assert_eq!(names(&place.image()), ["bin", "usr"]);
    assert_eq!(fs::read(place.path("usr/tool")).unwrap(), b"#!");
    assert_eq!(fs::read_link(place.path("bin")).unwrap().to_str(), Some("usr"));
}

#[test]
fn a_plain_a_gzip_and_a_zstd_tar_give_the_same_tree() {
    let bytes = small().bytes();
    for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
        let (place, unpacked) = accepted(&packed);
        is_small(&place);
        let written = unpacked.written;
        assert_eq!((unpacked.form, unpacked.layers), (Form::Tar, 1));
        assert_eq!((written.files, written.folders, written.symlinks, written.hard_links), (2, 2, 1, 1));
        assert_eq!(written.bytes, 6);
    }
}

#[test]
fn everybody_can_read_what_was_unpacked_whatever_its_modes_were() {
    let tar = Tar::new()
        .entry(EntryType::Directory, b"closed/", b"", 0o000, b"")
        .entry(EntryType::Regular, b"closed/secret", b"", 0o600, b"")
        .entry(EntryType::Regular, b"closed/tool", b"", 0o001, b"")
        .file("implied/deep/file", b"");
    let (place, _) = accepted(&tar.bytes());
    for (name, expected) in
        [(".", 0o755), ("closed", 0o755), ("closed/secret", 0o644), ("closed/tool", 0o755), ("implied/deep", 0o755)]
    {
        assert_eq!(mode(&place.path(name)), expected, "{name}");
    }
}

#[test]
fn special_bits_owners_attributes_devices_and_pipes_are_dropped_and_counted() {
    let tar = Tar::new()
        .entry(EntryType::Directory, b"tmp/", b"", 0o1777, b"")
        .entry(EntryType::Regular, b"su", b"", 0o6755, b"")
        .entry(EntryType::Char, b"null", b"", 0o666, b"")
        .entry(EntryType::Block, b"disk", b"", 0o660, b"")
        .entry(EntryType::Fifo, b"pipe", b"", 0o644, b"")
        .pax(&[("SCHILY.xattr.security.capability", b"\x01\n\0=\n"), ("uid", b"1000")])
        .file("ping", b"");
    let (place, unpacked) = accepted(&tar.bytes());
    let dropped = unpacked.dropped;
    assert_eq!(names(&place.image()), ["ping", "su", "tmp"]);
    assert_eq!((mode(&place.path("tmp")), mode(&place.path("su"))), (0o755, 0o755));
    assert_eq!((dropped.devices, dropped.pipes, dropped.special_bits), (2, 1, 2));
    assert_eq!((dropped.owners, dropped.attributes), (1, 1));
}

#[test]
fn hard_links_share_one_file_and_replacing_a_name_leaves_the_others() {
    let tar = Tar::new().file("a", b"old").hard_link("b", "a").hard_link("c", "/./b").file("a", b"new");
    let (place, _) = accepted(&tar.bytes());
    let inode = |name| fs::metadata(place.path(name)).unwrap().ino();
    assert_eq!(inode("b"), inode("c"));
    assert_eq!(
        (fs::read(place.path("a")).unwrap(), fs::read(place.path("b")).unwrap()),
        (b"new".into(), b"old".into())
    );
}

#[test]
fn a_hard_link_to_its_own_name_keeps_the_file() {
    let (place, _) = accepted(&Tar::new().file("a", b"x").hard_link("a", "./a").bytes());
    assert_eq!(fs::read(place.path("a")).unwrap(), b"x");
}

#[test]
fn long_names_of_both_formats_are_kept() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let tar = Tar::new().long_name(format!("gnu/{long}").as_bytes()).file("cut", b"1");
    let tar = tar.pax(&[("path", format!("pax/{long}").as_bytes()), ("mtime", b"42.5")]).file("cut", b"2");
    let (place, _) = accepted(&tar.bytes());
    assert_eq!(names(&place.image()), ["gnu", "pax"]);
    assert_eq!(fs::metadata(place.path(&format!("pax/{long}"))).unwrap().mtime(), 42);
}

#[test]
fn names_that_are_no_text_are_kept() {
    let tar = Tar::new().entry(EntryType::Regular, b"a\xff\n", b"", 0o644, b"");
    let (place, _) = accepted(&tar.bytes());
    assert_eq!(fs::read_dir(place.image()).unwrap().count(), 1);
}

#[test]
fn times_are_those_of_the_image_and_folders_tell_no_time() {
    let (place, _) = accepted(&small().bytes());
    let time = |name: &str| fs::symlink_metadata(place.path(name)).unwrap().mtime();
    assert_eq!((time("usr/data"), time("bin"), time("usr"), time(".")), (7, 7, 0, 0));
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    let below =
        Tar::new().file("keep", b"").file("gone", b"").file("d/old", b"").file("d/sub/old", b"").file("e/x", b"");
    let above = Tar::new()
        .file(".wh.gone", b"")
        .file("d/new", b"")
        .file("d/.wh..wh..opq", b"")
        .file(".wh.e", b"")
        .folder("e/")
        .file("again", b"")
        .file(".wh.again", b"")
        .file(".wh..wh.plnk/1.2", b"");
    let oci = Oci::default().layer("", below.bytes()).layer("+gzip", gzip(&above.bytes()));
    let (place, unpacked) = accepted(&oci.bytes());
    assert_eq!(names(&place.image()), ["again", "d", "e", "keep"]);
    assert_eq!(names(&place.path("d")), ["new"]);
    assert!(names(&place.path("e")).is_empty());
    assert_eq!((unpacked.layers, unpacked.written.hidden, unpacked.dropped.metadata), (2, 3, 1));
}

#[test]
fn later_layers_change_kinds() {
    let below = Tar::new().file("a", b"").folder("b/").file("b/x", b"").symlink("c", "b");
    let above = Tar::new().folder("a/").file("a/y", b"").file("b", b"file").folder("c/").file("c/z", b"");
    let oci = Oci::default().layer("+zstd", zstd(&below.bytes())).layer("", above.bytes());
    let (place, _) = accepted(&oci.bytes());
    assert_eq!(names(&place.path("a")), ["y"]);
    assert_eq!(fs::read(place.path("b")).unwrap(), b"file");
    assert_eq!(names(&place.path("c")), ["z"]);
}

#[test]
fn a_layout_is_found_through_a_nested_index_and_past_other_machines_and_attestations() {
    let mut oci = Oci::default().layer("", small().bytes());
    let manifest = oci.manifest();
    let on = |os: &str, machine: &str, digest: &str| {
        format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"sha256:{digest}","size":9,"platform":{{"os":"{os}","architecture":"{machine}"}}}}"#
        )
    };
    let own = format!(
        r#"{},"platform":{{"os":"linux","architecture":"{}"}}}}"#,
        manifest.trim_end_matches('}'),
        oci.architecture
    );
    let (zeros, ones) = ("0".repeat(64), "1".repeat(64));
    let list = [on("linux", "s390x", &zeros), own, on("unknown", "unknown", &ones)].join(",");
    let nested = oci.blob(INDEX, format!(r#"{{"schemaVersion":2,"manifests":[{list}]}}"#).into_bytes());
    for packed in [oci.around(&nested), gzip(&oci.around(&nested)), zstd(&oci.around(&nested))] {
        let (place, unpacked) = accepted(&packed);
        is_small(&place);
        assert_eq!(unpacked.form, Form::OciLayout);
    }
}

#[test]
fn a_plain_tar_keeps_names_that_would_be_whiteouts_in_a_layer() {
    let (place, _) = accepted(&Tar::new().file("a", b"").file(".wh.a", b"").bytes());
    assert_eq!(names(&place.image()), [".wh.a", "a"]);
}

#[test]
fn an_image_that_is_there_is_not_unpacked_again() {
    let (place, _) = accepted(&small().bytes());
    let again = remand_image::unpack(std::io::Cursor::new(small().bytes()), &place.image(), &Bounds::default());
    assert!(matches!(again, Err(ImageError::Exists { .. })));
    is_small(&place);
}

#[test]
fn an_image_is_removed_once() {
    let (place, _) = accepted(&small().bytes());
    assert!(remand_image::remove(&place.image()).unwrap());
    assert!(!remand_image::remove(&place.image()).unwrap());
    assert!(names(&place.state()).is_empty());
}

#[test]
fn an_archive_by_an_old_docker_save_is_refused_with_the_way_to_convert_it() {
    let error = refused(&Tar::new().file("abc/layer.tar", b"").file("manifest.json", b"[]").bytes());
    assert!(error.to_string().contains("skopeo copy"), "{error}");
}

/// A tree by Debian's own tools: links, hard links, set-id programs, names of every sort.
#[test]
fn a_real_tree_of_this_machine_comes_out_as_tar_made_it() {
    let parts = ["etc", "usr/share/zoneinfo", "usr/lib/python3", "usr/share/perl", "usr/bin/su", "usr/bin/perl", "bin"];
    let present: Vec<_> =
        parts.into_iter().filter(|part| fs::symlink_metadata(Path::new("/").join(part)).is_ok()).collect();
    let holder = tempfile::tempdir().unwrap();
    let file = holder.path().join("root.tar.gz");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "-C", "/", "--ignore-failed-read", "--exclude=etc/shadow*", "-czf"])
        .arg(&file)
        .args(&present);
    assert!(tar.output().unwrap().status.code().is_some_and(|code| code < 2), "tar failed");

    let place = Place::new();
    let unpacked = remand_image::unpack(fs::File::open(&file).unwrap(), &place.image(), &Bounds::default()).unwrap();
    assert!(unpacked.written.files > 100 && unpacked.written.links_replaced == 0, "{unpacked:?}");
    let mut compare = Command::new("tar");
    compare.arg("-C").arg(place.image()).arg("-df").arg(&file);
    let output = compare.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let expected = ["Mode differs", "Uid differs", "Gid differs", "Mod time differs"];
    let other: Vec<_> = text.lines().filter(|line| !expected.iter().any(|known| line.ends_with(known))).collect();
    assert!(other.is_empty(), "{other:#?}");
}
