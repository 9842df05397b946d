//! Where a report looks: the root of the files that it reads, the state folder, the user, and how it starts probes.

use std::path::PathBuf;

use crate::child::Prober;

/// The host that is asked. A test gives it another root or another way to start probes.
#[derive(Debug, Clone)]
pub struct Host {
    /// The folder that stands for `/` when kernel and configuration files are read.
    pub root: PathBuf,
    /// The daemon's state folder, or where it will be.
    pub state: PathBuf,
    /// The user that the daemon drops to.
    pub user: String,
    /// How probes are started.
    pub prober: Prober,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into(), state: "/var/lib/remand".into(), user: "remand".into(), prober: Prober::default() }
    }
}

impl Host {
    /// The text of a file below the root, trimmed; `None` where it cannot be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The value of `Key:` in this process's status file.
    pub(crate) fn status(&self, key: &str) -> Option<String> {
        let text = self.read("proc/self/status")?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.map(|value| value.trim().to_owned())
    }
}
