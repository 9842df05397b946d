//! Folders of one test's own, in which a daemon keeps its state and its socket, beside any real one.

use super::{Daemon, Finished, PATIENCE, Traces, finish};
use crate::repository;
use remand_model::Digest;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A place for one daemon: its state, its run folder and its socket. Removed when dropped.
#[derive(Debug)]
pub struct Place {
    folder: tempfile::TempDir,
    binaries: PathBuf,
}

impl Place {
    /// A fresh place, or why this machine cannot have one.
    pub fn find() -> Result<Self, String> {
        let binaries = binaries();
        if !binaries.join("remandd").is_file() {
            return Err(format!("no binaries in {}: run scripts/build, or set REMAND_BIN_DIR", binaries.display()));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("only root can boot a daemon".to_owned());
        }
        let folder = tempfile::Builder::new().prefix("remand-place-").tempdir().expect("a temporary folder");
        // The daemon serves as a user of its own, and must reach its state.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("our own folder");
        Ok(Self { folder, binaries })
    }

    /// The folder that all of it lies in; a test may put files of its own there.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the daemon keeps what lasts.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Where the daemon keeps its lock, its estate and its socket.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_folder().join("root.sock")
    }

    /// One of our binaries.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// `remand` with these arguments, talking to this place's daemon, or starting one here.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary("remand"));
        command.args(arguments).env("REMAND_SOCKET", self.socket()).env("REMAND_BIN_DIR", &self.binaries);
        command.env("REMAND_STATE", self.state()).env("REMAND_RUN", self.run_folder());
        command
    }

    /// Runs `remand` with these arguments to its end.
    #[must_use]
    pub fn remand(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments), b"", PATIENCE)
    }

    /// Runs `remand run --json` with these arguments (flags, `--`, a program) and gives the result document.
    #[must_use]
    pub fn result(&self, arguments: &[&str]) -> serde_json::Value {
        self.remand(&[&["run", "--json"], arguments].concat()).json()
    }

    /// Starts a daemon that stays.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        Daemon::start(self, &[])
    }

    /// The name of the control groups of this place's daemon: made from its run folder, so that no two share one.
    #[must_use]
    pub fn group(&self) -> String {
        let digest = Digest::of(self.run_folder().as_os_str().as_encoded_bytes());
        format!("remand-{}", &digest.to_hex()[..8])
    }

    /// What this place's daemon and its executions have on the machine now.
    #[must_use]
    pub fn traces(&self) -> Traces {
        Traces::of(&self.group(), self.path())
    }
}

fn binaries() -> PathBuf {
    std::env::var_os("REMAND_BIN_DIR").map_or_else(|| repository::root().join("target/remand/bin"), PathBuf::from)
}
