//! What is wrong, or worth a look, in a profile: for people before they deploy one.

use crate::error::{Finding, PolicyError};
use crate::library::Library;
use crate::profile::{Access, Profile, Test, Verdict, WRITABLE_PLACES};
use crate::resolve;

/// The bits of `clone` that make namespaces.
const NAMESPACE_BITS: u64 = 0x7e02_0000;
/// The most system calls of a profile that is called small.
const SYSCALLS_MANY: usize = 180;

/// Everything wrong with the profile `name_or_path` and everything that deserves a look; an empty answer is a clean profile.
#[must_use]
pub fn check(name_or_path: &str, library: &Library) -> Vec<Finding> {
    match resolve::load_with_findings(name_or_path, library) {
        Ok((profile, mut findings)) => {
            findings.extend(warnings(&profile, name_or_path));
            findings
        }
        Err(PolicyError::Profile(findings)) => findings,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            vec![Finding::error(name_or_path, None, format!("{error}{source}"))]
        }
    }
}

fn warnings(profile: &Profile, file: &str) -> Vec<Finding> {
    let mut messages: Vec<String> = Vec::new();
    let dangerous = |(name, s): (&String, &crate::profile::Statement)| {
        (s.verdict == Verdict::Allow && resolve::is_dangerous(name))
            .then(|| format!("{name} is allowed, and weakens the box ({})", s.why))
    };
    messages.extend(profile.syscalls.statements.iter().filter_map(dangerous));
    if !forbids_namespaces(profile) {
        messages.push("clone can make namespaces: forbid the CLONE_NEW* bits of its argument 0".to_owned());
    }
    for (call, why) in [("socket", "socket families"), ("ioctl", "requests"), ("prctl", "options")] {
        let ruled = profile.syscalls.arguments.iter().any(|rule| rule.syscall == call);
        if profile.syscalls.allowed().any(|name| name == call) && !ruled {
            messages.push(format!("{call} is allowed with all of its {why}; name the ones that are needed"));
        }
    }
    let count = profile.syscalls.allowed().count();
    if count > SYSCALLS_MANY {
        messages.push(format!("{count} system calls are allowed; more than {SYSCALLS_MANY} deserve a second look"));
    }
    messages.extend(writable_elsewhere(profile));
    messages.into_iter().map(|message| Finding::warning(file, None, message)).collect()
}

fn forbids_namespaces(profile: &Profile) -> bool {
    let clone = profile.syscalls.arguments.iter().filter(|rule| rule.syscall == "clone" && rule.argument == 0);
    let bits = clone.flat_map(|rule| match &rule.test {
        Test::ForbidBits(list) => list.iter().map(|c| c.value).collect(),
        _ => Vec::new(),
    });
    let forbidden = bits.fold(0, |mask, bit| mask | bit);
    forbidden & NAMESPACE_BITS == NAMESPACE_BITS || !profile.syscalls.allowed().any(|name| name == "clone")
}

fn writable_elsewhere(profile: &Profile) -> impl Iterator<Item = String> {
    let within = |rule: &&crate::profile::FileRule| {
        WRITABLE_PLACES.iter().any(|place| rule.path.starts_with(place)) || rule.path.starts_with("/dev")
    };
    let changes = |rule: &&crate::profile::FileRule| {
        rule.access.iter().any(|access| matches!(access, Access::Write | Access::Create | Access::Remove))
    };
    let message = |rule: &crate::profile::FileRule| {
        format!("{} may be changed, and is no writable place of the box", rule.path.display())
    };
    profile.files.iter().filter(changes).filter(move |rule| !within(rule)).map(message)
}
