//! Who a job is: nobody on the host, without any right, in namespaces that nobody else is in.

use remand_tests::cases;
use remand_tests::stage::{Seen, stage, status};
use remand_tests::suite::{Case, Verdict};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub const CASES: &[Case] = cases![
    no_process_of_a_box_has_an_id_of_the_host,
    two_boxes_at_once_share_no_id,
    a_range_of_ids_is_not_given_again_at_once,
    all_five_capability_sets_are_empty_and_stay_so,
    no_privilege_can_come_back,
    every_namespace_is_the_boxs_own,
    two_boxes_share_no_namespace,
    the_host_has_another_name_and_other_clocks,
];

const READY: &str = "echo ready; read line; exit 0";
const RANGE: u32 = 1 << 16;

fn me() -> Seen {
    stage().probe(&[], &["self"]).expect(0)
}

fn host_ids(pid: u32) -> BTreeSet<u32> {
    let of = |key| status(pid, key).unwrap_or_default();
    let words = format!("{} {} {}", of("Uid"), of("Gid"), of("Groups"));
    words.split_whitespace().map(|word| word.parse().expect("an id")).collect()
}

fn no_process_of_a_box_has_an_id_of_the_host() -> Verdict {
    let live = stage().live(&[], READY);
    let processes = live.processes();
    assert_eq!(processes.len(), 2, "the keeper and the shell");
    for pid in processes {
        let ids = host_ids(pid);
        assert!(ids.iter().all(|id| *id >= 1 << 30), "{ids:?}");
        let range = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it lives");
        let numbers: Vec<u32> = range.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert!(numbers.len() == 3 && numbers[0] == 0 && numbers[2] <= RANGE, "{numbers:?}");
        assert!(ids.iter().all(|id| (numbers[1]..numbers[1] + RANGE).contains(id)), "{ids:?} of {numbers:?}");
    }
    assert_eq!(live.end(), 0);
    Verdict::Proved
}

fn range_of(pid: u32) -> u32 {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it lives");
    map.split_whitespace().nth(1).expect("a map").parse().expect("a number")
}

fn two_boxes_at_once_share_no_id() -> Verdict {
    let (one, two) = (stage().live(&[], READY), stage().live(&[], READY));
    let ranges: BTreeSet<u32> = one.processes().into_iter().map(range_of).collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges.iter().all(|first| first % RANGE == 0), "ranges that overlap: {ranges:?}");
    assert_eq!((one.end(), two.end()), (0, 0));
    Verdict::Proved
}

fn a_range_of_ids_is_not_given_again_at_once() -> Verdict {
    let first = || stage().run(&["--", "true"]).expect(0).number("/enforced/ids_first");
    let ranges: Vec<u64> = (0..4).map(|_| first()).collect();
    assert_eq!(ranges.iter().collect::<BTreeSet<_>>().len(), 4, "{ranges:?}");
    Verdict::Proved
}

fn all_five_capability_sets_are_empty_and_stay_so() -> Verdict {
    let me = me();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(me.one(set), "0000000000000000", "{set}");
    }
    assert_eq!(me.fact("capabilities"), 0);
    // A set-id program of the host's gives nothing either.
    let seen = stage().shell(&[], "for f in /usr/bin/su /usr/bin/mount /usr/bin/passwd; do [ -u $f ] && $f --help >/dev/null; done; grep CapEff /proc/self/status; id -u").expect(0);
    assert_eq!(seen.text(), "CapEff:\t0000000000000000\n1000\n");
    Verdict::Proved
}

fn no_privilege_can_come_back() -> Verdict {
    let me = me();
    assert_eq!((me.one("NoNewPrivs").as_str(), me.one("Seccomp").as_str()), ("1", "2"));
    assert_eq!(
        (me.one("Uid"), me.one("Gid")),
        ("1000\t1000\t1000\t1000".to_owned(), "1000\t1000\t1000\t1000".to_owned())
    );
    assert_eq!(me.one("Groups"), "");
    const LOCKED: u64 = 0b1110_1111;
    assert_eq!(me.fact("securebits"), LOCKED, "noroot, no set-id fix-up, no ambient raise; all locked");
    let tries = ["setuid=105:0", "setgid=106:0", "setresuid=117:0,0,0", "setgroups=116:1,@", "capset=126:@,@"];
    let seen = stage().probe(&[], &[&["calls"], &tries[..]].concat()).expect(0);
    for name in ["setuid", "setgid", "setresuid", "setgroups", "capset"] {
        assert_eq!(seen.answer(name), -1, "{name}");
    }
    Verdict::Proved
}

const SPACES: [(&str, &str); 8] = [
    ("user", "user_namespace"),
    ("pid", "pid_namespace"),
    ("mnt", "mount_namespace"),
    ("net", "net_namespace"),
    ("ipc", "ipc_namespace"),
    ("uts", "uts_namespace"),
    ("cgroup", "cgroup_namespace"),
    ("time", "time_namespace"),
];

fn every_namespace_is_the_boxs_own() -> Verdict {
    let me = me();
    for (name, fact) in SPACES {
        let hosts = fs::metadata(format!("/proc/self/ns/{name}")).expect("this kernel has it").ino();
        assert_ne!(me.fact(fact), hosts, "{name} is the host's");
        assert_eq!(me.one(&format!("/proc/self/ns/{name}")), format!("{name}:[{}]", me.fact(fact)));
    }
    Verdict::Proved
}

fn two_boxes_share_no_namespace() -> Verdict {
    let (one, two) = (stage().live(&[], READY), stage().live(&[], READY));
    for (name, _) in SPACES {
        let of = |pid: u32| fs::metadata(format!("/proc/{pid}/ns/{name}")).expect("it lives").ino();
        let programs: BTreeSet<u64> = one.processes().into_iter().map(of).collect();
        // The keeper stays in the clocks that its own child left.
        assert!(programs.len() == 2 || name == "time" && programs.len() == 3, "{name}: {programs:?}");
    }
    assert_eq!((one.end(), two.end()), (0, 0));
    Verdict::Proved
}

fn the_host_has_another_name_and_other_clocks() -> Verdict {
    let hosts = fs::read_to_string("/proc/sys/kernel/hostname").expect("proc is mounted");
    let seen = stage().shell(&[], "uname -n; hostname; cat /etc/hostname").expect(0);
    assert_eq!(seen.text(), "box\nbox\nbox\n");
    assert_ne!(hosts.trim(), "box");
    let clocks = stage().probe(&[], &["clocks"]).expect(0);
    assert!(clocks.answer("monotonic") < 60 && clocks.answer("boottime") < 60, "{}", clocks.text());
    Verdict::Proved
}
