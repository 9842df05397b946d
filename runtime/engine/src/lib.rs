//! What runs when: plans, step by step, and tasks, tenant by tenant. Decisions only; effects belong to the domains.
#![forbid(unsafe_code)]

pub mod domain;
pub mod drive;
pub mod events;
pub mod runner;
pub mod scheduler;
pub mod strategy;
