//! `remandd`: boots as root on one thread, gives root away, and then serves.
//!
//! Cells are made by the spawner, a root process of its own; this one holds no capability while it reads what clients and
//! jobs send. Every bound is in [`limits`].
#![forbid(unsafe_code)]

pub mod access;
pub mod admission;
mod attend;
pub mod authority;
pub mod boot;
pub mod breach;
pub mod capture;
pub mod cells;
pub mod commands;
pub mod config;
pub mod contracts;
pub mod control;
pub mod conversation;
pub mod cosign;
pub mod direct;
pub mod domains;
pub mod execution;
pub mod export;
pub mod hint;
pub mod images;
pub mod inherited;
pub mod journal;
pub mod limits;
pub mod lost;
mod measured;
pub mod membership;
pub mod mend;
pub mod node;
pub mod notary;
pub mod order;
pub mod pass;
pub mod plans;
pub mod pools;
pub mod presence;
pub mod ready;
pub mod reaper;
pub mod registry;
pub mod replay;
pub mod run;
pub mod serve;
pub mod shelf;
pub mod site;
pub mod slots;
pub mod spawner;
pub mod statement;
pub mod terminal;
pub mod threads;
pub mod unrecorded;
pub mod witness;
