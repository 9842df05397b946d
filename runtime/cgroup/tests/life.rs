//! A cell's life: names, one use, the end of everything in it, and what a sweep finds of an earlier one.

mod kit;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::time::Duration;

use kit::{NOBODY, PATIENCE, end, ground, ground_for, roomy, start, wait_readable};
use remand_cgroup::{Base, CellLimits, CgroupError, Kill, Layout, LeftoverEnd, Signal, Tree, Version};

/// Starts a script and waits for its first line.
fn started(cell: &remand_cgroup::Cell, script: &str) -> Child {
    let mut child = start(cell, script);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

const STUBBORN: &str =
    "trap '' TERM INT HUP; (setsid sh -c 'sh -c \"echo ready; kill -STOP \\$\\$\" & sleep 1000') & sleep 1000";

#[test]
fn killing_ends_stopped_detached_and_deaf_processes_alike() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("stubborn", &roomy());
    let mut child = started(&cell, STUBBORN);
    assert!(cell.populated().unwrap());
    assert!(cell.pids().unwrap().len() >= 3);
    assert_eq!(cell.kill().unwrap(), Kill::Sent);
    cell.remove(PATIENCE).unwrap();
    child.wait().unwrap();
    assert!(!cell.populated().unwrap());
}

#[test]
fn a_living_cell_is_not_removed_and_the_error_names_its_processes() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("alive", &roomy());
    let mut child = started(&cell, "echo ready; exec sleep 1000");
    let pid = child.id().cast_signed();
    for wait in [Duration::ZERO, Duration::from_millis(5)] {
        let error = cell.remove(wait).unwrap_err();
        assert!(matches!(&error, CgroupError::Busy { pids, .. } if pids.contains(&pid)), "{error}");
    }
    end(&cell);
    child.wait().unwrap();
}

#[test]
fn removing_wakes_when_the_last_process_ends() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("ending", &roomy());
    let mut child = started(&cell, "echo ready; read line");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| cell.remove(PATIENCE));
        drop(child.stdin.take());
        waiter.join().unwrap().unwrap();
    });
    child.wait().unwrap();
    cell.remove(Duration::ZERO).unwrap();
}

#[test]
fn a_cells_name_is_used_once() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("once", &roomy());
    let again = ground.tree.cell(&ground.tenant, "once", &roomy()).unwrap_err();
    assert!(matches!(again, CgroupError::Exists { .. }), "{again}");
    assert!(cell.relative().ends_with("/t-acme/c-once"));
    end(&cell);
}

#[test]
fn names_that_could_leave_their_place_are_refused() {
    let Some(ground) = ground() else { return };
    for name in ["", ".", "..", "a/b", "../x", "A", "a\nb"] {
        let error = ground.tree.cell(&ground.tenant, name, &roomy()).unwrap_err();
        assert!(matches!(error, CgroupError::Name { .. }), "{name:?} {error}");
    }
    let layout = Layout::detect().unwrap();
    for name in ["", "tasks", "remand.x", "remand/x", "../remand", "cgroup.procs"] {
        assert!(matches!(Tree::prepare(&layout, name, 0, 0), Err(CgroupError::Name { .. })), "{name:?}");
    }
}

#[test]
fn names_of_kernel_files_are_as_good_as_any_other() {
    let Some(ground) = ground() else { return };
    let tenant = "memory.max".parse().unwrap();
    ground.tree.tenant(&tenant, &Default::default()).unwrap();
    let cell = ground.tree.cell(&tenant, "tasks", &roomy()).unwrap();
    end(&cell);
}

#[test]
fn a_cell_of_an_unknown_tenant_is_refused() {
    let Some(ground) = ground() else { return };
    let error = ground.tree.cell(&"nobody".parse().unwrap(), "x", &roomy()).unwrap_err();
    assert!(matches!(error, CgroupError::NoTenant { .. }), "{error}");
}

#[test]
fn a_sweep_ends_what_nobody_claims_and_a_dry_run_ends_nothing() {
    let Some(ground) = ground() else { return };
    let kept = ground.cell("kept", &roomy());
    let orphan = ground.cell("orphan", &roomy());
    let empty = ground.cell("empty", &roomy());
    let mut child = started(&orphan, STUBBORN);
    let keep = |name: &str| name == "kept";
    let dry = ground.tree.sweep(&keep, true).unwrap();
    assert_eq!(dry.iter().map(|left| left.cell.as_str()).collect::<Vec<_>>(), ["empty", "orphan"]);
    assert!(dry.iter().all(|left| left.end == LeftoverEnd::Found));
    assert!(orphan.populated().unwrap());
    let swept = ground.tree.sweep(&keep, false).unwrap();
    assert!(swept.iter().all(|left| left.end == LeftoverEnd::Removed), "{swept:?}");
    assert!(!swept[1].pids.is_empty());
    child.wait().unwrap();
    assert_eq!(ground.tree.cells(&ground.tenant).unwrap(), ["kept"]);
    assert!(ground.tree.find(&ground.tenant, "orphan").unwrap().is_none());
    assert!(ground.tree.find(&ground.tenant, "kept").unwrap().is_some());
    end(&kept);
    end(&empty);
}

#[test]
fn a_tree_with_living_cells_ends_as_a_whole() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("alive", &roomy());
    let mut child = started(&cell, STUBBORN);
    let path = kit::doors(&cell)[0].clone();
    drop(ground);
    child.wait().unwrap();
    assert!(!path.exists());
}

#[test]
fn an_unprivileged_daemon_builds_in_its_tree_and_cannot_widen_it() {
    let Some(ground) = ground_for(NOBODY) else { return };
    let mut command = kit::own_command("unprivileged");
    command.env("REMAND_TEST_TREE", ground.tree.name()).uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("\nbuilt and refused\n"), "{output:?}");
}

#[test]
fn preparing_again_keeps_what_is_there() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("kept", &roomy());
    let layout = Layout::detect().unwrap();
    Tree::prepare(&layout, ground.tree.name(), 0, 0).unwrap();
    assert!(ground.tree.find(&ground.tenant, "kept").unwrap().is_some());
    end(&cell);
}

#[test]
fn an_empty_cell_wakes_its_watch() {
    let Some(ground) = ground() else { return };
    if Layout::detect().unwrap().unified().is_none() {
        return kit::skip("no version 2 hierarchy").unwrap_or(());
    }
    let cell = ground.cell("watched", &roomy());
    let watch = cell.watch().unwrap();
    assert!(watch.take().unwrap().is_empty());
    let mut child = started(&cell, "echo ready; read line");
    wait_readable(&watch);
    assert!(watch.take().unwrap().contains(&Signal::Populated(true)));
    drop(child.stdin.take());
    wait_readable(&watch);
    assert!(watch.take().unwrap().contains(&Signal::Populated(false)));
    assert!(watch.take().unwrap().is_empty());
    child.wait().unwrap();
    end(&cell);
}

#[test]
#[expect(
    deprecated,
    reason = "the replacement is an unsafe function; a Watch owns its descriptor and never changes it"
)]
fn out_of_memory_wakes_an_async_watch() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("hog", &CellLimits { memory_bytes_max: 32 << 20, ..roomy() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let watch =
            tokio::io::unix::AsyncFd::with_interest(cell.watch().unwrap(), tokio::io::Interest::READABLE).unwrap();
        let mut child = start(&cell, &format!("{}; echo ended; read line", kit::payload_command("memory")));
        let seen = async {
            loop {
                let mut ready = watch.readable().await.unwrap();
                let signals = watch.get_ref().take().unwrap();
                ready.clear_ready();
                if signals.contains(&Signal::OutOfMemory) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("a notification of the kill");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let shell_survives = lines.any(|line| line == "ended");
        let one_fate = cell.enforced().iter().any(|row| row.name == "memory_oom_group");
        assert_ne!(shell_survives, one_fate);
        assert!(cell.events().unwrap().oom_kills > 0);
        assert_eq!(cell.kill().unwrap(), Kill::Sent);
        child.wait().unwrap();
    });
    end(&cell);
}

#[test]
fn without_version_2_the_caller_kills_and_removal_waits_for_each_process() {
    let Some(ground) = ground() else { return };
    let mut layout = Layout::detect().unwrap();
    layout.hierarchies.retain(|hierarchy| hierarchy.version == Version::V1);
    if layout.home("memory").is_none() {
        return kit::skip("no version 1 controllers").unwrap_or(());
    }
    let legacy = Tree::open(&layout, ground.tree.name()).unwrap();
    let cell = legacy.cell(&ground.tenant, "legacy", &roomy()).unwrap();
    let mut child = started(&cell, "echo ready; read line");
    assert!(cell.populated().unwrap());
    assert_eq!(cell.kill().unwrap(), Kill::ByCaller(vec![child.id().cast_signed()]));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| cell.remove(PATIENCE));
        child.kill().unwrap();
        child.wait().unwrap();
        waiter.join().unwrap().unwrap();
    });
}

#[test]
fn a_host_without_a_controller_is_refused_by_the_controllers_name() {
    let mut layout = Layout::detect().unwrap();
    for hierarchy in &mut layout.hierarchies {
        hierarchy.controllers.retain(|name| name != "memory");
    }
    let error = Tree::prepare(&layout, "remand-test-never", 0, 0).unwrap_err();
    assert!(matches!(error, CgroupError::MissingController { controller: "memory", .. }), "{error}");
}

#[test]
fn groups_made_below_a_cell_end_with_it() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("deep", &roomy());
    for hierarchy in cell.hierarchies() {
        std::fs::create_dir_all(hierarchy.root.join(cell.relative()).join("a/b/c")).unwrap();
    }
    let unified = cell.hierarchies().into_iter().find(|hierarchy| hierarchy.version == Version::V2);
    if let Some(unified) = unified {
        let below = unified.root.join(cell.relative()).join("a/b/c/cgroup.procs");
        let mut child = start(&cell, &format!("echo $$ > {}; echo ready; read line", below.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(cell.pids().unwrap(), [child.id().cast_signed()]);
        assert_eq!(cell.kill().unwrap(), Kill::Sent);
        child.wait().unwrap();
    }
    cell.remove(PATIENCE).unwrap();
    assert!(ground.tree.find(&ground.tenant, "deep").unwrap().is_none());
}

#[test]
fn a_torn_tree_of_a_dead_daemon_is_discarded() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("orphan", &roomy());
    let mut child = started(&cell, STUBBORN);
    let layout = Layout::detect().unwrap();
    // A tenant without cells stands in for what the dead daemon had begun to remove: its folder is in one place only.
    let place = &cell.hierarchies()[0];
    std::fs::create_dir(place.root.join(ground.tree.name()).join("t-torn")).unwrap();
    let left = Tree::discard(&layout, ground.tree.name()).unwrap();
    child.wait().unwrap();
    let kind = layout.unified().map(|unified| unified.kind);
    assert!(left.is_empty() || kind.is_some_and(|kind| kind != Base::Root), "{left:?}");
    assert_eq!(Tree::discard(&layout, ground.tree.name()).unwrap(), left);
}
