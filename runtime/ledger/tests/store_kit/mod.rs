//! What the ledger's suites share: folders, backends, sample events.
#![allow(dead_code, reason = "each suite uses its part")]

pub mod child;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remand_ledger::store::segments::SegmentStore;
use remand_ledger::store::{Clock, OpenError, Options};
use remand_ledger::{Ledger, StateKey};
use remand_model::event::EventType;
use remand_model::{Digest, ExecutionId, NewEvent, TenantId};

pub struct Backend {
    dir: tempfile::TempDir,
    segments: bool,
}

impl Backend {
    pub fn sqlite() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), segments: false }
    }

    pub fn segments() -> Self {
        Self { segments: true, ..Self::sqlite() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn open(&self) -> Ledger {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Ledger, OpenError> {
        open(self.dir(), self.segments, options())
    }

    pub fn open_with(&self, options: Options) -> Ledger {
        open(self.dir(), self.segments, options).unwrap()
    }
}

pub fn open(dir: &Path, segments: bool, options: Options) -> Result<Ledger, OpenError> {
    if !segments {
        return Ledger::open(dir, options);
    }
    let dir = dir.to_owned();
    Ledger::open_with(Box::new(move || Ok(Box::new(SegmentStore::open(&dir)?))), options)
}

/// A clock that a test sets by hand.
pub struct Hand(pub Arc<AtomicU64>);

impl Clock for Hand {
    fn wall_clock_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub fn options() -> Options {
    Options::default()
}

pub fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub fn key(name: &str) -> StateKey {
    StateKey::new("test", name).unwrap()
}

pub fn execution(n: u32) -> ExecutionId {
    ExecutionId::from_claims(&Digest::of(&n.to_be_bytes()))
}

pub fn event(n: u32) -> NewEvent {
    NewEvent::new("sample".parse().unwrap(), &tenant("sample")).claim("n", n).observe("text", "as was seen")
}

pub fn started(n: u32) -> NewEvent {
    NewEvent::new(EventType::EXECUTION_STARTED, &execution(n)).claim("n", n)
}

/// A small generator (xorshift64*), so that a failing run can be repeated from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}
