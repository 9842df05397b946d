//! Needs that a look into the kernel's and the host's files answers.

use rustix::fs::{StatVfs, statvfs};

use crate::host::Host;
use crate::report::Level;

/// What a look found.
pub(crate) enum Finding {
    /// The need is met.
    Met(String),
    /// It is not, with the need's usual level and fix.
    Unmet(String),
    /// It is not, with another level or another fix than usual.
    Special(String, Level, String),
}

use Finding::{Met, Special, Unmet};

/// The oldest kernel on which every wall exists: `cgroup.kill` and Landlock are there since 5.14.
const KERNEL_MIN: (u32, u32) = (5, 14);
/// The oldest kernel on which remand is tested.
const KERNEL_TESTED: (u32, u32) = (6, 1);

pub(crate) fn kernel(host: &Host) -> Finding {
    let Some(release) = host.read("proc/sys/kernel/osrelease") else {
        return Special("/proc is not readable".into(), Level::Unusable, "mount -t proc proc /proc".into());
    };
    match version(&release) {
        Some(found) if found >= KERNEL_TESTED => Met(release),
        Some(found) if found >= KERNEL_MIN => Unmet(release),
        _ => Special(release, Level::Unusable, "boot Linux 6.1 or newer (Debian 12 or newer)".into()),
    }
}

pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(crate) fn namespace_counts(host: &Host) -> Finding {
    let kinds = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"];
    let name = |kind: &str| format!("max_{kind}_namespaces");
    let count = |kind: &&str| host.read(&format!("proc/sys/user/{}", name(kind)))?.parse::<u64>().ok();
    let zero: Vec<String> = kinds.iter().filter(|kind| count(kind) == Some(0)).map(|kind| name(kind)).collect();
    let least = kinds.iter().filter_map(count).min();
    if zero.is_empty() {
        return Met(least.map_or("not limited".into(), |least| format!("at least {least} of each")));
    }
    let fix: Vec<String> = zero.iter().map(|name| format!("sysctl -w user.{name}=65536")).collect();
    Special(format!("{} is 0", zero.join(", ")), Level::Unusable, fix.join(" && "))
}

pub(crate) fn unprivileged_namespaces(host: &Host) -> Finding {
    let is = |path: &str, value: &str| host.read(path).is_some_and(|found| found == value);
    if is("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        let fix = "run as root, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
        return rootless("AppArmor restricts them to confined programs", fix);
    }
    if is("proc/sys/kernel/unprivileged_userns_clone", "0") {
        return rootless(
            "unprivileged_userns_clone is 0",
            "run as root, or sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    Met("not restricted".into())
}

/// A restriction of unprivileged users does not touch the root spawner.
fn rootless(found: &str, fix: &str) -> Finding {
    if rustix::process::geteuid().is_root() {
        Met(format!("{found}; root is not concerned"))
    } else {
        Special(found.to_owned(), Level::Unusable, fix.to_owned())
    }
}

pub(crate) fn seccomp_actions(host: &Host) -> Finding {
    let Some(text) = host.read("proc/sys/kernel/seccomp/actions_avail") else {
        return Unmet("the kernel has no seccomp".into());
    };
    let lacks: Vec<&str> = ["kill_process", "errno", "allow"]
        .into_iter()
        .filter(|name| !text.split(' ').any(|have| have == *name))
        .collect();
    if lacks.is_empty() { Met(text) } else { Unmet(format!("no {}", lacks.join(", "))) }
}

pub(crate) fn user_notification(host: &Host) -> Finding {
    let text = host.read("proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if text.split(' ').any(|name| name == "user_notif") {
        Met("user_notif".into())
    } else {
        Unmet("no user_notif".into())
    }
}

/// clone3 takes its flags behind a pointer, so a filter on this process can only refuse it whole.
pub(crate) fn clone3(host: &Host) -> Finding {
    match host.status("Seccomp").as_deref() {
        Some("0") => Met("no filter on this process".into()),
        Some(_) => Unmet("a seccomp filter is on this process; most container filters answer ENOSYS".into()),
        None => Unmet("the kernel does not tell whether a filter is on this process".into()),
    }
}

pub(crate) fn pressure(host: &Host) -> Finding {
    match host.read("proc/pressure/cpu") {
        Some(text) if text.starts_with("some ") => Met("on".into()),
        _ => Unmet("off".into()),
    }
}

pub(crate) fn container(host: &Host) -> Finding {
    let mut signs = Vec::new();
    if let Some(kind) = host.read("run/systemd/container") {
        signs.push(format!("container {kind}"));
    }
    for (path, name) in [(".dockerenv", "docker"), ("run/.containerenv", "podman")] {
        if host.has(path) && !root_is_a_disk(host) {
            signs.push(format!("container {name}"));
        }
    }
    let map = host.read("proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !map.is_empty() && !whole {
        signs.push("inside a user namespace".into());
    }
    if signs.is_empty() { Met("not nested".into()) } else { Unmet(signs.join(", ")) }
}

/// An image that was made for containers keeps its marker when it is booted as a machine: its root is a disk then.
fn root_is_a_disk(host: &Host) -> bool {
    let mounts = host.read("proc/self/mountinfo").unwrap_or_default();
    let root = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some("/"));
    let source = root.and_then(|line| line.split_once(" - ")?.1.split(' ').nth(1));
    source.is_some_and(|source| source.starts_with("/dev/"))
}

pub(crate) fn idmapped(host: &Host) -> Finding {
    let release = host.read("proc/sys/kernel/osrelease").unwrap_or_default();
    match version(&release) {
        Some(found) if found >= (5, 12) => Met(format!("by the kernel's version ({release}), not tried")),
        _ => Unmet(format!("Linux {release}")),
    }
}

pub(crate) fn user(host: &Host) -> Finding {
    let text = host.read("etc/passwd").unwrap_or_default();
    match text.lines().find(|line| line.split(':').next() == Some(host.user.as_str())) {
        Some(line) => Met(format!("{}, uid {}", host.user, line.split(':').nth(2).unwrap_or("?"))),
        None => {
            let fix = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {}", host.user);
            Special(format!("no user {}", host.user), Level::Degraded, fix)
        }
    }
}

/// Below this the state cannot even hold the next records, in bytes.
const SPACE_UNUSABLE: u64 = 64 << 20;
/// Below this it fills up within days of ordinary use, in bytes.
const SPACE_DEGRADED: u64 = 1 << 30;
/// Fewest free inodes: an output tree of 10,000 files and its copies in the store.
const INODES_DEGRADED: u64 = 32 << 10;

pub(crate) fn space(host: &Host) -> Finding {
    let Some(there) = host.state.ancestors().find(|path| path.is_dir()) else {
        return Unmet(format!("no folder above {} exists", host.state.display()));
    };
    match statvfs(there) {
        Ok(found) => space_of(&found, &there.display().to_string()),
        Err(errno) => Unmet(format!("{}: {errno}", there.display())),
    }
}

fn space_of(found: &StatVfs, place: &str) -> Finding {
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    // Filesystems that make inodes as they go say 0 of 0.
    let inodes = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    let text = format!("{} MiB free in {place}", bytes >> 20);
    let fix = format!("free space in {place}, or put the state folder on a larger disk");
    if bytes < SPACE_UNUSABLE {
        Special(text, Level::Unusable, fix)
    } else if bytes < SPACE_DEGRADED {
        Special(text, Level::Degraded, fix)
    } else if inodes < INODES_DEGRADED {
        Special(format!("{text}, {inodes} inodes"), Level::Degraded, fix)
    } else {
        Met(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_distributions_have_a_version() {
        assert_eq!(version("6.12.95+deb12-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("weird"), None);
    }
}
