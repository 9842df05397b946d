//! A peer that follows a script: what a daemon could say, and what it must never say.
#![allow(dead_code, reason = "each suite uses its part of the kit")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use remand_client::Client;
use remand_model::envelope::{Command, Frame, HEADER_BYTES, Header};
use remand_model::outcome::{Cause, Enforced, ExecutionResult, InputRecord, OutputFile, Outputs, Usage};
use remand_model::refusal::{Code, Refusal};
use remand_model::run::RunRequest;
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION, canonical};
use serde::Serialize;
use serde_json::{Value, json};

pub const HELLO: &str = r#"{"node_id":"n1","protocol_version":"1.0","role":"operator","version":"0.1.0"}"#;
pub const LEASE: &str = r#"{"lease":7,"lease_ms":3600000}"#;

/// The daemon's side of a connection.
pub struct Peer(pub UnixStream);

impl Peer {
    pub fn read(&mut self) -> Frame {
        let mut bytes = [0; HEADER_BYTES];
        self.0.read_exact(&mut bytes).expect("a header");
        let (header, size) = Header::decode(&bytes).expect("a good header");
        let mut payload = vec![0; size];
        self.0.read_exact(&mut payload).expect("a payload");
        Frame { header, payload }
    }

    pub fn expect(&mut self, command: Command) -> Frame {
        let frame = self.read();
        assert_eq!(frame.header.command, command);
        frame
    }

    pub fn send(&mut self, to: &Header, command: Command, payload: &[u8]) {
        let header = Header { command, ..to.clone() };
        self.0.write_all(&header.encode(payload.len())).expect("sent");
        self.0.write_all(payload).expect("sent");
    }

    pub fn answer(&mut self, to: &Header, payload: &str) {
        self.send(to, Command::Answer, payload.as_bytes());
    }

    pub fn refuse(&mut self, to: &Header, code: Code) {
        let refusal = Refusal::new(code, "as the script says").of(to.tenant.as_ref(), to.trace);
        self.send(to, Command::Refused, &bytes(&refusal));
    }

    /// Plays the handshake and the attachment.
    pub fn greet(&mut self) {
        let hello = self.expect(Command::Hello);
        self.answer(&hello.header, HELLO);
        let attach = self.expect(Command::Attach);
        self.answer(&attach.header, LEASE);
    }
}

/// A client and the script that answers it. Join the handle to see the script's own assertions.
pub fn scripted(script: impl FnOnce(&mut Peer) + Send + 'static) -> (Client, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let handle = thread::spawn(move || script(&mut Peer(theirs)));
    (Client::over(ours).expect("a client"), handle)
}

/// The same after handshake and attachment to `acme`.
pub fn attached(script: impl FnOnce(&mut Peer) + Send + 'static) -> (Client, JoinHandle<()>) {
    let (mut client, handle) = scripted(|peer| {
        peer.greet();
        script(peer);
    });
    client.hello().expect("hello");
    client.attach(&"acme".parse().expect("a name"), None).expect("attach");
    (client, handle)
}

pub fn bytes(value: &impl Serialize) -> Vec<u8> {
    canonical::to_bytes(&canonical::from_serialize(value).expect("a value"))
}

pub fn json_of(frame: &Frame) -> Value {
    serde_json::from_slice(&frame.payload).expect("json")
}

pub fn execution_id() -> ExecutionId {
    ExecutionId::from_claims(&Digest::of(b"x"))
}

pub fn accepted() -> Vec<u8> {
    bytes(&json!({"event": "accepted", "execution_id": execution_id()}))
}

pub fn request() -> RunRequest {
    RunRequest::new("r1".parse().expect("an id"), vec!["true".into()])
}

pub fn result(files: &[(&str, &[u8])]) -> ExecutionResult {
    let file = |(path, bytes): &(&str, &[u8])| OutputFile {
        path: (*path).into(),
        mode: 0o644,
        bytes: bytes.len() as u64,
        sha256: Digest::of(bytes),
    };
    ExecutionResult {
        protocol_version: PROTOCOL_VERSION.into(),
        execution_id: execution_id(),
        tenant_id: "acme".parse().expect("a name"),
        cause: Cause::Exited { code: 3 },
        limits_hit: Vec::new(),
        exit_code: 3,
        usage: Usage::default(),
        input: InputRecord { sha256: Digest::of(b""), bytes: 0, kept: true },
        outputs: Outputs { files: files.iter().map(file).collect(), collected: true, ..Outputs::none() },
        denials: Vec::new(),
        enforced: Enforced::default(),
        timing_us: [].into(),
        hint: None,
        record: None,
    }
}
