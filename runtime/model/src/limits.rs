//! The limits of one execution: every one holds for the job as a whole, and every one has a number.

use serde::{Deserialize, Serialize};

/// What one execution may use. Zero never means "no limit"; it means nothing at all, and is refused where that is absurd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory in bytes: anonymous, page cache, tmpfs, shared memory and kernel buffers together.
    pub memory_bytes_max: u64,
    /// Swap in bytes, on top of the memory.
    pub swap_bytes_max: u64,
    /// Share of processor time in thousandths of one processor: 1500 is one and a half.
    pub cpu_millis_max: u64,
    /// Processor time of all processes together, user and system, in milliseconds.
    pub cpu_time_ms_max: u64,
    /// Time from start to end in milliseconds, on the monotonic clock.
    pub wall_ms_max: u64,
    /// Processes and threads alive at once, the keeper not counted.
    pub pids_max: u64,
    /// Bytes of stdout and stderr together.
    pub output_bytes_max: u64,
    /// Bytes of all writable places together.
    pub disk_bytes_max: u64,
    /// Files, folders and links in all writable places together.
    pub inodes_max: u64,
    /// Open descriptors of each process (`RLIMIT_NOFILE`).
    pub nofile_max: u64,
    /// Bytes of all collected output files together.
    pub files_bytes_max: u64,
    /// Number of collected output files.
    pub files_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 << 20,
            swap_bytes_max: 0,
            cpu_millis_max: 1000,
            cpu_time_ms_max: 60_000,
            wall_ms_max: 60_000,
            pids_max: 64,
            output_bytes_max: 16 << 20,
            disk_bytes_max: 64 << 20,
            inodes_max: 16_384,
            nofile_max: 1024,
            files_bytes_max: 64 << 20,
            files_max: 16_384,
        }
    }
}
