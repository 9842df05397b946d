//! What a job, and another user of the host, must not learn or reach.

use remand_tests::cases;
use remand_tests::kit::{PATIENCE, Place, Traces, finish, wait_readable};
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

pub const CASES: &[Case] = cases![
    the_host_tells_nothing_through_proc_and_calls,
    the_mount_table_names_no_host_path_that_was_not_asked_for,
    the_daemons_socket_is_not_inside,
    another_user_of_the_host_gets_nothing,
    none_of_our_programs_is_set_id,
    the_daemon_serves_without_any_right,
    a_callers_descriptors_reach_neither_the_daemon_nor_its_programs,
];

fn the_host_tells_nothing_through_proc_and_calls() -> Verdict {
    let script = "for f in /proc/sys/kernel/random/boot_id /proc/meminfo /proc/uptime /proc/loadavg /proc/cpuinfo /proc/cmdline \
        /proc/version /proc/kallsyms /proc/modules /proc/interrupts /proc/diskstats /proc/partitions /proc/keys /proc/kmsg /dev/kmsg \
        /proc/stat /proc/swaps /proc/mounts/../../sys /proc/sysrq-trigger /proc/kcore /proc/config.gz /proc/sys /proc/fs /proc/bus \
        /proc/irq /proc/scsi /proc/acpi /proc/timer_list /sys/class /etc/machine-id /etc/shadow /var/log /run/systemd; do \
        [ -e $f ] && echo there $f; done; dmesg && echo dmesg; cat /proc/self/cgroup";
    let seen = stage().shell(&[], script);
    let lines: Vec<String> = seen.text().lines().map(str::to_owned).collect();
    let allowed = |line: &String| line.ends_with(":/") && line.contains(':');
    let told: Vec<&String> = lines.iter().filter(|line| !allowed(line) && !line.contains("/proc/mounts")).collect();
    assert!(told.is_empty(), "{told:?}");
    let calls = stage().probe(&[], &["calls", "sysinfo=99:@", "syslog=103:3,@,4096"]).expect(0);
    assert_eq!((calls.answer("sysinfo"), calls.answer("syslog")), (-38, -1));
    Verdict::Proved
}

fn the_mount_table_names_no_host_path_that_was_not_asked_for() -> Verdict {
    let seen = stage().shell(&[], "cat /proc/self/mountinfo /proc/self/mounts /proc/1/mountinfo").expect(0);
    let text = seen.text();
    let place = stage().place.path().display().to_string();
    for word in [place.as_str(), "/var/", "/root", "/home/", "/tmp/", "cgroup", "remand-place"] {
        let found: Vec<&str> =
            text.lines().filter(|line| line.contains(word) && !line.contains(" /home/user ")).collect();
        assert!(found.is_empty(), "{word}: {found:?}");
    }
    Verdict::Proved
}

fn the_daemons_socket_is_not_inside() -> Verdict {
    let socket = stage().place.socket();
    let script = format!("[ -e {0} ] && echo there; ls /run /tmp; find / -xdev -type s", socket.display());
    let seen = stage().shell(&[], &script);
    assert_eq!(seen.text().replace("/tmp:\n", ""), "", "{}", seen.text());
    Verdict::Proved
}

fn another_user_of_the_host_gets_nothing() -> Verdict {
    let nobody = |command: &mut Command| {
        command.uid(65534).gid(65534);
        finish(command, b"", PATIENCE)
    };
    let binaries = stage().place.path().join("binaries");
    fs::create_dir(&binaries).expect("our own folder");
    for name in ["remand", "remandd", "remand-spawner", "remand-shim"] {
        fs::copy(stage().place.binary(name), binaries.join(name)).expect("our own folder");
    }
    let mut command = Command::new(binaries.join("remand"));
    command.args(["run", "--", "echo", "RAN"]).env("REMAND_SOCKET", stage().place.socket());
    command
        .env("REMAND_STATE", stage().place.state())
        .env("REMAND_RUN", stage().place.run_folder())
        .env("REMAND_BIN_DIR", &binaries);
    let done = nobody(&mut command);
    assert_eq!((done.code(), done.text().as_str()), (125, ""), "{}", done.complaint());
    for name in ["ledger", "blobs", "scratch", "keys"] {
        let mut command = Command::new("/bin/ls");
        let listed = nobody(command.arg(stage().place.state().join(name)));
        assert_ne!(listed.code(), 0, "{name} can be listed by everybody: {}", listed.text());
    }
    let estate = fs::metadata(stage().place.run_folder().join("estate")).expect("it is there");
    assert_eq!((estate.uid(), estate.mode() & 0o022), (0, 0));
    Verdict::Proved
}

fn none_of_our_programs_is_set_id() -> Verdict {
    for name in ["remand", "remandd", "remand-spawner", "remand-shim"] {
        let mode = fs::metadata(stage().place.binary(name)).expect("it is built").permissions().mode();
        assert_eq!(mode & 0o6022, 0, "{name} has mode {mode:o}");
    }
    Verdict::Proved
}

fn the_daemon_serves_without_any_right() -> Verdict {
    let of = |key| remand_tests::stage::status(stage().daemon(), key).expect("it lives");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of(set), "0000000000000000", "{set}");
    }
    assert!(of("Uid").split_whitespace().all(|id| id != "0"), "{}", of("Uid"));
    assert_eq!((of("NoNewPrivs").as_str(), of("Groups").as_str()), ("1", ""));
    Verdict::Proved
}

fn a_callers_descriptors_reach_neither_the_daemon_nor_its_programs() -> Verdict {
    let place = Place::find().expect("the suite has one");
    let secret = place.path().join("secret");
    fs::write(&secret, "a caller's own").expect("our own folder");
    let remand = place.command(&["run", "-q", "--", "/bin/sh", "-c", "echo ready; read line; exit 0"]);
    // A careless shell: open for the command that it starts, and for all that this one starts.
    let script = format!("exec 7<{0} 9>>{0}; exec \"$0\" \"$@\"", secret.display());
    let mut careless = Command::new("/bin/sh");
    careless.args(["-c", &script]).arg(remand.get_program()).args(remand.get_args());
    careless.envs(remand.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = careless.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
    assert!(wait_readable(child.stdout.as_ref().expect("a pipe"), PATIENCE), "the program says nothing");
    let holds = |pid: &u32| {
        let listed = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        listed.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == secret)
    };
    let others = place.traces().processes.into_iter().filter(|pid| *pid != child.id());
    let (all, holders): (Vec<u32>, Vec<u32>) = others.partition(|pid| !holds(pid));
    let names: Vec<_> = all.iter().filter_map(|pid| remand_tests::stage::status(*pid, "Name")).collect();
    assert!(names.iter().any(|name| name == "remandd"), "{names:?} hold nothing of it, {holders:?} do");
    drop(child.stdin.take());
    assert!(child.wait().expect("our own child").success());
    assert!(holders.is_empty(), "{holders:?} hold a descriptor of the caller's");
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}
