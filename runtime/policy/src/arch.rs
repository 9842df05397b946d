//! The machine's system calls: their names, their numbers, and what tells its own ABI from foreign ones.
//!
//! Everything that depends on the architecture is here; another one needs another table and nothing else.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use syscalls::x86_64::Sysno;

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`: what `seccomp_data.arch` holds for the native ABI.
pub const AUDIT_ARCH: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`: what `int 0x80` and 32-bit programs show.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// `__X32_SYSCALL_BIT`: a number from here on belongs to the x32 ABI, under the native `arch` value.
pub const FOREIGN_FROM: u32 = 0x4000_0000;

/// Calls newer than the table of the `syscalls` crate (`asm/unistd_64.h` of Linux 6.18).
const NEWER: [(&str, u32); 2] = [("uretprobe", 335), ("listns", 470)];

fn table() -> &'static BTreeMap<&'static str, u32> {
    static TABLE: OnceLock<BTreeMap<&'static str, u32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let known = Sysno::iter().map(|call| (call.name(), call.id().unsigned_abs()));
        NEWER.into_iter().chain(known).collect()
    })
}

/// The number of the system call `name`.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    table().get(name).copied()
}

/// The name of the system call `number`: what an outcome names when the kill list ends an execution.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    static NAMES: OnceLock<BTreeMap<u32, &'static str>> = OnceLock::new();
    NAMES.get_or_init(|| table().iter().map(|(name, number)| (*number, *name)).collect()).get(&number).copied()
}

/// Every known system call, in the order of its name.
pub fn names() -> impl Iterator<Item = &'static str> {
    table().keys().copied()
}

/// How many low bits of an argument the kernel reads, where that is known; `None` asks the profile to say.
///
/// Comparing the whole register where the kernel reads half of it lets a caller set a high bit and pass (CVE-2019-10063);
/// and the ABI leaves the high half of an `int` undefined, so that honest callers would fail.
#[must_use]
pub fn argument_bits(name: &str, argument: u8) -> Option<u8> {
    match (name, argument) {
        ("socket" | "socketpair", 0..=2) => Some(32),
        ("ioctl", 0 | 1) | ("fcntl", 0 | 1) | ("prctl", 0) | ("arch_prctl", 0) | ("personality", 0) => Some(32),
        // `lower_32_bits(clone_flags)` in kernel/fork.c.
        ("clone" | "unshare", 0) | ("setns", 1) => Some(32),
        ("madvise" | "mprotect", 2) | ("setsockopt" | "getsockopt", 0..=2) => Some(32),
        ("prctl", 1..=4) | ("ioctl" | "fcntl", 2) | ("mmap", 0..=5) => Some(64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_libc() {
        for (name, number_of_libc) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(number(name).map(i64::from), Some(number_of_libc));
            assert_eq!(super::name(u32::try_from(number_of_libc).unwrap()), Some(name));
        }
    }

    #[test]
    fn a_name_that_no_kernel_has_has_no_number() {
        assert_eq!(number("opne"), None);
        assert_eq!(name(100_000), None);
    }
}
