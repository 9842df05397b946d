//! A refused system call told to people: its name, the policy's reason, and what would let it through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::arch;
use crate::library::{BUILT_IN, Library};
use crate::profile::{Errno, Profile, Syscalls};
use crate::resolve::DANGEROUS;

/// A refused call, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The call's name, or its number where this architecture has no such call.
    pub syscall: String,
    /// The error that the program got, like `EPERM`.
    pub errno: String,
    /// The policy's reason.
    pub why: String,
    /// What would let it through, where anything should.
    pub next: String,
}

/// Explains the refusal of the call `number` with `errno` under these rules of the policy called `policy`.
#[must_use]
pub fn explain_denial(policy: &str, syscalls: &Syscalls, number: u32, errno: u16) -> Explained {
    let name = arch::name(number);
    let stated = name.and_then(|name| syscalls.statements.get(name));
    let why = stated.map_or("the policy does not name it, and what is not named does not exist", |found| &found.why);
    let next = name.map_or_else(|| "nothing: no such call is known here".to_owned(), |name| next(policy, name));
    let syscall = syscall_name(number);
    Explained { syscall, errno: Errno(errno).to_string(), why: why.to_owned(), next }
}

/// The call's name, or its number where this architecture has no such call.
#[must_use]
pub fn syscall_name(number: u32) -> String {
    arch::name(number).map_or_else(|| number.to_string(), str::to_owned)
}

fn next(policy: &str, call: &str) -> String {
    let wider: Vec<_> = ALLOWED.get(call).into_iter().flatten().filter(|name| **name != policy).copied().collect();
    match wider.split_first() {
        Some((first, [])) => format!("--policy {first} allows it"),
        Some((first, others)) => format!("--policy {first} allows it, as {} would", others.join(" or ")),
        None if DANGEROUS.contains(&call) => {
            "do without: no shipped policy allows it, and one of your own must name it under syscalls.dangerous_allow"
                .into()
        }
        None => format!("a policy of your own that extends {policy} can name it under syscalls.allow"),
    }
}

/// Which of the built-in profiles allow a call.
static ALLOWED: LazyLock<BTreeMap<String, BTreeSet<&'static str>>> = LazyLock::new(|| {
    let mut allowed: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for (name, _) in BUILT_IN {
        let Ok(profile) = Profile::load(name, &Library::built_in()) else { continue };
        for call in profile.syscalls.allowed() {
            allowed.entry(call.to_owned()).or_default().insert(name);
        }
    }
    allowed
});

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(call: &str) -> Explained {
        let batch = Profile::load("batch", &Library::built_in()).unwrap();
        explain_denial("batch", &batch.syscalls, arch::number(call).unwrap(), 1)
    }

    #[test]
    fn a_call_that_a_shipped_policy_allows_names_that_policy() {
        let found = explained("copy_file_range");
        assert!(found.next.starts_with("--policy build allows it"), "{}", found.next);
        assert!(found.why.starts_with("the policy does not name it"), "{}", found.why);
    }

    #[test]
    fn a_call_that_leads_out_of_a_box_is_better_done_without() {
        let found = explained("unshare");
        assert_eq!((found.syscall.as_str(), found.errno.as_str()), ("unshare", "EPERM"));
        assert!(found.why.contains("namespaces") && found.next.starts_with("do without"), "{found:?}");
    }

    #[test]
    fn every_other_call_can_be_named_by_a_policy_of_ones_own() {
        assert!(explained("mlockall").next.contains("extends batch"));
    }

    #[test]
    fn a_number_without_a_name_is_told_as_it_is() {
        let batch = Profile::load("batch", &Library::built_in()).unwrap();
        let found = explain_denial("batch", &batch.syscalls, 999, 38);
        assert_eq!((found.syscall.as_str(), found.errno.as_str()), ("999", "ENOSYS"));
    }
}
