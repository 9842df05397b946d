//! A tenant's executions as a whole: each fits, their sum does not, and the kernel holds it. Needs root.

mod kit;

use std::io::{Write as _, pipe};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use kit::{Place, place};
use remand_client::RunSink;
use remand_model::envelope::Command;
use remand_model::outcome::{Cause, ExecutionResult};
use serde_json::json;

/// An execution that goes on when it is told, and says how far it came.
struct Job {
    orders: Option<std::io::PipeWriter>,
    said: Receiver<String>,
    end: JoinHandle<ExecutionResult>,
}

struct Lines(Sender<String>);

impl RunSink for Lines {
    fn stdout(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.is_empty()) {
            // Whoever does not listen any more has heard enough.
            self.0.send(line.to_owned()).unwrap_or_default();
        }
        Ok(())
    }

    fn stderr(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

impl Job {
    fn start(place: &Place, name: &str, script: &str, settings: [(&str, &str); 1]) -> Self {
        let mut request = kit::request(name, "");
        (request.policy, request.stdin) = ("python".into(), true);
        request.argv = ["/usr/bin/python3", "-c", script].map(str::to_owned).to_vec();
        request.settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let (reader, writer) = pipe().expect("a pipe");
        let (lines, said) = channel();
        let mut client = place.client("local");
        let end = std::thread::spawn(move || {
            client.run(&request, Some(reader.as_fd()), &mut Lines(lines)).expect("it is answered").result
        });
        let job = Self { orders: Some(writer), said, end };
        assert_eq!(job.said.recv().expect("it starts"), "ready");
        job
    }

    fn go(&mut self) {
        self.orders.as_mut().expect("it was not ended").write_all(b"go\n").expect("it reads");
    }

    /// Lets it end, and says how it did.
    fn end(mut self) -> ExecutionResult {
        self.orders = None;
        self.end.join().expect("no panic")
    }
}

fn lower(place: &Place, max_memory_mb: u64, max_pids: u64) {
    let quota = json!({"max_cpu_seconds": 100_000, "max_memory_mb": max_memory_mb, "max_disk_mb": 100_000,
        "max_network_kb": 0, "max_concurrent_tasks": 4, "max_pids": max_pids, "max_output_bytes": 1_u64 << 40,
        "window_seconds": 3600, "weight": 100});
    let ask = json!({"what": "register", "tenant_id": "local", "quota": quota});
    drop(place.client("local").ask(Command::Quota, &ask).expect("root sets quotas"));
}

#[test]
fn memory_that_fits_alone_and_not_together_ends_one_and_names_the_tenants_limit() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let hog = "import sys
print('ready', flush=True)
sys.stdin.readline()
held = b'x' * (120 << 20)
print('full', flush=True)
sys.stdin.readline()";
    let mut jobs = ["one", "two"].map(|name| Job::start(&place, name, hog, [("memory", "170M")]));
    lower(&place, 200, 1000);
    jobs[0].go();
    assert_eq!(jobs[0].said.recv().expect("it fits alone"), "full");
    jobs[1].go();
    let [first, second] = jobs;
    // One of the two is ended now, whichever the kernel chose; the other one goes on to its end.
    let second_lives = second.said.recv().is_ok();
    let results = [first.end(), second.end()];
    assert_eq!(second_lives, results[1].cause != Cause::Oom, "{results:?}");
    let (ended, lived): (Vec<_>, Vec<_>) = results.iter().partition(|result| result.cause == Cause::Oom);
    assert_eq!((ended.len(), lived.len()), (1, 1), "{results:?}");
    assert_eq!(ended[0].limits_hit, ["tenant_memory"]);
    assert!(ended[0].hint.as_ref().is_some_and(|hint| hint.contains("max_memory_mb")));
    assert_eq!((&lived[0].cause, lived[0].limits_hit.len()), (&Cause::Exited { code: 0 }, 0));
}

#[test]
fn processes_that_fit_alone_and_not_together_are_refused_and_the_tenants_limit_is_named() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let many = "import os, sys
print('ready', flush=True)
sys.stdin.readline()
for _ in range(25):
    if os.fork() == 0:
        sys.stdin.readline()
        os._exit(0)
print('full', flush=True)
sys.stdin.readline()";
    let mut jobs = ["one", "two"].map(|name| Job::start(&place, name, many, [("pids", "60")]));
    lower(&place, 100_000, 36);
    jobs[0].go();
    assert_eq!(jobs[0].said.recv().expect("it fits alone"), "full");
    jobs[1].go();
    let [first, second] = jobs;
    assert!(second.said.recv().is_err(), "its forks are refused");
    let refused = second.end();
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // Newer kernels count a refusal where the limit is, above the cell, and tell nobody who was refused.
        assert_ne!(refused.cause, Cause::Exited { code: 0 });
    } else {
        assert_eq!((&refused.cause, &refused.limits_hit[..]), (&Cause::PidsLimit, &["tenant_pids".to_owned()][..]));
        assert!(refused.hint.as_ref().is_some_and(|hint| hint.contains("max_pids")));
    }
    assert_eq!(first.end().cause, Cause::Exited { code: 0 });
}
