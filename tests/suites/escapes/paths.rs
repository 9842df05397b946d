//! Ways out through the file system: programs of ours, descriptors, links, roots that change under the mounts.

use remand_tests::cases;
use remand_tests::stage::{Seen, known, stage};
use remand_tests::suite::{Case, Verdict};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub const CASES: &[Case] = cases![
    our_programs_cannot_be_overwritten_from_inside,
    no_folder_or_descriptor_leads_out,
    a_hostile_root_redirects_no_mount,
    a_volume_whose_target_has_a_link_in_it_is_refused,
    a_root_that_changes_all_the_time_lets_nobody_out,
    a_procfs_is_a_procfs_even_in_a_hostile_root,
    no_control_group_can_be_reached,
    a_folder_that_was_replaced_is_shown_as_it_is_now,
    a_host_file_system_that_comes_and_goes_is_not_held,
    a_request_that_fails_leaves_the_spawner_whole,
];

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn our_programs_cannot_be_overwritten_from_inside() -> Verdict {
    let before = fs::read(stage().place.binary("remand-shim")).expect("it is built");
    let script = "for e in /proc/1/exe /proc/self/exe /proc/$$/exe /proc/1/map_files/* /proc/1/fd/*; do (echo evil >$e) 2>/dev/null && echo wrote $e; done; \
        cp /bin/sh /tmp/sh; exec /tmp/sh -c '(echo evil >/proc/self/exe) && echo wrote own; (echo evil >/proc/$PPID/exe) && echo wrote parent'";
    let seen = stage().shell(&[], script);
    assert_eq!(seen.text(), "", "{}", seen.finished.complaint());
    assert!(fs::read(stage().place.binary("remand-shim")).expect("it is built") == before);
    assert_eq!(stage().run(&["--", "echo", "next"]).expect(0).text(), "next\n");
    Verdict::Proved
}

fn no_folder_or_descriptor_leads_out() -> Verdict {
    let script = "cd ../../../../../../..; pwd; ls -d root var boot 2>/dev/null; for d in /proc/self /proc/1; do \
        ls -d $d/cwd/../../../* $d/root/../../* 2>/dev/null; done | sed 's#.*/##' | sort -u | tr '\\n' ' '; \
        for i in 3 4 5 6 7 8 9 10 20 30 64 65 66 67 68 69 70; do [ -e /proc/self/fd/$i ] && readlink /proc/self/fd/$i; done";
    let seen = stage().shell(&[], script);
    let shown = seen.text();
    assert!(shown.starts_with("/\n"), "{shown}");
    for word in ["var", "root", "boot", "/tmp/", "memfd", "socket"] {
        assert!(!shown.split_whitespace().any(|name| name.contains(word)), "{word} in {shown}");
    }
    Verdict::Proved
}

/// A root with the probe and a shell in it.
fn root() -> std::path::PathBuf {
    let folder = stage().folder();
    fs::create_dir(folder.join("bin")).expect("ours");
    fs::copy(stage().place.path().join("probe/probe"), folder.join("bin/probe")).expect("ours");
    folder
}

fn in_root(root: &Path, flags: &[&str]) -> Seen {
    stage().run(&[&["--rootfs", text(root)], flags, &["--", "/bin/probe", "write", "/"]].concat())
}

fn a_hostile_root_redirects_no_mount() -> Verdict {
    for place in ["proc", "dev", "tmp", "out", "work", "home", "sys", ".scratch", "etc"] {
        for target in ["/", "..", "/tmp", "../../../../../../tmp", "bin", "/proc/self/root"] {
            let folder = root();
            symlink(target, folder.join(place)).expect("ours");
            let seen = in_root(&folder, &[]);
            assert!([0, 125].contains(&seen.finished.code()), "{place} -> {target}: {}", seen.finished.complaint());
            let writable = seen.text();
            assert!(!writable.contains("/bin"), "{place} -> {target}: {writable}");
            // Neither is the host's folder covered by a box's, nor has the probe written into it.
            let host = fs::read_to_string("/proc/self/mountinfo").expect("our own mounts");
            assert!(!host.lines().any(|line| line.contains(" - tmpfs scratch ")), "{place} -> {target}: {host}");
            assert!(!Path::new("/tmp/.probe").exists(), "{place} -> {target}: written through");
        }
    }
    Verdict::Proved
}

fn a_volume_whose_target_has_a_link_in_it_is_refused() -> Verdict {
    let (folder, shown, elsewhere) = (root(), stage().folder(), stage().folder());
    for (name, target) in
        [("up", "../../../.."), ("abs", text(&elsewhere)), ("proc-link", "/proc/self/cwd"), ("self", "bin")]
    {
        fs::create_dir_all(folder.join("etc")).expect("ours");
        symlink(target, folder.join("etc").join(name)).expect("ours");
        let volume = format!("{}:/etc/{name}/x:rw", text(&shown));
        let seen = in_root(&folder, &["-v", &volume]).expect(125);
        assert!(seen.finished.complaint().contains("link"), "{}", seen.finished.complaint());
    }
    assert_eq!(fs::read_dir(&elsewhere).expect("ours").count(), 0, "a mount point was made outside");
    Verdict::Proved
}

fn a_root_that_changes_all_the_time_lets_nobody_out() -> Verdict {
    let (folder, stop) = (root(), AtomicBool::new(false));
    fs::create_dir(folder.join("etc")).expect("ours");
    let volume = format!("{}:/etc/inner/x", text(&stage().folder()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = folder.join("etc/inner");
            while !stop.load(Ordering::Relaxed) {
                // Either may find the other's state; what counts is that the swap goes on.
                drop((fs::create_dir_all(path.join("x")), fs::remove_dir_all(&path)));
                drop((symlink("/", &path), fs::remove_file(&path)));
            }
        });
        for _ in 0..25 {
            let seen = in_root(&folder, &["-v", &volume]);
            assert!([0, 125].contains(&seen.finished.code()), "{}", seen.finished.complaint());
            assert!(!seen.text().contains("\"/etc"), "{}", seen.text());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!Path::new("/x").exists());
    Verdict::Proved
}

fn a_procfs_is_a_procfs_even_in_a_hostile_root() -> Verdict {
    let folder = root();
    fs::create_dir_all(folder.join("proc/self")).expect("ours");
    fs::write(folder.join("proc/self/status"), "CapEff:\tffffffffffffffff\n").expect("ours");
    let seen = stage().run(&["--rootfs", text(&folder), "--", "/bin/probe", "self"]).expect(0);
    assert_eq!(seen.one("CapEff"), "0000000000000000");
    let volume = format!("{}:/proc", text(&folder.join("proc")));
    let covered = stage().run(&["-v", &volume, "--", "cat", "/proc/self/status"]);
    assert!(
        covered.finished.code() == 125 || covered.text().contains("CapEff:\t0000000000000000"),
        "{}",
        covered.text()
    );
    Verdict::Proved
}

fn no_control_group_can_be_reached() -> Verdict {
    let seen = stage()
        .probe(
            &[],
            &["calls", "v1=165:@c,@/tmp,@cgroup,0,@memory", "v2=165:@c,@/tmp,@cgroup2,0,0", "fsopen=430:@cgroup2,0"],
        )
        .expect(0);
    assert_eq!((seen.answer("v1"), seen.answer("v2"), seen.answer("fsopen")), (-1, -1, -38));
    let found = stage().shell(
        &[],
        "find / -xdev -name 'release_agent' -o -name 'cgroup.procs' -o -name notify_on_release 2>/dev/null",
    );
    assert_eq!(found.text(), "");
    Verdict::Proved
}

fn a_folder_that_was_replaced_is_shown_as_it_is_now() -> Verdict {
    let folder = root();
    let read = || stage().run(&["--rootfs", text(&folder), "--", "/bin/probe", "write", "/opt/new"]);
    fs::create_dir(folder.join("opt")).expect("ours");
    drop(read().expect(0));
    fs::remove_dir_all(folder.join("opt")).expect("ours");
    fs::create_dir_all(folder.join("opt/new")).expect("ours");
    assert!(read().expect(0).answer("tried") > 0, "the box was shown a folder that is not there any more");
    Verdict::Proved
}

fn a_host_file_system_that_comes_and_goes_is_not_held() -> Verdict {
    known(
        "mounts spread to the spawner only where the host's root is shared",
        try_a_host_file_system_that_comes_and_goes_is_not_held,
    )
}

fn try_a_host_file_system_that_comes_and_goes_is_not_held() -> Verdict {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let point = stage().folder();
    let made = mount(Some("come-and-go"), &point, Some("tmpfs"), MsFlags::empty(), Some("size=1m"));
    assert_eq!(made, Ok(()));
    fs::create_dir(point.join("v")).expect("ours");
    fs::write(point.join("v/here"), "here").expect("ours");
    let volume = format!("{}:/data", text(&point.join("v")));
    let seen = stage().run(&["-v", &volume, "--", "cat", "/data/here"]);
    let gone = umount2(&point, MntFlags::empty());
    assert_eq!(seen.expect(0).text(), "here");
    assert_eq!(gone, Ok(()));
    let spawners = stage().children();
    let held: Vec<u32> = spawners.into_iter().filter(|pid| mounts(*pid).contains("come-and-go")).collect();
    assert!(held.is_empty(), "the spawners {held:?} still hold it");
    Verdict::Proved
}

fn mounts(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default()
}

fn a_request_that_fails_leaves_the_spawner_whole() -> Verdict {
    let (shown, hostile) = (stage().folder(), root());
    fs::write(shown.join("here"), "here").expect("ours");
    symlink("/", hostile.join(".scratch")).expect("ours");
    let volume = format!("{}:/data", text(&shown));
    let works = || assert_eq!(stage().run(&["-v", &volume, "--", "cat", "/data/here"]).expect(0).text(), "here");
    works();
    drop(stage().run(&["--", "true"]).expect(0));
    works();
    drop(stage().run(&["--rootfs", text(&hostile), "--", "/bin/probe", "clocks"]));
    works();
    drop(stage().run(&["-v", &format!("{}:/proc/self", text(&shown)), "--", "true"]).expect(125));
    works();
    Verdict::Proved
}
