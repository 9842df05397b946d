//! Policies: profiles that people read, compiled to what the kernel takes.
//!
//! A profile is a TOML file in which every permission says why. [`Profile::load`] resolves it with everything that it
//! extends, [`compile()`] turns it into seccomp programs and Landlock masks, [`explain()`] tells people what it allows.
//! Nothing here acts on the world: only [`Library`] reads files, and nothing writes.
#![forbid(unsafe_code)]

pub mod arch;
mod arguments;
pub mod bpf;
mod check;
mod compile;
mod constants;
mod denial;
mod document;
mod error;
mod explain;
mod interpreter;
mod landlock;
mod library;
mod profile;
mod quantity;
mod resolve;
mod settings;
mod shorten;
mod suggest;
mod tree;
mod values;

pub use crate::landlock::{ABI_LEAST, Landlock, LandlockRule, access_words};
pub use check::check;
pub use compile::{Compiled, Filter, Purpose, compile};
pub use denial::{Explained, explain_denial, syscall_name};
pub use document::parse_document;
pub use error::{Finding, PolicyError, Severity};
pub use explain::{Explanation, explain, explanation};
pub use interpreter::{Action, Call};
pub use library::{BUILT_IN, Library, Source};
pub use profile::{
    Access, ArgumentRule, Bind, Constant, Errno, FileRule, Generated, GeneratedContent, Mode, Network, Process,
    Profile, Root, Statement, Syscalls, Test, Variable, Verdict, WRITABLE_PLACES, Width,
};
pub use resolve::Files;
