//! What a cell has used and which limits it has met, read before its groups go.

use remand_cgroup::{Cell, Events, Result};
use remand_model::Limits;
use remand_model::outcome::{Cause, ExecutionResult, Usage};

use crate::breach::Hit;

/// As it was read; what could not be read is missing in the result and said in the log.
pub struct Measured(Result<remand_cgroup::Usage>, Result<Events>);

impl Measured {
    /// Of a cell in which nothing runs any more that uses anything.
    #[must_use]
    pub fn of(cell: &Cell) -> Self {
        Self(cell.usage(), cell.events())
    }

    /// Writes it into a result, whose cause it may explain.
    pub fn tell(self, limits: &Limits, result: &mut ExecutionResult) {
        let mut named = Hit::of(&remand_cgroup::Usage::default(), limits);
        match self.0 {
            Ok(usage) => (result.usage, named) = (usage_of(&usage), Hit::of(&usage, limits)),
            Err(error) => tracing::error!(%error, "the usage of a cell could not be read"),
        }
        match self.1 {
            Ok(events) => tell_events(&events, &named, result),
            Err(error) => tracing::error!(%error, "the events of a cell could not be read"),
        }
    }
}

fn tell_events(events: &Events, named: &Hit, result: &mut ExecutionResult) {
    for (count, name) in [(events.oom_kills, named.memory), (events.pids_max_hits, named.pids)] {
        if count > 0 && !result.limits_hit.iter().any(|known| known == name) {
            result.limits_hit.push(name.into());
        }
    }
    if events.oom_kills > 0 && matches!(result.cause, Cause::Signaled { signal: 9 } | Cause::Lost { .. }) {
        result.cause = Cause::Oom;
    }
    let failed = !matches!(result.cause, Cause::Exited { code: 0 });
    if events.pids_max_hits > 0 && failed && matches!(result.cause, Cause::Exited { .. } | Cause::Signaled { .. }) {
        result.cause = Cause::PidsLimit;
    }
}

fn usage_of(usage: &remand_cgroup::Usage) -> Usage {
    Usage {
        wall_us: 0,
        cpu_user_us: usage.cpu_user_us,
        cpu_system_us: usage.cpu_system_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        pids_peak: usage.pids_peak,
        io_read_bytes: usage.io_read_bytes,
        io_write_bytes: usage.io_write_bytes,
        network_bytes: 0,
        throttled_periods: usage.throttled_periods,
        throttled_us: usage.throttled_us,
        cpu_pressure_us: usage.pressure.map(|pressure| pressure.cpu_some_us),
        memory_pressure_us: usage.pressure.map(|pressure| pressure.memory_some_us),
        disk_free_bytes: None,
    }
}
