//! Control groups: the tree of one daemon, limits that are read back, usage, events, kill and removal.
//!
//! Root prepares the tree once ([`Tree::prepare`]) and gives it away; everything else works without privilege. Whoever
//! starts a cell's first process puts it into the groups ([`Cell::hierarchies`]): this crate never attaches processes,
//! except that `prepare` moves the daemon itself out of the way. Controllers are driven where they sit: all on version 2,
//! or on version 1 beside it (a hybrid host). Nothing here sleeps to wait: ends and limits arrive through descriptors.
#![forbid(unsafe_code)]

mod apply;
mod cell;
mod dir;
mod error;
mod layout;
mod limits;
mod place;
mod prepare;
mod tree;
mod usage;
mod watch;

pub use apply::Enforced;
pub use cell::{BareCell, Cell, CellHierarchy, Kill};
pub use error::{CgroupError, Result};
pub use layout::{Base, Facts, Hierarchy, Kind, Layout, Version};
pub use limits::{CellLimits, IoLimit, TenantLimits};
pub use tree::{Leftover, LeftoverEnd, SWEEP_WAIT, Tree};
pub use usage::{Events, Pressure, Usage};
pub use watch::{Signal, Watch};
