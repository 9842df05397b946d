//! The whole tree of one daemon: `<name>/t-<tenant>/c-<cell>` in every hierarchy that it spans.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remand_model::TenantId;

use crate::apply::{Enforced, apply, host_has_swap};
use crate::cell::{BareCell, Cell, CellHierarchy, Kill};
use crate::dir::Dir;
use crate::error::{CgroupError, Result};
use crate::layout::{Base, Layout, Version};
use crate::limits::{CellLimits, TenantLimits, for_cell, for_tenant, open_v1};
use crate::place::{self, Place};
use crate::prepare::{copy_cpuset, enable, prepare};

/// How long a sweep waits for one killed cell to become empty.
pub const SWEEP_WAIT: Duration = Duration::from_secs(3);

/// One hierarchy with the tree's folder in it.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) place: Place,
    pub(crate) top: Dir,
}

/// A tree of control groups that the holder may build in.
#[derive(Debug, Clone)]
pub struct Tree {
    name: String,
    branches: Arc<Vec<Arc<Branch>>>,
}

/// What a sweep found of an earlier life.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Leftover {
    /// The tenant's name.
    pub tenant: String,
    /// The cell's name.
    pub cell: String,
    /// The processes that lived in it.
    pub pids: Vec<i32>,
    /// What became of it.
    pub end: LeftoverEnd,
}

/// What became of a leftover.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftoverEnd {
    /// A dry run: it would have been killed and removed.
    Found,
    /// It is gone.
    Removed,
    /// These processes must be killed by somebody who may (the spawner); then sweep again.
    MustKill(Vec<i32>),
}

impl Tree {
    /// As root at boot: makes `<base>/<name>` in every hierarchy, passes the controllers on, moves this process out of the
    /// way where the kernel asks for it, and gives the folders to `uid` and `gid`. Repeating it changes nothing.
    ///
    /// # Errors
    /// A missing controller, an occupied base group or a refused operation, each with its path and what to do.
    pub fn prepare(layout: &Layout, name: &str, uid: u32, gid: u32) -> Result<Self> {
        place::check_name(name)?;
        for place in &place::choose(layout)? {
            prepare(place, name, uid, gid)?;
        }
        Self::open(layout, name)
    }

    /// The processes that [`Tree::prepare`] would move into leaves below the tree, because the kernel passes controllers on
    /// only from empty groups: this process in a delegated group, everything at the root of a container. Empty on a host.
    ///
    /// # Errors
    /// A missing controller or a refused operation.
    pub fn in_the_way(layout: &Layout) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for place in place::choose(layout)? {
            if place.version == Version::V2 && place.kind != Base::Root && !place.controllers.is_empty() {
                let base = place::root_dir(&place.base)?;
                if !place.passed_on(&base)? {
                    pids.extend(base.pids()?);
                }
            }
        }
        Ok(pids)
    }

    /// Opens a prepared tree; needs no privilege beyond what `prepare` gave away.
    ///
    /// # Errors
    /// A missing controller, folder or interface file.
    pub fn open(layout: &Layout, name: &str) -> Result<Self> {
        place::check_name(name)?;
        let mut branches = Vec::new();
        for place in place::choose(layout)? {
            let top = place::open(&place, name)?;
            branches.push(Arc::new(Branch { place, top }));
        }
        Ok(Self { name: name.to_owned(), branches: Arc::new(branches) })
    }

    /// As root: ends what is left of a dead daemon's tree, even if parts of it are gone already: kills and removes its
    /// cells and tenants and then its folders. The caller knows that no daemon lives in it.
    ///
    /// # Errors
    /// As [`Tree::remove_all`].
    pub fn discard(layout: &Layout, name: &str) -> Result<Vec<PathBuf>> {
        place::check_name(name)?;
        let mut branches = Vec::new();
        for place in place::choose(layout)? {
            if place::root_dir(&place.base)?.child(name).exists()? {
                let top = Dir::open(place.path(name))?;
                branches.push(Arc::new(Branch { place, top }));
            }
        }
        Self { name: name.to_owned(), branches: Arc::new(branches) }.remove_all()
    }

    /// The tree's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the tenant's group, or opens it, and sets its limits; each one is read back.
    ///
    /// # Errors
    /// A limit that cannot be set, by name.
    pub fn tenant(&self, tenant: &TenantId, limits: &TenantLimits) -> Result<Vec<Enforced>> {
        let settings = for_tenant(limits, &|controller| self.version(controller))?;
        let mut dirs = Vec::new();
        let mut fresh = true;
        for branch in self.branches.iter() {
            let dir = branch.top.child(&tenant_folder(tenant));
            fresh &= dir.create()?;
            match branch.place.version {
                Version::V2 => enable(&dir, &branch.place.controllers)?,
                Version::V1 if branch.place.has("cpuset") => copy_cpuset(&branch.top, &dir)?,
                Version::V1 => {}
            }
            dirs.push((Arc::clone(branch), dir));
        }
        let dir_of = |controller: &str| dirs.iter().find(|(b, _)| b.place.has(controller)).map(|(_, dir)| dir);
        if !fresh && self.version("memory") == Version::V1 {
            apply(&open_v1(), &dir_of, &host_has_swap)?;
        }
        apply(&settings, &dir_of, &host_has_swap)
    }

    /// Makes a cell of a tenant with its limits set and read back. A refused limit leaves no group behind.
    ///
    /// # Errors
    /// An unfit name, a missing tenant, a cell of that name, a limit that cannot be set.
    pub fn cell(&self, tenant: &TenantId, name: &str, limits: &CellLimits) -> Result<Cell> {
        self.bare_cell(tenant, name, limits)?.limit().or_else(|failed| {
            let (cell, error) = *failed;
            cell.remove(Duration::ZERO)?;
            Err(error)
        })
    }

    /// Makes a cell of a tenant whose limits are not set yet: they can be while others work on what goes into it.
    ///
    /// # Errors
    /// An unfit name or limit, a missing tenant, a cell of that name.
    pub fn bare_cell(&self, tenant: &TenantId, name: &str, limits: &CellLimits) -> Result<BareCell> {
        let settings = for_cell(limits, &|controller| self.version(controller))?;
        let cell = self.handle(tenant, name, limits.cpuset.is_some())?;
        cell.create()?;
        if let Err(error) = cell.open_cpuset() {
            cell.remove(Duration::ZERO)?;
            return Err(error);
        }
        Ok(BareCell::new(cell, settings))
    }

    /// What [`Self::cell`] would write for these limits: a file and its text, in their order.
    ///
    /// # Errors
    /// A limit that cannot be set here.
    pub fn plan(&self, limits: &CellLimits) -> Result<Vec<(&'static str, String)>> {
        let settings = for_cell(limits, &|controller| self.version(controller))?;
        Ok(settings.into_iter().filter_map(|setting| Some((setting.file, setting.text?))).collect())
    }

    /// A handle on a cell that exists already, for adopting or ending what an earlier life made.
    ///
    /// # Errors
    /// An unfit name or a refused operation.
    pub fn find(&self, tenant: &TenantId, name: &str) -> Result<Option<Cell>> {
        let cell = self.handle(tenant, name, true)?;
        cell.exists().map(|exists| exists.then_some(cell))
    }

    /// Kills and removes the cells whose name `keep` does not claim; a dry run only lists them.
    ///
    /// # Errors
    /// The first operation that the kernel refuses; what was removed before stays removed.
    pub fn sweep(&self, keep: &dyn Fn(&str) -> bool, dry_run: bool) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for tenant in self.tenants()? {
            for name in self.cells(&tenant)? {
                if !keep(&name) {
                    found.push(self.end_leftover(&tenant, &name, dry_run)?);
                }
            }
        }
        Ok(found)
    }

    /// Removes a tenant's group once its cells are gone.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] while a cell is there.
    pub fn remove_tenant(&self, tenant: &TenantId) -> Result<()> {
        let cells = self.cells(tenant)?;
        for branch in self.branches.iter().rev() {
            let dir = branch.top.child(&tenant_folder(tenant));
            if !cells.is_empty() || !dir.remove()? {
                return Err(CgroupError::Busy { path: dir.path(), pids: dir.pids_below()? });
            }
        }
        Ok(())
    }

    /// Ends the tree: kills and removes all cells and tenants, then the tree's own folders as far as this process may.
    /// Returns what is left: the folders that only root can remove, or in which this process itself stands.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] when processes survive, or a refused operation.
    pub fn remove_all(self) -> Result<Vec<PathBuf>> {
        self.sweep(&|_| false, false)?;
        for tenant in self.tenants()? {
            self.remove_tenant(&tenant)?;
        }
        let mut left = Vec::new();
        for branch in self.branches.iter().rev() {
            match place::root_dir(&branch.place.base)?.child(&self.name).remove() {
                Ok(true) => {}
                Ok(false) => left.push(branch.top.path()),
                // EACCES, EPERM, EROFS: the folder above belongs to root.
                Err(error) if [1, 13, 30].iter().any(|errno| error.is_errno(*errno)) => left.push(branch.top.path()),
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    /// The tenants that have a group.
    ///
    /// # Errors
    /// A refused listing.
    pub fn tenants(&self) -> Result<Vec<TenantId>> {
        let names = self.union(&|branch| branch.top.children())?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("t-")?.parse().ok()).collect())
    }

    /// The names of a tenant's cells.
    ///
    /// # Errors
    /// A refused listing.
    pub fn cells(&self, tenant: &TenantId) -> Result<Vec<String>> {
        let names = self.union(&|branch| branch.top.child(&tenant_folder(tenant)).children())?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("c-").map(str::to_owned)).collect())
    }

    /// Where cells have folders, for whoever attaches processes; with `on_request` also those where only cells that ask for
    /// it have one.
    #[must_use]
    pub fn hierarchies(&self, on_request: bool) -> Vec<CellHierarchy> {
        let shown = |branch: &Arc<Branch>| CellHierarchy {
            version: branch.place.version,
            root: branch.place.base.clone(),
            controllers: branch.place.controllers.clone(),
        };
        self.branches.iter().filter(|branch| on_request || !branch.place.on_request()).map(shown).collect()
    }

    fn union(&self, list: &dyn Fn(&Branch) -> Result<Vec<String>>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for branch in self.branches.iter() {
            names.extend(list(branch)?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn end_leftover(&self, tenant: &TenantId, name: &str, dry_run: bool) -> Result<Leftover> {
        let cell = self.handle(tenant, name, true)?;
        let pids = cell.pids()?;
        let end = if dry_run {
            LeftoverEnd::Found
        } else {
            match cell.kill()? {
                Kill::Sent => {
                    cell.remove(SWEEP_WAIT)?;
                    LeftoverEnd::Removed
                }
                Kill::ByCaller(pids) => LeftoverEnd::MustKill(pids),
            }
        };
        Ok(Leftover { tenant: tenant.to_string(), cell: name.to_owned(), pids, end })
    }

    /// Version of the hierarchy that serves a controller.
    fn version(&self, controller: &str) -> Version {
        let home = self.branches.iter().find(|branch| branch.place.has(controller));
        home.map_or(Version::V2, |branch| branch.place.version)
    }

    fn handle(&self, tenant: &TenantId, name: &str, every: bool) -> Result<Cell> {
        if !remand_model::ids::is_name(name) {
            let pattern = "[a-z0-9][a-z0-9._-]{0,62}";
            return Err(CgroupError::Name { what: "a cell", name: name.to_owned(), pattern });
        }
        let folder = format!("c-{name}");
        let used = self.branches.iter().filter(|branch| every || !branch.place.on_request());
        let parts = used.map(|branch| {
            let parent = branch.top.child(&tenant_folder(tenant));
            (Arc::clone(branch), parent.child(&folder))
        });
        let relative = format!("{}/{}/{folder}", self.name, tenant_folder(tenant));
        Ok(Cell::new(relative, parts.collect()))
    }
}

fn tenant_folder(tenant: &TenantId) -> String {
    format!("t-{tenant}")
}
