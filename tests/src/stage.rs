//! One daemon for a whole suite, the probe for its boxes, and what a run in them showed.
//!
//! A suite's `main` is [`main`]: it finds what the suite needs, runs the cases with [`stage`] at hand, ends the daemon and
//! looks whether anything is left.

use crate::cases;
use crate::kit::{Daemon, Finished, PATIENCE, Place, Traces, finish, wait_readable};
use crate::suite::{self, Case, Verdict};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long what a box or an instance leaves may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(3);

static STAGE: Mutex<Option<Arc<Stage>>> = Mutex::new(None);
static LEFT: Mutex<Option<(String, PathBuf)>> = Mutex::new(None);

/// Where a box shows the probe.
pub const PROBE: &str = "/probe/probe";

/// A daemon that stays for a suite, on folders of its own, and the probe.
#[derive(Debug)]
pub struct Stage {
    /// The daemon's place.
    pub place: Place,
    daemon: Daemon,
    count: AtomicU32,
}

/// Runs a suite's cases on a stage of their own; the process's arguments choose among them, see [`suite::main`].
pub fn main(cases: &[Case]) -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return suite::main(cases);
    }
    match Stage::find() {
        Ok(stage) => {
            *LEFT.lock().expect("no case holds it") = Some((stage.place.group(), stage.place.path().to_owned()));
            *STAGE.lock().expect("no case holds it") = Some(Arc::new(stage));
        }
        Err(why) => return skip_all(cases, &why),
    }
    let code = suite::main(cases);
    drop(STAGE.lock().expect("no case holds it").take());
    let clean = suite::run(cases![nothing_of_the_suite_is_left_behind].iter(), &mut std::io::stdout());
    if clean { code } else { ExitCode::FAILURE }
}

fn skip_all(cases: &[Case], why: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    for (name, _) in cases {
        writeln!(stdout, "skipped {name}: {why}").expect("stdout takes a line");
    }
    ExitCode::SUCCESS
}

fn nothing_of_the_suite_is_left_behind() -> Verdict {
    let (group, folder) = LEFT.lock().expect("no case holds it").clone().expect("the suite had a stage");
    Traces::assert_gone(|| Traces::of(&group, &folder));
    assert!(!folder.exists(), "{} is left", folder.display());
    Verdict::Proved
}

/// The suite's stage.
#[must_use]
pub fn stage() -> Arc<Stage> {
    STAGE.lock().expect("no case holds it").clone().expect("stage::main set it")
}

/// Puts the probe into `folder`, which a box may be shown: a built one beside our binaries, or one compiled now.
fn place_probe(place: &Place) -> Result<(), String> {
    let folder = place.path().join("probe");
    fs::create_dir(&folder).expect("our own folder");
    let built = place.binary("probe");
    if built.is_file() {
        fs::copy(built, folder.join("probe")).expect("our own folder");
        return Ok(());
    }
    let source = place.path().join("probe.c");
    fs::write(&source, include_str!("../probe/probe.c")).expect("our own folder");
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-O1", "-o"]).arg(folder.join("probe")).arg(&source);
    match compiler.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("the probe does not compile: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => {
            Err(format!("no C compiler for the probe ({error}); install gcc, or put a probe in REMAND_BIN_DIR"))
        }
    }
}

/// A place with the probe in it, whose daemon is still to be started.
pub fn find_place() -> Result<Place, String> {
    let place = Place::find()?;
    place_probe(&place)?;
    Ok(place)
}

impl Stage {
    fn find() -> Result<Self, String> {
        let place = find_place()?;
        fs::create_dir(place.path().join("shown")).expect("our own folder");
        let shown = place.path().to_str().expect("a plain path");
        let daemon = Daemon::start(&place, &["--allow-root", "/", "--allow-writable-root", shown]);
        Ok(Self { place, daemon, count: AtomicU32::new(0) })
    }

    /// The daemon's process id.
    #[must_use]
    pub fn daemon(&self) -> u32 {
        self.daemon.pid()
    }

    /// The daemon's children: the spawners, and the keepers of what runs.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        self.daemon.children()
    }

    /// A fresh folder that boxes may be given, for reading and writing.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.place.path().join("shown").join(number.to_string());
        fs::create_dir(&path).expect("our own folder");
        path
    }

    /// Runs a program in a box: flags of `remand run`, `--`, the program.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Seen {
        run_at(&self.place, arguments, b"")
    }

    /// Runs a program in a box with this input.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Seen {
        run_at(&self.place, arguments, input)
    }

    /// Runs a script of sh(1) in a box.
    #[must_use]
    pub fn shell(&self, flags: &[&str], script: &str) -> Seen {
        self.run(&[flags, &["--", "/bin/sh", "-c", script]].concat())
    }

    /// Runs the probe in a box.
    #[must_use]
    pub fn probe(&self, flags: &[&str], words: &[&str]) -> Seen {
        probe_at(&self.place, flags, words)
    }

    /// Fails the test unless every box of the stage is gone, with its groups, within the promised time.
    pub fn assert_empty(&self) {
        let group = self.place.group();
        wait_until(|| {
            let (processes, cells) = (boxed(&group), cells(&group));
            if processes.is_empty() && cells.is_empty() {
                Ok(())
            } else {
                Err(format!("left: {processes:?} {cells:?}"))
            }
        });
    }

    /// A script of sh(1) that runs in a box until it is let go; it must print a line once it is ready.
    #[must_use]
    pub fn live(&self, flags: &[&str], script: &str) -> Live {
        Live::start(&self.place, flags, script)
    }
}

/// Runs a program in a box at a place, by its daemon or one for the length of the command.
#[must_use]
pub fn run_at(place: &Place, arguments: &[&str], input: &[u8]) -> Seen {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let file = place.path().join(format!("result-{}.json", COUNT.fetch_add(1, Ordering::Relaxed)));
    let name = file.to_str().expect("a plain path");
    let finished =
        finish(&mut place.command(&[&["run", "-q", "--result-file", name], arguments].concat()), input, PATIENCE);
    let result = match fs::read(&file) {
        Ok(bytes) if !bytes.is_empty() => serde_json::from_slice(&bytes).expect("a result is JSON"),
        _ => Value::Null,
    };
    Seen { finished, result }
}

/// Runs the probe in a box at a place.
#[must_use]
pub fn probe_at(place: &Place, flags: &[&str], words: &[&str]) -> Seen {
    let volume = format!("{}:/probe", place.path().join("probe").display());
    run_at(place, &[&["-v", volume.as_str()], flags, &["--", PROBE], words].concat(), b"")
}

/// What a run showed: what the command printed and its exit code, and the result document (null where there was none).
#[derive(Debug)]
pub struct Seen {
    /// The command.
    pub finished: Finished,
    /// The result.
    pub result: Value,
}

impl Seen {
    /// Fails the test unless the exit code is `code`; returns itself.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        let (out, err) = (self.finished.text(), self.finished.complaint());
        assert_eq!(self.finished.code(), code, "result: {}\nstdout: {out}\nstderr: {err}", self.result);
        self
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        self.finished.text()
    }

    /// The kind of the cause.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.result["cause"]["kind"].as_str().unwrap_or("no result")
    }

    /// Fails the test unless the cause is of this kind; returns itself.
    #[must_use]
    pub fn because(self, kind: &str) -> Self {
        assert_eq!(self.cause(), kind, "result: {}\nstderr: {}", self.result, self.finished.complaint());
        self
    }

    /// Fails the test unless the result names the limit as one that was hit; returns itself.
    #[must_use]
    pub fn hit(self, limit: &str) -> Self {
        let hits = self.result["limits_hit"].as_array().expect("a list of limits");
        assert!(hits.iter().any(|hit| hit == limit), "{limit} is not named: {}", self.result);
        self
    }

    /// A number of the result, by its JSON pointer.
    #[must_use]
    pub fn number(&self, pointer: &str) -> u64 {
        let value = self.result.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number {pointer} in {}", self.result))
    }

    /// What was read back from inside, by name.
    #[must_use]
    pub fn fact(&self, name: &str) -> u64 {
        self.number(&format!("/enforced/facts/{name}"))
    }

    /// The probe's lines: what, and what it said of it.
    #[must_use]
    pub fn lines(&self) -> Vec<(String, Value)> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let named = |line: Value| (line["what"].as_str().expect("a name").to_owned(), line);
        self.text().lines().map(parse).map(named).collect()
    }

    /// The values that the probe found under this name.
    #[must_use]
    pub fn all(&self, what: &str) -> Vec<String> {
        let of = |line: &Value| line["is"].as_str().unwrap_or_default().to_owned();
        self.lines().iter().filter(|(name, _)| name == what).map(|(_, line)| of(line)).collect()
    }

    /// The one value that the probe found under this name.
    #[must_use]
    pub fn one(&self, what: &str) -> String {
        let all = self.all(what);
        assert_eq!(all.len(), 1, "{what}: {all:?} in {}", self.text());
        all[0].clone()
    }

    /// What the probe's attempt gave: 0 or more where it succeeded, a negative error number where it did not.
    #[must_use]
    pub fn answer(&self, what: &str) -> i64 {
        let lines = self.lines();
        let found = lines.iter().find(|(name, _)| name == what);
        let line = &found.unwrap_or_else(|| panic!("nothing about {what} in {}", self.text())).1;
        let (ret, errno) = (line["ret"].as_i64().unwrap_or_default(), line["errno"].as_i64().unwrap_or_default());
        if ret == -1 { -errno } else { ret }
    }
}

/// A program that runs in a box until it is let go. Killed when dropped.
#[derive(Debug)]
pub struct Live {
    child: Child,
    group: String,
}

impl Live {
    /// Starts it at a place and waits until it has printed a line.
    #[must_use]
    pub fn start(place: &Place, flags: &[&str], script: &str) -> Self {
        let arguments = [&["run", "-q"], flags, &["--", "/bin/sh", "-c", script]].concat();
        let mut command = place.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("remand starts");
        let stdout = child.stdout.as_mut().expect("a pipe");
        let mut byte = [0];
        while byte[0] != b'\n' {
            assert!(wait_readable(stdout, PATIENCE), "the program in the box says nothing");
            stdout.read_exact(&mut byte).expect("the program in the box ended before it was ready");
        }
        Self { child, group: place.group() }
    }

    /// The process id of the command that started it.
    #[must_use]
    pub fn command(&self) -> u32 {
        self.child.id()
    }

    /// The host's process ids of everything in boxes of this instance: keepers and programs.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<u32> {
        boxed(&self.group)
    }

    /// The host's process id of its keeper; there must be one box only.
    #[must_use]
    pub fn keeper(&self) -> u32 {
        let is = |pid: &u32| status(*pid, "NSpid").is_some_and(|pids| pids.ends_with("\t1"));
        let keepers: Vec<u32> = self.processes().into_iter().filter(is).collect();
        assert_eq!(keepers.len(), 1, "one box was expected");
        keepers[0]
    }

    /// Closes its input and waits for its end: the exit code of the command.
    #[must_use]
    pub fn end(mut self) -> i32 {
        drop(self.child.stdin.take());
        self.wait()
    }

    /// Waits for its end, whoever brings it: the exit code of the command.
    #[must_use]
    pub fn wait(&mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("not reaped");
        assert!(wait_readable(&handle, PATIENCE), "the command does not end");
        self.child.wait().expect("our own child").code().unwrap_or(-1)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("remand {}: {error}", self.child.id());
        }
    }
}

/// The host's process ids of everything in the boxes of the instance with this group.
#[must_use]
pub fn boxed(group: &str) -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").expect("proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let part = format!("{group}/t-");
    pids.filter(|pid| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(&part) && status(*pid, "State").is_some_and(|state| !state.starts_with('Z'))
    })
    .collect()
}

/// The control groups of boxes of the instance with this group, in every hierarchy.
#[must_use]
pub fn cells(group: &str) -> BTreeSet<String> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
    };
    let tops = Traces::of(group, Path::new("/nowhere")).groups;
    let tenants = tops.iter().flat_map(|top| folders(Path::new(top)));
    tenants.flat_map(|tenant| folders(&tenant)).map(|cell| cell.display().to_string()).collect()
}

/// Looks again and again until it is so, and fails the test when what may last three seconds lasts longer.
pub fn wait_until(so: impl Fn() -> Result<(), String>) {
    let end = Instant::now() + GONE_WITHIN;
    while let Err(otherwise) = so() {
        assert!(Instant::now() < end, "{otherwise}");
        std::thread::yield_now();
    }
}

/// A case that is known to fail: counted as skipped, with what is known, until it is proved.
pub fn known(what: &str, case: impl FnOnce() -> Verdict) -> Verdict {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(case));
    outcome.unwrap_or_else(|_| Verdict::Skipped(format!("known: {what}")))
}

/// One line of a host process's status file, see proc(5); nothing where the process is gone.
#[must_use]
pub fn status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.map(|value| value.trim_start().to_owned())
}
