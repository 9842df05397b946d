//! What the configuration says of every cell beside its own limits: processors it may use, and how fast it may use disks.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use remand_cgroup::{CellLimits, IoLimit};
use remand_model::Limits;
use serde::Deserialize;

use crate::site::SiteError;

/// Processes that remand itself runs inside: the keeper.
const OWN_PROCESSES: u64 = 1;

/// The part of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CellsPart {
    cpuset: Option<String>,
    io: Vec<IoPart>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct IoPart {
    device: String,
    read_bytes_per_second: Option<u64>,
    write_bytes_per_second: Option<u64>,
}

/// The same for all cells of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells {
    cpuset: Option<String>,
    io: Vec<IoLimit>,
}

impl CellsPart {
    /// Finds the devices on this host. Whether the kernel takes the limits shows when the first cell is made.
    ///
    /// # Errors
    /// [`SiteError::Wrong`] where a device is none, or nothing of it is limited.
    pub fn on_this_host(&self) -> Result<Cells, SiteError> {
        let io = self.io.iter().map(IoPart::limit).collect::<Result<_, _>>()?;
        Ok(Cells { cpuset: self.cpuset.clone(), io })
    }
}

impl IoPart {
    fn limit(&self) -> Result<IoLimit, SiteError> {
        let wrong = |what: &str| SiteError::Wrong(format!("cells.io.device {:?} {what}", self.device));
        let numbers = self.device.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let device = match numbers {
            Some(device) => device,
            None => device_of(Path::new(&self.device))
                .ok_or_else(|| wrong("is no block device; name one as /dev/vda or by its numbers as 252:0"))?,
        };
        let (read, write) = (self.read_bytes_per_second, self.write_bytes_per_second);
        if [read, write].iter().all(Option::is_none) || [read, write].contains(&Some(0)) {
            return Err(wrong("needs read_bytes_per_second, write_bytes_per_second or both, each above 0"));
        }
        Ok(IoLimit { device, read_bytes_per_second_max: read, write_bytes_per_second_max: write })
    }
}

fn device_of(path: &Path) -> Option<(u32, u32)> {
    let found = std::fs::metadata(path).ok()?;
    let number = found.rdev();
    found.file_type().is_block_device().then(|| (rustix::fs::major(number), rustix::fs::minor(number)))
}

impl Cells {
    /// Whether cells stand in a group for processors, which on version 1 is one more hierarchy to enter.
    #[must_use]
    pub const fn has_processors(&self) -> bool {
        self.cpuset.is_some()
    }

    /// An execution's limits with those of every cell.
    #[must_use]
    pub fn limits(&self, limits: &Limits) -> CellLimits {
        CellLimits { cpuset: self.cpuset.clone(), io: self.io.clone(), ..CellLimits::of(limits, OWN_PROCESSES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(device: &str, read: Option<u64>) -> Result<Cells, SiteError> {
        let io = IoPart { device: device.into(), read_bytes_per_second: read, write_bytes_per_second: None };
        CellsPart { cpuset: None, io: vec![io] }.on_this_host()
    }

    #[test]
    fn a_device_is_named_by_its_numbers_or_its_path_and_is_a_block_device() {
        assert_eq!(of("252:3", Some(1)).expect("numbers").io[0].device, (252, 3));
        for not in ["/dev/null", "/etc/passwd", "/dev/nowhere", "252", "a:b"] {
            assert!(of(not, Some(1)).is_err(), "{not}");
        }
    }

    #[test]
    fn a_limit_that_limits_nothing_or_everything_is_refused() {
        assert!(of("252:3", None).is_err() && of("252:3", Some(0)).is_err());
    }

    #[test]
    fn every_cell_has_the_nodes_processors_beside_its_own_limits() {
        let part = CellsPart { cpuset: Some("0".into()), io: Vec::new() };
        let limits = part.on_this_host().expect("fits").limits(&Limits::default());
        assert_eq!(limits.cpuset.as_deref(), Some("0"));
        assert_eq!(limits.pids_max, Limits::default().pids_max + 1);
    }
}
