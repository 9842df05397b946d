//! The configuration file of this site: what the scheduler may do, and who may do what. Read once, by root, before anybody is
//! served; a key that is not known is refused.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use remand_engine::strategy::{Fair, Strategy, Strict};
use remand_policy::Source;
use serde::Deserialize;

use crate::access::{AccessPart, Id};
use crate::admission::Bounds;
use crate::cells::CellsPart;

/// Where the file of the usual instance is.
pub const USUAL: &str = "/etc/remand/remandd.toml";
/// Bytes of such a file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Executions at once for each processor: most of them wait, for input or for a timer.
const AT_ONCE_PER_PROCESSOR: u64 = 64;
/// Memory for each execution at once: what the cheapest ones take, the keeper included.
const MEMORY_BYTES_EACH: u64 = 64 << 20;
/// Whatever the machine is like.
const AT_ONCE_LEAST: u64 = 16;
const AT_ONCE_MOST: u64 = 1024;
/// Executions that wait, where the file says nothing: each holds its compiled order in memory, about 100 KiB.
const QUEUE_PER_TENANT: usize = 256;
const QUEUE_TOTAL: usize = 2048;
/// As many as a file may ask for.
const QUEUE_MOST: usize = 65_536;

/// Why a file cannot be used; the text says what to change.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// It cannot be read.
    #[error("read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others could give themselves rights.
    #[error("{0} can be written by others than root; run: chown root {0} && chmod go-w {0}")]
    Writable(PathBuf),
    /// Something in it is wrong.
    #[error("{0}; correct the configuration")]
    Wrong(String),
}

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Site {
    /// The node's name.
    pub node_id: Option<String>,
    /// The group that may open the socket; everybody, whom the daemon then tells apart, where others than root are named.
    pub socket_group: Option<Id>,
    /// The scheduler.
    pub scheduler: SchedulerPart,
    /// Every cell.
    pub cells: CellsPart,
    /// Who may do what.
    pub access: Vec<AccessPart>,
}

/// What the file says of the scheduler.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerPart {
    strategy: StrategyName,
    executions_at_once: Option<u64>,
    queue_per_tenant: Option<usize>,
    queue_total: Option<usize>,
}

/// The strategies that ship.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StrategyName {
    /// Weighted deficit round robin.
    #[default]
    Fair,
    /// The most urgent first, whoever's it is.
    Priority,
}

impl StrategyName {
    /// The strategy itself.
    #[must_use]
    pub fn make(self) -> Box<dyn Strategy> {
        match self {
            Self::Fair => Box::new(Fair::default()),
            Self::Priority => Box::new(Strict::default()),
        }
    }
}

impl Site {
    /// Reads the file that is named, or the usual one of the usual instance where there is one.
    ///
    /// # Errors
    /// [`SiteError`].
    pub fn read(named: Option<&Path>, is_usual: bool) -> Result<Self, SiteError> {
        let usual = Path::new(USUAL);
        match named {
            Some(path) => Self::of_file(path),
            None if is_usual && usual.exists() => Self::of_file(usual),
            None => Ok(Self::default()),
        }
    }

    fn of_file(path: &Path) -> Result<Self, SiteError> {
        let failed = |source| SiteError::Read { path: path.to_owned(), source };
        let found = std::fs::metadata(path).map_err(failed)?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(SiteError::Writable(path.to_owned()));
        }
        if !found.is_file() || found.len() > FILE_BYTES_MAX {
            return Err(failed(std::io::Error::other("it is no regular file of at most 1 MiB")));
        }
        Self::of_text(&path.display().to_string(), &std::fs::read_to_string(path).map_err(failed)?)
    }

    fn of_text(file: &str, text: &str) -> Result<Self, SiteError> {
        let source = Source { name: String::new(), file: file.to_owned(), text: text.to_owned() };
        remand_policy::parse_document(&source).map_err(|finding| SiteError::Wrong(finding.to_string()))
    }
}

impl SchedulerPart {
    /// The strategy.
    #[must_use]
    pub const fn strategy(&self) -> StrategyName {
        self.strategy
    }

    /// The bounds on this machine, of which `ids_cells` ranges of ids can be had: a range rests after its execution.
    ///
    /// # Errors
    /// [`SiteError::Wrong`].
    pub fn bounds(&self, ids_cells: u32) -> Result<Bounds, SiteError> {
        let most = (u64::from(ids_cells) / 2).max(1);
        let wrong = |name: &str, most: u64| SiteError::Wrong(format!("scheduler.{name} is a number from 1 to {most}"));
        let at_once = self.executions_at_once.unwrap_or_else(|| usual_at_once().min(most));
        if !(1..=most).contains(&at_once) {
            return Err(wrong("executions_at_once", most));
        }
        let queue = |name, given: Option<usize>, usual| match given.unwrap_or(usual) {
            length @ 1..=QUEUE_MOST => Ok(length),
            _ => Err(wrong(name, QUEUE_MOST as u64)),
        };
        Ok(Bounds {
            executions_at_once: at_once,
            queue_per_tenant: queue("queue_per_tenant", self.queue_per_tenant, QUEUE_PER_TENANT)?,
            queue_total: queue("queue_total", self.queue_total, QUEUE_TOTAL)?,
        })
    }
}

/// As many as the machine's processors and memory bear.
fn usual_at_once() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    at_once(processors, memory_bytes().unwrap_or(0))
}

fn at_once(processors: u64, memory_bytes: u64) -> u64 {
    let by_memory = memory_bytes / MEMORY_BYTES_EACH;
    processors.saturating_mul(AT_ONCE_PER_PROCESSOR).min(by_memory).clamp(AT_ONCE_LEAST, AT_ONCE_MOST)
}

/// The machine's memory, from proc_meminfo(5).
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Site::of_text("remandd.toml", text).expect_err("refused").to_string()
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_its_line_and_the_nearest_one() {
        let said = wrong("[scheduler]\nexecutions_at_one = 4\n");
        assert!(said.starts_with("remandd.toml:2: unknown key \"executions_at_one\""), "{said}");
        assert!(said.contains("did you mean \"executions_at_once\"?"), "{said}");
        assert!(wrong("[scheduler]\nstrategy = \"lottery\"\n").contains("fair"));
    }

    #[test]
    fn bounds_are_checked_against_the_machine() {
        let of = |text| Site::of_text("x", text).expect("read").scheduler.bounds(256);
        assert_eq!(of("scheduler.executions_at_once = 3").expect("fits").executions_at_once, 3);
        assert!(of("scheduler.executions_at_once = 0").is_err());
        assert!(of("scheduler.executions_at_once = 129").is_err(), "ranges of ids rest after use");
        assert!(of("scheduler.queue_per_tenant = 0").is_err());
        assert!(of("").expect("fits").executions_at_once <= 128);
    }

    #[test]
    fn processors_and_memory_bound_what_runs_at_once() {
        assert_eq!(at_once(2, 64 << 30), 128);
        assert_eq!(at_once(64, 4 << 30), 64);
        assert_eq!(at_once(1, 0), AT_ONCE_LEAST);
        assert_eq!(at_once(512, 1 << 50), AT_ONCE_MOST);
    }

    #[test]
    fn a_file_that_others_can_write_grants_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("remandd.toml");
        std::fs::write(&path, "").expect("our own folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).expect("our own file");
        assert!(matches!(Site::read(Some(&path), false), Err(SiteError::Writable(_))));
    }
}
