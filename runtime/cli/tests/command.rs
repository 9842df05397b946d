//! The built command against a scripted daemon: streams, exit codes, signals, starting, refusals.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Output, Stdio};
use std::thread::{self, JoinHandle};

use remand_model::envelope::{Command, Frame, HEADER_BYTES, Header};
use remand_model::outcome::{Cause, Enforced, ExecutionResult, InputRecord, OutputFile, Outputs, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION, canonical};
use serde_json::{Value, json};

const REMAND: &str = env!("CARGO_BIN_EXE_remand");

/// The daemon's side of one connection.
struct Peer(UnixStream);

impl Peer {
    fn expect(&mut self, command: Command) -> Frame {
        let mut bytes = [0; HEADER_BYTES];
        self.0.read_exact(&mut bytes).expect("a header");
        let (header, size) = Header::decode(&bytes).expect("a good header");
        let mut payload = vec![0; size];
        self.0.read_exact(&mut payload).expect("a payload");
        assert_eq!(header.command, command);
        Frame { header, payload }
    }

    fn send(&mut self, to: &Header, command: Command, payload: &[u8]) {
        let header = Header { command, ..to.clone() };
        self.0.write_all(&header.encode(payload.len())).expect("sent");
        self.0.write_all(payload).expect("sent");
    }

    fn greet(&mut self) {
        let hello = self.expect(Command::Hello).header;
        self.send(
            &hello,
            Command::Answer,
            br#"{"node_id":"n1","protocol_version":"1.0","role":"admin","version":"0"}"#,
        );
        let attach = self.expect(Command::Attach).header;
        assert_eq!(attach.tenant.as_ref().map(|tenant| tenant.as_str()), Some("local"));
        self.send(&attach, Command::Answer, br#"{"lease":1,"lease_ms":60000}"#);
    }

    /// The run's header, after its request was read and accepted.
    fn run(&mut self) -> (Header, Value) {
        let run = self.expect(Command::Run);
        let accepted = json!({"event": "accepted", "execution_id": execution_id()});
        self.send(&run.header, Command::Event, accepted.to_string().as_bytes());
        (run.header, serde_json::from_slice(&run.payload).expect("json"))
    }

    fn end(&mut self, run: &Header, result: &ExecutionResult) {
        let value = canonical::from_serialize(result).expect("a value");
        self.send(run, Command::Answer, &canonical::to_bytes(&value));
    }
}

fn execution_id() -> ExecutionId {
    ExecutionId::from_claims(&Digest::of(b"x"))
}

fn result(cause: Cause) -> ExecutionResult {
    ExecutionResult {
        protocol_version: PROTOCOL_VERSION.into(),
        execution_id: execution_id(),
        tenant_id: "local".parse().expect("a name"),
        exit_code: cause.exit_code(),
        cause,
        limits_hit: Vec::new(),
        usage: Usage::default(),
        input: InputRecord { sha256: Digest::of(b""), bytes: 0, kept: true },
        outputs: Outputs { collected: true, ..Outputs::none() },
        denials: Vec::new(),
        enforced: Enforced::default(),
        timing_us: [].into(),
        hint: None,
        record: None,
    }
}

/// A folder with a socket on which a script answers one connection.
struct Stage {
    dir: tempfile::TempDir,
    script: Option<JoinHandle<()>>,
}

impl Stage {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), script: None }
    }

    fn with(script: impl FnOnce(&mut Peer) + Send + 'static) -> Self {
        let mut stage = Self::empty();
        let listener = UnixListener::bind(stage.path("sock")).expect("a socket");
        stage.script = Some(thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let mut peer = Peer(stream);
            peer.greet();
            script(&mut peer);
        }));
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Process {
        let mut command = Process::new(REMAND);
        command.args(arguments).env_clear().env("REMAND_SOCKET", self.path("sock"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn output(&mut self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("ran");
        self.join();
        output
    }

    fn join(&mut self) {
        if let Some(script) = self.script.take() {
            script.join().expect("the script");
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn the_programs_streams_come_through_unchanged_and_its_code_is_ours() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stdout, b"out\x1b\0");
        peer.send(&run, Command::Stderr, b"err\n");
        peer.end(&run, &result(Cause::Exited { code: 7 }));
    });
    let output = stage.output(&["run", "--", "true"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"out\x1b\0");
    assert_eq!(stderr(&output), format!("execution {}\nerr\n", execution_id()));
}

#[test]
fn quiet_leaves_the_programs_streams_alone() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stderr, b"err\n");
        peer.end(&run, &result(Cause::Exited { code: 0 }));
    });
    assert_eq!(stderr(&stage.output(&["run", "-q", "--", "true"])), "err\n");
}

#[test]
fn json_is_all_that_is_on_stdout_and_in_the_result_file() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stdout, b"out");
        peer.end(&run, &result(Cause::Exited { code: 0 }));
    });
    let file = stage.path("result.json");
    let output = stage.output(&["run", "--json", "--result-file", &file.display().to_string(), "--", "true"]);
    let printed: ExecutionResult = serde_json::from_slice(&output.stdout).expect("a result");
    let written: ExecutionResult = serde_json::from_slice(&fs::read(file).expect("a file")).expect("a result");
    assert_eq!((&printed, &written), (&result(Cause::Exited { code: 0 }), &printed));
    assert_eq!(output.stderr, b"out");
}

#[test]
fn a_limit_is_named_on_stderr_with_its_flag_and_its_code() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.end(&run, &result(Cause::WallTimeout));
    });
    let output = stage.output(&["run", "-q", "--", "true"]);
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(stderr(&output), "remand: wall_timeout: the wall time was over (limit 60s); raise it with --wall\n");
}

#[test]
fn a_refusal_says_what_and_whose_move_and_nothing_is_on_stdout() {
    let mut stage = Stage::with(|peer| {
        let run = peer.expect(Command::Run).header;
        let refusal = Refusal::new(Code::QuotaExceeded, "tasks").of(run.tenant.as_ref(), run.trace).retry_after(5);
        let value = canonical::from_serialize(&refusal).expect("a value");
        peer.send(&run, Command::Refused, &canonical::to_bytes(&value));
    });
    let output = stage.output(&["run", "--", "true"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
    let line = stderr(&output);
    assert!(line.starts_with("remand: quota_exceeded: tasks; try again after the hint"), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn standard_input_is_sent_and_ended() {
    let mut stage = Stage::with(|peer| {
        let (run, request) = peer.run();
        assert_eq!(request["stdin"], true);
        let mut input = Vec::new();
        loop {
            let frame = peer.expect(Command::Stdin);
            if frame.payload.is_empty() {
                break;
            }
            input.extend(frame.payload);
        }
        peer.send(&run, Command::Stdout, &input);
        peer.end(&run, &result(Cause::Exited { code: 0 }));
    });
    let mut child = stage.command(&["run", "--", "cat"]).stdin(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(b"through and back").expect("written");
    assert_eq!(child.wait_with_output().expect("ended").stdout, b"through and back");
    stage.join();
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
}

/// Runs until the program has printed a line, so that everything is in place.
fn started(stage: &Stage) -> Child {
    let mut child = stage.command(&["run", "-q", "--", "sleep"]).spawn().expect("started");
    let mut line = [0; 3];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"up\n");
    child
}

#[test]
fn ctrl_c_cancels_the_whole_box_and_its_result_decides_the_code() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stdout, b"up\n");
        assert!(peer.expect(Command::Stdin).payload.is_empty());
        assert_eq!(peer.expect(Command::Control).payload, br#"{"cancel":true}"#);
        peer.end(&run, &result(Cause::Cancelled));
    });
    let child = started(&stage);
    interrupt(&child);
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(137));
    assert_eq!(stderr(&output), "remand: cancelled: it was ended from outside\n");
    stage.join();
}

#[test]
fn a_second_ctrl_c_exits_at_once() {
    let (told, tell) = std::sync::mpsc::channel();
    let mut stage = Stage::with(move |peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stdout, b"up\n");
        peer.expect(Command::Stdin);
        peer.expect(Command::Control);
        told.send(()).expect("told");
        let mut rest = Vec::new();
        // The client is gone with its request unanswered; what it sent last does not matter.
        peer.0.read_to_end(&mut rest).unwrap_or(0);
    });
    let mut child = started(&stage);
    interrupt(&child);
    tell.recv().expect("the cancel was heard");
    interrupt(&child);
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    stage.join();
}

#[test]
fn a_signal_is_heard_while_nobody_reads_the_output() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stdout, b"up\n");
        peer.expect(Command::Stdin);
        (0..8).for_each(|_| peer.send(&run, Command::Stdout, &[b'x'; 60_000]));
        peer.expect(Command::Control);
        peer.end(&run, &result(Cause::Cancelled));
    });
    let mut child = started(&stage);
    interrupt(&child);
    // The pipe is full and stays so: only the signal can have ended the wait.
    assert_eq!(child.wait().expect("ended").code(), Some(137));
    stage.join();
}

#[test]
fn output_files_land_in_the_folder_and_a_hostile_name_does_not() {
    for (path, code) in [("good/file", 0), ("../evil", 125)] {
        let mut stage = Stage::with(move |peer| {
            let (run, request) = peer.run();
            assert_eq!(request["want_files"], true);
            let mut result = result(Cause::Exited { code: 0 });
            let file = OutputFile { path: path.into(), mode: 0o644, bytes: 4, sha256: Digest::of(b"data") };
            result.outputs.files = vec![file];
            peer.end(&run, &result);
            peer.send(&run, Command::Data, b"data");
        });
        let out = stage.path("out");
        let output = stage.output(&["run", "--out", &out.display().to_string(), "--", "true"]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(!stage.path("evil").exists());
        assert_eq!(out.join("good/file").exists(), code == 0);
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_as_in_a_pipeline() {
    let mut stage = Stage::with(|peer| {
        let (run, _) = peer.run();
        peer.send(&run, Command::Stdout, b"to nobody");
        loop {
            let mut bytes = [0; HEADER_BYTES];
            peer.0.read_exact(&mut bytes).expect("a header");
            let (header, size) = Header::decode(&bytes).expect("a header");
            let mut payload = vec![0; size];
            peer.0.read_exact(&mut payload).expect("a payload");
            if header.command == Command::Control {
                break;
            }
        }
        peer.end(&run, &result(Cause::Cancelled));
    });
    let mut child = stage.command(&["run", "-q", "--", "yes"]).spawn().expect("started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0));
    stage.join();
}

/// A stand-in for the daemon's program: what a shell script can say.
fn put_daemon(stage: &Stage, script: &str) -> PathBuf {
    let folder = stage.path("bin");
    fs::create_dir(&folder).expect("made");
    let path = folder.join("remandd");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    folder
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn start_with(script: &str) -> Output {
    let stage = Stage::empty();
    let folder = put_daemon(&stage, script);
    stage.command(&["run", "--", "true"]).env("REMAND_BIN_DIR", folder).output().expect("ran")
}

#[test]
fn a_daemon_that_does_not_start_says_why_through_us() {
    let output = start_with("echo 'no cgroup here; mount one' >&2; exit 125");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
    let expected = if is_root() { "no cgroup here; mount one" } else { "sudo" };
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn a_missing_daemon_is_an_error_that_says_how_to_get_it() {
    let stage = Stage::empty();
    let output = stage.command(&["run", "--", "true"]).env("REMAND_BIN_DIR", "/nonexistent").output().expect("ran");
    assert_eq!(output.status.code(), Some(125));
    let expected = if is_root() { "scripts/build" } else { "sudo" };
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn the_daemon_is_started_with_an_empty_environment_and_the_folders_that_were_named() {
    if !is_root() {
        return;
    }
    let stage = Stage::empty();
    let told = stage.path("told");
    let script = format!("{{ echo \"$@\"; env | sort; pwd; }} > {0}; echo 'that is all' >&2; exit 1", told.display());
    let folder = put_daemon(&stage, &script);
    let mut command = stage.command(&["run", "--", "true"]);
    command.env("REMAND_BIN_DIR", folder).env("REMAND_STATE", "/s").env("REMAND_RUN", "/r").env("SECRET", "x");
    assert_eq!(command.output().expect("ran").status.code(), Some(125));
    let text = fs::read_to_string(told).expect("told");
    let socket = stage.path("sock");
    let arguments = format!("--until-idle --socket {} --state /s --run /r", socket.display());
    assert_eq!(text.lines().next(), Some(arguments.as_str()));
    assert!(!text.contains("SECRET") && text.ends_with("\n/\n"), "{text}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_started() {
    let stage = Stage::empty();
    let folder = put_daemon(&stage, &format!("touch {}", stage.path("started").display()));
    let bad: [&[&str]; 7] = [
        &["run", "--bogus", "--", "true"],
        &["run"],
        &["run", "-m", "0", "--", "true"],
        &["run", "-v", "/no/such:/x", "--", "true"],
        &["run", "--rootfs", "/no/such", "--", "true"],
        &["run", "--out", "/dev/null", "--", "true"],
        &["run", "--result-file", "/no/such/file", "--", "true"],
    ];
    for arguments in bad {
        let output = stage.command(arguments).env("REMAND_BIN_DIR", &folder).output().expect("ran");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(!stage.path("started").exists());
}

#[test]
fn a_token_that_others_can_read_is_refused() {
    let stage = Stage::empty();
    let token = stage.path("token");
    fs::write(&token, "secret-token").expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("changed");
    let output = stage.command(&["ps", "--token-file", &token.display().to_string()]).output().expect("ran");
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("chmod 600") && !stderr(&output).contains("secret-token"));
}

#[test]
fn tables_and_documents_come_from_the_same_answer() {
    for (format, expected) in [("table", "ID"), ("json", "{\"executions\""), ("jsonl", "{\"id\"")] {
        let mut stage = Stage::with(|peer| {
            let list = peer.expect(Command::List).header;
            peer.send(&list, Command::Answer, br#"{"executions":[{"id":"a\u001b[2J"}]}"#);
        });
        let output = stage.output(&["ps", "-o", format]);
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.trim_start().starts_with(expected) && !text.contains('\x1b'), "{text}");
    }
}

#[test]
fn an_image_layout_is_sent_as_the_same_tarball_every_time() {
    let digests: Vec<String> = (0..2).map(|_| sent_image()).collect();
    assert_eq!(digests[0], digests[1]);
}

fn sent_image() -> String {
    let (told, tell) = std::sync::mpsc::channel();
    let mut stage = Stage::with(move |peer| {
        let put = peer.expect(Command::Blob).header;
        let mut bytes = Vec::new();
        loop {
            let frame = peer.expect(Command::Data);
            if frame.payload.is_empty() {
                break;
            }
            bytes.extend(frame.payload);
        }
        let sha256 = Digest::of(&bytes).to_hex();
        let stored = json!({"bytes": bytes.len(), "sha256": sha256}).to_string();
        peer.send(&put, Command::Answer, stored.as_bytes());
        let (run, request) = peer.run();
        assert_eq!(request["root"], json!({"kind": "image", "sha256": sha256}));
        peer.end(&run, &result(Cause::Exited { code: 0 }));
        told.send(sha256).expect("told");
    });
    let image = stage.path("image");
    put_layout(&image);
    let output = stage.output(&["run", "--image", &image.display().to_string(), "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    tell.recv().expect("a digest")
}

fn put_layout(folder: &Path) {
    fs::create_dir_all(folder.join("blobs/sha256")).expect("made");
    for (name, text) in [("oci-layout", "{}"), ("index.json", "{}"), ("blobs/sha256/b", "b"), ("blobs/sha256/a", "a")] {
        fs::write(folder.join(name), text).expect("written");
    }
}
