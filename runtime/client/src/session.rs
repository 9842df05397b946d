//! One connection as the daemon sees it: handshake, attachment, lease, and requests counted one by one.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remand_model::canonical;
use remand_model::envelope::{Command, Frame, Header, PAYLOAD_BYTES_MAX};
use remand_model::refusal::Refusal;
use remand_model::role::{Arming, Role};
use remand_model::{PROTOCOL_VERSION, TenantId, TraceId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ClientError;
use crate::wire::{Deadline, Wire};

/// How long an answer may take that waits for no execution.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// The longest answer, joined from its frames, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What the daemon says of itself in the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Greeting {
    /// The protocol's version that it speaks.
    pub protocol_version: String,
    /// The node's name.
    pub node_id: String,
    /// The role that this connection was given.
    pub role: Role,
    /// The daemon's own version.
    pub version: String,
}

#[derive(Debug, Deserialize)]
struct Granted {
    lease: u64,
    lease_ms: u64,
}

#[derive(Debug)]
struct Lease {
    number: u64,
    granted: Instant,
    lasts: Duration,
}

/// A connection to the daemon. One request at a time; every call waits for its answer.
///
/// Dropping it ends the connection; the daemon cancels what [`Client::run`] had started and was not finished.
#[derive(Debug)]
pub struct Client {
    pub(crate) wire: Wire,
    role: Role,
    tenant: Option<TenantId>,
    lease: Option<Lease>,
    sequence: u64,
    is_broken: bool,
}

impl Client {
    /// Connects to the daemon's socket; [`Client::hello`] comes next.
    ///
    /// # Errors
    /// [`ClientError::NotListening`], [`ClientError::Denied`] or [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let socket = UnixStream::connect(path).map_err(|source| connect_error(path.to_owned(), source))?;
        Self::over(socket)
    }

    /// Speaks over a socket that is connected already.
    ///
    /// # Errors
    /// [`ClientError::Io`] where the socket cannot be set up.
    pub fn over(socket: UnixStream) -> Result<Self, ClientError> {
        let wire = Wire::new(socket)?;
        Ok(Self { wire, role: Role::Viewer, tenant: None, lease: None, sequence: 0, is_broken: false })
    }

    /// The handshake: says who speaks, learns the node and the role that this connection was given.
    ///
    /// # Errors
    /// [`ClientError::Version`] for another major version, [`ClientError::Refused`], or a failed connection.
    pub fn hello(&mut self) -> Result<Greeting, ClientError> {
        let client = concat!("remand/", env!("CARGO_PKG_VERSION"));
        let greeting: Greeting =
            self.call(Command::Hello, Arming::Safe, &json!({"client": client, "protocol_version": PROTOCOL_VERSION}))?;
        if greeting.protocol_version.split('.').next() != PROTOCOL_VERSION.split('.').next() {
            self.is_broken = true;
            return Err(ClientError::Version { found: greeting.protocol_version });
        }
        self.role = greeting.role;
        Ok(greeting)
    }

    /// Attaches to a tenant with a token, where the daemon wants one; requests count from 1 again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an unknown or suspended tenant or a bad token, or a failed connection.
    pub fn attach(&mut self, tenant: &TenantId, token: Option<&str>) -> Result<(), ClientError> {
        (self.lease, self.sequence, self.tenant) = (None, 0, Some(tenant.clone()));
        let granted = self.call(Command::Attach, Arming::Safe, &json!({"token": token}));
        if granted.is_err() {
            self.tenant = None;
        }
        self.keep(&granted?);
        Ok(())
    }

    /// Leaves the tenant. [`Client::attach`] again before the next request that needs one.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where nothing is attached, or a failed connection.
    pub fn detach(&mut self) -> Result<(), ClientError> {
        self.ask(Command::Detach, &json!({}))?;
        (self.lease, self.sequence, self.tenant) = (None, 0, None);
        Ok(())
    }

    /// Renews the lease. Requests do this by themselves when half of the lease is over.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the lease is over, or a failed connection.
    pub fn renew(&mut self) -> Result<(), ClientError> {
        let granted = self.call(Command::Renew, Arming::Safe, &json!({}))?;
        self.keep(&granted);
        Ok(())
    }

    /// The tenant attached to.
    #[must_use]
    pub const fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// The role that this connection was given.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    fn keep(&mut self, granted: &Granted) {
        let lasts = Duration::from_millis(granted.lease_ms);
        self.lease = Some(Lease { number: granted.lease, granted: Instant::now(), lasts });
    }

    /// Sends a request of any command and returns its answer as it came. Commands that only look are sent unarmed.
    ///
    /// # Errors
    /// [`ClientError::Unsendable`], [`ClientError::Refused`], or a failed connection.
    pub fn ask(&mut self, command: Command, payload: &Value) -> Result<Value, ClientError> {
        self.call(command, crate::calls::arming(command, payload), payload)
    }

    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        command: Command,
        arming: Arming,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<T, ClientError> {
        let wait = crate::calls::answer_wait(command);
        let header = self.begin(command, arming, payload)?;
        let answer = self.answer(&header, wait)?;
        self.decode(&answer)
    }

    /// Reads an answer's payload; one of another shape ends the connection's use.
    pub(crate) fn decode<T: DeserializeOwned>(&mut self, answer: &[u8]) -> Result<T, ClientError> {
        let decoded = canonical::decode(answer).map_err(|bad| ClientError::answer(&bad));
        self.note(decoded)
    }

    /// Queues a request's frame and returns its header, under which its streams go.
    pub(crate) fn begin(
        &mut self,
        command: Command,
        arming: Arming,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Header, ClientError> {
        if self.is_broken {
            return Err(ClientError::Broken);
        }
        let payload = encode(payload)?;
        let is_renewal = matches!(command, Command::Renew | Command::Detach | Command::Hello | Command::Attach);
        if !is_renewal && self.lease.as_ref().is_some_and(|lease| lease.granted.elapsed() > lease.lasts / 2) {
            self.renew()?;
        }
        let mut lease = 0;
        if let Some(held) = &self.lease {
            self.sequence += 1;
            lease = held.number;
        }
        let (role, tenant, sequence) = (self.role, self.tenant.clone(), self.sequence);
        let header = Header { command, role, arming, tenant, trace: trace()?, sequence, lease };
        self.wire.queue(&header, &payload);
        Ok(header)
    }

    /// The next frame that belongs to `request`, while `others` are not ready; nothing where one of them may be.
    pub(crate) fn next(
        &mut self,
        request: &Header,
        others: &[BorrowedFd<'_>],
        deadline: &Deadline,
    ) -> Result<Next, ClientError> {
        let next = match self.wire.frame() {
            Ok(Some(frame)) => checked(frame, request.sequence).map(Next::Frame),
            Ok(None) => self.wire.step(others, deadline).map(Next::Ready),
            Err(error) => Err(error),
        };
        self.note(next)
    }

    /// The whole answer of `request`, joined where it came in pieces.
    pub(crate) fn answer(&mut self, request: &Header, wait: Option<Duration>) -> Result<Vec<u8>, ClientError> {
        let deadline = Deadline::new("an answer was expected", wait);
        let mut joined = Vec::new();
        loop {
            let Next::Frame(frame) = self.next(request, &[], &deadline)? else { continue };
            if frame.header.command == Command::Event {
                // A note on the way; whoever wants to hear those asks with a sink.
                continue;
            }
            if let Some(answer) = self.piece(&mut joined, frame)? {
                return Ok(answer);
            }
        }
    }

    /// Adds a frame to an answer; the answer once it is whole.
    pub(crate) fn piece(&mut self, joined: &mut Vec<u8>, frame: Frame) -> Result<Option<Vec<u8>>, ClientError> {
        let joins = match (frame.header.command, joined.is_empty(), frame.payload.is_empty()) {
            (Command::Answer, true, _) => return Ok(Some(frame.payload)),
            (Command::Answer, false, true) => return Ok(Some(std::mem::take(joined))),
            (Command::Data, ..) => joined.len() + frame.payload.len() <= ANSWER_BYTES_MAX,
            _ => false,
        };
        if !joins {
            let name = frame.header.command.name();
            return self.note(Err(ClientError::Protocol(format!("a {name} frame where an answer was expected"))));
        }
        joined.extend_from_slice(&frame.payload);
        Ok(None)
    }

    /// Remembers that an error leaves the connection in an unknown state.
    pub(crate) fn note<T>(&mut self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        self.is_broken |= result.as_ref().is_err_and(|error| !error.leaves_connection());
        result
    }

    /// Gives the connection up: the daemon calls off what hangs on it.
    pub(crate) const fn give_up(&mut self) {
        self.is_broken = true;
    }
}

/// What came first.
pub(crate) enum Next {
    Frame(Frame),
    Ready(Vec<bool>),
}

/// A frame of this request, or the daemon's refusal of it or of the whole connection.
fn checked(frame: Frame, sequence: u64) -> Result<Frame, ClientError> {
    let is_refusal = frame.header.command == Command::Refused;
    if frame.header.sequence != sequence && !(is_refusal && frame.header.sequence == 0) {
        let found = frame.header.sequence;
        return Err(ClientError::Protocol(format!("a frame of request {found} while {sequence} was running")));
    }
    if !is_refusal {
        return Ok(frame);
    }
    let refusal: Refusal = canonical::decode(&frame.payload).map_err(|bad| ClientError::answer(&bad))?;
    Err(ClientError::Refused(Box::new(refusal)))
}

fn encode(payload: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, ClientError> {
    let unsendable = |reason| ClientError::Unsendable { reason };
    let value = canonical::from_serialize(payload).map_err(|bad| unsendable(bad.to_string()))?;
    let bytes = canonical::to_bytes(&value);
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(unsendable(format!("it has {} bytes; {PAYLOAD_BYTES_MAX} are allowed", bytes.len())));
    }
    Ok(bytes)
}

fn trace() -> Result<TraceId, ClientError> {
    let mut bytes = [0; 16];
    let failed = |source: getrandom::Error| ClientError::Io { doing: "asking for random bytes", source: source.into() };
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(TraceId(bytes))
}

fn connect_error(path: PathBuf, source: io::Error) -> ClientError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotListening { path, source },
        io::ErrorKind::PermissionDenied => ClientError::Denied { path, source },
        _ => ClientError::Connect { path, source },
    }
}
