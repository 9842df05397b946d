//! The control groups of cells, as far as root is needed: to enter them, and to clear them when the daemon is gone.
//!
//! The daemon makes and limits the groups; it owns the folders. The descriptors that enter them are opened here, because a
//! version 1 hierarchy asks for the opener's rights over the process that is moved.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use remand_spec::{Estate, Stage};
use remand_sys::{Errno, c_string, file};

use crate::Failure;

/// The estate's hierarchies.
pub struct Groups {
    v1: Vec<OwnedFd>,
    idle: Vec<OwnedFd>,
    v2: Option<OwnedFd>,
    name: CString,
}

/// What a cell enters.
pub struct CellGroups {
    /// Version 1 `tasks` files, open for writing.
    pub tasks: Vec<OwnedFd>,
    /// The version 2 folder that the cell is cloned into.
    pub folder: Option<OwnedFd>,
}

const FOLDER: i32 = libc::O_DIRECTORY | libc::O_RDONLY;
const PLAIN: u64 = file::BENEATH | file::NO_SYMLINKS | file::NO_MAGICLINKS;

impl Groups {
    /// Opens the folders that the estate names.
    pub fn open(estate: &Estate) -> Result<Self, Errno> {
        let open = |path: &Vec<u8>| file::open(&c_string(path.as_slice())?, FOLDER, 0);
        let v1 = estate.groups_v1.iter().map(open).collect::<Result<_, _>>()?;
        let idle = estate.groups_idle.iter().map(open).collect::<Result<_, _>>()?;
        let v2 = estate.group_v2.as_ref().map(open).transpose()?;
        Ok(Self { v1, idle, v2, name: c_string(estate.group.as_slice())? })
    }

    /// Opens what the cell at `path` (vetted: `GROUP/TENANT/CELL`) enters; every hierarchy must have it.
    pub fn of_cell(&self, path: &[u8]) -> Result<CellGroups, Failure> {
        let failed = |error| Failure::call(Stage::Cgroup, "cannot open the cell's control group", error);
        let path = c_string(path).map_err(failed)?;
        let tasks = c_string([path.as_bytes(), b"/tasks"].concat()).map_err(failed)?;
        let open = |fd: &OwnedFd| file::open_at(fd.as_fd(), &tasks, libc::O_WRONLY, 0, PLAIN);
        let folder = |fd: &OwnedFd| file::open_at(fd.as_fd(), &path, FOLDER, 0, PLAIN);
        Ok(CellGroups {
            tasks: self.v1.iter().map(open).collect::<Result<_, _>>().map_err(failed)?,
            folder: self.v2.as_ref().map(folder).transpose().map_err(failed)?,
        })
    }

    /// Kills every cell and removes every group, as far as it goes within three seconds; the daemon's next start does the
    /// rest. Nobody is left to report to. Until this is done the next daemon waits: the spawner holds the lock as well.
    pub fn clear(&self) {
        for tenant in self.v2.iter().flat_map(|root| tenants(&self.top(root))) {
            let kill = std::fs::OpenOptions::new().write(true).open(tenant.join("cgroup.kill"));
            // Where the folder is gone, the other spawner was here first.
            if let Err(error) = kill.and_then(|mut file| file.write_all(b"1"))
                && tenant.exists()
            {
                eprintln!("remand-spawner: the daemon is gone and {} could not be killed: {error}", tenant.display());
            }
        }
        for _ in 0..300 {
            if self
                .v1
                .iter()
                .chain(&self.idle)
                .chain(&self.v2)
                .map(|root| self.remove_below(root))
                .fold(true, |all, gone| all & gone)
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Removes the tenants' and cells' groups of one hierarchy; whether none is left.
    fn remove_below(&self, root: &OwnedFd) -> bool {
        let path = self.top(root);
        let tenants = tenants(&path);
        let cells = tenants.iter().flat_map(|tenant| folders(tenant));
        let remove = |all: bool, folder: &std::path::PathBuf| all & std::fs::remove_dir(folder).is_ok();
        let gone = tenants.iter().fold(cells.collect::<Vec<_>>().iter().fold(true, remove), remove);
        // The top goes too, unless a service's own processes stand in it: then it goes with the service's group.
        if gone
            && folders(&path).is_empty()
            && let Err(error) = std::fs::remove_dir(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("remand-spawner: {} stays: {error}", path.display());
        }
        gone
    }

    /// The instance's folder in one hierarchy.
    fn top(&self, root: &OwnedFd) -> PathBuf {
        let fd = std::os::fd::AsRawFd::as_raw_fd(root);
        PathBuf::from(format!("/proc/self/fd/{fd}/{}", self.name.to_string_lossy()))
    }
}

/// The tenants' folders. Leaves that start with an underscore hold the daemon and this process: killed with the cells, a
/// daemon that ends in order would seem to its supervisor to have crashed.
fn tenants(top: &Path) -> Vec<PathBuf> {
    let own = |folder: &PathBuf| folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
    folders(top).into_iter().filter(|folder| !own(folder)).collect()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
