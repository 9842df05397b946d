//! What the wall lets through: good specs and records survive their bytes, everything else is refused by name.
#![forbid(unsafe_code)]

use remand_spec::estate::IDS_OF_A_CELL;
use remand_spec::record::Omission;
use remand_spec::{Estate, Fact, Filter, Landlock, Mount, Record, Root, SpawnSpec, Stage, vet};

fn estate() -> Estate {
    let text = "ids_first = 1073741824\nids_cells = 4\ngroup = remand\nroot = /usr\ngroup_v2 = /sys/fs/cgroup\n";
    Estate::parse(text).expect("a good estate")
}

fn spec() -> SpawnSpec {
    let mount = Mount { source: b"/usr/lib".into(), target: b"/usr/lib".into(), writable: false, owned: false };
    SpawnSpec {
        cgroup: b"remand/acme/x1".into(),
        ids_first: 1_073_741_824 + IDS_OF_A_CELL,
        user: 1000,
        group: 1000,
        hostname: b"cell".into(),
        root: Root { mounts: vec![mount], ..Root::default() },
        scratch_bytes: 1,
        scratch_inodes: 1,
        landlock: Landlock { abi: 1, fs: 1, ..Landlock::default() },
        filters: vec![Filter { notify: false, program: vec![0; 8] }],
        answers: vec![(272, 1), (246, 0)],
        argv: vec![b"true".into()],
        folder: b"/".into(),
        ..SpawnSpec::default()
    }
}

fn refused(change: impl FnOnce(&mut SpawnSpec)) -> &'static str {
    let mut spec = spec();
    change(&mut spec);
    vet(spec, &estate()).expect_err("refused")
}

#[test]
fn a_good_spec_passes_and_survives_its_bytes() {
    let spec = spec();
    assert_eq!(SpawnSpec::decode(&spec.encode()), Ok(spec.clone()));
    assert_eq!(vet(spec.clone(), &estate()).expect("allowed").spec(), &spec);
}

#[test]
fn an_estate_survives_its_text() {
    assert_eq!(Estate::parse(&estate().to_text()), Ok(estate()));
}

#[test]
fn an_estate_that_would_hand_out_host_ids_is_refused() {
    let text = "ids_first = 0\nids_cells = 1\ngroup = remand\ngroup_v2 = /x\n";
    assert!(Estate::parse(text).is_err());
    assert!(Estate::parse("ids_frist = 1\n").is_err());
}

#[test]
fn ids_outside_the_pool_are_refused() {
    assert!(refused(|s| s.ids_first = 0).contains("below"));
    assert!(refused(|s| s.ids_first += 1).contains("range"));
    assert!(refused(|s| s.ids_first += 4 * IDS_OF_A_CELL).contains("range"));
    assert!(refused(|s| s.user = IDS_OF_A_CELL).contains("user"));
}

#[test]
fn host_paths_outside_the_roots_are_refused() {
    assert!(refused(|s| s.root.mounts[0].source = b"/etc/shadow".into()).contains("allows"));
    assert!(refused(|s| s.root.mounts[0].source = b"/usrx".into()).contains("allows"));
    assert!(refused(|s| s.root.mounts[0].source = b"/usr/../etc".into()).contains("plain"));
    assert!(refused(|s| s.root.mounts[0].writable = true).contains("allows"));
    assert!(refused(|s| s.root.mounts[0].target = b"/".into()).contains("plain"));
}

#[test]
fn a_cell_without_walls_is_refused() {
    assert!(refused(|s| s.filters.clear()).contains("seccomp"));
    assert!(refused(|s| s.filters[0].program.push(0)).contains("seccomp"));
    assert!(refused(|s| s.landlock.fs = 0).contains("Landlock"));
    assert!(refused(|s| s.scratch_bytes = 0).contains("limit"));
}

#[test]
fn a_group_elsewhere_is_refused() {
    for bad in ["other/a/b", "remand/a", "remand/../b", "remand/a/b/c", "remand/a/.b", "remand//b"] {
        assert!(refused(|s| s.cgroup = bad.into()).contains("control group"), "{bad}");
    }
}

#[test]
fn bytes_that_are_no_spec_are_refused_whole() {
    let good = spec().encode();
    for end in 0..good.len() {
        assert!(SpawnSpec::decode(&good[..end]).is_err());
    }
    let mut long = good.clone();
    long.push(0);
    assert!(SpawnSpec::decode(&long).is_err());
    assert!(SpawnSpec::decode(&vec![0; remand_spec::codec::BYTES_MAX + 1]).is_err());
}

#[test]
fn every_record_survives_its_bytes() {
    let all = [
        Record::Done(Stage::Root, 7),
        Record::Fact(Fact::Capabilities, u64::MAX),
        Record::Ready,
        Record::Handed(9),
        Record::Fault(Stage::Exec, 2),
        Record::Ended(0x8b),
        Record::File(300, 0o755, 1 << 40),
        Record::Omitted(Omission::Kind, 3),
        Record::Finished,
        Record::Listener,
        Record::Terminal,
        Record::Denied(272, 1),
    ];
    for record in all {
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }
}

#[test]
fn unknown_numbers_are_no_record() {
    assert_eq!(Record::decode(&[0; 16]), None);
    assert_eq!(Record::decode(&[0xff; 16]), None);
}
