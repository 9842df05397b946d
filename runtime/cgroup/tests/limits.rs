//! Every limit holds against a program that tries to break it, and the read-back says so before.

mod kit;

use std::io::Read;

use kit::{end, ground, roomy, start};
use remand_cgroup::{CellLimits, CgroupError, Enforced, TenantLimits};

fn found<'a>(rows: &'a [Enforced], name: &str) -> &'a str {
    &rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} in {rows:?}")).found
}

/// Allocates and touches memory in steps, saying how far it got.
const HOG: &str = "python3 -u -c '
x = []
for step in range(1, 1000):
    x.append(bytearray(4 << 20)); print(step * 4)
'; echo code $?";

#[test]
fn memory_stops_at_its_limit_and_the_kill_is_counted() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("hog", &CellLimits { memory_bytes_max: 64 << 20, ..roomy() });
    assert_eq!(found(cell.enforced(), "memory_bytes_max"), "67108864");
    let mut child = start(&cell, HOG);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    let reached: u64 = said.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0);
    assert!(reached < 64, "{said}");
    assert!(cell.events().unwrap().oom_kills >= 1);
    let usage = cell.usage().unwrap();
    assert!(usage.memory_peak_bytes.is_none_or(|peak| peak <= 64 << 20), "{usage:?}");
    end(&cell);
}

#[test]
fn files_in_shared_memory_count_as_memory() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("shm", &CellLimits { memory_bytes_max: 32 << 20, ..roomy() });
    let script = "python3 -c '
import os
fd = os.memfd_create(\"hog\")
for _ in range(64): os.write(fd, bytes(1 << 20))
'; echo code $?";
    let mut child = start(&cell, script);
    child.wait().unwrap();
    assert!(cell.events().unwrap().oom_kills >= 1);
    end(&cell);
}

#[test]
fn a_fork_bomb_stays_inside_its_number_of_processes() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("bomb", &CellLimits { pids_max: 20, ..roomy() });
    assert_eq!(found(cell.enforced(), "pids_max"), "20");
    let watch = cell.watch().unwrap();
    // Each process sleeps after its forks, so that the cell fills up and stays full; the bomb is bounded by itself too.
    let mut child = start(
        &cell,
        "python3 -c '
import os, signal
for _ in range(100):
    try:
        if os.fork() == 0: signal.pause()
    except BlockingIOError: pass
signal.pause()
'",
    );
    while cell.events().unwrap().pids_max_hits == 0 {
        kit::wait_readable(&watch);
        watch.take().unwrap();
    }
    let usage = cell.usage().unwrap();
    assert!(usage.pids <= 20 && usage.pids_peak.is_none_or(|peak| peak <= 20), "{usage:?}");
    end(&cell);
    child.wait().unwrap();
}

#[test]
fn a_processor_hog_gets_its_share_and_no_more() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("share", &CellLimits { cpu_millis_max: 200, ..roomy() });
    let mut child = start(
        &cell,
        "exec python3 -c '
import os, time
busy = time.monotonic() + 2
while time.monotonic() < busy: pass
'",
    );
    let began = std::time::Instant::now();
    child.wait().unwrap();
    let wall = began.elapsed().as_secs_f64();
    let usage = cell.usage().unwrap();
    let share = (usage.cpu_user_us + usage.cpu_system_us) as f64 / 1e6 / wall;
    assert!(share < 0.25, "share {share} of {usage:?}");
    assert!(usage.throttled_periods > 0 && usage.throttled_us > 0, "{usage:?}");
    end(&cell);
}

#[test]
fn a_cell_can_be_kept_to_one_processor() {
    let Some(ground) = ground() else { return };
    let limits = CellLimits { cpuset: Some("0".into()), ..roomy() };
    let cell = match ground.tree.cell(&ground.tenant, "pinned", &limits) {
        Ok(cell) => cell,
        Err(CgroupError::MissingController { .. }) => return kit::skip("no cpuset controller").unwrap_or(()),
        Err(error) => panic!("{error}"),
    };
    let mut child = start(&cell, "grep Cpus_allowed_list /proc/self/status");
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said.split_whitespace().last(), Some("0"));
    end(&cell);
}

#[test]
fn a_tenants_limit_holds_for_its_cells_together() {
    let Some(ground) = ground() else { return };
    let limits = TenantLimits { memory_bytes_max: Some(48 << 20), pids_max: Some(50), ..Default::default() };
    let rows = ground.tree.tenant(&ground.tenant, &limits).unwrap();
    assert_eq!(found(&rows, "memory_bytes_max"), "50331648");
    let cell = ground.cell("one", &roomy());
    let mut child = start(&cell, HOG);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(said.lines().filter_map(|line| line.parse::<u64>().ok()).all(|mib| mib < 48), "{said}");
    end(&cell);
}

#[test]
fn a_tenants_limits_can_be_raised_lowered_and_opened_while_it_has_cells() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("one", &roomy());
    for (memory, cpu) in
        [(Some(1 << 30), Some(4000)), (Some(2 << 30), None), (Some(512 << 20), Some(3000)), (None, None)]
    {
        let limits = TenantLimits { memory_bytes_max: memory, cpu_millis_max: cpu, ..Default::default() };
        ground.tree.tenant(&ground.tenant, &limits).unwrap();
    }
    end(&cell);
}

#[test]
fn a_limit_that_cannot_be_set_is_named_and_leaves_no_cell() {
    let Some(ground) = ground() else { return };
    let limits = CellLimits { cpuset: Some("4095".into()), ..roomy() };
    let error = ground.tree.cell(&ground.tenant, "bad", &limits).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cpuset"), "{text}");
    assert!(ground.tree.cells(&ground.tenant).unwrap().is_empty());
}
