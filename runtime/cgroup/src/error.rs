//! What can go wrong with control groups, each with the path or the limit's name and with what to do next.

use std::path::PathBuf;

use rustix::io::Errno;

/// A failure to make, limit, read, kill or remove a control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel refused one operation on one file or folder of a control group.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The verb: `open`, `read`, `write`, `create`, `remove`, `list`, `give away`, `watch`.
        action: &'static str,
        /// The file or folder of the control group.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The kernel's own tables could not be read or understood.
    #[error("{what} cannot be read; the host must mount /proc for this process")]
    Detect {
        /// The table.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A controller that limits need is mounted nowhere or not delegated.
    #[error("the {controller} controller is not available to control groups under {base}; {fix}")]
    MissingController {
        /// The controller's name as in `cgroup.controllers`.
        controller: &'static str,
        /// Where it was looked for.
        base: String,
        /// What the administrator does about it.
        fix: &'static str,
    },
    /// The kernel lacks a file of a controller, so that a limit could not be set.
    #[error("the kernel has no {}: {fix}", path.display())]
    MissingFile {
        /// The file that is not there.
        path: PathBuf,
        /// What the administrator does about it.
        fix: &'static str,
    },
    /// The kernel refused a limit: nothing may run in this group.
    #[error("the limit {name} = {wanted} cannot be set ({}); choose a value that this host accepts", path.display())]
    Refused {
        /// The limit's name in this crate, for example `memory_bytes_max`.
        name: &'static str,
        /// The text that was written.
        wanted: String,
        /// The file that it was written to.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The kernel took a limit but reads back another value: nothing may run in this group.
    #[error("the limit {name} reads back as {found:?} instead of {wanted:?} ({})", path.display())]
    NotHeld {
        /// The limit's name in this crate.
        name: &'static str,
        /// What it should read back as.
        wanted: String,
        /// What it reads back as.
        found: String,
        /// The file that was read.
        path: PathBuf,
    },
    /// A limit that makes no sense on any host.
    #[error("the limit {name} = {wanted} is impossible; it must be {must}")]
    Impossible {
        /// The limit's name in this crate.
        name: &'static str,
        /// The value that was asked for.
        wanted: String,
        /// What it must be.
        must: &'static str,
    },
    /// A name that may not become a folder.
    #[error("{name:?} cannot name {what}; it must match {pattern}")]
    Name {
        /// Which kind of name.
        what: &'static str,
        /// The refused name.
        name: String,
        /// The pattern that it must match.
        pattern: &'static str,
    },
    /// A cell of this name exists already; a cell is used once.
    #[error("the cell {} exists already; a cell's name is used once: sweep the tree first", path.display())]
    Exists {
        /// The folder that is in the way.
        path: PathBuf,
    },
    /// The tenant's group is not there.
    #[error("the tenant's group {} is missing; call Tree::tenant before Tree::cell", path.display())]
    NoTenant {
        /// The folder that is missing.
        path: PathBuf,
    },
    /// Processes of others stand in a group that must be empty before controllers can be enabled below it.
    #[error(
        "{} holds other processes ({pids:?}), so its controllers cannot be passed on; start remandd in a group of its own \
         (systemd: Delegate=yes; by hand: mkdir a group, move the shell into it)",
        path.display()
    )]
    Occupied {
        /// The group that must be empty.
        path: PathBuf,
        /// Who stands in it.
        pids: Vec<i32>,
    },
    /// Processes were still alive in a group when the time to wait for its end was over.
    #[error("{} still holds processes ({pids:?}); kill them, then remove it again", path.display())]
    Busy {
        /// The group that cannot be removed.
        path: PathBuf,
        /// Who lives in it.
        pids: Vec<i32>,
    },
}

/// The result of an operation on control groups.
pub type Result<T, E = CgroupError> = std::result::Result<T, E>;

impl CgroupError {
    pub(crate) fn io(action: &'static str, path: PathBuf, errno: Errno) -> Self {
        Self::Io { action, path, source: errno.into() }
    }

    /// Whether the kernel answered with this error number (`errno(3)`).
    #[must_use]
    pub fn is_errno(&self, errno: i32) -> bool {
        let source = match self {
            Self::Io { source, .. } | Self::Refused { source, .. } | Self::Detect { source, .. } => source,
            _ => return false,
        };
        source.raw_os_error() == Some(errno)
    }
}
