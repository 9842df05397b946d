//! One execution with its streams: input, output and what the caller says go through one loop over one socket.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use remand_model::envelope::{Command, Frame, Header, STREAM_BYTES_MAX};
use remand_model::outcome::{ExecutionResult, OutputFile};
use remand_model::role::Arming;
use remand_model::run::{RunPlan, RunRequest};
use remand_model::{Digest, ExecutionId};
use rustix::io::Errno;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::session::Next;
use crate::sink::{Control, RunSink};
use crate::wire::Deadline;
use crate::{Client, ClientError};

/// A cancelled execution says something within this; so does a daemon that reads the cancel at all.
const CANCEL_WAIT: Duration = Duration::from_secs(30);

/// How an execution ended.
#[derive(Debug)]
pub struct RunEnd {
    /// The daemon's result.
    pub result: ExecutionResult,
    /// What failed on the caller's side, where something did; the execution was cancelled then.
    pub local_error: Option<ClientError>,
}

/// One conversation about an execution, from its request to its answer.
struct Talk<'a> {
    client: &'a mut Client,
    request: Header,
    stdin: Option<BorrowedFd<'a>>,
    sink: &'a mut dyn RunSink,
    local_error: Option<ClientError>,
    is_cancelled: bool,
    is_run: bool,
}

impl Client {
    /// Runs a program: sends what can be read from `stdin`, gives what it prints and its files to `sink`, and waits for
    /// its end. With `request.stdin` and no descriptor the program's input is empty.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where it was not started; a failed connection, after which the daemon cancels it.
    /// What fails on the caller's side is in [`RunEnd::local_error`].
    pub fn run(
        &mut self,
        request: &RunRequest,
        stdin: Option<BorrowedFd<'_>>,
        sink: &mut dyn RunSink,
    ) -> Result<RunEnd, ClientError> {
        let header = self.begin(Command::Run, Arming::Armed, &RunRequest { dry_run: false, ..request.clone() })?;
        if request.stdin && stdin.is_none() {
            self.wire.queue(&Header { command: Command::Stdin, ..header.clone() }, &[]);
        }
        let stdin = stdin.filter(|_| request.stdin);
        let mut talk =
            Talk { client: self, request: header, stdin, sink, local_error: None, is_cancelled: false, is_run: true };
        let answer = talk.until_answer()?;
        let result: ExecutionResult = talk.client.decode(&answer)?;
        if request.want_files {
            for file in &result.outputs.files {
                talk.file(file)?;
            }
        }
        Ok(RunEnd { result, local_error: talk.local_error })
    }

    /// What [`Client::run`] would do, without doing it.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or a failed connection.
    pub fn plan_run(&mut self, request: &RunRequest) -> Result<RunPlan, ClientError> {
        let request = RunRequest { dry_run: true, stdin: false, want_files: false, ..request.clone() };
        self.call(Command::Run, Arming::Armed, &request)
    }

    /// Gives what an execution printed to `sink`, from its start; with `follow`, also what it prints until its end.
    /// A [`Control::Cancel`] of the sink ends the listening, not the execution, and the connection with it.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Local`] where the sink failed, or a failed connection.
    pub fn read_logs(
        &mut self,
        execution_id: &ExecutionId,
        follow: bool,
        sink: &mut dyn RunSink,
    ) -> Result<Value, ClientError> {
        let payload = json!({"execution_id": execution_id, "follow": follow});
        let request = self.begin(Command::Logs, Arming::Safe, &payload)?;
        let mut talk =
            Talk { client: self, request, stdin: None, sink, local_error: None, is_cancelled: false, is_run: false };
        let answer = talk.until_answer()?;
        let local = talk.local_error.take();
        local.map_or_else(|| self.decode(&answer), Err)
    }
}

impl Talk<'_> {
    fn until_answer(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut joined = Vec::new();
        loop {
            match self.next()? {
                Next::Ready(ready) => self.act(&ready)?,
                Next::Frame(frame) => {
                    if let Some(answer) = self.take(&mut joined, frame)? {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Result<Next, ClientError> {
        let stdin = self.stdin.filter(|_| self.client.wire.is_idle());
        let wait = self.is_cancelled.then_some(CANCEL_WAIT);
        let deadline = Deadline::new("the execution's end was expected", wait);
        let others: Vec<BorrowedFd<'_>> = self.sink.wake().into_iter().chain(stdin).collect();
        let next = self.client.next(&self.request, &others, &deadline)?;
        let Next::Ready(mut ready) = next else { return Ok(next) };
        if self.sink.wake().is_none() {
            ready.insert(0, false);
        }
        ready.resize(2, false);
        Ok(Next::Ready(ready))
    }

    /// `ready`: whether the sink has something to say, whether there is input.
    fn act(&mut self, ready: &[bool]) -> Result<(), ClientError> {
        if ready[0] {
            for control in self.sink.controls() {
                self.control(control)?;
            }
        }
        if ready[1] {
            self.feed();
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), ClientError> {
        let payload = match control {
            Control::Cancel if self.is_cancelled => return Ok(()),
            Control::Cancel if !self.is_run => {
                self.client.give_up();
                return Err(ClientError::Closed);
            }
            Control::Cancel => {
                (self.is_cancelled, self.stdin) = (true, None);
                json!({"cancel": true})
            }
            Control::Window { rows, columns } => json!({"columns": columns, "rows": rows}),
        };
        self.send(Command::Control, payload.to_string().as_bytes());
        Ok(())
    }

    fn send(&mut self, command: Command, payload: &[u8]) {
        self.client.wire.queue(&Header { command, ..self.request.clone() }, payload);
    }

    /// Sends one read of input. Called only while nothing else waits to be sent, so that input never piles up here.
    fn feed(&mut self) {
        let Some(stdin) = self.stdin else { return };
        let mut bytes = vec![0; STREAM_BYTES_MAX];
        match rustix::io::read(stdin, bytes.as_mut_slice()) {
            Ok(count) => {
                if count == 0 {
                    self.stdin = None;
                }
                self.send(Command::Stdin, &bytes[..count]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(source) => self.fail("read the standard input", source.into()),
        }
    }

    /// Keeps the caller's first failure and cancels the execution, as nobody takes its output any more.
    fn fail(&mut self, doing: &'static str, source: io::Error) {
        if self.local_error.is_none() {
            self.local_error = Some(ClientError::Local { doing, source });
        }
        if self.is_run && !self.is_cancelled {
            (self.is_cancelled, self.stdin) = (true, None);
            self.send(Command::Control, br#"{"cancel":true}"#);
        }
    }

    fn take(&mut self, joined: &mut Vec<u8>, frame: Frame) -> Result<Option<Vec<u8>>, ClientError> {
        let given = match frame.header.command {
            Command::Stdout if self.local_error.is_none() => self.sink.stdout(&frame.payload),
            Command::Stderr if self.local_error.is_none() => self.sink.stderr(&frame.payload),
            Command::Stdout | Command::Stderr => Ok(()),
            Command::Event => self.event(&frame.payload)?,
            _ => return self.client.piece(joined, frame),
        };
        if let Err(source) = given {
            self.fail("pass on what the execution printed", source);
        }
        Ok(None)
    }

    fn event(&mut self, payload: &[u8]) -> Result<io::Result<()>, ClientError> {
        let event: Value = self.client.decode(payload)?;
        if event["event"] != "accepted" {
            return Ok(self.sink.event(&event));
        }
        let parsed = event["execution_id"].as_str().and_then(|text| text.parse::<ExecutionId>().ok());
        let missing = || ClientError::Protocol("an accepted execution without an id".into());
        let execution_id = self.client.note(parsed.ok_or_else(missing))?;
        Ok(self.sink.accepted(&execution_id))
    }

    /// Reads one output file. Its frames add up to exactly its size and its digest, or the connection is of no more use.
    fn file(&mut self, file: &OutputFile) -> Result<(), ClientError> {
        let deadline = Deadline::new("an output file was coming", None);
        let (mut left, mut hash) = (file.bytes, Sha256::new());
        self.give(|files| files.begin(file));
        while left > 0 {
            let Next::Frame(frame) = self.client.next(&self.request, &[], &deadline)? else { continue };
            let count = frame.payload.len() as u64;
            if frame.header.command != Command::Data || count == 0 || count > left {
                let wrong = ClientError::Protocol(format!("output file {:?} is not {} bytes", file.path, file.bytes));
                return self.client.note(Err(wrong));
            }
            left -= count;
            hash.update(&frame.payload);
            self.give(|files| files.bytes(&frame.payload));
        }
        if Digest::from_bytes(hash.finalize().into()) != file.sha256 {
            let wrong = ClientError::Protocol(format!("output file {:?} has another digest", file.path));
            return self.client.note(Err(wrong));
        }
        self.give(|files| files.end());
        Ok(())
    }

    fn give(&mut self, act: impl FnOnce(&mut dyn crate::FileSink) -> io::Result<()>) {
        if self.local_error.is_some() {
            return;
        }
        let given = self.sink.files().map_or(Ok(()), act);
        self.local_error = given.err().map(|source| ClientError::Local { doing: "write an output file", source });
    }
}
