//! The verdict of every system call, by interpreting the very bytes that the kernel gets.
#![forbid(unsafe_code)]

use remand_policy::{Action, BUILT_IN, Call, Compiled, Library, Profile, Purpose, Verdict, arch, compile};

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/batch.verdicts");

fn load(name: &str) -> (Profile, Compiled) {
    let profile = Profile::load(name, &Library::built_in()).unwrap();
    let compiled = compile(&profile, 7).unwrap();
    (profile, compiled)
}

fn verdict(name: &str, arguments: &[u64]) -> Action {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    load("batch").1.verdict(&Call::native(arch::number(name).unwrap(), six))
}

/// A profile without its argument programs: what is said about a number alone.
fn by_number_alone(mut compiled: Compiled) -> Compiled {
    compiled.filters.retain(|filter| filter.purpose != Purpose::Arguments);
    compiled
}

#[test]
fn every_number_gets_what_its_profile_states_and_every_other_is_unknown() {
    for (name, _) in BUILT_IN {
        let (profile, compiled) = load(name);
        let compiled = by_number_alone(compiled);
        for number in 0..5000 {
            let stated = arch::name(number).and_then(|name| profile.syscalls.statements.get(name));
            let expected = match stated.map(|statement| statement.verdict) {
                Some(Verdict::Allow) => Action::Allow,
                Some(Verdict::Deny(errno)) => Action::Errno(errno.0),
                Some(Verdict::Kill) => Action::Notify,
                None => ENOSYS,
            };
            assert_eq!(compiled.verdict(&Call::native(number, [0; 6])), expected, "{name}: {number}");
        }
    }
}

#[test]
fn the_x32_abi_is_killed_for_every_number() {
    let (_, compiled) = load("batch");
    let numbers = (0..1000).map(|number| 0x4000_0000 | number);
    for number in numbers.chain([0x3fff_ffff + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX]) {
        assert_eq!(compiled.verdict(&Call::native(number, [0; 6])), Action::KillProcess, "{number:#x}");
    }
    assert_eq!(compiled.verdict(&Call::native(0x3fff_ffff, [0; 6])), ENOSYS);
}

#[test]
fn every_foreign_architecture_is_killed_for_every_number() {
    let (_, compiled) = load("batch");
    for arch in [arch::AUDIT_ARCH_I386, 0xc000_00b7, 0, u32::MAX] {
        for number in 0..500 {
            let call = Call { number, arch, arguments: [0; 6] };
            assert_eq!(compiled.verdict(&call), Action::KillProcess, "{arch:#x} {number}");
        }
    }
}

#[test]
fn no_shipped_profile_allows_what_weakens_a_box() {
    let forbidden = [
        "unshare",
        "setns",
        "clone3",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "keyctl",
        "add_key",
        "request_key",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "kexec_load",
        "kexec_file_load",
        "open_by_handle_at",
        "name_to_handle_at",
        "swapon",
        "swapoff",
        "acct",
        "quotactl",
        "quotactl_fd",
        "reboot",
        "init_module",
        "finit_module",
        "delete_module",
        "iopl",
        "ioperm",
        "seccomp",
        "pidfd_getfd",
        "syslog",
        "sysinfo",
        "kcmp",
    ];
    for (profile, _) in BUILT_IN {
        let (_, compiled) = load(profile);
        for name in forbidden {
            let number = arch::number(name).unwrap();
            for argument in [0, 1, u64::MAX] {
                let verdict = compiled.verdict(&Call::native(number, [argument; 6]));
                assert_ne!(verdict, Action::Allow, "{profile}: {name}");
            }
        }
    }
}

#[test]
fn no_shipped_profile_lets_clone_make_a_namespace() {
    let bits = [0x2_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    for (profile, _) in BUILT_IN {
        let (_, compiled) = load(profile);
        for bit in bits {
            for flags in [bit, bit | 17, bit | 1 << 32, bit | 0x0100_0000, 0x7e02_0000, u64::MAX] {
                let call = Call::native(arch::number("clone").unwrap(), [flags, 0, 0, 0, 0, 0]);
                assert_eq!(compiled.verdict(&call), EPERM, "{profile}: {flags:#x}");
            }
        }
    }
}

#[test]
fn threads_and_processes_can_be_made() {
    // What glibc passes for fork, vfork-like spawning and pthread_create.
    for flags in [0x0120_0011, 0x4111, 0x003d_0f00, 17] {
        assert_eq!(verdict("clone", &[flags]), Action::Allow, "{flags:#x}");
    }
}

#[test]
fn only_local_and_internet_sockets_exist_whatever_the_high_half_says() {
    for family in 0..50_u64 {
        let expected = if [1, 2, 10].contains(&family) { Action::Allow } else { EPERM };
        for high in [0, 1 << 32, u64::MAX << 32] {
            assert_eq!(verdict("socket", &[high | family, 1, 0]), expected, "{family} {high:#x}");
        }
        let expected = if family == 1 { Action::Allow } else { EPERM };
        assert_eq!(verdict("socketpair", &[family, 1, 0]), expected, "{family}");
    }
}

#[test]
fn only_plain_internet_protocols_exist() {
    for (protocol, expected) in
        [(0, Action::Allow), (6, Action::Allow), (17, Action::Allow), (132, EPERM), (262, EPERM), (255, EPERM)]
    {
        assert_eq!(verdict("socket", &[2, 1, protocol]), expected, "{protocol}");
        assert_eq!(verdict("socket", &[2, 1, 1 << 32 | protocol]), expected, "{protocol}");
    }
}

#[test]
fn nothing_can_be_typed_into_a_terminal_whatever_the_high_half_says() {
    for request in [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCCONS, libc::TIOCSETD] {
        for high in [0, 1 << 32, 1 << 63, u64::MAX << 32] {
            assert_eq!(verdict("ioctl", &[0, high | request]), EPERM, "{request:#x} {high:#x}");
        }
    }
    for request in [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO] {
        assert_eq!(verdict("ioctl", &[0, request]), Action::Allow, "{request:#x}");
    }
}

#[test]
fn the_personality_can_be_asked_for_and_not_changed() {
    assert_eq!(verdict("personality", &[0]), Action::Allow);
    assert_eq!(verdict("personality", &[0xffff_ffff]), Action::Allow);
    for persona in [0x0004_0000, 0x0040_0000, 8, 1 << 32 | 0x0004_0000] {
        assert_eq!(verdict("personality", &[persona]), EPERM, "{persona:#x}");
    }
}

#[test]
fn prctl_changes_nothing_that_protects() {
    // Dumpable, keepcaps, seccomp, bounding set, securebits, memory map, subreaper, ambient, speculation, ptracer.
    for option in [4, 8, 22, 24, 28, 35, 36, 47, 53, 0x5961_6d61, 1 << 32 | 4] {
        assert_eq!(verdict("prctl", &[option]), EPERM, "{option}");
    }
    for option in [1, 15, 16, 38, 39] {
        assert_eq!(verdict("prctl", &[option]), Action::Allow, "{option}");
    }
}

#[test]
fn what_the_shim_calls_after_the_last_filter_is_allowed_everywhere() {
    let needed =
        ["write", "close", "execve", "execveat", "exit_group", "rt_sigreturn", "mmap", "munmap", "brk", "futex"];
    for (profile, _) in BUILT_IN {
        let (_, compiled) = load(profile);
        for name in needed {
            let call = Call::native(arch::number(name).unwrap(), [0; 6]);
            assert_eq!(compiled.verdict(&call), Action::Allow, "{profile}: {name}");
        }
    }
}

#[test]
fn the_default_profiles_verdicts_are_the_reviewed_ones() {
    let compiled = by_number_alone(load("batch").1);
    let mut names: Vec<_> = arch::names().map(|name| (arch::number(name).unwrap(), name)).collect();
    names.sort_unstable();
    let line = |(number, name): &(u32, &str)| {
        format!("{number:3} {name:24} {}\n", compiled.verdict(&Call::native(*number, [0; 6])))
    };
    let found: String = names.iter().map(line).collect();
    if std::env::var_os("REMAND_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(GOLDEN, &found).unwrap();
    }
    let reviewed = std::fs::read_to_string(GOLDEN).unwrap();
    let differing = found.lines().zip(reviewed.lines()).find(|(found, reviewed)| found != reviewed);
    assert_eq!(differing, None, "found, reviewed; after a review, rewrite the file with REMAND_GOLDEN=write");
    assert_eq!(found.lines().count(), reviewed.lines().count());
}

#[test]
fn the_filters_stay_short() {
    for (name, _) in BUILT_IN {
        let (_, compiled) = load(name);
        for filter in &compiled.filters {
            let most = match filter.purpose {
                // Nine of the rules keep set-id bits out of writable volumes.
                Purpose::Arguments => 96,
                Purpose::Allow => 104,
                Purpose::Closing => 10,
            };
            assert!(filter.instructions <= most, "{name}: {:?} has {}", filter.purpose, filter.instructions);
            assert_eq!(filter.bytes.len(), filter.instructions * 8);
        }
        assert_eq!(compiled.filters.iter().filter(|filter| filter.notify).count(), 1, "{name}");
        assert_ne!(compiled.filters.last().unwrap().purpose, Purpose::Arguments, "{name}");
    }
}

/// Only what a program falls back from by itself is answered without asking, so that every refusal can be told.
#[test]
fn the_list_asks_about_every_call_that_it_does_not_allow() {
    let (profile, compiled) = load("batch");
    let list = compiled.filters.iter().find(|filter| filter.purpose == Purpose::Allow).unwrap();
    for number in 0..5000 {
        let stated = arch::name(number).and_then(|name| profile.syscalls.statements.get(name));
        let expected = match stated.map(|statement| statement.verdict) {
            _ if matches!(arch::name(number), Some("seccomp" | "sendmsg")) => Action::Allow,
            Some(Verdict::Allow) => Action::Allow,
            Some(Verdict::Deny(errno)) if [38, 95].contains(&errno.0) => Action::Errno(errno.0),
            _ => Action::Notify,
        };
        assert_eq!(list.answer(&Call::native(number, [0; 6])), expected, "{number}");
    }
}
