//! Children that nobody waits for: spawners that died, and boxes of spawners that died before they could tell of them.

use std::collections::BTreeSet;
use std::convert::Infallible;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::limits;

/// Reaps what has been dead for a while, whenever a child has died. Whoever has a child of its own reaps it at once.
///
/// # Errors
/// Where the signal cannot be listened for.
pub async fn reap_the_unclaimed() -> std::io::Result<Infallible> {
    let mut died = signal(SignalKind::child())?;
    loop {
        died.recv().await;
        let mut before = dead_children();
        while !before.is_empty() {
            sleep(limits::UNCLAIMED_WAIT).await;
            let now = dead_children();
            before.intersection(&now).for_each(|pid| reap(*pid));
            before = now.difference(&before).copied().collect();
        }
    }
}

fn reap(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(_) => tracing::debug!(?pid, "a dead child that nobody waited for is gone now"),
        Err(error) => tracing::debug!(?pid, %error, "somebody waited for it meanwhile"),
    }
}

/// Children of this process that are dead and were not waited for, see proc(5).
fn dead_children() -> BTreeSet<i32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<i32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect();
    children.into_iter().filter(|pid| is_dead(*pid)).collect()
}

fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold anything, but no later parenthesis.
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}
