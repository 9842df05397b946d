//! The one error that crosses the wire: what was refused, whose move it is, what to do next.
//!
//! A refusal is deterministic: the same request in the same state gives the same code, the same words, the same hint. It
//! carries the tenant and the trace id of the request it answers. It never carries token bytes, payloads or secrets; text
//! that came from a caller is escaped and cut short before it goes in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{PROTOCOL_VERSION, TenantId, TraceId};

/// The longest explanation, in bytes of UTF-8.
pub const DETAIL_BYTES_MAX: usize = 400;

/// Who can change that a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Move {
    /// The sender: the request itself is wrong.
    Caller,
    /// Nobody: the same request can succeed later.
    Wait,
    /// An operator of this tenant.
    Operator,
    /// An administrator of this node.
    Admin,
    /// The authors: this is a defect.
    Remand,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, $mover:ident, $next:literal;)+) => {
        /// Why a request was refused. Names and numbers are stable; a reader treats an unknown one as `internal`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every code, by rising number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The name in answers, events and golden files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whose move it is.
            #[must_use]
            pub const fn whose_move(self) -> Move {
                match self { $(Self::$variant => Move::$mover,)+ }
            }

            /// What to do next, as one sentence for a person.
            #[must_use]
            pub const fn next(self) -> &'static str {
                match self { $(Self::$variant => $next,)+ }
            }
        }
    };
}

codes! {
    /// A frame or payload that cannot be read.
    Malformed = 100, "malformed", Caller, "send a request that PROTOCOL.md describes";
    /// A protocol version of another major number.
    VersionUnsupported = 101, "version_unsupported", Caller, "speak protocol version 1";
    /// A command that this daemon does not know.
    CommandUnknown = 102, "command_unknown", Caller, "ask for a command that this version knows";
    /// An identifier that does not match its pattern.
    IdentifierInvalid = 103, "identifier_invalid", Caller, "use an identifier that matches its pattern";
    /// A request or answer above its size bound.
    TooLarge = 104, "too_large", Caller, "send less, or put large data into a blob";
    /// A thing that was named does not exist for this tenant.
    NotFound = 105, "not_found", Caller, "list what exists and name one of those";
    /// A thing of this name exists and differs.
    Conflict = 106, "conflict", Caller, "choose another name or read the present value first";

    /// Something came before the handshake.
    HandshakeRequired = 200, "handshake_required", Caller, "send the handshake first";
    /// A second handshake on one connection.
    HandshakeRepeated = 201, "handshake_repeated", Caller, "open a new connection";
    /// A command that needs a tenant came before attach.
    AttachRequired = 202, "attach_required", Caller, "attach to a tenant first";
    /// A second attach without a detach.
    AlreadyAttached = 203, "already_attached", Caller, "detach first, or open another connection";
    /// A request names another tenant than the one attached to.
    TenantMismatch = 204, "tenant_mismatch", Caller, "attach to that tenant first";
    /// The role is below what the command needs.
    RoleTooLow = 205, "role_too_low", Admin, "ask an administrator for the role that the command needs";
    /// The role claimed is above the one given.
    RoleNotGranted = 206, "role_not_granted", Admin, "claim a role that this peer was given";
    /// An effectful command without arming.
    NotArmed = 207, "not_armed", Caller, "arm the request if its effect is meant";
    /// The lease ran out.
    LeaseExpired = 208, "lease_expired", Caller, "attach again; renew the lease before it ends";
    /// A sequence number that was used before.
    SequenceReplayed = 209, "sequence_replayed", Caller, "count requests up by one; never send one twice";
    /// A sequence number that skips.
    SequenceGap = 210, "sequence_gap", Caller, "count requests up by one, without a gap";
    /// The connection is closed.
    SessionClosed = 211, "session_closed", Caller, "open a new connection";
    /// The tenant does not exist.
    TenantUnknown = 220, "tenant_unknown", Caller, "name a tenant that exists";
    /// The tenant is suspended.
    TenantSuspended = 221, "tenant_suspended", Admin, "resume the tenant";

    /// No token came with a command that needs one.
    TokenMissing = 300, "token_missing", Caller, "send a token";
    /// The token is above 4 KiB or 8 blocks.
    TokenTooLarge = 301, "token_too_large", Caller, "delegate from a token with fewer blocks";
    /// The token was revoked, or one that it descends from.
    TokenRevoked = 302, "token_revoked", Admin, "issue a new token";
    /// The token's bytes are not a token that this node's root key signed.
    TokenForged = 303, "token_forged", Caller, "use a token that this node issued, unchanged";
    /// A block holds something else than a narrowing that this node understands.
    TokenBlockForeign = 304, "token_block_foreign", Caller, "delegate with this node's own tools";
    /// The token is not in the registry.
    TokenUnknown = 305, "token_unknown", Admin, "issue a token on this node";
    /// The token belongs to another tenant.
    TokenTenantMismatch = 306, "token_tenant_mismatch", Caller, "use a token of the tenant attached to";
    /// The token belongs to another user.
    TokenUserMismatch = 307, "token_user_mismatch", Caller, "use a token of your own";
    /// The token does not allow this trigger.
    TokenTriggerDenied = 308, "token_trigger_denied", Admin, "issue a token that allows this trigger";
    /// The token's time is over.
    TokenExpired = 309, "token_expired", Admin, "issue a new token";
    /// The node's clock is behind its own last event.
    ClockBackwards = 310, "clock_backwards", Admin, "set the node's clock right, then restart the daemon; nothing runs until then";
    /// The token does not hold this scope.
    ScopeDenied = 311, "scope_denied", Admin, "issue a token that holds this scope";
    /// The token's number of calls is used up.
    CallsExhausted = 312, "calls_exhausted", Admin, "issue a token with more calls";
    /// The token's processor time is used up.
    BudgetExhausted = 313, "budget_exhausted", Admin, "issue a token with more processor time";
    /// A grant that cannot be issued: nothing in it, or a bound exceeded.
    GrantInvalid = 314, "grant_invalid", Caller, "state a grant within the bounds of SPECIFICATION.md";
    /// A delegation that would add something.
    DelegationWidens = 315, "delegation_widens", Caller, "delegate only what the token holds";

    /// No such domain.
    DomainUnknown = 400, "domain_unknown", Admin, "register the domain";
    /// The domain was revoked.
    DomainRevoked = 401, "domain_revoked", Admin, "register the domain under a new version";
    /// A descriptor that breaks a rule.
    DomainInvalid = 402, "domain_invalid", Caller, "correct the descriptor";
    /// A domain or method that another one needs is missing or revoked.
    DependencyMissing = 403, "dependency_missing", Admin, "register what the domain depends on";
    /// The domain has no such method.
    MethodUnknown = 404, "method_unknown", Caller, "call a method that the domain describes";
    /// A call or registration that would give more than its caller holds.
    EscalationBlocked = 405, "escalation_blocked", Admin, "grant what the capability needs, by name";

    /// No such contract for this tenant.
    ContractUnknown = 500, "contract_unknown", Caller, "register the contract";
    /// A contract that breaks a rule.
    ContractInvalid = 501, "contract_invalid", Caller, "correct the contract";
    /// A contract whose content is not the one that its hash was registered for.
    ContractForged = 502, "contract_forged", Caller, "register the changed contract under its own hash";
    /// A schema that is not one, or that needs something outside of itself.
    SchemaInvalid = 503, "schema_invalid", Caller, "correct the schema";
    /// A schema above the bounds of size, depth or cost.
    SchemaTooCostly = 504, "schema_too_costly", Caller, "simplify the schema";
    /// An input that its schema refuses.
    InputInvalid = 505, "input_invalid", Caller, "send an input that the contract's schema accepts";
    /// An output that its schema refuses.
    OutputInvalid = 506, "output_invalid", Caller, "correct the program or the contract's output schema";

    /// A quota that breaks a rule.
    QuotaInvalid = 600, "quota_invalid", Caller, "state a quota within the bounds of SPECIFICATION.md";
    /// The tenant has no quota, and so may use nothing.
    QuotaMissing = 601, "quota_missing", Admin, "register a quota for the tenant";
    /// The tenant's quota is used up, for now or for this window.
    QuotaExceeded = 602, "quota_exceeded", Wait, "try again after the hint, or ask for a higher quota";
    /// The request is larger than the whole quota.
    QuotaTooSmall = 603, "quota_too_small", Admin, "ask for less, or raise the quota";

    /// A plan that breaks a rule.
    PlanInvalid = 700, "plan_invalid", Caller, "correct the plan";
    /// A step that was not run because an earlier one failed.
    PlanAborted = 701, "plan_aborted", Caller, "see why the earlier step failed; make a new plan";
    /// A queue is full.
    QueueFull = 702, "queue_full", Wait, "try again after the hint";
    /// A queue is full and the task was dropped to make room.
    TaskShed = 703, "task_shed", Wait, "submit it again after the hint";
    /// A domain's method failed.
    StepFailed = 704, "step_failed", Caller, "see the outcome of the step";
    /// Somebody ended it before its turn had come.
    ExecutionCancelled = 705, "execution_cancelled", Caller, "ask again under another request id, if it is still wanted";

    /// The audit log did not take an event.
    AuditUnavailable = 800, "audit_unavailable", Admin, "do what it says; the log is verified before anything is recorded again";
    /// The daemon is shutting down.
    Draining = 801, "draining", Wait, "connect again when the daemon is back";
    /// The node lacks something.
    HostUnfit = 802, "host_unfit", Admin, "run the doctor and do what it says";
    /// A defect.
    Internal = 900, "internal", Remand, "report this with its trace id";
}

impl Code {
    /// Whether a token, a scope or a capability was missing, and not something in the request itself.
    #[must_use]
    pub const fn is_of_authority(self) -> bool {
        matches!(self.number(), 300..500)
    }

    /// The code of this name; an unknown name is `internal`, so that a newer peer's refusal stays a refusal.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.iter().copied().find(|code| code.name() == name).unwrap_or(Self::Internal)
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_name(&String::deserialize(deserializer)?))
    }
}

/// A request that was not done, and nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The protocol's version.
    pub protocol_version: String,
    /// Why.
    pub code: Code,
    /// Names and numbers of this one case; escaped, at most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
    /// Milliseconds after which the same request can succeed, where that is known.
    pub retry_after_ms: Option<u64>,
    /// The tenant of the request, where it named one that parses.
    pub tenant_id: Option<TenantId>,
    /// The trace id of the request.
    pub trace_id: TraceId,
}

impl Refusal {
    /// A refusal with the case's names and numbers. Say who asked with [`Refusal::of`] before it leaves the room.
    #[must_use]
    pub fn new(code: Code, detail: impl AsRef<str>) -> Self {
        let detail = printable(detail.as_ref());
        let protocol_version = PROTOCOL_VERSION.to_owned();
        Self { protocol_version, code, detail, retry_after_ms: None, tenant_id: None, trace_id: TraceId::default() }
    }

    /// The same refusal, with the tenant and trace id of the request that it answers.
    #[must_use]
    pub fn of(mut self, tenant_id: Option<&TenantId>, trace_id: TraceId) -> Self {
        self.tenant_id = tenant_id.cloned();
        self.trace_id = trace_id;
        self
    }

    /// The same refusal, with the time after which the request can succeed, in milliseconds.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Whose move it is.
    #[must_use]
    pub const fn whose_move(&self) -> Move {
        self.code.whose_move()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.code.name(), self.detail, self.code.next())?;
        self.retry_after_ms.map_or(Ok(()), |ms| write!(f, " (in {ms} ms)"))
    }
}

impl std::error::Error for Refusal {}

/// `text` without anything that a terminal or a log would act on, cut at [`DETAIL_BYTES_MAX`].
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let escaped =
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let piece = if escaped { c.escape_unicode().to_string() } else { c.to_string() };
        if out.len() + piece.len() > DETAIL_BYTES_MAX - '…'.len_utf8() {
            out.push('…');
            break;
        }
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_codes_are_unique_and_rise() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn every_code_survives_its_name_and_an_unknown_name_is_internal() {
        assert!(Code::ALL.iter().all(|code| Code::from_name(code.name()) == *code));
        assert_eq!(Code::from_name("from_the_future"), Code::Internal);
    }

    #[test]
    fn a_callers_text_cannot_drive_a_terminal_or_grow_without_bound() {
        let refusal = Refusal::new(Code::Malformed, format!("\x1b[2J\u{202e}{}", "x".repeat(10_000)));
        assert!(!refusal.detail.contains(['\x1b', '\u{202e}']));
        assert!(refusal.detail.len() <= DETAIL_BYTES_MAX);
    }

    #[test]
    fn a_refusal_carries_tenant_and_trace_id_over_the_wire() {
        let tenant: TenantId = "acme".parse().expect("a name");
        let refusal = Refusal::new(Code::QuotaExceeded, "tasks").of(Some(&tenant), TraceId([7; 16])).retry_after(5);
        let text = serde_json::to_string(&refusal).expect("json");
        assert_eq!(serde_json::from_str::<Refusal>(&text).expect("back"), refusal);
        assert!(text.contains(r#""tenant_id":"acme""#) && text.contains("0707"));
    }
}
