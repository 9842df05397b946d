//! SIGKILL at random moments under load: nothing acknowledged is lost, no gap, every chain verifies, state fits its events.
//!
//! `REMAND_KILL_ROUNDS` sets the number of rounds (200), `REMAND_KILL_SEED` repeats a run.

mod store_kit;

use store_kit::child::{self, Run};

/// Rounds on one store before a fresh one, so that reading all of it stays cheap.
const ROUNDS_PER_STORE: u32 = 6;

#[test]
fn the_child_appends() {
    child::run_if_child();
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_at_random_moments() {
    let number = |name: &str, default: u32| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let rounds = number("REMAND_KILL_ROUNDS", 200);
    let seed = number("REMAND_KILL_SEED", std::process::id());
    let mut random = store_kit::Random::new(u64::from(seed));
    let mut acknowledged = 0;
    let mut store = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for round in 0..rounds {
        if round % ROUNDS_PER_STORE == 0 {
            store = tempfile::tempdir().unwrap();
            told.clear();
        }
        let segments = round / ROUNDS_PER_STORE % 4 == 3;
        let run = Run { dir: store.path(), segments, threads: 8, rounds: 100_000, reopenings: 0 };
        let enough = random.below(250) as usize;
        let mut child = run.command(&[]).spawn().unwrap();
        let mut lines = child::lines(&mut child);
        told.extend(child::read_acks(&mut lines, enough));
        child.kill().unwrap();
        told.extend(child::read_acks(&mut lines, usize::MAX));
        child.wait().unwrap();
        drop(run.check(&told));
        acknowledged += child::tally(&told).values().sum::<usize>();
    }
    eprintln!("{rounds} rounds, {acknowledged} acknowledged events looked up, seed {seed}");
}
