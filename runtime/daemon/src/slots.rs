//! The pool of host id ranges: one for each living cell, handed out in turn, so that a range rests as long as possible
//! before somebody else gets it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use remand_spec::estate::IDS_OF_A_CELL;
use tokio::sync::Notify;

/// The pool.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    free: Mutex<VecDeque<u32>>,
    all: usize,
    back: Notify,
}

/// A range that nobody else has; goes back to the end of the queue when it is dropped.
#[derive(Debug)]
pub struct Slot {
    first: u32,
    pool: Slots,
}

impl Slots {
    /// All ranges of an estate.
    #[must_use]
    pub fn new(first: u32, cells: u32) -> Self {
        let free: VecDeque<u32> = (0..cells).map(|n| first + n * IDS_OF_A_CELL).collect();
        Self(Arc::new(Pool { all: free.len(), free: Mutex::new(free), back: Notify::new() }))
    }

    /// The range that has rested longest, or nothing where all are taken.
    #[must_use]
    pub fn take(&self) -> Option<Slot> {
        let first = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        Some(Slot { first, pool: self.clone() })
    }

    /// Returns when every range is back: no cell is left, and none is being cleared away.
    pub async fn all_back(&self) {
        while self.0.free.lock().unwrap_or_else(PoisonError::into_inner).len() < self.0.all {
            self.0.back.notified().await;
        }
    }
}

impl Slot {
    /// The first host id of the range.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.0.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.first);
        self.pool.0.back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_was_just_given_back_is_the_last_to_be_used_again() {
        let pool = Slots::new(1 << 30, 3);
        let first = pool.take().expect("one").first();
        let next: Vec<_> = (0..2).filter_map(|_| pool.take()).collect();
        assert!(next.iter().all(|slot| slot.first() != first));
        assert_eq!(pool.take().expect("the first again").first(), first);
    }

    #[tokio::test]
    async fn who_waits_for_all_ranges_waits_for_the_last() {
        let pool = Slots::new(1 << 30, 2);
        let held = (pool.take(), pool.take());
        let all = tokio::spawn({
            let pool = pool.clone();
            async move { pool.all_back().await }
        });
        drop(held.0);
        tokio::task::yield_now().await;
        assert!(!all.is_finished());
        drop(held.1);
        assert!(all.await.is_ok());
    }

    #[test]
    fn an_empty_pool_gives_nothing() {
        let pool = Slots::new(1 << 30, 1);
        let held = pool.take();
        assert!(held.is_some() && pool.take().is_none());
    }
}
