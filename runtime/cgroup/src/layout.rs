//! Where this process finds its control groups: which controller sits on which mount, and under which group we may build.
//!
//! `Layout::parse` is pure over the texts of `/proc/self/mountinfo` (proc(5)) and `/proc/self/cgroup` (cgroups(7)); the
//! few questions that only the mounted hierarchy can answer go through [`Facts`].

use std::path::{Component, Path, PathBuf};

use rustix::fs::getxattr;

use crate::error::{CgroupError, Result};

/// Version of a control group hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Version {
    /// Control groups version 1: one hierarchy per set of controllers.
    #[serde(rename = "v1")]
    V1,
    /// Control groups version 2: the unified hierarchy.
    #[serde(rename = "v2")]
    V2,
}

/// Why groups may be made under [`Hierarchy::base`], which decides who must move before controllers are enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The hierarchy's real root: processes may stand beside enabled controllers.
    Root,
    /// A group that systemd delegated to this service or scope (`Delegate=yes`).
    Delegated,
    /// The root that this cgroup namespace shows, which is an ordinary group outside: a container.
    NamespaceRoot,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hierarchy {
    /// Which interface files it has.
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The folder under which remand makes its group.
    pub base: PathBuf,
    /// Why that folder.
    pub kind: Base,
    /// Whether this process itself stands in `base`.
    pub own: bool,
    /// The controllers that groups under `base` can use.
    pub controllers: Vec<String>,
}

/// What the host's hierarchies look like as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only version 2.
    Unified,
    /// Version 2 is mounted, but controllers that remand needs sit on version 1.
    Hybrid,
    /// Only version 1.
    Legacy,
    /// No control groups at all.
    Absent,
}

/// The hierarchies that this process can see.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Layout {
    /// All of them, version 2 first.
    pub hierarchies: Vec<Hierarchy>,
}

/// What the texts do not tell.
pub trait Facts {
    /// The text of `cgroup.controllers` in this folder; empty where there is none.
    fn controllers(&self, dir: &Path) -> String;
    /// Whether this folder is the real root of the version 2 hierarchy: only the real root has no `cgroup.type`.
    fn is_real_root(&self, dir: &Path) -> bool;
    /// Whether systemd marked this folder as delegated (`trusted.delegate` or `user.delegate`).
    fn is_delegated(&self, dir: &Path) -> bool;
}

/// The facts of this host.
struct Host;

impl Facts for Host {
    fn controllers(&self, dir: &Path) -> String {
        std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default()
    }

    fn is_real_root(&self, dir: &Path) -> bool {
        !dir.join("cgroup.type").exists()
    }

    fn is_delegated(&self, dir: &Path) -> bool {
        ["trusted.delegate", "user.delegate"].iter().any(|name| {
            let mut value = [0u8; 8];
            getxattr(dir, *name, &mut value[..]).is_ok_and(|length| &value[..length] == b"1")
        })
    }
}

/// The version 1 controllers that remand knows how to drive.
const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio"];

impl Layout {
    /// Reads this host's layout.
    ///
    /// # Errors
    /// [`CgroupError::Detect`] when /proc cannot be read.
    pub fn detect() -> Result<Self> {
        let read =
            |what: &'static str| std::fs::read_to_string(what).map_err(|source| CgroupError::Detect { what, source });
        Ok(Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?, &Host))
    }

    /// Reads a layout from the two tables' texts.
    #[must_use]
    pub fn parse(mountinfo: &str, own_groups: &str, facts: &dyn Facts) -> Self {
        let mut mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        // A bind mount of a hierarchy elsewhere shows the same groups: the conventional place wins.
        mounts.sort_by_key(|mount| !mount.point.starts_with("/sys/fs/cgroup"));
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in &mounts {
            let found = if mount.v2 { mount.unified(own_groups, facts) } else { mount.legacy(own_groups) };
            let Some(found) = found else { continue };
            let taken = |other: &Hierarchy| match found.version {
                Version::V2 => other.version == Version::V2,
                Version::V1 => found.controllers.iter().any(|name| other.controllers.contains(name)),
            };
            if !hierarchies.iter().any(taken) {
                hierarchies.push(found);
            }
        }
        hierarchies.sort_by_key(|hierarchy| hierarchy.version == Version::V1);
        Self { hierarchies }
    }

    /// The hierarchy that has this controller (its version 2 name: `io`, not `blkio`).
    #[must_use]
    pub fn home(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// The version 2 hierarchy.
    #[must_use]
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// What this layout is as a whole.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let legacy = self.hierarchies.iter().any(|hierarchy| hierarchy.version == Version::V1);
        match (self.unified().is_some(), legacy) {
            (false, false) => Kind::Absent,
            (false, true) => Kind::Legacy,
            (true, false) => Kind::Unified,
            (true, true) => Kind::Hybrid,
        }
    }
}

impl Hierarchy {
    /// Whether this hierarchy has the controller, given by its version 2 name.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        let name = match (self.version, controller) {
            (Version::V1, "io") => "blkio",
            (_, name) => name,
        };
        self.controllers.iter().any(|own| own == name)
    }
}

/// One line of mountinfo that is a control group hierarchy.
struct Mount {
    root: String,
    point: PathBuf,
    v2: bool,
    controllers: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let (root, point) = (before.get(3)?, before.get(4)?);
        let kind = *after.first()?;
        if kind != "cgroup" && kind != "cgroup2" {
            return None;
        }
        let options = after.get(2).copied().unwrap_or_default();
        let controllers = options.split(',').filter(|name| V1_CONTROLLERS.contains(name)).map(str::to_owned);
        Some(Self {
            root: unescape(root),
            point: PathBuf::from(unescape(point)),
            v2: kind == "cgroup2",
            controllers: controllers.collect(),
        })
    }

    fn legacy(&self, own_groups: &str) -> Option<Hierarchy> {
        if self.controllers.is_empty() {
            return None;
        }
        let own =
            own_group(own_groups, |names| names.split(',').any(|name| self.controllers.iter().any(|c| c == name)));
        Some(Hierarchy {
            version: Version::V1,
            mount: self.point.clone(),
            base: self.point.clone(),
            kind: Base::Root,
            own: own.and_then(|own| self.inside(own)).is_some_and(|dir| dir == self.point),
            controllers: self.controllers.clone(),
        })
    }

    fn unified(&self, own_groups: &str, facts: &dyn Facts) -> Option<Hierarchy> {
        if self.root.starts_with("/..") {
            return None;
        }
        let own = own_group(own_groups, str::is_empty).and_then(|own| self.inside(own));
        let delegated = own.as_ref().and_then(|own| {
            own.ancestors().take_while(|dir| *dir != self.point).find(|dir| facts.is_delegated(dir)).map(Path::to_owned)
        });
        let (base, kind) = match delegated {
            Some(dir) => (dir, Base::Delegated),
            None if facts.is_real_root(&self.point) => (self.point.clone(), Base::Root),
            None => (self.point.clone(), Base::NamespaceRoot),
        };
        Some(Hierarchy {
            version: Version::V2,
            mount: self.point.clone(),
            own: own.is_some_and(|own| own == base),
            controllers: facts.controllers(&base).split_whitespace().map(str::to_owned).collect(),
            base,
            kind,
        })
    }

    /// The folder of a group named as in /proc/self/cgroup, if this mount shows it.
    fn inside(&self, group: &str) -> Option<PathBuf> {
        let relative = Path::new(group).strip_prefix(&self.root).ok()?;
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| if relative.as_os_str().is_empty() { self.point.clone() } else { self.point.join(relative) })
    }
}

/// The path of the first line of /proc/self/cgroup whose controller field is accepted.
fn own_group(text: &str, accepts: impl Fn(&str) -> bool) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        accepts(names).then_some(path)
    })
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
