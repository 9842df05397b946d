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
