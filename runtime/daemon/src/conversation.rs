//! One connection: frames in, frames out, one request at a time.
//!
//! A reader task cuts the stream into frames and sorts them: requests queue for this task, stream frames go to the request
//! that runs. A writer task owns the other direction. All queues are bounded, so a client that floods is stopped by its own
//! socket, and one that does not read loses only its own connection.

use std::sync::Arc;

use remand_authority::session::{Request, Session};
use remand_authority::table::Action;
use remand_authority::token::TokenBytes;
use remand_model::canonical::{self, Value};
use remand_model::envelope::{Command, Frame, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, STREAM_BYTES_MAX};
use remand_model::grant::UserId;
use remand_model::refusal::{Code, Refusal};
use remand_model::role::{Arming, Role};
use remand_model::{PROTOCOL_VERSION, TenantId, TraceId};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::access::Granted;
use crate::authority::{self, By, Credential};
use crate::node::Node;
use crate::{commands, limits, registry};

/// Who is on the other side, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
}

/// The way back to a client, for one request.
#[derive(Clone)]
pub struct Reply {
    frames: mpsc::Sender<Frame>,
    header: Header,
}

/// A request that the session admitted.
pub struct Call {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: Value,
    /// The tenant attached to.
    pub tenant: Option<TenantId>,
    /// Frames that belong to it.
    pub stream: mpsc::Receiver<Frame>,
    /// Rung when the client is gone.
    pub gone: Arc<Notify>,
    /// Who asks.
    pub peer: Peer,
    /// Who is attached.
    pub attached: Option<Arc<Credential>>,
}

impl Call {
    /// Who is attached.
    ///
    /// # Errors
    /// [`Code::AttachRequired`].
    pub fn credential(&self) -> Result<Arc<Credential>, Refusal> {
        self.attached.clone().ok_or_else(|| Refusal::new(Code::AttachRequired, self.header.command.name()))
    }

    /// Who asks, for the event of what is asked.
    #[must_use]
    pub const fn by(&self) -> By {
        By { peer: self.peer, trace: self.header.trace }
    }
}

impl Reply {
    /// Sends a frame of the request; whether the client is still there.
    pub async fn send(&self, command: Command, payload: Vec<u8>) -> bool {
        let header = Header { command, ..self.header.clone() };
        self.frames.send(Frame { header, payload }).await.is_ok()
    }

    /// Sends bytes of a stream, cut to size.
    pub async fn stream(&self, command: Command, bytes: &[u8]) -> bool {
        for piece in bytes.chunks(STREAM_BYTES_MAX) {
            if !self.send(command, piece.to_vec()).await {
                return false;
            }
        }
        true
    }

    /// Sends the answer; one that is too large for a frame goes as data first.
    pub async fn answer(&self, value: &impl Serialize) -> bool {
        let bytes = match canonical::from_serialize(value) {
            Ok(value) => canonical::to_bytes(&value),
            Err(error) => return self.refuse(Refusal::new(Code::Internal, error.to_string())).await,
        };
        if bytes.len() <= PAYLOAD_BYTES_MAX {
            return self.send(Command::Answer, bytes).await;
        }
        self.stream(Command::Data, &bytes).await && self.send(Command::Answer, Vec::new()).await
    }

    /// Sends a refusal, with tenant and trace.
    pub async fn refuse(&self, refusal: Refusal) -> bool {
        let refusal = refusal.of(self.header.tenant.as_ref(), self.header.trace);
        let value = canonical::from_serialize(&refusal).map(|value| canonical::to_bytes(&value));
        self.send(Command::Refused, value.unwrap_or_default()).await
    }
}

enum Arrival {
    Request(Frame),
    Broken(Refusal),
}

/// Serves a connection to its end.
pub async fn converse(node: Node, socket: UnixStream) {
    let peer = match socket.peer_cred() {
        Ok(found) => Peer { pid: found.pid().unwrap_or(0), uid: found.uid(), gid: found.gid() },
        Err(error) => {
            tracing::warn!(%error, "a peer without credentials");
            return;
        }
    };
    let (reader, writer) = socket.into_split();
    let (frames, outgoing) = mpsc::channel(limits::FRAMES_WAITING);
    let writing = tokio::spawn(write(writer, outgoing));
    let Some(granted) = node.config.access.granted(peer) else { return turn_away(peer, reader, frames, writing).await };
    let (requests, mut incoming) = mpsc::channel(1);
    let (stream_in, stream) = mpsc::channel(limits::FRAMES_WAITING);
    let gone = Arc::new(Notify::new());
    let reading = tokio::spawn(read(reader, requests, stream_in, Arc::clone(&gone)));
    let mut talk = Talk {
        node,
        peer,
        session: Session::new(granted.role),
        granted,
        base: 0,
        frames,
        gone,
        stream: Some(stream),
        attached: None,
    };
    let mut ending = talk.node.ending.subscribe();
    loop {
        // A request comes before its own stream; what is there without one belongs to a request that is over, and must not
        // keep the reader from what follows, the end of the connection least of all.
        let arrival = tokio::select! {
            biased;
            _ = ending.wait_for(|ends| *ends) => break,
            arrival = incoming.recv() => arrival,
            () = discard(&mut talk.stream) => continue,
        };
        let Some(arrival) = arrival else { break };
        // What a client asked for that hears no answer any more is not done: it was not acknowledged, and others wait.
        if !talk.arrival(arrival).await || talk.frames.is_closed() {
            break;
        }
    }
    talk.session.close();
    drop(talk);
    reading.abort();
    if let Err(error) = writing.await
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's writer panicked");
    }
}

/// Takes one late frame off the stream, as soon as there is one.
async fn discard(stream: &mut Option<mpsc::Receiver<Frame>>) {
    let late = match stream {
        Some(stream) => stream.recv().await,
        None => None,
    };
    if late.is_none() {
        std::future::pending().await
    }
}

/// Tells a peer that nobody named why it is not heard, and lets it go a moment later: a socket that is closed on somebody
/// who still writes loses the message.
async fn turn_away(
    peer: Peer,
    mut reader: OwnedReadHalf,
    frames: mpsc::Sender<Frame>,
    writing: tokio::task::JoinHandle<()>,
) {
    tracing::warn!(uid = peer.uid, pid = peer.pid, "a peer that the configuration does not name was turned away");
    let refusal = Refusal::new(Code::RoleNotGranted, format!("user {} has no role on this node", peer.uid));
    let reply = Reply { frames, header: blank_header(None, refusal.trace_id) };
    reply.refuse(refusal).await;
    let mut unheard = [0; 256];
    let gone = async { while matches!(reader.read(&mut unheard).await, Ok(1..)) {} };
    if timeout(limits::TURN_AWAY_WAIT, gone).await.is_err() {
        tracing::debug!("who was turned away does not go");
    }
    drop(reply);
    if let Err(error) = writing.await {
        tracing::error!(%error, "a refusal was not written");
    }
}

struct Talk {
    node: Node,
    peer: Peer,
    session: Session,
    granted: Granted,
    /// What the session had counted when the lease began: requests count from 1 within a lease.
    base: u64,
    frames: mpsc::Sender<Frame>,
    gone: Arc<Notify>,
    stream: Option<mpsc::Receiver<Frame>>,
    attached: Option<Arc<Credential>>,
}

/// What an attach carries.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    token: Option<String>,
    /// Whom root speaks for.
    user: Option<UserId>,
}

impl Talk {
    /// Whether the conversation goes on.
    async fn arrival(&mut self, arrival: Arrival) -> bool {
        match arrival {
            Arrival::Request(frame) => self.request(frame).await,
            Arrival::Broken(refusal) => {
                let header = blank_header(refusal.tenant_id.clone(), refusal.trace_id);
                let reply = Reply { frames: self.frames.clone(), header };
                reply.refuse(refusal).await;
                false
            }
        }
    }

    async fn request(&mut self, frame: Frame) -> bool {
        let reply = Reply { frames: self.frames.clone(), header: frame.header.clone() };
        let read =
            parse(&frame.payload).and_then(|payload| Ok((commands::action(frame.header.command, &payload)?, payload)));
        let (action, payload) = match read {
            Ok(read) => read,
            Err(refusal) => {
                self.pass_over(&frame.header);
                return reply.refuse(refusal).await;
            }
        };
        let credential = match action {
            Action::Attach => self.credential(&frame.header, &payload).await.map(Some),
            _ => Ok(None),
        };
        let admitted = match credential.and_then(|found| Ok((found, self.admit(&frame.header, action)?))) {
            Ok((found, admitted)) => {
                self.attached = found.map(Arc::new).or_else(|| self.attached.take());
                admitted
            }
            Err(refusal) => {
                self.note(&frame.header, action, &refusal).await;
                return reply.refuse(refusal).await;
            }
        };
        match action {
            Action::Handshake => return reply.answer(&self.greeting()).await,
            Action::Attach | Action::RenewLease => {
                let lease = self.session.lease().map_or(0, |lease| lease.epoch);
                let lease_ms = remand_authority::session::LEASE_MS;
                if action == Action::Attach {
                    self.base = self.session.sequence();
                }
                return reply.answer(&serde_json::json!({"lease": lease, "lease_ms": lease_ms})).await;
            }
            Action::Detach | Action::Ping => return reply.answer(&serde_json::json!({})).await,
            Action::Bye => return false,
            _ => {}
        }
        let Some(stream) = self.stream.take() else { return false };
        let tenant = admitted.tenant_id().cloned();
        let (gone, peer) = (Arc::clone(&self.gone), self.peer);
        let attached = self.attached.clone().filter(|who| tenant.as_ref() == Some(&who.tenant));
        let mut call = Call { header: frame.header, payload, tenant, stream, gone, peer, attached };
        self.node.mend().await;
        let outcome = commands::carry_out(&self.node, &mut call, &reply).await;
        self.stream = Some(call.stream);
        match outcome {
            Ok(()) => true,
            Err(refusal) => {
                self.note(&call.header, action, &refusal).await;
                reply.refuse(refusal).await
            }
        }
    }

    /// Who attaches. A token that comes is checked now and again for everything that it is used for.
    async fn credential(&self, header: &Header, payload: &Value) -> Result<Credential, Refusal> {
        let tenant = header.tenant.clone();
        let tenant = tenant.ok_or_else(|| Refusal::new(Code::AttachRequired, "attach names a tenant"))?;
        if !self.granted.allows(&tenant) {
            return Err(registry::unknown(&tenant));
        }
        let Attach { token, user } = commands::read(payload)?;
        let own = if self.peer.uid == 0 { "root".to_owned() } else { format!("uid-{}", self.peer.uid) };
        let own: UserId = own.parse().map_err(authority::internal)?;
        let user = user.unwrap_or_else(|| own.clone());
        if user != own && self.peer.uid != 0 {
            return Err(Refusal::new(Code::TokenUserMismatch, format!("the peer is {own}, not {user}")));
        }
        let token = token.filter(|text| !text.is_empty()).map(|text| TokenBytes::from_text(&text)).transpose()?;
        let who = Credential { tenant, user, role: self.granted.role, token, peer: self.peer };
        if who.token.is_some() {
            drop(self.node.registries.validate(&who, &self.node.ledger)?);
        }
        Ok(who)
    }

    /// A refusal of something that would have had an effect is an event: of the tenant, or of the node where there is none.
    /// So is whatever a token does not allow.
    async fn note(&self, header: &Header, action: Action, refusal: &Refusal) {
        if !action.has_effect() && action != Action::Attach && !refusal.code.is_of_authority() {
            return;
        }
        let known = |tenant: &TenantId| self.node.tenancy(tenant) != remand_authority::session::Tenancy::Unknown;
        let of = header.tenant.clone().filter(known).unwrap_or_else(|| authority::tenant_named(authority::NODE));
        let by = By { peer: self.peer, trace: header.trace };
        let event = by.event("REQUEST_REFUSED", &format!("action:{}", action.name()));
        let event =
            event.map(|event| event.claim("code", refusal.code.name()).observe("detail", refusal.detail.as_str()));
        let recorded = match event {
            Ok(event) => self.node.append(remand_ledger::Transaction::new(of).event(event)).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = recorded {
            tracing::error!(%error, action = action.name(), "a refusal could not be recorded");
        }
    }

    /// Counts a request that says nothing, so that the next one has the next number, as after every other refusal.
    fn pass_over(&mut self, header: &Header) {
        if self.session.lease().is_some_and(|lease| lease.epoch == header.lease) {
            self.session.pass_over(self.base.saturating_add(header.sequence));
        }
    }

    fn admit(&mut self, header: &Header, action: Action) -> Result<remand_authority::session::Admitted, Refusal> {
        let before_attach = matches!(action, Action::Handshake | Action::Attach);
        // Without a lease nothing is counted, and the header says 0.
        let uncounted = before_attach || (self.session.lease().is_none() && header.sequence == 0);
        let counted = if uncounted { self.session.sequence() + 1 } else { self.base.saturating_add(header.sequence) };
        let lease = self.session.lease().map_or(0, |lease| lease.epoch);
        if !before_attach && header.lease != lease {
            let refusal = Refusal::new(Code::LeaseExpired, format!("lease {} came, {lease} is held", header.lease));
            return Err(refusal.of(header.tenant.as_ref(), header.trace));
        }
        let request = Request {
            protocol_version: PROTOCOL_VERSION.into(),
            tenant_id: header.tenant.clone(),
            trace_id: header.trace,
            action,
            role: header.role,
            arming: header.arming,
            sequence: counted,
        };
        let node = self.node.clone();
        self.session.admit(&request, now_ms(), |tenant| node.tenancy(tenant), node.next_epoch())
    }

    fn greeting(&self) -> serde_json::Value {
        serde_json::json!({
            "protocol_version": PROTOCOL_VERSION,
            "node_id": self.node.config.node_id,
            "role": self.granted.role,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// Milliseconds of the monotonic clock since the daemon's first use of it.
#[must_use]
pub fn now_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn parse(payload: &[u8]) -> Result<Value, Refusal> {
    if payload.is_empty() {
        return Ok(Value::Object(canonical::Object::new()));
    }
    canonical::parse(payload).map_err(|error| Refusal::new(Code::Malformed, error.to_string()))
}

fn blank_header(tenant: Option<TenantId>, trace: TraceId) -> Header {
    let (role, arming) = (Role::Viewer, Arming::Safe);
    Header { command: Command::Refused, role, arming, tenant, trace, sequence: 0, lease: 0 }
}

async fn write(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        let header = frame.header.encode(frame.payload.len());
        let written = timeout(limits::WRITE_WAIT, async {
            writer.write_all(&header).await?;
            writer.write_all(&frame.payload).await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "a client is gone"),
            Err(_elapsed) => return tracing::warn!("a client does not read what it asked for; it is let go"),
        }
    }
}

/// Cuts the stream into frames until it ends, breaks, or nobody wants its frames any more.
async fn read(
    mut reader: OwnedReadHalf,
    requests: mpsc::Sender<Arrival>,
    stream: mpsc::Sender<Frame>,
    gone: Arc<Notify>,
) {
    let mut first = true;
    loop {
        let wait = first.then_some(limits::HANDSHAKE_WAIT);
        let taken = match frame(&mut reader, wait).await {
            Ok(Some(frame)) if (frame.header.command as u16) >= 0x8000 => {
                let refusal = Refusal::new(Code::CommandUnknown, "an answer is not a request");
                broken(&requests, refusal.of(frame.header.tenant.as_ref(), frame.header.trace)).await
            }
            Ok(Some(frame)) if (frame.header.command as u16) >= 0x4000 => stream.send(frame).await.is_ok(),
            Ok(Some(frame)) => requests.send(Arrival::Request(frame)).await.is_ok(),
            Ok(None) => false,
            Err(refusal) => broken(&requests, *refusal).await,
        };
        first = false;
        if !taken {
            // The permit stays for a request that begins to wait only now.
            gone.notify_one();
            return;
        }
    }
}

/// Says why the stream cannot be read any further; nothing more is taken from it.
async fn broken(requests: &mpsc::Sender<Arrival>, refusal: Refusal) -> bool {
    if requests.send(Arrival::Broken(refusal)).await.is_err() {
        tracing::debug!("a broken stream's conversation was over already");
    }
    false
}

/// One frame, or nothing at the end of the stream. A frame that was begun must be finished in time.
async fn frame(reader: &mut OwnedReadHalf, wait: Option<std::time::Duration>) -> Result<Option<Frame>, Box<Refusal>> {
    let mut header = [0; HEADER_BYTES];
    let first = async { reader.read(&mut header[..1]).await };
    let begun = match wait {
        Some(wait) => timeout(wait, first).await.unwrap_or(Ok(0)),
        None => first.await,
    };
    if !matches!(begun, Ok(1)) {
        return Ok(None);
    }
    let rest = async {
        reader.read_exact(&mut header[1..]).await.map_err(|_| None)?;
        let (header, size) = Header::decode(&header).map_err(|refusal| Some(Box::new(refusal)))?;
        let bound = if (header.command as u16) & 0xc000 == 0x4000 { STREAM_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        if size > bound {
            let refusal = Refusal::new(Code::TooLarge, format!("{size} bytes; {bound} are allowed"));
            return Err(Some(Box::new(refusal.of(header.tenant.as_ref(), header.trace))));
        }
        let mut payload = vec![0; size];
        reader.read_exact(&mut payload).await.map_err(|_| None)?;
        Ok(Frame { header, payload })
    };
    match timeout(limits::FRAME_WAIT, rest).await {
        Ok(Ok(frame)) => Ok(Some(frame)),
        Ok(Err(Some(refusal))) => Err(refusal),
        Ok(Err(None)) | Err(_) => Ok(None),
    }
}
