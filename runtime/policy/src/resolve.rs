//! From the files of a lineage to one profile: the oldest ancestor first, each file adding to what stands.
//!
//! Lists append. What a nearer file says about a system call, a variable, a bind's target or a limit takes the place of
//! what a farther one said; values of an argument rule and access rights of a path are added.

use std::collections::BTreeSet;
use std::path::PathBuf;

use remand_model::Limits;
use toml::Spanned;

use crate::arch;
use crate::document::{self, Document};
use crate::error::{Finding, PolicyError, Severity};
use crate::library::{self, Library, Source};
use crate::profile::{Network, Process, Profile, Root, Syscalls};

mod apply;

/// Files of the longest lineage.
const LINEAGE_MAX: usize = 8;

/// Without these no program starts: the shim itself still needs them after the last filter is loaded.
pub(crate) const ESSENTIAL: [&str; 6] = ["write", "close", "execve", "execveat", "exit_group", "rt_sigreturn"];

/// Calls that lead out of a box or into rarely tested parts of the kernel; only `dangerous_allow` permits them.
pub(crate) const DANGEROUS: [&str; 62] = [
    "_sysctl",
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "clone3",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "seccomp",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "uselib",
    "vhangup",
];

/// The files that a profile was made from, each by the name that it was asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files(Vec<(String, Source)>);

impl Files {
    /// Whether the library still gives the same texts for the same names.
    #[must_use]
    pub fn are_current(&self, library: &Library) -> bool {
        self.0.iter().all(|(name, source)| library.source(name).is_ok_and(|now| now == *source))
    }
}

pub(crate) fn load(name_or_path: &str, library: &Library) -> Result<(Profile, Files), PolicyError> {
    let lineage = lineage(name_or_path, library)?;
    let files = Files(lineage.iter().map(|(name, source, _)| (name.clone(), source.clone())).collect());
    let (profile, findings) = resolve(lineage);
    let errors: Vec<_> = findings.into_iter().filter(|f| f.severity == Severity::Error).collect();
    if errors.is_empty() { Ok((profile, files)) } else { Err(PolicyError::Profile(errors)) }
}

/// The profile as far as it could be resolved, with all that was found wrong in it.
pub(crate) fn load_with_findings(
    name_or_path: &str,
    library: &Library,
) -> Result<(Profile, Vec<Finding>), PolicyError> {
    lineage(name_or_path, library).map(resolve)
}

fn resolve(lineage: Lineage) -> (Profile, Vec<Finding>) {
    let mut profile = blank(&lineage);
    let mut findings = Vec::new();
    for (_, source, document) in lineage.into_iter().rev() {
        findings.extend(apply::apply(&mut profile, &source, document));
    }
    let Profile { syscalls, name, .. } = &mut profile;
    // A rule about a call that a nearer file forbids has nothing left to restrict.
    let allowed: BTreeSet<String> = syscalls.allowed().map(str::to_owned).collect();
    syscalls.arguments.retain(|rule| allowed.contains(&rule.syscall));
    for missing in ESSENTIAL.iter().filter(|name| !allowed.contains(**name)) {
        findings.push(Finding::error(name, None, format!("{missing} must be allowed: without it no program starts")));
    }
    (profile, findings)
}

/// Files in their order: the name by which each was asked for, its text, and what it says.
type Lineage = Vec<(String, Source, Document)>;

/// The file of `name_or_path` and of everything that it extends, nearest first.
fn lineage(name_or_path: &str, library: &Library) -> Result<Lineage, PolicyError> {
    let mut lineage = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(name_or_path.to_owned());
    while let Some(name) = next {
        let source = library.source(&name)?;
        let document =
            document::parse_document::<Document>(&source).map_err(|finding| PolicyError::Profile(vec![finding]))?;
        next = document.extends.as_ref().map(|parent| parent_of(&source, parent.get_ref()));
        if next.is_some() && (!seen.insert(source.file.clone()) || seen.len() >= LINEAGE_MAX) {
            let line = document.extends.as_ref().map(|parent| line(&source, parent));
            let message = format!("the profile extends itself, or more than {LINEAGE_MAX} profiles in a row");
            return Err(PolicyError::Profile(vec![Finding::error(&source.file, line, message)]));
        }
        lineage.push((name, source, document));
    }
    Ok(lineage)
}

/// A parent given as a path is meant from its child's folder.
fn parent_of(child: &Source, parent: &str) -> String {
    let folder = PathBuf::from(&child.file).parent().map(PathBuf::from);
    match folder {
        Some(folder) if library::is_path(parent) => {
            let joined = folder.join(parent);
            // A bare file name would read as a name of the library.
            if joined.is_absolute() { joined } else { PathBuf::from(".").join(joined) }.display().to_string()
        }
        _ => parent.to_owned(),
    }
}

pub(crate) fn line<T>(source: &Source, at: &Spanned<T>) -> usize {
    document::line_of(&source.text, at.span().start)
}

fn blank(lineage: &Lineage) -> Profile {
    Profile {
        name: lineage.first().map(|(_, source, _)| source.name.clone()).unwrap_or_default(),
        description: String::new(),
        lineage: lineage.iter().map(|(_, source, _)| source.name.clone()).collect(),
        syscalls: Syscalls::default(),
        root: Root::default(),
        files: Vec::new(),
        limits: Limits::default(),
        environment: Vec::new(),
        process: Process {
            user: "user".to_owned(),
            uid: 1000,
            gid: 1000,
            hostname: "box".to_owned(),
            directory: "/work".into(),
            umask: 0o022,
            network: Network::None,
            time_namespace: false,
        },
    }
}

/// Whether `name` is a call of this architecture that only `dangerous_allow` permits.
pub(crate) fn is_dangerous(name: &str) -> bool {
    DANGEROUS.contains(&name)
}

/// Refuses an unknown call, or an ordinary allow of a dangerous one.
pub(crate) fn check_allow(name: &str, dangerous_section: bool) -> Result<(), String> {
    debug_assert!(DANGEROUS.iter().all(|name| arch::number(name).is_some()), "the list names calls of this kernel");
    match (is_dangerous(name), dangerous_section) {
        (true, false) => {
            Err(format!("{name:?} weakens the box; if you must, put it into [[syscalls.dangerous_allow]]"))
        }
        (false, true) => Err(format!("{name:?} is not dangerous; put it into [[syscalls.allow]]")),
        _ => Ok(()),
    }
}
