//! What this host can enforce: one row per need, found out by doing, each with the exact fix.
//!
//! Programs that call [`probe_all`] with the default [`Prober`] call [`answer_probe`] first in their `main`, because the
//! probes are children of the same program.
#![forbid(unsafe_code)]

mod child;
mod doing;
mod files;
mod groups;
mod host;
mod needs;
mod report;

pub use child::{PROBE_ARGUMENT, Prober, answer_probe};
pub use host::Host;
pub use needs::{probe_all, probe_one};
pub use report::{Level, Report, Row};
