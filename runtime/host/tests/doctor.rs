//! Each need taken away in turn: its own row says so, with its level and a fix, and no other way of asking is needed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use remand_host::{Host, Level, Prober, Row, probe_all, probe_one};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

const DOCTOR: &str = env!("CARGO_BIN_EXE_remand-doctor");

fn doctor() -> Prober {
    // Beside the test where it was copied to another machine.
    let beside = std::env::current_exe().unwrap().with_file_name("remand-doctor");
    let program = if beside.exists() { beside } else { DOCTOR.into() };
    Prober { program, ..Prober::default() }
}

fn host() -> Host {
    Host { prober: doctor(), ..Host::default() }
}

fn ask(host: &Host, need: &str) -> Row {
    probe_one(host, need).unwrap_or_else(|| panic!("no need {need}"))
}

fn assert_fails(row: &Row, level: Level) {
    assert_eq!(row.level, level, "{row:?}");
    assert!(!row.effect.is_empty() && !row.fix.is_empty() && !row.found.is_empty(), "{row:?}");
}

fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {what} needs root");
    }
    root
}

/// A host whose files are these and nothing else.
fn with_files(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host { root: root.path().to_owned(), ..host() };
    (root, host)
}

/// A prober whose probes run without something: this test's own binary takes it away and becomes the doctor.
fn without(what: &str) -> Host {
    let arguments = ["--exact", "--nocapture", "--test-threads=1", "becomes_the_doctor_without", what];
    let arguments = arguments.into_iter().map(OsString::from).collect();
    Host { prober: Prober { program: std::env::current_exe().unwrap(), arguments }, ..Host::default() }
}

#[test]
fn becomes_the_doctor_without() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == "becomes_the_doctor_without") else { return };
    let [what, need] = &arguments[at + 1..] else { return };
    match what.as_str() {
        "capabilities" => caps::drop(None, caps::CapSet::Bounding, caps::Capability::CAP_SYS_ADMIN).unwrap(),
        "groups" => hide_groups(),
        "net namespaces" => forbid_net_namespaces(need),
        name => refuse(call(name)),
    }
    let error = Command::new(doctor().program).args(["--probe", need]).exec();
    panic!("{error}");
}

fn call(name: &str) -> i64 {
    match name {
        "landlock_create_ruleset" => libc::SYS_landlock_create_ruleset,
        "seccomp" => libc::SYS_seccomp,
        "unshare" => libc::SYS_unshare,
        "fsopen" => libc::SYS_fsopen,
        "pidfd_open" => libc::SYS_pidfd_open,
        "memfd_create" => libc::SYS_memfd_create,
        other => panic!("{other}"),
    }
}

fn refuse(call: i64) {
    let answer = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new([(call, vec![])].into(), SeccompAction::Allow, answer, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

fn hide_groups() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("none", "/sys/fs/cgroup", "tmpfs", MountFlags::RDONLY, None).unwrap();
}

/// Only a process with one thread may enter a new user namespace, which no test is: the shell's tool does it.
fn forbid_net_namespaces(need: &str) {
    let script = "echo 0 >/proc/sys/user/max_net_namespaces && exec \"$0\" --probe \"$1\"";
    let error = Command::new("unshare").args(["-U", "-r", "sh", "-c", script]).arg(doctor().program).arg(need).exec();
    panic!("{error}");
}

#[test]
fn every_unmet_need_of_this_host_comes_with_its_effect_and_its_fix() {
    let report = probe_all(&host());
    assert!(report.rows.len() > 30);
    for row in &report.rows {
        assert!(!row.found.is_empty(), "{row:?}");
        if row.level != Level::Ok {
            assert_fails(row, row.level);
        }
    }
}

#[test]
fn a_refused_call_fails_the_row_that_needs_it_and_only_that() {
    let matrix = [
        ("landlock_create_ruleset", "landlock", "seccomp"),
        ("seccomp", "seccomp", "pidfd"),
        ("unshare", "namespace.user", "landlock"),
        ("fsopen", "mount.calls", "namespace.mount"),
        ("pidfd_open", "pidfd", "memfd"),
        ("memfd_create", "memfd", "pidfd"),
    ];
    for (call, lost, kept) in matrix {
        let host = without(call);
        assert_fails(&ask(&host, lost), Level::Unusable);
        assert_ne!(ask(&host, kept).level, Level::Unusable, "{kept} without {call}");
    }
}

#[test]
fn lost_capabilities_are_named() {
    if !is_root("dropping capabilities") {
        return;
    }
    let row = ask(&without("capabilities"), "capabilities");
    assert_fails(&row, Level::Unusable);
    assert!(row.found.contains("CAP_SYS_ADMIN") && row.fix.contains("SYS_ADMIN"), "{row:?}");
}

#[test]
fn hidden_control_groups_fail_their_rows_with_the_path() {
    if !is_root("hiding control groups") {
        return;
    }
    for need in ["cgroup.limits", "cgroup.enter"] {
        let row = ask(&without("groups"), need);
        assert_fails(&row, Level::Unusable);
        assert!(row.found.contains("/sys/fs/cgroup"), "{row:?}");
    }
}

#[test]
fn a_kind_of_namespace_that_is_used_up_fails_its_own_row() {
    if !is_root("limiting namespaces") {
        return;
    }
    let host = without("net namespaces");
    let net = ask(&host, "namespace.net");
    assert_fails(&net, Level::Unusable);
    assert!(net.found.contains("ENOSPC"), "{net:?}");
    assert_eq!(ask(&host, "namespace.uts").level, Level::Ok);
}

#[test]
fn a_probe_that_dies_or_cannot_start_is_a_finding() {
    for program in ["/bin/false", "/nonexistent"] {
        let prober = Prober { program: program.into(), arguments: vec![] };
        let row = ask(&Host { prober, ..Host::default() }, "seccomp");
        assert_fails(&row, Level::Unusable);
        assert!(row.found.contains("probe"), "{row:?}");
    }
}

#[test]
fn old_kernels_are_degraded_and_older_ones_unusable() {
    for (release, level) in
        [("6.1.0-18-amd64", Level::Ok), ("5.15.0-100-generic", Level::Degraded), ("4.19.0", Level::Unusable)]
    {
        let (_root, host) = with_files(&[("proc/sys/kernel/osrelease", release)]);
        assert_eq!(ask(&host, "kernel").level, level, "{release}");
    }
    assert_fails(&ask(&with_files(&[]).1, "kernel"), Level::Unusable);
}

#[test]
fn a_namespace_limit_of_zero_is_fixed_by_its_own_sysctl() {
    let (_root, host) =
        with_files(&[("proc/sys/user/max_net_namespaces", "0\n"), ("proc/sys/user/max_user_namespaces", "100\n")]);
    let row = ask(&host, "namespace.limits");
    assert_fails(&row, Level::Unusable);
    assert_eq!(row.fix, "sysctl -w user.max_net_namespaces=65536");
}

#[test]
fn missing_kernel_features_fail_their_rows() {
    let (_root, host) =
        with_files(&[("proc/sys/kernel/seccomp/actions_avail", "kill_thread trap errno trace allow\n")]);
    let actions = ask(&host, "seccomp.actions");
    assert_fails(&actions, Level::Unusable);
    assert_eq!(actions.found, "no kill_process");
    assert_fails(&ask(&host, "seccomp.notify"), Level::Degraded);
    let pressure = ask(&host, "pressure");
    assert_fails(&pressure, Level::Degraded);
    assert!(pressure.fix.contains("psi=1"));
    assert_fails(&ask(&host, "mount.idmapped"), Level::Degraded);
}

#[test]
fn a_filter_on_this_process_puts_clone3_in_doubt() {
    let (_root, host) = with_files(&[("proc/self/status", "Name:\tx\nSeccomp:\t2\n")]);
    assert_fails(&ask(&host, "clone3"), Level::Degraded);
    let (_root, host) = with_files(&[("proc/self/status", "Name:\tx\nSeccomp:\t0\n")]);
    assert_eq!(ask(&host, "clone3").level, Level::Ok);
}

#[test]
fn a_missing_user_is_made_by_the_command_in_its_fix() {
    let (_root, host) = with_files(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\nremandx:x:5:5:::\n")]);
    let row = ask(&host, "user");
    assert_fails(&row, Level::Degraded);
    assert!(row.fix.starts_with("useradd --system") && row.fix.ends_with(" remand"), "{row:?}");
    let (_root, host) = with_files(&[("etc/passwd", "remand:x:998:998::/:/usr/sbin/nologin\n")]);
    assert_eq!(ask(&host, "user").found, "remand, uid 998");
}

#[test]
fn containers_are_told_from_machines_booted_from_their_images() {
    let disk = "22 1 254:0 / / rw - ext4 /dev/vda rw\n";
    let layer = "22 1 0:40 / / rw - overlay overlay rw\n";
    let whole = "         0          0 4294967295\n";
    let cases = [
        (vec![("proc/self/mountinfo", layer), (".dockerenv", "")], Level::Degraded),
        (vec![("proc/self/mountinfo", disk), (".dockerenv", "")], Level::Ok),
        (vec![("run/systemd/container", "lxc\n")], Level::Degraded),
        (vec![("proc/self/uid_map", "0 100000 65536\n")], Level::Degraded),
        (vec![("proc/self/uid_map", whole)], Level::Ok),
    ];
    for (files, level) in cases {
        let (_root, host) = with_files(&files);
        assert_eq!(ask(&host, "container").level, level, "{files:?}");
    }
}

#[test]
fn a_state_folder_that_is_not_there_yet_is_judged_by_the_disk_above_it() {
    let there = std::env::temp_dir().join("not/yet/there");
    let row = ask(&Host { state: there, ..host() }, "space");
    assert!(row.found.contains("MiB free in "), "{row:?}");
}

#[test]
fn the_program_exits_with_the_worst_level_and_prints_json() {
    let output = Command::new(doctor().program).arg("--json").output().unwrap();
    let report: remand_host::Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(report.exit_code())));
    assert_eq!(report.protocol_version, "1.0");
    assert!(Path::new("/proc/self").exists() && report.row("namespace.user").is_some());
}

#[test]
fn an_unknown_probe_is_refused() {
    let status = Command::new(doctor().program).args(["--probe", "no such"]).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
