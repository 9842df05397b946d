//! Whose limit was hit: an execution's own, or that of its tenant, to whose sum it only added.

use remand_cgroup::Usage;
use remand_model::Limits;

/// How far below its limit a cell's memory may stay when the kernel finds no room: charges come in batches, and in huge pages.
const SLACK_BYTES: u64 = 4 << 20;
/// The tenant's memory, as results name it.
pub const TENANT_MEMORY: &str = "tenant_memory";
/// The tenant's processes.
pub const TENANT_PIDS: &str = "tenant_pids";

/// The names of what was hit, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Where the kernel ended a process for want of memory.
    pub memory: &'static str,
    /// Where the kernel refused a fork.
    pub pids: &'static str,
}

impl Hit {
    /// Of an execution that used so much under these limits. What the kernel does not tell counts as the execution's own.
    #[must_use]
    pub fn of(usage: &Usage, limits: &Limits) -> Self {
        let memory = limits.memory_bytes_max.saturating_sub(SLACK_BYTES);
        let below = |peak: Option<u64>, limit: u64| peak.is_some_and(|peak| peak < limit);
        Self {
            memory: if below(usage.memory_peak_bytes, memory) { TENANT_MEMORY } else { "memory" },
            pids: if below(usage.pids_peak, limits.pids_max) { TENANT_PIDS } else { "pids" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stayed_below_its_own_limit_met_its_tenants() {
        let limits = Limits { memory_bytes_max: 100 << 20, pids_max: 10, ..Limits::default() };
        let hit =
            |memory, pids| Hit::of(&Usage { memory_peak_bytes: memory, pids_peak: pids, ..Usage::default() }, &limits);
        assert_eq!(hit(Some(100 << 20), Some(11)), Hit { memory: "memory", pids: "pids" });
        assert_eq!(hit(Some(98 << 20), Some(10)), Hit { memory: "memory", pids: "pids" });
        assert_eq!(hit(Some(60 << 20), Some(9)), Hit { memory: TENANT_MEMORY, pids: TENANT_PIDS });
        assert_eq!(hit(None, None), Hit { memory: "memory", pids: "pids" });
    }
}
