//! The hierarchies that one tree spans, and which controller is used in which of them.

use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::error::{CgroupError, Result};
use crate::layout::{Base, Hierarchy, Layout, Version};

/// Controllers without which limits do not hold.
pub(crate) const REQUIRED: [&str; 3] = ["cpu", "memory", "pids"];
/// Controllers that serve counters and limits that only some cells ask for.
pub(crate) const OPTIONAL: [&str; 2] = ["io", "cpuset"];

/// One hierarchy's part of a tree: the folder `<base>/<name>`.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) version: Version,
    pub(crate) base: PathBuf,
    pub(crate) kind: Base,
    pub(crate) own: bool,
    /// By their version 2 names; `cpuacct` only on version 1. Empty where the hierarchy serves only to kill and to wait.
    pub(crate) controllers: Vec<&'static str>,
}

impl Place {
    fn of(hierarchy: &Hierarchy) -> Self {
        let wanted = REQUIRED.iter().chain(&OPTIONAL).chain(&["cpuacct"]);
        Self {
            version: hierarchy.version,
            base: hierarchy.base.clone(),
            kind: hierarchy.kind,
            own: hierarchy.own,
            controllers: wanted.copied().filter(|name| hierarchy.has(name)).collect(),
        }
    }

    /// Whether a cell only gets a folder here when it asks for it.
    pub(crate) fn on_request(&self) -> bool {
        self.version == Version::V1 && self.controllers == ["cpuset"]
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }

    /// Whether the group's controllers are passed on to the groups below it already.
    pub(crate) fn passed_on(&self, base: &Dir) -> Result<bool> {
        let on = base.read("cgroup.subtree_control")?;
        Ok(self.controllers.iter().all(|name| on.split_whitespace().any(|have| have == *name)))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }
}

/// Chooses the hierarchies of a tree: every controller from where it sits, and version 2 in any case.
pub(crate) fn choose(layout: &Layout) -> Result<Vec<Place>> {
    let places: Vec<Place> = layout.hierarchies.iter().map(Place::of).collect();
    let mut required = REQUIRED.to_vec();
    if layout.home("cpu").is_some_and(|home| home.version == Version::V1) {
        required.push("cpuacct");
    }
    for controller in required {
        if !places.iter().any(|place| place.has(controller)) {
            return Err(missing(layout, controller));
        }
    }
    let used = |place: &Place| place.version == Version::V2 || !place.controllers.is_empty();
    Ok(single_home(places).into_iter().filter(used).collect())
}

/// A controller listed twice is used where it was listed first: version 2 before version 1.
fn single_home(mut places: Vec<Place>) -> Vec<Place> {
    let mut seen: Vec<&'static str> = Vec::new();
    for place in &mut places {
        place.controllers.retain(|name| !seen.contains(name));
        seen.extend(&place.controllers);
    }
    places
}

fn missing(layout: &Layout, controller: &'static str) -> CgroupError {
    let (base, fix) = match layout.unified() {
        None => ("/sys/fs/cgroup".to_owned(), "mount cgroup2: mount -t cgroup2 none /sys/fs/cgroup"),
        Some(home) => (
            home.base.display().to_string(),
            match home.kind {
                Base::Delegated => "set Delegate=yes in the service's unit and restart it",
                Base::NamespaceRoot => {
                    "start the container with its cgroup delegated (podman --cgroups=split, docker \
                --cgroupns=private with a writable /sys/fs/cgroup)"
                }
                Base::Root => "boot without cgroup_disable= for it",
            },
        ),
    };
    CgroupError::MissingController { controller, base, fix }
}

/// The files without which the limits of a controller cannot be set, with what the kernel lacks then.
pub(crate) fn check_features(place: &Place, dir: &Dir) -> Result<()> {
    let wanted: &[(&str, &str, &str)] = match place.version {
        Version::V2 => &[("cpu", "cpu.max", NO_BANDWIDTH), ("memory", "memory.max", ODD), ("pids", "pids.max", ODD)],
        Version::V1 => &[
            ("cpu", "cpu.cfs_quota_us", NO_BANDWIDTH),
            ("cpuacct", "cpuacct.usage", ODD),
            ("memory", "memory.limit_in_bytes", ODD),
            ("pids", "pids.max", ODD),
        ],
    };
    for (controller, file, fix) in wanted {
        if place.has(controller) && !dir.has(file) {
            return Err(CgroupError::MissingFile { path: dir.path().join(file), fix });
        }
    }
    Ok(())
}

const NO_BANDWIDTH: &str = "boot a kernel with CONFIG_CFS_BANDWIDTH=y (every distribution's has it)";
const ODD: &str = "prepare the tree again as root (restart remandd); if it stays so, the kernel lacks this controller";

/// Checks the name of a tree: it becomes a folder beside other people's groups and the kernel's files.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.starts_with("remand") && remand_model::ids::is_name(name) && !name.contains('.') {
        return Ok(());
    }
    let pattern = "remand[a-z0-9_-]{0,57}";
    Err(CgroupError::Name { what: "a tree of control groups", name: name.to_owned(), pattern })
}

/// Opens `<base>/<name>` and checks that it serves.
pub(crate) fn open(place: &Place, name: &str) -> Result<Dir> {
    let dir = Dir::open(place.path(name))?;
    check_features(place, &dir)?;
    Ok(dir)
}

/// The folder that a `Dir` error names when there is no tree yet.
pub(crate) fn root_dir(base: &Path) -> Result<Dir> {
    Dir::open(base.to_owned())
}
