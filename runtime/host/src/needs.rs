//! The list of needs: what remand asks of a host, why, what follows without it, and how to get it.

use crate::child::Outcome;
use crate::files::{self, Finding};
use crate::host::Host;
use crate::report::{Level, Report, Row};
use crate::{doing, groups};

/// A probe, run in a child of its own.
type Probe = fn() -> Outcome;

/// How a need is looked at.
enum Look {
    /// In the host's files.
    Read(fn(&Host) -> Finding),
    /// By trying it in a child; any user may.
    Try(Probe),
    /// By trying it in a child; only root can, others are told so.
    TryAsRoot(Probe),
}

struct Need {
    name: &'static str,
    what: &'static str,
    why: &'static str,
    effect: &'static str,
    fix: &'static str,
    /// The level when it is not met.
    unmet: Level,
    look: Look,
}

use Level::{Degraded, Unusable};
use Look::{Read, Try, TryAsRoot};

const USER_NAMESPACES_FIX: &str = "sysctl -w user.max_user_namespaces=65536; in a container allow unshare and clone: --security-opt seccomp=unconfined";
const NAMESPACES_FIX: &str = "boot a distribution kernel (CONFIG_NAMESPACES with every kind), and raise its \
    user.max_…_namespaces sysctl where it is 0";
const CONTAINER_MOUNTS_FIX: &str =
    "boot Linux 6.1 or newer; in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined";
const BOX: &str = "no execution can start: this wall is mandatory";

const fn namespace(name: &'static str, what: &'static str, why: &'static str, probe: Probe) -> Need {
    Need { name, what, why, effect: BOX, fix: NAMESPACES_FIX, unmet: Unusable, look: Try(probe) }
}

static NEEDS: [Need; 34] = [
    Need {
        name: "kernel",
        what: "Linux 6.1 or newer",
        why: "the walls are tested on 6.1 and newer; some do not exist before 5.14",
        effect: "it may work, but nobody has tested it",
        fix: "boot Linux 6.1 or newer (Debian 12 or newer)",
        unmet: Degraded,
        look: Read(files::kernel),
    },
    Need {
        name: "capabilities",
        what: "root's capabilities",
        why: "the spawner maps ids, mounts roots and changes owners before it confines the payload",
        effect: "no execution can start",
        fix: "run as root: sudo remand doctor; in a container: --cap-add SYS_ADMIN and the default set",
        unmet: Unusable,
        look: TryAsRoot(doing::capabilities),
    },
    Need {
        name: "user",
        what: "the daemon's own user",
        why: "remandd drops to it after boot, so that the process that parses requests has no rights",
        effect: "remandd cannot drop its rights to this user",
        fix: "",
        unmet: Degraded,
        look: Read(files::user),
    },
    Need {
        name: "space",
        what: "room for the state",
        why: "records are written before anything runs; on a full disk nothing starts",
        effect: "executions are refused when the disk is full",
        fix: "put the state folder on a disk with room",
        unmet: Unusable,
        look: Read(files::space),
    },
    Need {
        name: "container",
        what: "a host that is not itself a container",
        why: "inside a container the outer limits and filters hold too, and may be narrower than those asked for",
        effect: "limits hold only inside the container's own; the walls depend on what it lets through",
        fix: "run on the host or in a virtual machine, or give the container a delegated cgroup and unconfined seccomp",
        unmet: Degraded,
        look: Read(files::container),
    },
    Need {
        name: "clone3",
        what: "clone3 with all its flags",
        why: "a process is born inside its control group and its namespaces in one step",
        effect: "the spawner may be unable to start anything",
        fix: "run outside the filter; in a container: --security-opt seccomp=unconfined",
        unmet: Degraded,
        look: Read(files::clone3),
    },
    Need {
        name: "namespace.limits",
        what: "room for namespaces",
        why: "every execution has seven or eight of them",
        effect: BOX,
        fix: "",
        unmet: Unusable,
        look: Read(files::namespace_counts),
    },
    Need {
        name: "namespace.unprivileged",
        what: "user namespaces for this user",
        why: "without root the box begins with a user namespace",
        effect: "no execution can start without root",
        fix: "",
        unmet: Unusable,
        look: Read(files::unprivileged_namespaces),
    },
    Need {
        name: "namespace.user",
        what: "user namespaces",
        why: "root inside the box must be nobody outside",
        effect: BOX,
        fix: USER_NAMESPACES_FIX,
        unmet: Unusable,
        look: Try(doing::user_namespace),
    },
    Need {
        name: "namespace.ids",
        what: "a range of ids mapped into a user namespace",
        why: "no two executions share an id, so that per-user allowances are not shared either",
        effect: BOX,
        fix: "run as root; in a container: --cap-add SETUID --cap-add SETGID and a whole id map (no --userns)",
        unmet: Unusable,
        look: TryAsRoot(doing::id_maps),
    },
    namespace("namespace.pid", "pid namespaces", "the job sees and reaches only itself", doing::pid_namespace),
    namespace("namespace.mount", "mount namespaces", "the job sees only its own root", doing::mount_namespace),
    namespace("namespace.net", "network namespaces", "no network unless it was asked for", doing::net_namespace),
    namespace("namespace.ipc", "ipc namespaces", "no shared memory or queues with others", doing::ipc_namespace),
    namespace("namespace.uts", "uts namespaces", "the job does not learn the host's name", doing::uts_namespace),
    namespace(
        "namespace.cgroup",
        "cgroup namespaces",
        "the job does not learn its group's path",
        doing::cgroup_namespace,
    ),
    Need {
        name: "namespace.time",
        what: "time namespaces",
        why: "the job does not learn the host's uptime",
        effect: "policies that ask for a time namespace are refused",
        fix: "boot a kernel with CONFIG_TIME_NS=y",
        unmet: Degraded,
        look: Try(doing::time_namespace),
    },
    Need {
        name: "mount.calls",
        what: "fsopen, fsmount, move_mount and open_tree in a user namespace",
        why: "the root is assembled from descriptors, so that no path can be swapped meanwhile",
        effect: BOX,
        fix: CONTAINER_MOUNTS_FIX,
        unmet: Unusable,
        look: Try(doing::mount_calls),
    },
    Need {
        name: "mount.proc",
        what: "a fresh /proc in a user namespace",
        why: "the job needs a /proc that shows only itself",
        effect: "no execution can start with a /proc of its own",
        fix: "on a host: unmount what hides parts of /proc; in a container: --security-opt systempaths=unconfined",
        unmet: Unusable,
        look: Try(doing::procfs),
    },
    Need {
        name: "mount.overlay",
        what: "overlayfs in a user namespace",
        why: "images are shared read-only below a writable layer",
        effect: "writable layers over images are refused; read-only roots work",
        fix: "modprobe overlay; on Linux before 5.11 boot a newer kernel",
        unmet: Degraded,
        look: Try(doing::overlay),
    },
    Need {
        name: "mount.idmapped",
        what: "idmapped mounts",
        why: "files of the host appear with the box's ids without changing them",
        effect: "binds of folders that only their owner may read cannot be read inside",
        fix: "boot Linux 5.12 or newer",
        unmet: Degraded,
        look: Read(files::idmapped),
    },
    Need {
        name: "mount.noswap",
        what: "tmpfs that never goes to swap",
        why: "what a tenant holds in memory should not reach a disk",
        effect: "with swap switched on, files in memory can be written to it",
        fix: "boot Linux 6.4 or newer, or swapoff -a",
        unmet: Degraded,
        look: TryAsRoot(doing::tmpfs_without_swap),
    },
    Need {
        name: "landlock",
        what: "Landlock, ABI 6 or newer",
        why: "file rules that hold even if a mount is wrong; newer ABIs also hold truncation, ports, devices and signals",
        effect: "with an older ABI those newer rights are held by the other walls only; without Landlock nothing starts",
        fix: "boot Linux 6.12 or newer; where it is off add landlock to lsm= on the kernel's command line",
        unmet: Degraded,
        look: Try(doing::landlock_holds),
    },
    Need {
        name: "landlock.errata",
        what: "the fix for renames in disconnected folders",
        why: "without it rights can grow through a rename below a bind mount (Landlock erratum 3)",
        effect: "the mount namespace alone holds against this",
        fix: "install the distribution's latest kernel update",
        unmet: Degraded,
        look: Try(doing::landlock_errata),
    },
    Need {
        name: "seccomp",
        what: "seccomp filters",
        why: "most of the kernel must be out of the payload's reach",
        effect: BOX,
        fix: "boot a kernel with CONFIG_SECCOMP_FILTER=y",
        unmet: Unusable,
        look: Try(doing::seccomp_holds),
    },
    Need {
        name: "seccomp.actions",
        what: "seccomp's kill_process and errno",
        why: "foreign calls end the whole job, others fail cleanly",
        effect: BOX,
        fix: "boot Linux 4.14 or newer with CONFIG_SECCOMP_FILTER=y",
        unmet: Unusable,
        look: Read(files::seccomp_actions),
    },
    Need {
        name: "seccomp.notify",
        what: "seccomp's user notification",
        why: "learning which calls a program makes, and the deterministic mode",
        effect: "learning and the deterministic mode are refused",
        fix: "boot Linux 5.0 or newer",
        unmet: Degraded,
        look: Read(files::user_notification),
    },
    Need {
        name: "pidfd",
        what: "descriptors of processes",
        why: "a process is waited for and killed without the risk of meeting another one's number",
        effect: BOX,
        fix: "boot Linux 5.4 or newer; in a container: --security-opt seccomp=unconfined",
        unmet: Unusable,
        look: Try(doing::pidfd),
    },
    Need {
        name: "memfd",
        what: "sealed programs in memory",
        why: "the spawner and the shim that start are the ones that were checked at boot",
        effect: "remandd does not boot",
        fix: "sysctl -w vm.memfd_noexec=0",
        unmet: Unusable,
        look: Try(doing::memfd),
    },
    Need {
        name: "cgroup",
        what: "control groups version 2 with every controller",
        why: "limits for the job as a whole, in one hierarchy",
        effect: "version 1 controllers are driven where they are; fewer notifications, and a slower start",
        fix: "boot with systemd.unified_cgroup_hierarchy=1 (cgroup_no_v1=all); without systemd mount -t cgroup2 none \
              /sys/fs/cgroup",
        unmet: Degraded,
        look: Try(groups::layout),
    },
    Need {
        name: "cgroup.limits",
        what: "limits that read back",
        why: "a limit that cannot be set stops the start",
        effect: "no execution can start",
        fix: "give remand writable control groups: on a host run as root, under systemd Delegate=yes, in a container \
              --privileged or a writable /sys/fs/cgroup with --cgroupns=private",
        unmet: Unusable,
        look: TryAsRoot(groups::limits),
    },
    Need {
        name: "cgroup.enter",
        what: "processes inside their groups, in every hierarchy",
        why: "limits only hold for what is inside",
        effect: "no execution can start",
        fix: "as for cgroup.limits; no real-time tasks may be needed (chrt -o 0 for the shell that starts remandd)",
        unmet: Unusable,
        look: TryAsRoot(groups::enter),
    },
    Need {
        name: "cgroup.kill",
        what: "killing a group as one",
        why: "the end is the end: no fork can outrun it",
        effect: "cells are killed process by process through the spawner",
        fix: "boot Linux 5.14 or newer and mount cgroup2 (beside version 1: mount -t cgroup2 none /sys/fs/cgroup/unified)",
        unmet: Degraded,
        look: TryAsRoot(groups::kill),
    },
    Need {
        name: "pressure",
        what: "pressure stall information",
        why: "usage says how long a job waited for processor, memory and disk",
        effect: "those figures are missing from usage",
        fix: "boot with psi=1",
        unmet: Degraded,
        look: Read(files::pressure),
    },
];

/// Probes that only other probes start.
static HELPERS: [(&str, Probe); 4] = [
    ("helper.id_maps", doing::id_maps_helper),
    ("helper.procfs", doing::procfs_helper),
    ("helper.enter", groups::enter_helper),
    ("helper.nothing", doing::nothing),
];

/// The function behind a probe's name.
pub(crate) fn find_probe(name: &str) -> Option<Probe> {
    let need = NEEDS.iter().find(|need| need.name == name).and_then(|need| match need.look {
        Try(probe) | TryAsRoot(probe) => Some(probe),
        Read(_) => None,
    });
    need.or_else(|| HELPERS.iter().find(|(known, _)| *known == name).map(|(_, probe)| *probe))
}

/// Looks at every need. Takes some tenths of a second: each probe is a process of its own.
pub fn probe_all(host: &Host) -> Report {
    Report::new(NEEDS.iter().map(|need| need.row(host)).collect())
}

/// Looks at one need.
#[must_use]
pub fn probe_one(host: &Host, name: &str) -> Option<Row> {
    NEEDS.iter().find(|need| need.name == name).map(|need| need.row(host))
}

impl Need {
    fn row(&self, host: &Host) -> Row {
        match self.look {
            Read(look) => self.read(look(host)),
            TryAsRoot(_) if !rustix::process::geteuid().is_root() => {
                let effect = "nothing is known about it until root asks".to_owned();
                self.row_of("not tried".into(), effect, "sudo remand doctor".into(), Degraded)
            }
            Try(_) | TryAsRoot(_) => match host.prober.run(self.name) {
                Ok(found) => self.met(found),
                Err(found) => self.lacks(found),
            },
        }
    }

    fn read(&self, finding: Finding) -> Row {
        match finding {
            Finding::Met(found) => self.met(found),
            Finding::Unmet(found) => self.lacks(found),
            Finding::Special(found, level, fix) => self.unmet(found, level, fix),
        }
    }

    fn lacks(&self, found: String) -> Row {
        if found.starts_with(groups::NOT_TRIED) {
            let effect = "nothing is known about it until remandd has booted here".to_owned();
            return self.row_of(found, effect, "start remandd, then ask again".into(), Degraded);
        }
        // An old ABI leaves Landlock standing; everything else that fails here means that it does not stand.
        let gone = match self.name {
            "landlock" => !found.ends_with("enforced"),
            "cgroup" => found.starts_with("no control groups"),
            _ => false,
        };
        self.unmet(found, if gone { Unusable } else { self.unmet }, self.fix.to_owned())
    }

    fn met(&self, found: String) -> Row {
        self.row_of(found, String::new(), String::new(), Level::Ok)
    }

    fn unmet(&self, found: String, level: Level, fix: String) -> Row {
        self.row_of(found, self.effect.to_owned(), fix, level)
    }

    fn row_of(&self, found: String, effect: String, fix: String, level: Level) -> Row {
        let (need, what, why) = (self.name.to_owned(), self.what.to_owned(), self.why.to_owned());
        Row { need, what, why, found, effect, fix, level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_says_why_and_what_follows() {
        for need in &NEEDS {
            assert!(![need.what, need.why, need.effect].contains(&""), "{}", need.name);
            let special = ["user", "namespace.limits", "namespace.unprivileged"].contains(&need.name);
            assert!(special || !need.fix.is_empty(), "{} has no fix", need.name);
        }
    }

    #[test]
    fn names_are_used_once() {
        let mut names: Vec<_> = NEEDS.iter().map(|need| need.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NEEDS.len());
    }
}
