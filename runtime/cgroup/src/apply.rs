//! Writing limits and reading each one back: what the kernel does not confirm does not count.

use std::path::PathBuf;

use crate::dir::Dir;
use crate::error::{CgroupError, Result};
use crate::limits::{Absent, Setting};

/// One limit as the kernel confirms it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Enforced {
    /// The limit's name: the field of `CellLimits` or `TenantLimits`, or a part of it such as `memory_swappiness`.
    pub name: &'static str,
    /// What was asked for.
    pub wanted: String,
    /// What the interface file says now.
    pub found: String,
    /// The interface file.
    pub file: PathBuf,
}

/// Writes the settings in order and reads each one back.
pub(crate) fn apply<'a>(
    settings: &[Setting],
    dir_of: &dyn Fn(&str) -> Option<&'a Dir>,
    host_has_swap: &dyn Fn() -> Result<bool>,
) -> Result<Vec<Enforced>> {
    let mut enforced = Vec::with_capacity(settings.len());
    for setting in settings {
        let dir = dir_of(setting.controller).ok_or_else(|| CgroupError::MissingController {
            controller: setting.controller,
            base: "this tree".to_owned(),
            fix: "enable it on the host or leave the limit out",
        })?;
        match apply_one(setting, dir)? {
            Some(row) => enforced.push(row),
            None => enforced.extend(absent(setting, dir, host_has_swap)?),
        }
    }
    Ok(enforced)
}

/// Sets one limit; `None` when the kernel has no such file.
fn apply_one(setting: &Setting, dir: &Dir) -> Result<Option<Enforced>> {
    let found = match &setting.text {
        None => dir.read_if_there(setting.file)?,
        Some(text) => match dir.write_and_read(setting.file, text) {
            Err(CgroupError::Io { action: "open", source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                None
            }
            Err(CgroupError::Io { action: "open" | "write", path, source }) => {
                return Err(CgroupError::Refused { name: setting.name, wanted: text.clone(), path, source });
            }
            other => Some(other?),
        },
    };
    let Some(found) = found else { return Ok(None) };
    let path = dir.path().join(setting.file);
    let (name, wanted) = (setting.name, setting.expect.text());
    let found = found.trim().to_owned();
    if setting.expect.holds(&found) {
        Ok(Some(Enforced { name, wanted, found, file: path }))
    } else {
        Err(CgroupError::NotHeld { name, wanted, found, path })
    }
}

fn absent(setting: &Setting, dir: &Dir, host_has_swap: &dyn Fn() -> Result<bool>) -> Result<Option<Enforced>> {
    let path = dir.path().join(setting.file);
    let wanted = setting.expect.text();
    match setting.absent {
        Absent::Skip => Ok(None),
        Absent::Refuse(fix) => Err(CgroupError::MissingFile { path, fix }),
        Absent::HoldsWithoutSwap if host_has_swap()? => Err(CgroupError::MissingFile {
            path,
            fix: "boot with swapaccount=1, or switch swap off (swapoff -a), so that swap stays inside the limit",
        }),
        Absent::HoldsWithoutSwap => {
            let found = "the host has no swap".to_owned();
            Ok(Some(Enforced { name: setting.name, wanted, found, file: path }))
        }
    }
}

/// Whether any swap is active on this host.
pub(crate) fn host_has_swap() -> Result<bool> {
    match std::fs::read_to_string("/proc/swaps") {
        Ok(text) => Ok(text.lines().count() > 1),
        // A kernel without CONFIG_SWAP has no such table.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(CgroupError::Detect { what: "/proc/swaps", source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Expect;

    fn setting(absent: Absent) -> Setting {
        Setting {
            name: "pids_max",
            controller: "pids",
            file: "pids.max",
            text: Some("20".into()),
            expect: Expect::Text("20".into()),
            absent,
        }
    }

    /// Applies one setting to a plain folder, whose files take and give back any text.
    fn try_on(folder: &[(&str, &str)], setting: Setting, swap: bool) -> Result<Vec<Enforced>> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in folder {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        let dir = Dir::open(root.path().to_owned()).unwrap();
        apply(&[setting], &|controller| (controller == "pids").then_some(&dir), &|| Ok(swap))
    }

    #[test]
    fn a_limit_that_reads_back_otherwise_is_refused_by_name() {
        let error =
            try_on(&[("pids.max", "")], Setting { expect: Expect::Text("19".into()), ..setting(Absent::Skip) }, false);
        let error = error.unwrap_err();
        assert!(
            matches!(&error, CgroupError::NotHeld { name: "pids_max", wanted, found, .. } if wanted == "19" && found == "20")
        );
    }

    #[test]
    fn a_limit_without_a_controller_is_refused_by_its_name() {
        let error = try_on(&[], Setting { controller: "io", ..setting(Absent::Skip) }, false).unwrap_err();
        assert!(matches!(error, CgroupError::MissingController { controller: "io", .. }));
    }

    #[test]
    fn a_limit_without_a_file_is_refused_with_its_path_and_a_fix() {
        let error = try_on(&[], setting(Absent::Refuse("boot another kernel")), false).unwrap_err().to_string();
        assert!(error.contains("/pids.max") && error.ends_with("boot another kernel"), "{error}");
    }

    #[test]
    fn a_swap_limit_without_a_file_holds_only_on_a_host_without_swap() {
        let rows = try_on(&[], setting(Absent::HoldsWithoutSwap), false).unwrap();
        assert_eq!(rows[0].found, "the host has no swap");
        let error = try_on(&[], setting(Absent::HoldsWithoutSwap), true).unwrap_err().to_string();
        assert!(error.contains("swapoff"), "{error}");
    }

    #[test]
    fn a_limit_that_holds_is_a_row_with_what_was_read() {
        let rows = try_on(&[("pids.max", "")], setting(Absent::Skip), false).unwrap();
        assert_eq!((rows[0].name, rows[0].wanted.as_str()), ("pids_max", "20"));
        assert!(rows[0].found == "20" && rows[0].file.ends_with("pids.max"));
    }
}
