//! The commands with a name and a type each, and what every command needs: arming and patience.

use std::io::Write;
use std::time::Duration;

use remand_model::envelope::Command;
use remand_model::outcome::ExecutionResult;
use remand_model::role::Arming;
use remand_model::run::RunRequest;
use remand_model::{Digest, ExecutionId, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::session::{ANSWER_WAIT, Next};
use crate::wire::Deadline;
use crate::{Client, ClientError, FileSink};

/// What the payload's `what` says where nothing changes.
const LOOKS: [&str; 7] = ["list", "show", "get", "check", "validate", "hash", "query"];

/// Whether a request of this command means an effect.
pub(crate) fn arming(command: Command, payload: &Value) -> Arming {
    let looks = payload["what"].as_str().is_some_and(|what| LOOKS.contains(&what));
    match command {
        Command::Run | Command::Submit | Command::Kill | Command::Replay | Command::Sweep => Arming::Armed,
        Command::Tenant | Command::Quota | Command::Token | Command::Domain if !looks => Arming::Armed,
        Command::Contract | Command::Plan | Command::State | Command::Blob if !looks => Arming::Armed,
        _ => Arming::Safe,
    }
}

/// How long its answer may take: nothing where it waits for an execution or for work as large as a log.
pub(crate) const fn answer_wait(command: Command) -> Option<Duration> {
    match command {
        Command::Run | Command::Wait | Command::Logs | Command::Replay | Command::Audit | Command::Sweep => None,
        Command::Contract | Command::Plan | Command::Tenant => None,
        _ => Some(ANSWER_WAIT),
    }
}

#[derive(Deserialize)]
struct Submitted {
    execution_id: ExecutionId,
}

/// A file that an export announces, as the daemon spells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Announced {
    path: String,
    bytes: u64,
}

impl Client {
    /// Is anybody there.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        self.ask(Command::Ping, &json!({})).map(drop)
    }

    /// Starts an execution and returns its id at once; it goes on without this connection.
    ///
    /// # Errors
    /// [`ClientError::Unsendable`], [`ClientError::Refused`], or a failed connection.
    pub fn submit_execution_request(&mut self, request: &RunRequest) -> Result<ExecutionId, ClientError> {
        let submitted: Submitted = self.call(Command::Submit, Arming::Armed, request)?;
        Ok(submitted.execution_id)
    }

    /// What is known of an execution.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn query_execution_status(&mut self, execution_id: &ExecutionId) -> Result<Value, ClientError> {
        self.ask(Command::Status, &json!({"execution_id": execution_id}))
    }

    /// Waits for an execution's end.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn wait_for_execution(&mut self, execution_id: &ExecutionId) -> Result<ExecutionResult, ClientError> {
        self.call(Command::Wait, Arming::Safe, &json!({"execution_id": execution_id}))
    }

    /// Ends an execution at once, with everything that it started.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn kill_execution(&mut self, execution_id: &ExecutionId) -> Result<Value, ClientError> {
        self.ask(Command::Kill, &json!({"execution_id": execution_id}))
    }

    /// The tenant's executions.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn list_executions(&mut self) -> Result<Value, ClientError> {
        self.ask(Command::List, &json!({}))
    }

    /// The proof of an execution: it can be verified without the daemon.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn retrieve_execution_proof(&mut self, execution_id: &ExecutionId) -> Result<Value, ClientError> {
        self.ask(Command::Proof, &json!({"execution_id": execution_id}))
    }

    /// Runs an execution's recorded request again and compares what came out.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn replay_execution(&mut self, execution_id: &ExecutionId) -> Result<Value, ClientError> {
        self.ask(Command::Replay, &json!({"execution_id": execution_id}))
    }

    /// The nodes of the cluster.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn list_cluster_nodes(&mut self) -> Result<Value, ClientError> {
        self.ask(Command::Nodes, &json!({}))
    }

    /// The root over all chains of the cluster.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn get_cluster_root(&mut self) -> Result<Value, ClientError> {
        self.ask(Command::ClusterRoot, &json!({}))
    }

    /// The daemon's own state.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn node_state(&mut self) -> Result<Value, ClientError> {
        self.ask(Command::Node, &json!({}))
    }

    /// Ends what earlier lives of the daemon left behind, or says what it would end.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn sweep(&mut self, dry_run: bool) -> Result<Value, ClientError> {
        self.ask(Command::Sweep, &json!({"dry_run": dry_run}))
    }

    /// Gives every file of a tenant's exported chain to `files`, one after another.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Local`] where `files` fails, or a failed connection.
    pub fn export_audit_log(&mut self, tenant: &TenantId, files: &mut dyn FileSink) -> Result<Value, ClientError> {
        let payload = json!({"tenant_id": tenant, "what": "export"});
        let request = self.begin(Command::Audit, Arming::Safe, &payload)?;
        let deadline = Deadline::new("an export was coming", None);
        let mut joined = Vec::new();
        loop {
            let Next::Frame(frame) = self.next(&request, &[], &deadline)? else { continue };
            if frame.header.command == Command::Event {
                let announced: Announced = self.decode(&frame.payload)?;
                self.exported(&request, &announced, files)?;
            } else if let Some(answer) = self.piece(&mut joined, frame)? {
                return self.decode(&answer);
            }
        }
    }

    fn exported(
        &mut self,
        request: &remand_model::envelope::Header,
        file: &Announced,
        files: &mut dyn FileSink,
    ) -> Result<(), ClientError> {
        const MODE: u16 = 0o644;
        let deadline = Deadline::new("an export was coming", Some(ANSWER_WAIT));
        let (path, bytes, sha256) = (file.path.clone(), file.bytes, Digest::of(b""));
        let named = remand_model::outcome::OutputFile { path, mode: MODE, bytes, sha256 };
        self.local(files.begin(&named))?;
        let mut left = file.bytes;
        while left > 0 {
            let Next::Frame(frame) = self.next(request, &[], &deadline)? else { continue };
            let count = frame.payload.len() as u64;
            if frame.header.command != Command::Data || count == 0 || count > left {
                let wrong = ClientError::Protocol(format!("exported file {:?} is not {bytes} bytes", file.path));
                return self.note(Err(wrong));
            }
            left -= count;
            self.local(files.bytes(&frame.payload))?;
        }
        self.local(files.end())
    }

    fn local(&mut self, written: std::io::Result<()>) -> Result<(), ClientError> {
        self.note(written.map_err(ClientError::local("write an exported file")))
    }

    /// Puts a blob that is in memory already.
    ///
    /// # Errors
    /// As [`Client::upload`] and [`crate::Upload::finish`].
    pub fn put_blob(&mut self, bytes: &[u8]) -> Result<crate::Stored, ClientError> {
        let mut upload = self.upload()?;
        if let Err(source) = upload.write_all(bytes) {
            return Err(upload.into_error().unwrap_or(ClientError::Local { doing: "send the blob", source }));
        }
        upload.finish()
    }
}
