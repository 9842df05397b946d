//! One connection's conversation: handshake, attach, requests under a lease, end. A reconnect starts over.
//!
//! Each request carries a sequence number that counts up by one over the whole connection, so that what was recorded cannot
//! be played again, nor reordered. The monotonic clock is passed in; nothing here sleeps or waits.

use remand_model::refusal::{Code, Refusal};
use remand_model::role::{Arming, Role};
use remand_model::{PROTOCOL_VERSION, TenantId, TraceId};

use crate::table::{self, Action, Stage};

/// Length of a lease in milliseconds.
pub const LEASE_MS: u64 = 60_000;

/// What the envelope of one request says; an allegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Protocol version that it speaks.
    pub protocol_version: String,
    /// Tenant that it names.
    pub tenant_id: Option<TenantId>,
    /// Its trace id.
    pub trace_id: TraceId,
    /// What it asks for.
    pub action: Action,
    /// The role that it wants to act in.
    pub role: Role,
    /// Whether it means the effect.
    pub arming: Arming,
    /// Its number on this connection, from 1.
    pub sequence: u64,
}

/// How a tenant stands, as the node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// There is no such tenant, or this peer may not know of it.
    Unknown,
    /// It can work.
    Active,
    /// It can be looked at.
    Suspended,
}

/// A lease: the right to send requests for one tenant until a moment of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The node's number of this lease; rises, so that a later one can be told from an earlier one.
    pub epoch: u64,
    /// The end, in milliseconds of the monotonic clock.
    pub expires_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Connected,
    Ready,
    Attached(Lease),
    Closed,
}

/// A request that passed the envelope's checks, with who asks. Only a [`Session`] makes one; it cannot be copied.
///
/// It says that this peer may ask for this action now. It says nothing about tokens, contracts or quotas.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an admitted request must be answered"]
pub struct Admitted {
    action: Action,
    role: Role,
    trace_id: TraceId,
    sequence: u64,
    lease: Option<Lease>,
}

impl Admitted {
    /// What is asked for.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// The role in which it is asked.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The request's trace id.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The request's number on its connection.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The lease under which it is asked, where the session is attached.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The tenant attached to.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&TenantId> {
        self.lease.as_ref().map(|lease| &lease.tenant_id)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    granted: Role,
    state: State,
    sequence: u64,
}

impl Session {
    /// A new connection of a peer to whom the daemon gives at most this role.
    #[must_use]
    pub const fn new(granted: Role) -> Self {
        Self { granted, state: State::Connected, sequence: 0 }
    }

    /// The number of the last request that was taken.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The lease, where one is held.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        if let State::Attached(lease) = &self.state { Some(lease) } else { None }
    }

    /// Takes one request at `now_ms` of the monotonic clock. `tenancy` says how a tenant stands; `next_epoch` is the number
    /// of the lease, should this request be granted one.
    ///
    /// A refusal for version, sequence or role leaves the session as it was. A request whose number was right is counted,
    /// refused or not. An ended lease takes the session back to before attach.
    ///
    /// # Errors
    /// In this order: `session_closed`, `version_unsupported`, `sequence_replayed`, `sequence_gap`, `role_not_granted`,
    /// `lease_expired`, `tenant_mismatch`, those of the policy table, `tenant_unknown`. All carry tenant and trace id.
    pub fn admit(
        &mut self,
        request: &Request,
        now_ms: u64,
        tenancy: impl Fn(&TenantId) -> Tenancy,
        next_epoch: u64,
    ) -> Result<Admitted, Refusal> {
        self.check(request, now_ms, &tenancy)
            .and_then(|()| self.advance(request, now_ms, &tenancy, next_epoch))
            .map_err(|refusal| refusal.of(request.tenant_id.as_ref(), request.trace_id))
    }

    /// Counts a request that was refused because it says nothing, where its number was right; no other is counted.
    pub fn pass_over(&mut self, sequence: u64) {
        if self.check_sequence(sequence).is_ok() {
            self.sequence = sequence;
        }
    }

    /// Ends the conversation: nothing is admitted any more.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    fn check(
        &mut self,
        request: &Request,
        now_ms: u64,
        tenancy: &impl Fn(&TenantId) -> Tenancy,
    ) -> Result<(), Refusal> {
        if self.state == State::Closed {
            return Err(Refusal::new(Code::SessionClosed, "the conversation is over"));
        }
        check_version(&request.protocol_version)?;
        self.check_sequence(request.sequence)?;
        if request.role > self.granted {
            let detail = format!("{} asked, {} given", request.role.name(), self.granted.name());
            return Err(Refusal::new(Code::RoleNotGranted, detail));
        }
        self.sequence = request.sequence;
        self.check_lease(request, now_ms)?;
        let stage = self.stage(tenancy);
        table::verdict(request.role, request.arming, request.action, stage)
            .map_err(|code| Refusal::new(code, format!("{} while {}", request.action.name(), stage.name())))
    }

    const fn expected(&self) -> u64 {
        self.sequence.saturating_add(1)
    }

    fn check_sequence(&self, sequence: u64) -> Result<(), Refusal> {
        let expected = self.expected();
        match sequence.cmp(&expected) {
            std::cmp::Ordering::Equal if self.sequence < u64::MAX => Ok(()),
            std::cmp::Ordering::Greater => {
                Err(Refusal::new(Code::SequenceGap, format!("{sequence} came, {expected} was next")))
            }
            _ => Err(Refusal::new(Code::SequenceReplayed, format!("{sequence} came, {expected} was next"))),
        }
    }

    fn check_lease(&mut self, request: &Request, now_ms: u64) -> Result<(), Refusal> {
        let State::Attached(lease) = &self.state else { return Ok(()) };
        if now_ms >= lease.expires_ms {
            self.state = State::Ready;
            return Err(Refusal::new(Code::LeaseExpired, "the session is no longer attached"));
        }
        match &request.tenant_id {
            Some(tenant) if request.action != Action::Attach && *tenant != lease.tenant_id => {
                Err(Refusal::new(Code::TenantMismatch, format!("attached to {}", lease.tenant_id)))
            }
            _ => Ok(()),
        }
    }

    fn stage(&self, tenancy: &impl Fn(&TenantId) -> Tenancy) -> Stage {
        match &self.state {
            State::Connected => Stage::Connected,
            State::Ready => Stage::Ready,
            State::Closed => Stage::Closed,
            State::Attached(lease) => match tenancy(&lease.tenant_id) {
                Tenancy::Active => Stage::Attached,
                // A tenant deleted under an attached session can be looked at as little as it can work.
                Tenancy::Suspended | Tenancy::Unknown => Stage::Suspended,
            },
        }
    }

    /// The table `(State, Action) -> State`; what it does not name stays where it is.
    fn advance(
        &mut self,
        request: &Request,
        now_ms: u64,
        tenancy: &impl Fn(&TenantId) -> Tenancy,
        epoch: u64,
    ) -> Result<Admitted, Refusal> {
        let expires_ms = now_ms.saturating_add(LEASE_MS);
        let before = std::mem::replace(&mut self.state, State::Closed);
        let (after, result) = match (before, request.action) {
            (State::Connected, Action::Handshake) => (State::Ready, Ok(())),
            (State::Ready, Action::Attach) => attach(request.tenant_id.as_ref(), tenancy, epoch, expires_ms),
            (State::Attached(lease), Action::RenewLease) => (State::Attached(Lease { expires_ms, ..lease }), Ok(())),
            (State::Attached(_), Action::Detach) => (State::Ready, Ok(())),
            (_, Action::Bye) => (State::Closed, Ok(())),
            (state, _) => (state, Ok(())),
        };
        self.state = after;
        let Request { action, role, trace_id, sequence, .. } = *request;
        result.map(|()| Admitted { action, role, trace_id, sequence, lease: self.lease().cloned() })
    }
}

fn attach(
    tenant_id: Option<&TenantId>,
    tenancy: &impl Fn(&TenantId) -> Tenancy,
    epoch: u64,
    expires_ms: u64,
) -> (State, Result<(), Refusal>) {
    let Some(tenant_id) = tenant_id else {
        return (State::Ready, Err(Refusal::new(Code::AttachRequired, "attach names a tenant")));
    };
    match tenancy(tenant_id) {
        Tenancy::Unknown => (State::Ready, Err(Refusal::new(Code::TenantUnknown, tenant_id.as_str()))),
        Tenancy::Active | Tenancy::Suspended => {
            (State::Attached(Lease { tenant_id: tenant_id.clone(), epoch, expires_ms }), Ok(()))
        }
    }
}

/// Any minor version of the same major version is understood.
fn check_version(version: &str) -> Result<(), Refusal> {
    let major = |version: &str| version.split_once('.').map(|(major, _)| major.to_owned());
    let minor_is_a_number = version.split_once('.').is_some_and(|(_, minor)| minor.parse::<u16>().is_ok());
    if minor_is_a_number && major(version) == major(PROTOCOL_VERSION) {
        return Ok(());
    }
    Err(Refusal::new(Code::VersionUnsupported, version))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
