//! Work on numbered pieces by several threads, with the fault of the lowest piece as the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Fault, Pace, Progress};

/// Works on pieces `0..count`, each thread with a state of its own, and returns their results in order.
///
/// # Errors
/// The fault of the lowest piece that has one, whatever the order in which the threads came to it.
pub(super) fn run<S, T: Send>(
    pace: &Pace<'_>,
    what: &'static str,
    count: u64,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, u64) -> Result<T, Fault> + Sync,
) -> Result<Vec<T>, Fault> {
    let shared = Shared { next: AtomicU64::new(0), lowest: AtomicU64::new(u64::MAX), done: AtomicU64::new(0), count };
    let threads = (pace.threads as u64).clamp(1, count.max(1));
    let outcomes: Vec<Outcome<T>> = std::thread::scope(|scope| {
        let one = || one_thread(&shared, pace, what, &state, &work);
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mut outcomes = vec![one()];
        outcomes.extend(others.into_iter().map(|other| other.join().expect("a verifying thread does not panic")));
        outcomes
    });
    let mut results = Vec::new();
    let mut faults = Vec::new();
    for outcome in outcomes {
        results.extend(outcome.results);
        faults.extend(outcome.fault);
    }
    if let Some((_, fault)) = faults.into_iter().min_by_key(|(piece, _)| *piece) {
        return Err(fault);
    }
    results.sort_unstable_by_key(|(piece, _)| *piece);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

struct Shared {
    next: AtomicU64,
    /// The lowest piece with a fault: nobody needs to look beyond it.
    lowest: AtomicU64,
    done: AtomicU64,
    count: u64,
}

struct Outcome<T> {
    results: Vec<(u64, T)>,
    fault: Option<(u64, Fault)>,
}

fn one_thread<S, T>(
    shared: &Shared,
    pace: &Pace<'_>,
    what: &'static str,
    state: impl Fn() -> S,
    work: impl Fn(&mut S, u64) -> Result<T, Fault>,
) -> Outcome<T> {
    let mut state = state();
    let mut results = Vec::new();
    loop {
        let piece = shared.next.fetch_add(1, Ordering::Relaxed);
        // Pieces are handed out in order, so that every piece below a faulty one is finished by whoever took it.
        if piece >= shared.count || piece > shared.lowest.load(Ordering::Relaxed) {
            return Outcome { results, fault: None };
        }
        match work(&mut state, piece) {
            Ok(result) => results.push((piece, result)),
            Err(fault) => {
                shared.lowest.fetch_min(piece, Ordering::Relaxed);
                return Outcome { results, fault: Some((piece, fault)) };
            }
        }
        let done = shared.done.fetch_add(1, Ordering::Relaxed) + 1;
        (pace.progress)(Progress { what, done, total: shared.count });
    }
}
