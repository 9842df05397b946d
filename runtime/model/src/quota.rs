//! What a tenant may use, what it used, and counters that a store may only move together with an event.

use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Refusal};

/// The longest window, in seconds: one year.
pub const WINDOW_SECONDS_MAX: u64 = 366 * 86_400;

/// The largest value of any field: what canonical JSON carries exactly (2^53 - 1).
pub const VALUE_MAX: u64 = (1 << 53) - 1;

/// What one tenant may use. A megabyte is 1,048,576 bytes, a kilobyte 1,024. Zero means nothing, never "no limit".
///
/// Memory, tasks and pids hold at any one moment; processor time, disk, network and output add up over the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Processor seconds of all executions that end in one window.
    pub max_cpu_seconds: u64,
    /// Megabytes of memory of all executions alive at once.
    pub max_memory_mb: u64,
    /// Megabytes written to writable places in one window.
    pub max_disk_mb: u64,
    /// Kilobytes sent and received in one window.
    pub max_network_kb: u64,
    /// Executions alive at once.
    pub max_concurrent_tasks: u64,
    /// Processes and threads of all executions alive at once.
    pub max_pids: u64,
    /// Bytes of captured output in one window.
    pub max_output_bytes: u64,
    /// Length of a window in seconds, from the Unix epoch in equal steps.
    pub window_seconds: u64,
    /// Share of the scheduler beside other tenants, 1 to 1000.
    pub weight: u64,
}

/// Amounts of everything that a quota limits: asked for, reserved or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Processor time in milliseconds, user and system.
    pub cpu_ms: u64,
    /// Memory in bytes: the peak, or what is reserved.
    pub memory_bytes: u64,
    /// Bytes in writable places.
    pub disk_bytes: u64,
    /// Bytes over the network, both ways.
    pub network_bytes: u64,
    /// Executions.
    pub tasks: u64,
    /// Processes and threads: the peak, or what is reserved.
    pub pids: u64,
    /// Bytes of captured output.
    pub output_bytes: u64,
}

/// One dimension of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// `max_cpu_seconds`, counted in milliseconds.
    Cpu,
    /// `max_memory_mb`, counted in bytes.
    Memory,
    /// `max_disk_mb`, counted in bytes.
    Disk,
    /// `max_network_kb`, counted in bytes.
    Network,
    /// `max_concurrent_tasks`.
    Tasks,
    /// `max_pids`.
    Pids,
    /// `max_output_bytes`.
    Output,
}

impl Dimension {
    /// All dimensions, in the order in which they are checked.
    pub const ALL: [Self; 7] =
        [Self::Tasks, Self::Memory, Self::Pids, Self::Cpu, Self::Disk, Self::Network, Self::Output];

    /// Whether amounts add up over a window, rather than hold at one moment.
    #[must_use]
    pub const fn is_windowed(self) -> bool {
        matches!(self, Self::Cpu | Self::Disk | Self::Network | Self::Output)
    }

    /// The name of the quota's field.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Cpu => "max_cpu_seconds",
            Self::Memory => "max_memory_mb",
            Self::Disk => "max_disk_mb",
            Self::Network => "max_network_kb",
            Self::Tasks => "max_concurrent_tasks",
            Self::Pids => "max_pids",
            Self::Output => "max_output_bytes",
        }
    }
}

impl Usage {
    /// The amount of one dimension, in its own unit.
    #[must_use]
    pub const fn get(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Cpu => self.cpu_ms,
            Dimension::Memory => self.memory_bytes,
            Dimension::Disk => self.disk_bytes,
            Dimension::Network => self.network_bytes,
            Dimension::Tasks => self.tasks,
            Dimension::Pids => self.pids,
            Dimension::Output => self.output_bytes,
        }
    }

    /// The place of one dimension's amount.
    pub const fn get_mut(&mut self, dimension: Dimension) -> &mut u64 {
        match dimension {
            Dimension::Cpu => &mut self.cpu_ms,
            Dimension::Memory => &mut self.memory_bytes,
            Dimension::Disk => &mut self.disk_bytes,
            Dimension::Network => &mut self.network_bytes,
            Dimension::Tasks => &mut self.tasks,
            Dimension::Pids => &mut self.pids,
            Dimension::Output => &mut self.output_bytes,
        }
    }

    /// Both amounts together; an amount that would overflow stays at the largest number, which no quota allows.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// This amount less the other one, at least zero.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    fn zip(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = Self::default();
        for dimension in Dimension::ALL {
            *out.get_mut(dimension) = join(self.get(dimension), other.get(dimension));
        }
        out
    }

    /// The same amounts, with every dimension that is not windowed at zero.
    #[must_use]
    pub fn windowed(&self) -> Self {
        let mut out = *self;
        for dimension in Dimension::ALL.into_iter().filter(|dimension| !dimension.is_windowed()) {
            *out.get_mut(dimension) = 0;
        }
        out
    }
}

impl Quota {
    /// The quota as amounts, each in the unit of [`Usage`].
    ///
    /// # Errors
    /// `quota_invalid` where an amount cannot be carried exactly, the window is not 1 s to one year, or the weight is not
    /// 1 to 1000.
    pub fn ceiling(&self) -> Result<Usage, Refusal> {
        if !(1..=WINDOW_SECONDS_MAX).contains(&self.window_seconds) {
            return Err(Refusal::new(Code::QuotaInvalid, format!("window_seconds must be 1 to {WINDOW_SECONDS_MAX}")));
        }
        if !(1..=1000).contains(&self.weight) {
            return Err(Refusal::new(Code::QuotaInvalid, "weight must be 1 to 1000"));
        }
        Ok(Usage {
            cpu_ms: scaled(self.max_cpu_seconds, 1000, Dimension::Cpu)?,
            memory_bytes: scaled(self.max_memory_mb, 1 << 20, Dimension::Memory)?,
            disk_bytes: scaled(self.max_disk_mb, 1 << 20, Dimension::Disk)?,
            network_bytes: scaled(self.max_network_kb, 1 << 10, Dimension::Network)?,
            tasks: scaled(self.max_concurrent_tasks, 1, Dimension::Tasks)?,
            pids: scaled(self.max_pids, 1, Dimension::Pids)?,
            output_bytes: scaled(self.max_output_bytes, 1, Dimension::Output)?,
        })
    }
}

fn scaled(value: u64, unit: u64, dimension: Dimension) -> Result<u64, Refusal> {
    let scaled = value.checked_mul(unit).filter(|scaled| *scaled <= VALUE_MAX);
    scaled.ok_or_else(|| Refusal::new(Code::QuotaInvalid, format!("{} is too large: {value}", dimension.field())))
}

/// A counter that a store adds to if and only if the sum stays within the bound, in the transaction of the event that it
/// belongs to: `UPDATE … SET used = used + add WHERE key = ? AND used + add <= max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The counter's key within the tenant.
    pub key: String,
    /// What is added.
    pub add: u64,
    /// The largest sum.
    pub max: u64,
    /// What the caller is told where the sum would exceed the bound.
    pub refused_as: Code,
}

/// What a tenant used in one window, or what one execution adds to that; durable, moved in the transaction of the usage event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowUsage {
    /// Start of the window in seconds since the Unix epoch.
    pub window_start_s: u64,
    /// What was used since then; only windowed dimensions count.
    pub used: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota() -> Quota {
        Quota {
            max_cpu_seconds: 60,
            max_memory_mb: 512,
            max_disk_mb: 64,
            max_network_kb: 0,
            max_concurrent_tasks: 2,
            max_pids: 128,
            max_output_bytes: 1 << 20,
            window_seconds: 60,
            weight: 1,
        }
    }

    #[test]
    fn a_quota_is_amounts_in_small_units() {
        let ceiling = quota().ceiling().expect("fits");
        assert_eq!((ceiling.cpu_ms, ceiling.memory_bytes, ceiling.network_bytes), (60_000, 512 << 20, 0));
    }

    #[test]
    fn a_quota_that_overflows_is_refused_and_not_wrapped() {
        for (dimension, quota) in [
            (Dimension::Memory, Quota { max_memory_mb: u64::MAX, ..quota() }),
            (Dimension::Memory, Quota { max_memory_mb: 1 << 44, ..quota() }),
            (Dimension::Cpu, Quota { max_cpu_seconds: u64::MAX / 999, ..quota() }),
            (Dimension::Tasks, Quota { max_concurrent_tasks: u64::MAX, ..quota() }),
        ] {
            let refusal = quota.ceiling().expect_err("too large");
            assert_eq!(refusal.code, Code::QuotaInvalid);
            assert!(refusal.detail.contains(dimension.field()));
        }
    }

    #[test]
    fn windows_and_weights_outside_their_bounds_are_refused() {
        for window_seconds in [0, WINDOW_SECONDS_MAX + 1, u64::MAX] {
            assert!(Quota { window_seconds, ..quota() }.ceiling().is_err());
        }
        for weight in [0, 1001] {
            assert!(Quota { weight, ..quota() }.ceiling().is_err());
        }
    }

    #[test]
    fn amounts_that_overflow_stay_at_the_largest_number() {
        let most = Usage { cpu_ms: u64::MAX, ..Usage::default() };
        assert_eq!(most.plus(&Usage { cpu_ms: 1, ..Usage::default() }).cpu_ms, u64::MAX);
        assert_eq!(Usage::default().minus(&most).cpu_ms, 0);
    }
}
