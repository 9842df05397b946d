//! What a cell has used and which limits it has hit, read from either version's files into one shape.

use crate::dir::Dir;
use crate::error::{CgroupError, Result};

/// What a cell has used since it was made. `None` means that this kernel does not count it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub cpu_user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub cpu_system_us: u64,
    /// Bandwidth periods in which the cell was held back.
    pub throttled_periods: u64,
    /// Time for which the cell was held back, summed over processors, in microseconds.
    pub throttled_us: u64,
    /// Most memory at once, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Most processes and threads at once, the keeper included.
    pub pids_peak: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Pressure stall information, where the kernel has it switched on.
    pub pressure: Option<Pressure>,
}

/// Time for which work stood still for want of something, in microseconds (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pressure {
    /// At least one task waited for a processor.
    pub cpu_some_us: u64,
    /// At least one task waited for memory.
    pub memory_some_us: u64,
}

/// How often a cell has run into its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Events {
    /// Processes that the kernel killed because the memory was used up.
    pub oom_kills: u64,
    /// Times that a fork was refused by the process limit.
    pub pids_max_hits: u64,
}

type Find<'a> = &'a dyn Fn(&str) -> Option<&'a Dir>;

pub(crate) fn read_usage<'a>(find: Find<'a>, unified: Option<&Dir>) -> Result<Usage> {
    let mut usage = Usage::default();
    read_cpu(find, &mut usage)?;
    if let Some(dir) = find("memory") {
        read_memory(dir, &mut usage)?;
    }
    if let Some(dir) = find("pids") {
        usage.pids_peak = number_if_there(dir, "pids.peak")?;
    }
    if let Some(dir) = find("io") {
        read_io(dir, &mut usage)?;
    }
    usage.pressure = unified.map(read_pressure).transpose()?.flatten();
    Ok(usage)
}

pub(crate) fn read_events<'a>(find: Find<'a>) -> Result<Events> {
    let mut events = Events::default();
    if let Some(dir) = find("memory") {
        if let Some(text) = dir.read_if_there("memory.events")? {
            events.oom_kills = keyed(dir, "memory.events", &text, "oom_kill")?;
        } else {
            let text = dir.read("memory.oom_control")?;
            events.oom_kills = keyed(dir, "memory.oom_control", &text, "oom_kill")?;
        }
    }
    if let Some(dir) = find("pids") {
        events.pids_max_hits = keyed(dir, "pids.events", &dir.read("pids.events")?, "max")?;
    }
    Ok(events)
}

fn read_cpu<'a>(find: Find<'a>, usage: &mut Usage) -> Result<()> {
    let Some(cpu) = find("cpu") else { return Ok(()) };
    let text = cpu.read("cpu.stat")?;
    let stat = |key| keyed(cpu, "cpu.stat", &text, key);
    usage.throttled_periods = stat("nr_throttled")?;
    if let Some(account) = find("cpuacct") {
        let read = |file| account.read(file).and_then(|text| number(account, file, &text));
        let (user, system) = split(read("cpuacct.usage")?, read("cpuacct.usage_user")?, read("cpuacct.usage_sys")?);
        usage.cpu_user_us = user / 1000;
        usage.cpu_system_us = system / 1000;
        usage.throttled_us = stat("throttled_time")? / 1000;
    } else {
        usage.cpu_user_us = stat("user_usec")?;
        usage.cpu_system_us = stat("system_usec")?;
        usage.throttled_us = stat("throttled_usec")?;
    }
    Ok(())
}

/// Divides the exact total as the samples divide theirs. Version 1 samples user and system time at ticks, which is where a
/// bandwidth limit throttles: their sum was seen to be half as much again as the time that was really used.
fn split(total: u64, user: u64, system: u64) -> (u64, u64) {
    let samples = u128::from(user) + u128::from(system);
    let share = (u128::from(total) * u128::from(user)).checked_div(samples).unwrap_or(u128::from(total));
    let user = u64::try_from(share).unwrap_or(total).min(total);
    (user, total - user)
}

fn read_memory(dir: &Dir, usage: &mut Usage) -> Result<()> {
    let peak = number_if_there(dir, "memory.peak")?;
    usage.memory_peak_bytes =
        peak.map_or_else(|| number_if_there(dir, "memory.max_usage_in_bytes"), |peak| Ok(Some(peak)))?;
    Ok(())
}

fn read_io(dir: &Dir, usage: &mut Usage) -> Result<()> {
    let (text, read, write) = match dir.read_if_there("io.stat")? {
        Some(text) => (Some(text), "rbytes=", "wbytes="),
        None => (dir.read_if_there("blkio.throttle.io_service_bytes_recursive")?, "Read ", "Write "),
    };
    if let Some(text) = text {
        usage.io_read_bytes = Some(sum_after(&text, read));
        usage.io_write_bytes = Some(sum_after(&text, write));
    }
    Ok(())
}

fn read_pressure(dir: &Dir) -> Result<Option<Pressure>> {
    let Some(cpu) = dir.read_if_there("cpu.pressure")? else { return Ok(None) };
    let Some(memory) = dir.read_if_there("memory.pressure")? else { return Ok(None) };
    Ok(Some(Pressure { cpu_some_us: stalled(&cpu, "some"), memory_some_us: stalled(&memory, "some") }))
}

/// The `total=` of the line that begins with this word.
fn stalled(text: &str, word: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(word));
    line.and_then(|line| line.split_once("total=")).and_then(|(_, total)| total.trim().parse().ok()).unwrap_or(0)
}

/// The sum of the numbers that follow a word, over all lines (all devices).
fn sum_after(text: &str, word: &str) -> u64 {
    let values = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(word)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    values.fold(0, u64::saturating_add)
}

fn number(dir: &Dir, file: &str, text: &str) -> Result<u64> {
    text.trim().parse().map_err(|_| unreadable(dir, file))
}

fn number_if_there(dir: &Dir, file: &str) -> Result<Option<u64>> {
    dir.read_if_there(file)?.map(|text| number(dir, file, &text)).transpose()
}

fn keyed(dir: &Dir, file: &str, text: &str, key: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| unreadable(dir, file))
}

fn unreadable(dir: &Dir, file: &str) -> CgroupError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "the counter is not where the kernel puts it");
    CgroupError::Io { action: "understand", path: dir.path().join(file), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_summed_over_devices_in_both_versions() {
        let v2 = "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0 rios=1 wios=0\n";
        assert_eq!((sum_after(v2, "rbytes="), sum_after(v2, "wbytes=")), (15, 20));
        let v1 = "8:0 Read 7\n8:0 Write 9\n8:0 Sync 3\n8:0 Total 16\n254:0 Read 1\nTotal 17\n";
        assert_eq!((sum_after(v1, "Read "), sum_after(v1, "Write ")), (8, 9));
    }

    #[test]
    fn sampled_times_only_divide_the_exact_total() {
        assert_eq!(split(100, 75, 75), (50, 50));
        assert_eq!(split(100, 0, 30), (0, 100));
        assert_eq!(split(7, 0, 0), (7, 0));
        assert_eq!(split(u64::MAX, u64::MAX, 0), (u64::MAX, 0));
    }

    #[test]
    fn pressure_is_the_total_of_the_named_line() {
        let text = "some avg10=0.12 avg60=1.26 avg300=1.13 total=10084823\nfull avg10=0.00 avg60=0.00 total=7\n";
        assert_eq!((stalled(text, "some"), stalled(text, "full")), (10_084_823, 7));
    }

    #[test]
    fn a_counter_that_is_not_there_is_an_error_not_a_zero() {
        let dir = Dir::open("/".into()).unwrap();
        assert_eq!(keyed(&dir, "f", "oom 1\noom_kill 3\n", "oom_kill").unwrap(), 3);
        assert!(keyed(&dir, "f", "oom_group_kill 3\n", "oom_kill").is_err());
        assert!(number(&dir, "f", "max\n").is_err());
    }
}
