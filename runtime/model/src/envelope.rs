//! The one frame of all traffic with the daemon: a header of 128 bytes, then the payload.
//!
//! Layout, little-endian: see `PROTOCOL.md` beside this crate's manifest. A decoded [`Frame`] is an allegation: its fields
//! are well formed, and that is all. Decoding is total and bounded; no byte of the payload is looked at here.

use crate::refusal::{Code, Refusal};
use crate::role::{Arming, Role};
use crate::{TenantId, TraceId};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"RMND";
/// The header's length in bytes.
pub const HEADER_BYTES: usize = 128;
/// The longest payload in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The most bytes of a stream that one frame carries.
pub const STREAM_BYTES_MAX: usize = 64 << 10;
/// The major version; a frame of another one is refused.
pub const MAJOR: u8 = 1;
/// The minor version.
pub const MINOR: u8 = 0;

macro_rules! commands {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal $name:literal,)+) => {
        /// What a frame is for. Requests below 0x4000, streams from 0x4000, answers from 0x8000.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Command { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Command {
            /// All commands, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The command with this number, or nothing.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// Its name in records and messages.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

commands! {
    /// First of all: who speaks which version.
    Hello = 0x0001 "hello",
    /// Attaches to the tenant in the header and grants a lease.
    Attach = 0x0002 "attach",
    /// Renews the lease.
    Renew = 0x0003 "renew",
    /// Leaves the tenant.
    Detach = 0x0004 "detach",
    /// Is anybody there.
    Ping = 0x0005 "ping",
    /// Runs a program and streams what it prints.
    Run = 0x0010 "run",
    /// Runs a program and answers at once with its id.
    Submit = 0x0011 "submit",
    /// What is known of an execution.
    Status = 0x0012 "status",
    /// Answers when an execution has ended.
    Wait = 0x0013 "wait",
    /// Streams what an execution prints, from its start.
    Logs = 0x0014 "logs",
    /// Ends an execution at once.
    Kill = 0x0015 "kill",
    /// Executions of the tenant.
    List = 0x0016 "list",
    /// The proof of an execution.
    Proof = 0x0017 "proof",
    /// Runs the recorded request again and compares.
    Replay = 0x0018 "replay",
    /// Reads the audit log: what is in the payload's `what`.
    Audit = 0x0020 "audit",
    /// Tenants: what is in the payload's `what`.
    Tenant = 0x0030 "tenant",
    /// Quotas.
    Quota = 0x0031 "quota",
    /// Tokens.
    Token = 0x0032 "token",
    /// Capability domains.
    Domain = 0x0033 "domain",
    /// Contracts.
    Contract = 0x0034 "contract",
    /// Plans.
    Plan = 0x0035 "plan",
    /// The tenant's key-value store.
    State = 0x0036 "state",
    /// Blobs.
    Blob = 0x0037 "blob",
    /// Nodes of the cluster.
    Nodes = 0x0040 "nodes",
    /// The cluster's root over all chains.
    ClusterRoot = 0x0041 "cluster_root",
    /// The daemon's own state.
    Node = 0x0042 "node",
    /// Ends what earlier lives left behind.
    Sweep = 0x0043 "sweep",
    /// Bytes of standard input; an empty one is its end.
    Stdin = 0x4000 "stdin",
    /// Bytes of standard output.
    Stdout = 0x4001 "stdout",
    /// Bytes of standard error.
    Stderr = 0x4002 "stderr",
    /// Bytes of an uploaded or downloaded file; an empty one is its end.
    Data = 0x4003 "data",
    /// One event of a stream of events, or a progress note.
    Event = 0x4004 "event",
    /// The size of the caller's window, or a signal's name.
    Control = 0x4005 "control",
    /// The answer to a request.
    Answer = 0x8000 "answer",
    /// A request was not done.
    Refused = 0x8001 "refused",
}

/// The fields of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the frame is for.
    pub command: Command,
    /// The role that the sender claims.
    pub role: Role,
    /// Whether the sender means the effect.
    pub arming: Arming,
    /// The tenant, where the frame names one.
    pub tenant: Option<TenantId>,
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// The request's place in its lease, from 1; on streams and answers, the sequence of the request they belong to.
    pub sequence: u64,
    /// The lease, 0 before attach.
    pub lease: u64,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The payload: canonical JSON for control messages, raw bytes for streams.
    pub payload: Vec<u8>,
}

impl Header {
    /// The header of a frame with `payload_bytes` of payload.
    ///
    /// # Panics
    /// Where the payload is longer than [`PAYLOAD_BYTES_MAX`]: the sender's own mistake.
    #[must_use]
    pub fn encode(&self, payload_bytes: usize) -> [u8; HEADER_BYTES] {
        assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "a payload is at most {PAYLOAD_BYTES_MAX} bytes");
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(4, &[MAJOR, MINOR]);
        put(6, &(self.command as u16).to_le_bytes());
        put(8, &[self.role.code(), self.arming.code()]);
        put(12, &u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_le_bytes());
        put(16, &self.sequence.to_le_bytes());
        put(24, &self.lease.to_le_bytes());
        put(32, &self.trace.0);
        let tenant = self.tenant.as_ref().map_or("", TenantId::as_str);
        put(48, &[tenant.len() as u8]);
        put(49, tenant.as_bytes());
        bytes
    }

    /// The header that the bytes allege, and how many bytes of payload follow.
    ///
    /// # Errors
    /// A [`Refusal`] that carries tenant and trace id as far as they could be read.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Self, usize), Refusal> {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
        let trace = TraceId(bytes[32..48].try_into().unwrap_or_default());
        let refuse = |code, detail: &str| Err(Refusal::new(code, detail).of(None, trace));
        if bytes[..4] != MAGIC {
            return refuse(Code::Malformed, "the frame does not start with RMND");
        }
        if bytes[4] != MAJOR {
            return refuse(Code::VersionUnsupported, &format!("major version {}", bytes[4]));
        }
        let size = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        if size > PAYLOAD_BYTES_MAX {
            return refuse(Code::TooLarge, &format!("a payload of {size} bytes; {PAYLOAD_BYTES_MAX} are allowed"));
        }
        let tenant = match tenant(bytes) {
            Ok(tenant) => tenant,
            Err(detail) => return refuse(Code::IdentifierInvalid, detail),
        };
        let refuse = |code, detail: &str| Err(Refusal::new(code, detail).of(tenant.as_ref(), trace));
        let command = u16::from_le_bytes([bytes[6], bytes[7]]);
        let Some(command) = Command::from_number(command) else {
            return refuse(Code::CommandUnknown, &format!("command {command:#06x}"));
        };
        let (Some(role), Some(arming)) = (Role::from_code(bytes[8]), Arming::from_code(bytes[9])) else {
            return refuse(Code::Malformed, "unknown role or arming");
        };
        if bytes[10..12] != [0; 2] || bytes[112..] != [0; 16] {
            return refuse(Code::Malformed, "reserved bytes are not zero");
        }
        Ok((Self { command, role, arming, tenant, trace, sequence: number(16), lease: number(24) }, size))
    }
}

fn tenant(bytes: &[u8; HEADER_BYTES]) -> Result<Option<TenantId>, &'static str> {
    let length = usize::from(bytes[48]);
    let field = &bytes[49..112];
    let (Some(name), Some(rest)) = (field.get(..length), field.get(length..)) else {
        return Err("a tenant's name is at most 63 bytes");
    };
    if rest.iter().any(|byte| *byte != 0) {
        return Err("bytes behind the tenant's name are not zero");
    }
    if name.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(name).map_err(|_| "a tenant's name is ASCII")?;
    text.parse().map(Some).map_err(|_| "a tenant's name matches [a-z0-9][a-z0-9._-]{0,62}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            command: Command::Run,
            role: Role::Operator,
            arming: Arming::Armed,
            tenant: "acme".parse().ok(),
            trace: TraceId([9; 16]),
            sequence: 3,
            lease: 7,
        }
    }

    fn refused(change: impl FnOnce(&mut [u8; HEADER_BYTES])) -> Refusal {
        let mut bytes = header().encode(5);
        change(&mut bytes);
        Header::decode(&bytes).expect_err("refused")
    }

    #[test]
    fn a_header_survives_its_bytes() {
        assert_eq!(Header::decode(&header().encode(5)), Ok((header(), 5)));
    }

    #[test]
    fn the_layout_is_the_published_one() {
        let text = crate::digest::hex(&header().encode(5));
        let expected = format!(
            "524d4e44010010000201000005000000{}{}{}04{}{}",
            "0300000000000000",
            "0700000000000000",
            "09".repeat(16),
            "61636d65",
            "00".repeat(59 + 16)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn every_kind_of_bad_header_has_its_own_refusal() {
        assert_eq!(refused(|b| b[0] = 0).code, Code::Malformed);
        assert_eq!(refused(|b| b[4] = 2).code, Code::VersionUnsupported);
        assert_eq!(refused(|b| b[15] = 1).code, Code::TooLarge);
        assert_eq!(refused(|b| b[6] = 0xff).code, Code::CommandUnknown);
        assert_eq!(refused(|b| b[8] = 9).code, Code::Malformed);
        assert_eq!(refused(|b| b[48] = 64).code, Code::IdentifierInvalid);
        assert_eq!(refused(|b| b[49] = b'/').code, Code::IdentifierInvalid);
        assert_eq!(refused(|b| b[60] = b'x').code, Code::IdentifierInvalid);
        assert_eq!(refused(|b| b[127] = 1).code, Code::Malformed);
    }

    #[test]
    fn a_refusal_of_a_readable_header_carries_tenant_and_trace() {
        let refusal = refused(|b| b[6] = 0xff);
        assert_eq!((refusal.tenant_id, refusal.trace_id), (header().tenant, TraceId([9; 16])));
    }

    #[test]
    fn every_command_survives_its_number() {
        for command in Command::ALL {
            assert_eq!(Command::from_number(*command as u16), Some(*command));
        }
    }
}
