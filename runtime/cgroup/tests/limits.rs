//! Every limit holds against a program that tries to break it, and the read-back says so before.

mod kit;

use std::io::{BufRead, BufReader, Read};

use kit::{end, ground, payload_command, roomy, start};
use remand_cgroup::{Cell, CellLimits, CgroupError, Enforced, Signal, TenantLimits, Version};

fn found<'a>(rows: &'a [Enforced], name: &str) -> &'a str {
    &rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} in {rows:?}")).found
}

/// Runs the memory hog in a cell and says how many MiB it got.
fn hog(cell: &Cell) -> u64 {
    let mut child = start(cell, &payload_command("memory"));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said.lines().filter_map(|line| line.parse().ok()).max().expect("it got something")
}

#[test]
fn memory_stops_at_its_limit_and_the_kill_is_counted() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("hog", &CellLimits { memory_bytes_max: 64 << 20, ..roomy() });
    assert_eq!(found(cell.enforced(), "memory_bytes_max"), "67108864");
    let reached = hog(&cell);
    assert!((16..64).contains(&reached), "{reached}");
    assert!(cell.events().unwrap().oom_kills >= 1);
    let usage = cell.usage().unwrap();
    assert!(usage.memory_peak_bytes.is_none_or(|peak| peak <= 64 << 20), "{usage:?}");
    end(&cell);
}

#[test]
fn files_in_shared_memory_count_as_memory() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("shm", &CellLimits { memory_bytes_max: 32 << 20, ..roomy() });
    let mut child = start(&cell, &payload_command("memfd"));
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
    let mut child = start(&cell, &format!("exec env {}", payload_command("threads")));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let refused = lines.find_map(|line| line.strip_prefix("refused ")?.parse::<u64>().ok()).unwrap();
    // The main thread and the test's own are two of the twenty.
    assert_eq!(refused, 82);
    assert_eq!(cell.events().unwrap().pids_max_hits, 82);
    let v2 = cell.hierarchies().iter().any(|h| h.version == Version::V2 && h.controllers.contains(&"pids"));
    if v2 {
        kit::wait_readable(&watch);
        assert!(watch.take().unwrap().contains(&Signal::PidsMax));
    }
    let usage = cell.usage().unwrap();
    assert!(usage.pids_peak.is_none_or(|peak| peak <= 20), "{usage:?}");
    end(&cell);
    child.wait().unwrap();
}

#[test]
fn a_processor_hog_gets_its_share_and_no_more() {
    let Some(ground) = ground() else { return };
    let cell = ground.cell("share", &CellLimits { cpu_millis_max: 200, ..roomy() });
    let mut child = start(&cell, &payload_command("spin"));
    let began = std::time::Instant::now();
    child.wait().unwrap();
    let wall = began.elapsed().as_secs_f64();
    let usage = cell.usage().unwrap();
    let share = (usage.cpu_user_us + usage.cpu_system_us) as f64 / 1e6 / wall;
    // Five percent of the share, and the one period by which the beginning may fall into a fresh quota.
    let most = 0.2 * 1.05 + 0.020 / wall;
    assert!(share <= most, "share {share} of {usage:?}");
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
    let reached = hog(&cell);
    assert!((16..48).contains(&reached), "{reached}");
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
