//! System calls: what is not allowed does not exist, what is named is refused, what is foreign or worse ends the job.

use remand_tests::cases;
use remand_tests::stage::{PROBE, Seen, stage};
use remand_tests::suite::{Case, Verdict};
use serde_json::Value;

pub const CASES: &[Case] = cases![
    calls_that_nobody_named_do_not_exist,
    calls_that_are_named_are_refused,
    no_clone_makes_a_namespace_whatever_its_high_bits,
    no_ioctl_types_into_a_terminal_whatever_its_high_bits,
    only_three_socket_families_exist_whatever_the_high_bits,
    only_plain_protocols_exist,
    no_prctl_or_personality_takes_a_protection_away,
    no_device_can_be_made,
    a_call_that_replaces_the_kernel_ends_the_job_and_is_named,
    an_interrupted_call_that_replaces_the_kernel_ends_the_job_all_the_same,
    calls_of_foreign_abis_end_the_job,
    a_foreign_call_of_a_child_ends_the_child,
    a_refused_call_is_told_once_with_its_reason_and_what_would_allow_it,
    who_tries_every_number_is_refused_every_time_and_fills_no_result,
];

const EPERM: i64 = 1;
const ENOSYS: i64 = 38;

fn calls(calls: &[String]) -> Seen {
    let words: Vec<&str> = std::iter::once("calls").chain(calls.iter().map(String::as_str)).collect();
    stage().probe(&[], &words).expect(0)
}

fn assert_all(table: &[(&str, u32, &str)], error: i64) {
    let seen = calls(&table.iter().map(|(name, number, words)| format!("{name}={number}:{words}")).collect::<Vec<_>>());
    for (name, ..) in table {
        assert_eq!(seen.answer(name), -error, "{name}");
    }
}

fn calls_that_nobody_named_do_not_exist() -> Verdict {
    assert_all(
        &[
            ("shmget", 29, "0,4096,01600"),
            ("msgget", 68, "0,01600"),
            ("semget", 64, "0,1,01600"),
            ("mq_open", 240, "@/q,0102,0600,0"),
            ("fanotify_init", 300, "0,0"),
            ("inotify_init1", 294, "0"),
            ("open_tree", 428, "-100,@/,1"),
            ("move_mount", 429, "0,@,0,@,0"),
            ("fsopen", 430, "@tmpfs,0"),
            ("fsconfig", 431, "0,0,@,@,0"),
            ("fsmount", 432, "0,0,0"),
            ("mount_setattr", 442, "0,@,0,@,32"),
            ("pidfd_getfd", 438, "0,0,0"),
            ("seccomp", 317, "1,0,@"),
            ("openat2", 437, "-100,@/,@,24"),
            ("sysinfo", 99, "@"),
            ("splice", 275, "0,0,1,0,1,0"),
            ("vmsplice", 278, "1,@,1,0"),
            ("tee", 276, "0,1,1,0"),
            ("modify_ldt", 154, "0,@,16"),
            ("clock_settime", 227, "0,@"),
            ("adjtimex", 159, "@"),
            ("memfd_secret", 447, "0"),
            ("io_setup", 206, "1,@"),
            ("migrate_pages", 256, "0,0,@,@"),
            ("move_pages", 279, "0,0,@,@,@,0"),
            ("remap_file_pages", 216, "@,4096,0,0,0"),
            ("statmount", 457, "@,@,0,0"),
            ("landlock_create_ruleset", 444, "0,0,1"),
            ("lsm_set_self_attr", 460, "0,@,0,0"),
            ("tkill", 200, "1,9"),
            ("rt_sigqueueinfo", 129, "1,9,@"),
            ("vhangup", 153, ""),
            ("nfsservctl", 180, ""),
            ("uselib", 134, "@/x"),
            ("clone3", 435, "@,88"),
            ("unknown", 600, ""),
            ("the_last", 0xfff, ""),
        ],
        ENOSYS,
    );
    Verdict::Proved
}

fn calls_that_are_named_are_refused() -> Verdict {
    assert_all(
        &[
            ("mount", 165, "@none,@/tmp,@tmpfs,0,0"),
            ("umount2", 166, "@/proc,2"),
            ("pivot_root", 155, "@/,@/"),
            ("chroot", 161, "@/tmp"),
            ("unshare", 272, "0x10000000"),
            ("unshare_nothing", 272, "0"),
            ("setns", 308, "0,0"),
            ("ptrace_traceme", 101, "0"),
            ("ptrace_seize", 101, "0x4206,1"),
            ("process_vm_readv", 310, "1,@,1,@,1,0"),
            ("process_vm_writev", 311, "1,@,1,@,1,0"),
            ("kcmp", 312, "1,1,0,0,0"),
            ("add_key", 248, "@user,@a,@b,1,-3"),
            ("request_key", 249, "@user,@a,@b,-3"),
            ("keyctl", 250, "0,-3,0"),
            ("bpf", 321, "0,@,72"),
            ("perf_event_open", 298, "@,0,-1,-1,0"),
            ("userfaultfd", 323, "0"),
            ("io_uring_setup", 425, "1,@"),
            ("io_uring_enter", 426, "0,0,0,0"),
            ("io_uring_register", 427, "0,0,@,0"),
            ("open_by_handle_at", 304, "0,@,0"),
            ("name_to_handle_at", 303, "-100,@/,@,@,0"),
            ("acct", 163, "@/tmp/a"),
            ("swapon", 167, "@/x,0"),
            ("reboot", 169, "0xfee1dead,672274793,0"),
            ("sethostname", 170, "@h,1"),
            ("iopl", 172, "3"),
            ("ioperm", 173, "0,1,1"),
            ("init_module", 175, "@,0,@"),
            ("finit_module", 313, "0,@,0"),
            ("syslog", 103, "3,@,100"),
            ("settimeofday", 164, "@,0"),
            ("quotactl", 179, "0,@,0,@"),
            ("chown", 92, "@/tmp,0,0"),
            ("fchownat", 260, "-100,@/tmp,0,0,0"),
        ],
        EPERM,
    );
    Verdict::Proved
}

fn no_clone_makes_a_namespace_whatever_its_high_bits() -> Verdict {
    let spaces = [
        ("mnt", 0x20000_u64),
        ("cgroup", 0x200_0000),
        ("uts", 0x400_0000),
        ("ipc", 0x800_0000),
        ("user", 0x1000_0000),
        ("pid", 0x2000_0000),
        ("net", 0x4000_0000),
    ];
    for high in [0_u64, 1 << 32, 0xffff_ffff << 32] {
        let seen =
            calls(&spaces.iter().map(|(name, bit)| format!("{name}=56:{:#x}", high | bit | 17)).collect::<Vec<_>>());
        for (name, _) in spaces {
            assert_eq!(seen.answer(name), -EPERM, "{name} with {high:#x}");
        }
    }
    Verdict::Proved
}

fn no_ioctl_types_into_a_terminal_whatever_its_high_bits() -> Verdict {
    let requests = [
        ("TIOCSTI", 0x5412_u64),
        ("TIOCLINUX", 0x541c),
        ("TIOCCONS", 0x541d),
        ("TIOCSETD", 0x5423),
        ("KDSKBENT", 0x4b47),
    ];
    for high in [0_u64, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
        let words: Vec<String> =
            requests.iter().map(|(name, number)| format!("{name}=16:0,{:#x},@x", high | number)).collect();
        let volume = format!("{}:/probe", stage().place.path().join("probe").display());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // In a terminal of the box's own, where they would work.
        let seen = stage().run(&[&["-t", "-v", volume.as_str(), "--", PROBE, "calls"], &words[..]].concat()).expect(0);
        for (name, _) in requests {
            assert_eq!(seen.answer(name), -EPERM, "{name} with {high:#x}");
        }
    }
    Verdict::Proved
}

fn only_three_socket_families_exist_whatever_the_high_bits() -> Verdict {
    for high in [0_u64, 1 << 32, 1 << 63] {
        let words: Vec<String> = (0..47).map(|family| format!("f{family}=41:{:#x},2,0", high | family)).collect();
        let seen = calls(&words);
        for family in 0..47 {
            let answer = seen.answer(&format!("f{family}"));
            if [1, 2, 10].contains(&family) {
                assert!(answer >= 0, "family {family}: {answer}");
            } else {
                assert_eq!(answer, -EPERM, "family {family} with {high:#x}");
            }
        }
    }
    Verdict::Proved
}

fn only_plain_protocols_exist() -> Verdict {
    let seen = calls(&[
        "mptcp=41:2,1,262".to_owned(),
        "sctp=41:2,1,132".to_owned(),
        "udplite=41:2,2,136".to_owned(),
        "icmp=41:2,2,1".to_owned(),
        "raw=41:2,3,6".to_owned(),
        "raw_high=41:2,3,255".to_owned(),
        "packet=41:17,3,768".to_owned(),
        "pair=53:2,1,0,@".to_owned(),
        "tcp=41:2,1,6".to_owned(),
    ]);
    for name in ["mptcp", "sctp", "udplite", "icmp", "raw", "raw_high", "packet", "pair"] {
        assert_eq!(seen.answer(name), -EPERM, "{name}");
    }
    assert!(seen.answer("tcp") >= 0);
    Verdict::Proved
}

fn no_prctl_or_personality_takes_a_protection_away() -> Verdict {
    assert_all(
        &[
            ("dumpable", 157, "4,1"),
            ("keepcaps", 157, "8,1"),
            ("seccomp", 157, "22,2,@"),
            ("securebits", 157, "28,0"),
            ("mm", 157, "35,1,0"),
            ("subreaper", 157, "36,1"),
            ("ambient", 157, "47,2,0"),
            ("ptracer", 157, "0x59616d61,-1"),
            ("high", 157, "0x10000001c,0"),
            ("no_randomize", 135, "0x40000"),
            ("read_implies_exec", 135, "0x400000"),
            ("foreign", 135, "8"),
        ],
        EPERM,
    );
    Verdict::Proved
}

fn no_device_can_be_made() -> Verdict {
    let seen = calls(&[
        "chr=259:-100,@/tmp/c,020666,0x103".to_owned(),
        "blk=259:-100,@/tmp/b,060666,0xfe00".to_owned(),
        "old=133:@/tmp/o,020666,0x103".to_owned(),
    ]);
    for name in ["chr", "blk", "old"] {
        assert!(seen.answer(name) < 0, "{name}");
    }
    Verdict::Proved
}

fn a_call_that_replaces_the_kernel_ends_the_job_and_is_named() -> Verdict {
    for (name, number) in [("kexec_load", 246), ("kexec_file_load", 320)] {
        let call = format!("call={number}:0,0,0,0");
        let seen = stage().probe(&[], &["calls", &call]).expect(159).because("seccomp");
        assert_eq!(seen.result["cause"]["syscall"], name);
        assert_eq!(seen.text(), "", "the call never returned");
    }
    // Of a grandchild in a session of its own as well, while everybody else waits.
    let script = format!("(setsid {PROBE} calls call=246:0 &); sleep 30");
    let volume = format!("{}:/probe", stage().place.path().join("probe").display());
    let seen = stage().shell(&["-v", &volume], &script).expect(159).because("seccomp");
    assert!(seen.number("/usage/wall_us") < 20_000_000);
    Verdict::Proved
}

fn an_interrupted_call_that_replaces_the_kernel_ends_the_job_all_the_same() -> Verdict {
    let seen = stage().probe(&[], &["interrupted", "246"]);
    assert_eq!(seen.cause(), "seccomp", "{}", seen.text());
    Verdict::Proved
}

fn calls_of_foreign_abis_end_the_job() -> Verdict {
    let x32 = ["calls", "getpid=0x40000027:", "exec=0x40000208:@,@,@"];
    for words in [&["i386", "20"][..], &["i386", "11"], &x32[..2], &[x32[0], x32[2]]] {
        let seen = stage().probe(&[], words).expect(159);
        assert!(["seccomp", "signaled"].contains(&seen.cause()), "{}", seen.result);
        assert_eq!(seen.text(), "", "{words:?} came back");
    }
    Verdict::Proved
}

fn a_foreign_call_of_a_child_ends_the_child() -> Verdict {
    let volume = format!("{}:/probe", stage().place.path().join("probe").display());
    let script = format!("{PROBE} i386 20; echo $?; {PROBE} calls x=0x40000027:; echo $?");
    let seen = stage().shell(&["-v", &volume], &script).expect(0);
    assert_eq!(seen.text(), "159\n159\n");
    Verdict::Proved
}

fn a_refused_call_is_told_once_with_its_reason_and_what_would_allow_it() -> Verdict {
    let words = ["calls", "a=272:0x10000000", "b=272:0x10000000", "c=326:0,0,0,0,0,0", "d=191:@/,@x,0,0"];
    let seen = stage().probe(&[], &words).expect(0);
    assert_eq!((seen.answer("a"), seen.answer("b"), seen.answer("c")), (-EPERM, -EPERM, -ENOSYS));
    let denials = seen.result["denials"].as_array().expect("a list");
    let of = |denial: &Value, key: &str| denial[key].as_str().unwrap_or_default().to_owned();
    let told: Vec<_> = denials.iter().map(|denial| of(denial, "syscall") + " " + &of(denial, "errno")).collect();
    assert_eq!(told, ["unshare EPERM", "copy_file_range ENOSYS"]);
    assert!(of(&denials[0], "why").contains("namespaces"), "{denials:?}");
    assert!(of(&denials[1], "next").starts_with("--policy build"), "{denials:?}");
    Verdict::Proved
}

fn who_tries_every_number_is_refused_every_time_and_fills_no_result() -> Verdict {
    let numbers: Vec<String> = (500..900).map(|number| format!("n{number}={number}:")).collect();
    let volume = format!("{}:/probe", stage().place.path().join("probe").display());
    let script =
        format!("for i in 1 2 3 4; do {PROBE} calls {} > /tmp/$i & done; wait; cat /tmp/1 /tmp/4", numbers.join(" "));
    let seen = stage().shell(&["-v", &volume], &script).expect(0);
    let lines = seen.lines();
    assert_eq!(lines.len(), 2 * numbers.len());
    assert!(lines.iter().all(|(_, line)| line["errno"] == ENOSYS), "{lines:?}");
    assert_eq!(seen.result["denials"].as_array().map(Vec::len), Some(64));
    Verdict::Proved
}
