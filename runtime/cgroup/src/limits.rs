//! The limits of cells and tenants, as the lines that each version's interface files take and give back.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids,blkio-controller,cpusets}.rst,
//! Documentation/scheduler/sched-bwc.rst of the kernel.

use std::collections::BTreeSet;

use remand_model::Limits;

use crate::error::{CgroupError, Result};
use crate::layout::Version;

/// Length of a bandwidth period in microseconds: the kernel's default, short enough for a steady share.
const PERIOD_US: u64 = 100_000;
/// Length of a period for shares under 1 %, in microseconds: a quota below one millisecond is refused by the kernel.
const PERIOD_LONG_US: u64 = 1_000_000;
/// Least memory of a group, in bytes: below it even the shim cannot start.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// Most processors in thousandths: what the kernel's 44-bit quota holds, with room.
const CPU_MILLIS_MAX: u64 = 1_000_000;
/// Most processes: the kernel's own limit (`PID_MAX_LIMIT`).
const PIDS_MAX: u64 = 4 << 20;

/// Throughput of one block device.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoLimit {
    /// Major and minor number of the whole device.
    pub device: (u32, u32),
    /// Bytes read per second; `None` leaves it open.
    pub read_bytes_per_second_max: Option<u64>,
    /// Bytes written per second; `None` leaves it open.
    pub write_bytes_per_second_max: Option<u64>,
}

/// What one cell may use of what control groups can limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellLimits {
    /// Memory in bytes, everything that the kernel charges to the group.
    pub memory_bytes_max: u64,
    /// Bytes from which the kernel slows the cell down and reclaims; version 2 only, refused on version 1.
    pub memory_bytes_high: Option<u64>,
    /// Swap in bytes on top of the memory.
    pub swap_bytes_max: u64,
    /// Processes and threads, the keeper and everything else that remand itself runs inside included.
    pub pids_max: u64,
    /// Processor share in thousandths of one processor.
    pub cpu_millis_max: u64,
    /// Weight against the tenant's other cells, 1 to 10 000; `None` is the kernel's 100.
    pub cpu_weight: Option<u32>,
    /// Processors that may be used, as `0-3,8`; `None` is all of them.
    pub cpuset: Option<String>,
    /// Throughput of block devices.
    pub io: Vec<IoLimit>,
}

impl CellLimits {
    /// The group's part of an execution's limits; `pids_overhead` is what remand itself runs inside (the keeper).
    #[must_use]
    pub fn of(limits: &Limits, pids_overhead: u64) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes_max,
            memory_bytes_high: None,
            swap_bytes_max: limits.swap_bytes_max,
            pids_max: limits.pids_max.saturating_add(pids_overhead),
            cpu_millis_max: limits.cpu_millis_max,
            cpu_weight: None,
            cpuset: None,
            io: Vec::new(),
        }
    }
}

/// What all cells of one tenant may use together; `None` leaves a limit open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Memory in bytes.
    pub memory_bytes_max: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
    /// Processor share in thousandths of one processor.
    pub cpu_millis_max: Option<u64>,
    /// Weight against other tenants, 1 to 10 000.
    pub cpu_weight: Option<u32>,
}

/// How a limit must read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The whole file is this text.
    Text(String),
    /// One line of the file has all these words, separated by spaces.
    Words(Vec<String>),
    /// The file is a list of processors or memory nodes with these members.
    Set(BTreeSet<u32>),
}

/// What it means when the kernel has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The limit cannot be set: an error with this advice.
    Refuse(&'static str),
    /// It holds by itself as long as the host has no swap.
    HoldsWithoutSwap,
    /// The kernel charges it elsewhere.
    Skip,
}

/// One limit as one line of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) controller: &'static str,
    pub(crate) file: &'static str,
    /// `None` only reads back.
    pub(crate) text: Option<String>,
    pub(crate) expect: Expect,
    pub(crate) absent: Absent,
}

const NO_CONTROLLER: &str = "the kernel must be built with this controller's file; use a distribution kernel";
const NO_BANDWIDTH: &str = "the kernel must be built with CONFIG_CFS_BANDWIDTH; use a distribution kernel";
const NO_THROTTLE: &str = "the kernel must be built with CONFIG_BLK_DEV_THROTTLING; leave the io limit out";

fn setting(name: &'static str, controller: &'static str, file: &'static str, text: String) -> Setting {
    let expect = Expect::Text(text.clone());
    let absent = Absent::Refuse(NO_CONTROLLER);
    Setting { name, controller, file, text: Some(text), expect, absent }
}

/// The lines of one cell. `version` tells where each controller sits.
pub(crate) fn for_cell(limits: &CellLimits, version: &dyn Fn(&str) -> Version) -> Result<Vec<Setting>> {
    check_cell(limits, version("memory"))?;
    let mut list = memory(limits.memory_bytes_max, limits.swap_bytes_max, version("memory"));
    if version("memory") == Version::V2 {
        let high = limits.memory_bytes_high.map_or("max".to_owned(), |bytes| page_floor(bytes).to_string());
        list.push(setting("memory_bytes_high", "memory", "memory.high", high));
        // One process killed inside leaves a job that cannot be trusted to be whole: the cell dies as one.
        list.push(setting("memory_oom_group", "memory", "memory.oom.group", "1".to_owned()));
    }
    list.push(setting("pids_max", "pids", "pids.max", limits.pids_max.to_string()));
    list.extend(cpu_share(limits.cpu_millis_max, version("cpu")));
    list.extend(limits.cpu_weight.map(|weight| cpu_weight(weight, version("cpu"))));
    if let Some(cpus) = &limits.cpuset {
        list.extend(cpuset(cpus, version("cpuset"))?);
    }
    for limit in &limits.io {
        list.extend(io(limit, version("io")));
    }
    Ok(list)
}

/// The lines of one tenant. A limit that is open is written as open, so that an earlier one does not stay.
pub(crate) fn for_tenant(limits: &TenantLimits, version: &dyn Fn(&str) -> Version) -> Result<Vec<Setting>> {
    check_tenant(limits)?;
    let mut list = Vec::new();
    let bytes = limits.memory_bytes_max.map(page_floor);
    match (bytes, version("memory")) {
        (Some(bytes), Version::V1) => {
            list.push(setting("memory_bytes_max", "memory", "memory.limit_in_bytes", bytes.to_string()));
        }
        (None, Version::V1) => list.extend(open_v1()),
        (bytes, Version::V2) => {
            let text = bytes.map_or("max".to_owned(), |bytes| bytes.to_string());
            list.push(setting("memory_bytes_max", "memory", "memory.max", text));
        }
    }
    let pids = limits.pids_max.map_or("max".to_owned(), |pids| pids.to_string());
    list.push(setting("pids_max", "pids", "pids.max", pids));
    match (limits.cpu_millis_max, version("cpu")) {
        (Some(millis), version) => list.extend(cpu_share(millis, version)),
        (None, Version::V2) => {
            list.push(setting("cpu_millis_max", "cpu", "cpu.max", format!("max {PERIOD_US}")));
        }
        (None, Version::V1) => list.push(setting("cpu_millis_max", "cpu", "cpu.cfs_quota_us", "-1".to_owned())),
    }
    list.push(cpu_weight(limits.cpu_weight.unwrap_or(100), version("cpu")));
    Ok(list)
}

fn memory(memory_bytes: u64, swap_bytes: u64, version: Version) -> Vec<Setting> {
    let bytes = page_floor(memory_bytes);
    if version == Version::V2 {
        let mut swap = setting("swap_bytes_max", "memory", "memory.swap.max", page_floor(swap_bytes).to_string());
        swap.absent = Absent::HoldsWithoutSwap;
        return vec![setting("memory_bytes_max", "memory", "memory.max", bytes.to_string()), swap];
    }
    let both = bytes.saturating_add(page_floor(swap_bytes));
    let mut lift = setting("swap_bytes_max", "memory", "memory.memsw.limit_in_bytes", both.to_string());
    lift.absent = Absent::HoldsWithoutSwap;
    let mut list = vec![setting("memory_bytes_max", "memory", "memory.limit_in_bytes", bytes.to_string()), lift];
    if swap_bytes == 0 {
        list.push(setting("memory_swappiness", "memory", "memory.swappiness", "0".to_owned()));
    }
    // Version 1 charges TCP buffers to a counter of their own, on top of the memory: keep it inside the overshoot.
    let mut tcp = setting("tcp_bytes_max", "memory", "memory.kmem.tcp.limit_in_bytes", {
        page_floor(bytes / 20).max(1 << 20).to_string()
    });
    tcp.absent = Absent::Skip;
    list.push(tcp);
    list
}

/// Version 1's open limits. They are written before a used group's new ones, because the kernel refuses a memory limit
/// above the old memory-and-swap limit.
pub(crate) fn open_v1() -> Vec<Setting> {
    let most = page_floor(i64::MAX.unsigned_abs()).to_string();
    let mut swap = setting("swap_bytes_max", "memory", "memory.memsw.limit_in_bytes", "-1".to_owned());
    swap.absent = Absent::Skip;
    let mut list = vec![swap, setting("memory_bytes_max", "memory", "memory.limit_in_bytes", "-1".to_owned())];
    for line in &mut list {
        line.expect = Expect::Text(most.clone());
    }
    list
}

fn cpu_share(millis: u64, version: Version) -> Vec<Setting> {
    let period = if millis < 10 { PERIOD_LONG_US } else { PERIOD_US };
    let quota = millis * period / 1000;
    let mut list = match version {
        Version::V2 => vec![setting("cpu_millis_max", "cpu", "cpu.max", format!("{quota} {period}"))],
        Version::V1 => {
            let mut length = setting("cpu_period_us", "cpu", "cpu.cfs_period_us", period.to_string());
            length.absent = Absent::Refuse(NO_BANDWIDTH);
            vec![length, setting("cpu_millis_max", "cpu", "cpu.cfs_quota_us", quota.to_string())]
        }
    };
    for line in &mut list {
        line.absent = Absent::Refuse(NO_BANDWIDTH);
    }
    list
}

fn cpu_weight(weight: u32, version: Version) -> Setting {
    match version {
        Version::V2 => setting("cpu_weight", "cpu", "cpu.weight", weight.to_string()),
        // The kernel's own mapping: weight 100 is 1024 shares.
        Version::V1 => setting("cpu_weight", "cpu", "cpu.shares", (u64::from(weight) * 1024 / 100).max(2).to_string()),
    }
}

fn cpuset(cpus: &str, version: Version) -> Result<Vec<Setting>> {
    let must = "a list of processors as 0-3,8";
    let set = numbers(cpus).filter(|set| !set.is_empty());
    let set = set.ok_or_else(|| CgroupError::Impossible { name: "cpuset", wanted: cpus.to_owned(), must })?;
    let mut line = setting("cpuset", "cpuset", "cpuset.cpus", cpus.to_owned());
    line.expect = Expect::Set(set.clone());
    let mut effective = line.clone();
    effective.text = None;
    effective.name = "cpuset_effective";
    effective.file = if version == Version::V2 { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
    Ok(vec![line, effective])
}

fn io(limit: &IoLimit, version: Version) -> Vec<Setting> {
    let device = format!("{}:{}", limit.device.0, limit.device.1);
    let (read, write) = (limit.read_bytes_per_second_max, limit.write_bytes_per_second_max);
    let line = |name, file, words: Vec<String>| Setting {
        absent: Absent::Refuse(NO_THROTTLE),
        expect: Expect::Words(words.clone()),
        ..setting(name, "io", file, words.join(" "))
    };
    match version {
        Version::V2 => {
            let word =
                |key: &str, value: Option<u64>| format!("{key}={}", value.map_or("max".into(), |v| v.to_string()));
            vec![line("io", "io.max", vec![device, word("rbps", read), word("wbps", write)])]
        }
        Version::V1 => {
            let each = |name, file, value: Option<u64>| {
                value.map(|value| line(name, file, vec![device.clone(), value.to_string()]))
            };
            let read = each("io_read", "blkio.throttle.read_bps_device", read);
            read.into_iter().chain(each("io_write", "blkio.throttle.write_bps_device", write)).collect()
        }
    }
}

fn check_cell(limits: &CellLimits, memory: Version) -> Result<()> {
    in_range("memory_bytes_max", limits.memory_bytes_max, MEMORY_BYTES_MIN, i64::MAX.unsigned_abs())?;
    in_range("swap_bytes_max", limits.swap_bytes_max, 0, i64::MAX.unsigned_abs())?;
    in_range("pids_max", limits.pids_max, 1, PIDS_MAX)?;
    in_range("cpu_millis_max", limits.cpu_millis_max, 1, CPU_MILLIS_MAX)?;
    if let Some(weight) = limits.cpu_weight {
        in_range("cpu_weight", weight.into(), 1, 10_000)?;
    }
    match limits.memory_bytes_high {
        Some(bytes) if memory == Version::V1 => {
            let must = "left out: this host's memory controller is version 1, which has no such limit";
            Err(CgroupError::Impossible { name: "memory_bytes_high", wanted: bytes.to_string(), must })
        }
        _ => Ok(()),
    }
}

fn check_tenant(limits: &TenantLimits) -> Result<()> {
    let check =
        |name, value: Option<u64>, least, most| value.map_or(Ok(()), |value| in_range(name, value, least, most));
    check("memory_bytes_max", limits.memory_bytes_max, MEMORY_BYTES_MIN, i64::MAX.unsigned_abs())?;
    check("pids_max", limits.pids_max, 1, PIDS_MAX)?;
    check("cpu_millis_max", limits.cpu_millis_max, 1, CPU_MILLIS_MAX)?;
    check("cpu_weight", limits.cpu_weight.map(u64::from), 1, 10_000)
}

fn in_range(name: &'static str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let must = match name {
        "memory_bytes_max" => "between 1 MiB and 8 EiB",
        "swap_bytes_max" => "at most 8 EiB",
        "pids_max" => "between 1 and 4194304",
        "cpu_weight" => "between 1 and 10000",
        _ => "between 1 and 1000000 thousandths of a processor",
    };
    Err(CgroupError::Impossible { name, wanted: value.to_string(), must })
}

/// The kernel counts memory in pages and rounds down; a value that it would round is rounded before it is compared.
fn page_floor(bytes: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    bytes / page * page
}

/// The members of a kernel list such as `0-3,8`; an empty text is the empty set.
pub(crate) fn numbers(text: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > 1 << 16 {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

impl Expect {
    /// Whether the file's text says what was asked for.
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Text(wanted) => text.trim() == wanted,
            Self::Words(words) => text.lines().any(|line| {
                let found: Vec<&str> = line.split_whitespace().collect();
                words.iter().all(|word| found.contains(&word.as_str()))
            }),
            Self::Set(set) => numbers(text).as_ref() == Some(set),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Words(words) => words.join(" "),
            Self::Set(set) => set.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
