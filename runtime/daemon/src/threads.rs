//! Who may block whom: every connection has a thread of its own, on which everything for it happens.
//!
//! To hand work from one thread to another and back costs more than most of the work of an execution. So a connection's
//! requests, its executions and their records stay on its thread, which may wait for a disk or a spawner without anybody
//! else waiting. What outlives a connection is on the daemon's common threads.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};

/// Runs work that may block. On a common thread others are told to take over meanwhile.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Runs a future to its end on a thread of its own, with all that it spawns; then `after`, whatever came of it.
///
/// # Errors
/// Where the thread cannot be started; then neither was run.
pub fn alone<F: Future<Output = ()>>(
    future: impl FnOnce() -> F + Send + 'static,
    after: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let work = move || {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async { future().await }),
            Err(error) => tracing::error!(%error, "a connection cannot be served: out of descriptors?"),
        }
        after();
    };
    std::thread::Builder::new().name("connection".into()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn what_follows_a_connection_happens_once_after_its_end() {
        let (said, heard) = channel();
        let after = said.clone();
        let future = move || async move { said.send("talk").expect("somebody listens") };
        alone(future, move || after.send("after").expect("somebody listens")).expect("a thread");
        assert_eq!(
            [heard.recv(), heard.recv(), heard.recv()],
            [Ok("talk"), Ok("after"), Err(std::sync::mpsc::RecvError)]
        );
    }

    #[test]
    fn blocking_work_is_done_on_either_kind_of_thread_and_without_a_runtime() {
        assert_eq!(blocking(|| 1), 1);
        let single = Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(single.block_on(async { blocking(|| 2) }), 2);
        let common = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        assert_eq!(common.block_on(async { tokio::spawn(async { blocking(|| 3) }).await.ok() }), Some(3));
    }
}
