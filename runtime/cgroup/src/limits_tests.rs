//! The lines that limits become, and the limits that are refused before anything is written.

use super::*;

fn lines(limits: &CellLimits, version: Version) -> Vec<(String, String)> {
    let list = for_cell(limits, &|_| version).unwrap();
    list.into_iter().map(|line| (line.file.to_owned(), line.text.unwrap_or_default())).collect()
}

fn has(list: &[(String, String)], file: &str, text: &str) -> bool {
    list.iter().any(|(f, t)| f == file && t == text)
}

#[test]
fn default_limits_become_v2_lines() {
    let list = lines(&CellLimits::of(&Limits::default(), 1), Version::V2);
    for (file, text) in [
        ("memory.max", "536870912"),
        ("memory.swap.max", "0"),
        ("memory.high", "max"),
        ("memory.oom.group", "1"),
        ("pids.max", "65"),
        ("cpu.max", "100000 100000"),
    ] {
        assert!(has(&list, file, text), "{file} {list:?}");
    }
}

#[test]
fn default_limits_become_v1_lines_with_memory_before_memory_and_swap() {
    let list = lines(&CellLimits::of(&Limits::default(), 1), Version::V1);
    let at = |file: &str| list.iter().position(|(f, _)| f == file).unwrap();
    assert!(at("memory.limit_in_bytes") < at("memory.memsw.limit_in_bytes"));
    assert!(at("cpu.cfs_period_us") < at("cpu.cfs_quota_us"));
    assert!(has(&list, "memory.memsw.limit_in_bytes", "536870912"));
    assert!(has(&list, "memory.swappiness", "0"));
}

#[test]
fn a_share_below_one_percent_gets_a_period_that_the_kernel_accepts() {
    let limits = CellLimits { cpu_millis_max: 1, ..CellLimits::of(&Limits::default(), 0) };
    assert!(has(&lines(&limits, Version::V2), "cpu.max", "1000 1000000"));
}

#[test]
fn sizes_that_the_kernel_would_round_are_rounded_before_they_are_compared() {
    let limits = CellLimits { memory_bytes_max: (64 << 20) + 5, ..CellLimits::of(&Limits::default(), 0) };
    assert!(has(&lines(&limits, Version::V2), "memory.max", "67108864"));
}

#[test]
fn device_limits_read_back_by_device() {
    let io = vec![IoLimit { device: (8, 0), read_bytes_per_second_max: Some(1024), write_bytes_per_second_max: None }];
    let limits = CellLimits { io, ..CellLimits::of(&Limits::default(), 0) };
    let list = for_cell(&limits, &|_| Version::V2).unwrap();
    let line = list.iter().find(|line| line.file == "io.max").unwrap();
    assert!(line.expect.holds("7:0 rbps=1 wbps=max\n8:0 rbps=1024 wbps=max riops=max wiops=max\n"));
    assert!(!line.expect.holds("8:16 rbps=1024 wbps=max\n8:0 rbps=2048 wbps=max\n"));
    assert!(has(&lines(&limits, Version::V1), "blkio.throttle.read_bps_device", "8:0 1024"));
}

#[test]
fn processor_lists_are_compared_as_sets() {
    let limits = CellLimits { cpuset: Some("0,1".into()), ..CellLimits::of(&Limits::default(), 0) };
    let list = for_cell(&limits, &|_| Version::V2).unwrap();
    let line = list.iter().find(|line| line.name == "cpuset").unwrap();
    assert!(line.expect.holds("0-1\n") && !line.expect.holds("0\n") && !line.expect.holds("\n"));
}

#[test]
fn impossible_limits_are_refused_by_name() {
    let good = CellLimits::of(&Limits::default(), 0);
    let bad = [
        ("memory_bytes_max", CellLimits { memory_bytes_max: 4096, ..good.clone() }),
        ("pids_max", CellLimits { pids_max: 0, ..good.clone() }),
        ("cpu_millis_max", CellLimits { cpu_millis_max: 0, ..good.clone() }),
        ("cpu_millis_max", CellLimits { cpu_millis_max: u64::MAX, ..good.clone() }),
        ("cpu_weight", CellLimits { cpu_weight: Some(0), ..good.clone() }),
        ("cpuset", CellLimits { cpuset: Some("3-1".into()), ..good.clone() }),
        ("cpuset", CellLimits { cpuset: Some(String::new()), ..good.clone() }),
        ("memory_bytes_high", CellLimits { memory_bytes_high: Some(1 << 30), ..good }),
    ];
    for (name, limits) in bad {
        let error = for_cell(&limits, &|_| Version::V1).unwrap_err();
        assert!(matches!(error, CgroupError::Impossible { name: found, .. } if found == name), "{name}: {error}");
    }
}

#[test]
fn a_tenants_open_limits_are_written_as_open() {
    let list = for_tenant(&TenantLimits::default(), &|_| Version::V2).unwrap();
    let texts: Vec<_> = list.iter().map(|line| (line.file, line.text.clone().unwrap())).collect();
    assert!(texts.contains(&("memory.max", "max".into())) && texts.contains(&("cpu.max", "max 100000".into())));
}
