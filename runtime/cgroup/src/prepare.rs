//! The part that needs root, once at boot: make the tree's top folder in every hierarchy and give it away.
//!
//! Only the folder itself changes its owner, so that groups can be made below it. Its limits and its member lists stay
//! root's: nobody unprivileged can widen the top or move a process (cgroup-v2.rst, "Delegation").

use rustix::process::getpid;

use crate::dir::Dir;
use crate::error::{CgroupError, Result};
use crate::layout::{Base, Version};
use crate::place::{OPTIONAL, Place, REQUIRED, root_dir};

/// The leaf in which the daemon itself stands where its own group must be empty; no tenant's folder can have this name.
pub(crate) const DAEMON: &str = "_daemon";
/// The leaf for what else stood at the root of a container's cgroup namespace.
pub(crate) const OTHERS: &str = "_others";

/// Makes and gives away `<base>/<name>` in one hierarchy.
pub(crate) fn prepare(place: &Place, name: &str, uid: u32, gid: u32) -> Result<()> {
    let base = root_dir(&place.base)?;
    let top = base.child(name);
    top.create()?;
    match place.version {
        Version::V1 => prepare_v1(place, &base, &top)?,
        Version::V2 => prepare_v2(place, &base, &top)?,
    }
    top.give("", uid, gid)
}

fn prepare_v1(place: &Place, base: &Dir, top: &Dir) -> Result<()> {
    if place.has("memory") && top.read_if_there("memory.use_hierarchy")?.is_some_and(|text| text.trim() == "0") {
        top.write("memory.use_hierarchy", "1")?;
    }
    if place.has("cpuset") { copy_cpuset(base, top) } else { Ok(()) }
}

/// Version 1 starts a cpuset group with no processors and no memory, and nobody can enter it: pass on the parent's.
pub(crate) fn copy_cpuset(parent: &Dir, child: &Dir) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if child.read(file)?.trim().is_empty() {
            child.write(file, parent.read(file)?.trim())?;
        }
    }
    Ok(())
}

fn prepare_v2(place: &Place, base: &Dir, top: &Dir) -> Result<()> {
    if place.controllers.is_empty() {
        return Ok(());
    }
    if !place.passed_on(base)? {
        make_room(place, base, top)?;
    }
    enable(base, &place.controllers).map_err(|error| occupied(error, base))?;
    enable(top, &place.controllers).map_err(|error| occupied(error, top))
}

/// Empties the base group where it is an ordinary group: the kernel passes controllers on only from empty groups.
fn make_room(place: &Place, base: &Dir, top: &Dir) -> Result<()> {
    match place.kind {
        Base::Root => Ok(()),
        Base::Delegated if !place.own => Ok(()),
        Base::Delegated => move_self(top),
        Base::NamespaceRoot => {
            if place.own {
                move_self(top)?;
            }
            move_others(base, top)
        }
    }
}

fn move_self(top: &Dir) -> Result<()> {
    let leaf = top.child(DAEMON);
    leaf.create()?;
    leaf.write("cgroup.procs", "0")
}

/// In a container everything at the namespace's root belongs to the container: it moves into one leaf.
fn move_others(base: &Dir, top: &Dir) -> Result<()> {
    let leaf = top.child(OTHERS);
    let own = getpid().as_raw_nonzero().get();
    for pid in base.pids()? {
        if pid == own {
            continue;
        }
        leaf.create()?;
        match leaf.write("cgroup.procs", &pid.to_string()) {
            Ok(()) => {}
            // It ended meanwhile (ESRCH): it is out of the way.
            Err(error) if error.is_errno(3) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Passes controllers on to the groups below.
pub(crate) fn enable(dir: &Dir, wanted: &[&str]) -> Result<()> {
    let has = dir.read("cgroup.subtree_control")?;
    let has: Vec<&str> = has.split_whitespace().collect();
    let known = REQUIRED.iter().chain(&OPTIONAL);
    let missing: Vec<String> =
        known.filter(|name| wanted.contains(name) && !has.contains(name)).map(|name| format!("+{name}")).collect();
    if missing.is_empty() { Ok(()) } else { dir.write("cgroup.subtree_control", &missing.join(" ")) }
}

/// EBUSY means that processes stand in the group: say which.
fn occupied(error: CgroupError, dir: &Dir) -> CgroupError {
    if !error.is_errno(16) {
        return error;
    }
    match dir.pids() {
        Ok(pids) => CgroupError::Occupied { path: dir.path(), pids },
        Err(_) => error,
    }
}
