//! The spawner's own look at a spec: the daemon parsed untrusted requests and may have been turned.
//!
//! Vetting asks only what must hold for *every* cell of this estate; whether this tenant may run this program was decided
//! elsewhere and is not believed here. A daemon that lies can still only get cells: confined, limited, with ids of the pool.

use crate::estate::IDS_OF_A_CELL;
use crate::{Estate, Mount, SpawnSpec};

/// A spec that this estate allows. Holding one says: ids are of the pool, host paths are below allowed roots, Landlock and
/// seccomp are present. It says nothing about who asked.
#[derive(Debug)]
pub struct Vetted(SpawnSpec);

impl Vetted {
    /// The spec.
    #[must_use]
    pub fn spec(&self) -> &SpawnSpec {
        &self.0
    }
}

/// Looks at a spec.
///
/// # Errors
/// A sentence that names what the estate forbids.
pub fn vet(spec: SpawnSpec, estate: &Estate) -> Result<Vetted, &'static str> {
    ids(&spec, estate)?;
    group(&spec, estate)?;
    root(&spec, estate)?;
    confinement(&spec)?;
    program(&spec)?;
    Ok(Vetted(spec))
}

fn ids(spec: &SpawnSpec, estate: &Estate) -> Result<(), &'static str> {
    let offset = spec.ids_first.checked_sub(estate.ids_first).ok_or("the ids are below the estate's pool")?;
    if offset % IDS_OF_A_CELL != 0 || offset / IDS_OF_A_CELL >= estate.ids_cells {
        return Err("the ids are not one range of the estate's pool");
    }
    if spec.user >= IDS_OF_A_CELL || spec.group >= IDS_OF_A_CELL {
        return Err("the payload's user or group is outside its range");
    }
    Ok(())
}

fn group(spec: &SpawnSpec, estate: &Estate) -> Result<(), &'static str> {
    let mut parts = spec.cgroup.split(|byte| *byte == b'/');
    if parts.next() != Some(&estate.group) {
        return Err("the control group is not the estate's");
    }
    let rest: Vec<_> = parts.collect();
    if rest.len() == 2 && rest.iter().all(|part| is_name(part)) {
        Ok(())
    } else {
        Err("the control group is not GROUP/TENANT/CELL")
    }
}

fn is_name(part: &[u8]) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&part.len()) && part[0] != b'.' && part.iter().all(inner)
}

/// Whether the path is absolute, without `.`, `..`, empty parts or NUL.
#[must_use]
pub fn is_plain(path: &[u8]) -> bool {
    path == b"/"
        || path.strip_prefix(b"/").is_some_and(|rest| {
            rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")) && !rest.contains(&0)
        })
}

fn below(path: &[u8], root: &[u8]) -> bool {
    root == b"/" || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn root(spec: &SpawnSpec, estate: &Estate) -> Result<(), &'static str> {
    let allowed = |mount: &Mount| {
        let roots = if mount.writable { &estate.writable_roots } else { &estate.roots };
        roots.iter().any(|root| below(&mount.source, root))
    };
    let root = &spec.root;
    if !root.mounts.iter().all(|mount| is_plain(&mount.source) && is_plain(&mount.target) && mount.target != b"/") {
        return Err("a mount's path is not absolute and plain");
    }
    if !root.mounts.iter().all(allowed) {
        return Err("a mount's source is not below a root that the estate allows");
    }
    let texts = root.texts.iter().map(|text| &text.path);
    let paths = root.links.iter().map(|link| &link.path).chain(texts).chain(&root.folders);
    if !paths.clone().all(|path| is_plain(path)) {
        return Err("a link's, file's or folder's path is not absolute and plain");
    }
    if root.links.iter().any(|link| link.target.is_empty() || link.target.contains(&0)) {
        return Err("a link points to nothing");
    }
    Ok(())
}

fn confinement(spec: &SpawnSpec) -> Result<(), &'static str> {
    if spec.filters.is_empty() || spec.filters.iter().any(|f| f.program.is_empty() || f.program.len() % 8 != 0) {
        return Err("the seccomp filter is missing or no whole number of instructions");
    }
    if spec.filters.iter().filter(|filter| filter.notify).count() > 1 {
        return Err("more than one seccomp filter asks the daemon");
    }
    if spec.landlock.abi == 0 || spec.landlock.fs == 0 {
        return Err("the Landlock ruleset is missing");
    }
    if spec.scratch_bytes == 0 || spec.scratch_inodes == 0 {
        return Err("the writable places have no limit");
    }
    Ok(())
}

fn program(spec: &SpawnSpec) -> Result<(), &'static str> {
    let texts = spec.argv.iter().chain(&spec.environment);
    if spec.argv.first().is_none_or(Vec::is_empty) {
        return Err("there is no program");
    }
    if texts.clone().any(|text| text.contains(&0)) || !is_plain(&spec.folder) {
        return Err("an argument, a variable or the working folder holds what exec cannot take");
    }
    if spec.hostname.is_empty() || spec.hostname.len() > 64 {
        return Err("the host name is empty or longer than 64 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Filter, Landlock, Root};

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
        assert!(SpawnSpec::decode(&vec![0; crate::codec::BYTES_MAX + 1]).is_err());
    }
}
