//! What an instance has on the machine: processes, control groups, mounts. Empty once everything is over.

use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long what a killed instance leaves may take to go: three seconds are promised.
pub const GONE_WITHIN: Duration = Duration::from_secs(3);

/// Traces of one instance, found by the name of its control group and by its folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Ids of processes in its groups, or with its folder in their command line.
    pub processes: BTreeSet<u32>,
    /// Its control groups, of whatever hierarchy.
    pub groups: BTreeSet<String>,
    /// Mount points below its folder, as this process sees them.
    pub mounts: BTreeSet<String>,
}

impl Traces {
    /// What is there now of the instance with this group and folder.
    #[must_use]
    pub fn of(group: &str, folder: &Path) -> Self {
        let folder = folder.to_str().expect("a plain path");
        Self { processes: processes(group, folder), groups: groups(group), mounts: mounts(folder) }
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Looks again and again until nothing is there, and fails the test after [`GONE_WITHIN`] with what is left.
    ///
    /// Nothing tells when the last mount or group of somebody else goes, so this one looks instead of waiting.
    pub fn assert_gone(look: impl Fn() -> Self) {
        let end = Instant::now() + GONE_WITHIN;
        loop {
            let left = look();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left behind: {left:?}");
            std::thread::yield_now();
        }
    }
}

fn processes(group: &str, folder: &str) -> BTreeSet<u32> {
    let own = Pid::this().as_raw().cast_unsigned();
    let entries = fs::read_dir("/proc").expect("proc is mounted").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|pid| *pid != own && belongs(*pid, group, folder)).collect()
}

/// A process that ends while we look belongs to nobody.
fn belongs(pid: u32, group: &str, folder: &str) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let in_group = String::from_utf8_lossy(&read("cgroup")).lines().any(|line| has_part(line, group));
    in_group || String::from_utf8_lossy(&read("cmdline")).contains(folder)
}

fn has_part(path: &str, part: &str) -> bool {
    path.split('/').any(|own| own == part)
}

fn groups(group: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(next) = open.pop() {
        let folders = fs::read_dir(&next).into_iter().flatten().flatten();
        for entry in folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name() == group {
                found.insert(entry.path().display().to_string());
            } else {
                open.push(entry.path());
            }
        }
    }
    found
}

fn mounts(folder: &str) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(folder)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_names_the_folder_is_a_trace_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let look = || Traces::of("remand-nobody-has-this-group", folder.path());
        assert!(look().is_empty());
        let script = format!("echo; read line; : {}", folder.path().display());
        let mut command = Command::new("/bin/sh");
        let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // A process that was started a moment ago has no command line yet (exec frees its parent before it is set).
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(look().processes, [child.id()].into());
        drop(child.stdin.take());
        child.wait().unwrap();
        Traces::assert_gone(look);
    }

    #[test]
    fn a_group_is_matched_by_its_whole_name() {
        assert!(has_part("0::/a/remand-12/b", "remand-12"));
        assert!(!has_part("0::/a/remand-123/b", "remand-12"));
    }
}
