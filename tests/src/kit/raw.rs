//! A client that follows no rule: frames byte by byte, with whatever a test writes into them.

use super::{PATIENCE, Place, wait_readable};
use remand_model::envelope::{Command, Frame, HEADER_BYTES, Header};
use remand_model::refusal::Refusal;
use remand_model::role::{Arming, Role};
use remand_model::{TenantId, TraceId};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Where the trace id lies in a header.
const TRACE_AT: std::ops::Range<usize> = 32..48;

/// What came back for a request.
pub type Reply = Result<Value, Refusal>;

/// One connection.
#[derive(Debug)]
pub struct Raw {
    socket: UnixStream,
    /// What the next header will say; tests change it.
    pub header: Header,
}

impl Raw {
    /// Connects, and says nothing.
    #[must_use]
    pub fn silent(place: &Place) -> Self {
        let socket = UnixStream::connect(place.socket()).expect("the daemon listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("our own socket");
        socket.set_write_timeout(Some(PATIENCE)).expect("our own socket");
        let header = Header {
            command: Command::Hello,
            role: Role::Admin,
            arming: Arming::Armed,
            tenant: None,
            trace: TraceId([0x5a; 16]),
            sequence: 0,
            lease: 0,
        };
        Self { socket, header }
    }

    /// Connects and greets.
    #[must_use]
    pub fn greeted(place: &Place) -> Self {
        let mut raw = Self::silent(place);
        raw.ask(Command::Hello, &json!({"client": "hostile", "protocol_version": "1.0"})).expect("it greets");
        raw
    }

    /// Connects, greets, and attaches.
    #[must_use]
    pub fn attached(place: &Place, tenant: &str, token: Option<&str>) -> Self {
        let mut raw = Self::greeted(place);
        raw.attach(tenant, token).expect("it lets root in");
        raw
    }

    /// Attaches; requests count from 1 then.
    ///
    /// # Errors
    /// The refusal.
    pub fn attach(&mut self, tenant: &str, token: Option<&str>) -> Reply {
        self.header.tenant = Some(tenant.parse::<TenantId>().expect("a name"));
        let granted = self.ask(Command::Attach, &json!({"token": token}))?;
        self.header.lease = granted["lease"].as_u64().expect("a number");
        self.header.sequence = 0;
        Ok(granted)
    }

    /// The next header of this command, counted up where it is under a lease.
    pub fn next(&mut self, command: Command) -> Header {
        self.header.command = command;
        self.header.sequence += u64::from(self.header.lease != 0);
        self.header.clone()
    }

    /// Sends a request and waits for what comes of it.
    ///
    /// # Errors
    /// The refusal.
    pub fn ask(&mut self, command: Command, payload: &Value) -> Reply {
        self.ask_bytes(command, payload.to_string().as_bytes())
    }

    /// As [`Raw::ask`], with a payload of any bytes.
    ///
    /// # Errors
    /// The refusal.
    pub fn ask_bytes(&mut self, command: Command, payload: &[u8]) -> Reply {
        let header = self.next(command);
        self.frame(&header, payload);
        self.reply().expect("it answers").1
    }

    /// Sends one frame.
    pub fn frame(&mut self, header: &Header, payload: &[u8]) {
        self.bytes(&[header.encode(payload.len()).as_slice(), payload].concat());
    }

    /// Sends bytes. Where the daemon has hung up already, the next read says so.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.socket.write_all(bytes) {
            assert!(
                matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset),
                "{error}"
            );
        }
    }

    /// Says that nothing more will come, and still listens.
    pub fn close_writing(&self) {
        self.socket.shutdown(std::net::Shutdown::Write).expect("our own socket");
    }

    /// The next frame; nothing where the daemon has ended the connection.
    pub fn read(&mut self) -> Option<Frame> {
        let mut header = [0; HEADER_BYTES];
        let mut have = 0;
        while have < HEADER_BYTES {
            match self.socket.read(&mut header[have..]) {
                Ok(0) => {
                    assert_eq!(have, 0, "the daemon's frame is cut short");
                    return None;
                }
                Ok(count) => have += count,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the daemon neither answers nor hangs up: {error}"),
            }
        }
        let (header, size) = Header::decode(&header).expect("the daemon's own header");
        let mut payload = vec![0; size];
        self.socket.read_exact(&mut payload).expect("the daemon's own frame is whole");
        Some(Frame { header, payload })
    }

    /// The answer or refusal that comes next, with its header; notes and streams before it are passed over.
    pub fn reply(&mut self) -> Option<(Header, Reply)> {
        loop {
            let frame = self.read()?;
            let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
            match frame.header.command {
                Command::Answer => return Some((frame.header, Ok(parse(&frame.payload)))),
                Command::Refused => {
                    let refusal = serde_json::from_slice(&frame.payload).expect("a refusal is one");
                    return Some((frame.header, Err(refusal)));
                }
                _ => {}
            }
        }
    }

    /// Fails unless the daemon ends the connection next.
    pub fn assert_ended(&mut self) {
        if let Some(frame) = self.read() {
            panic!("{} came where the connection was to end", frame.header.command.name());
        }
    }

    /// Whether something can be read within a time.
    #[must_use]
    pub fn hears(&self, within: std::time::Duration) -> bool {
        wait_readable(&self.socket, within)
    }

    /// The trace id that a header's bytes carry.
    #[must_use]
    pub fn trace_of(header: &[u8; HEADER_BYTES]) -> TraceId {
        TraceId(header[TRACE_AT].try_into().expect("sixteen bytes"))
    }
}
