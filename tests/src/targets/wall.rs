//! The words between daemon, spawner and keeper.

use remand_spec::estate::IDS_OF_A_CELL;
use remand_spec::message::{Answer, Request};
use remand_spec::{Estate, Filter, Landlock, Mount, Record, Root, SpawnSpec, vet};

const ESTATE: &str = "ids_first = 1073741824\nids_cells = 4\ngroup = remand\nroot = /usr\ngroup_v2 = /sys/fs/cgroup\n";

/// A spec, a message or an estate that was read is written as the same bytes; vetting never panics.
pub fn wall(input: &[u8]) {
    if let Ok(spec) = SpawnSpec::decode(input) {
        assert_eq!(spec.encode(), input);
        if let Ok(vetted) = vet(spec.clone(), &Estate::parse(ESTATE).expect("a good estate")) {
            assert!(vetted.spec().ids_first >= 1_073_741_824 && vetted.spec() == &spec);
        }
    }
    if let Ok(request) = Request::decode(input) {
        assert_eq!(request.encode(), input);
    }
    if let Ok(answer) = Answer::decode(input) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
    if let Some(estate) = str::from_utf8(input).ok().and_then(|text| Estate::parse(text).ok()) {
        assert_eq!(Estate::parse(&estate.to_text()), Ok(estate));
    }
}

pub fn wall_seeds() -> Vec<Vec<u8>> {
    let mount = Mount { source: b"/usr/lib".into(), target: b"/usr/lib".into(), writable: false, owned: false };
    let spec = SpawnSpec {
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
        argv: vec![b"true".into()],
        environment: vec![b"A=b".into()],
        folder: b"/".into(),
        ..SpawnSpec::default()
    };
    let done = Answer::Done { cloned_ns: 5, template_made: true };
    vec![spec.encode(), SpawnSpec::default().encode(), done.encode(), ESTATE.into()]
}

/// Sixteen bytes are one record or none; bytes that a record does not use say nothing.
pub fn record(input: &[u8]) {
    for bytes in input.as_chunks().0 {
        if let Some(record) = Record::decode(bytes) {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let tag =
        |number: u8| (0..64_u8).flat_map(|field| [number, field, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]).collect();
    (0..16).map(tag).collect()
}
