//! The node's registries behind one lock, and who speaks: what is decided here was made durable before, by [`crate::registry`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use remand_authority::Clock;
use remand_authority::permit::Authority;
use remand_authority::session::Tenancy;
use remand_authority::token::{Presented, RootKey, TokenBytes, VerifiedToken};
use remand_ledger::Ledger;
use remand_model::event::{NewEvent, Subject};
use remand_model::grant::{Grant, Right, TokenId, Trigger, UserId};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use remand_model::{Digest, EventType, PROTOCOL_VERSION, TenantId, TraceId};

use crate::conversation::{Peer, now_ms};
use crate::domains;

/// The tenant of commands that name none; it exists from the start.
pub const LOCAL: &str = "local";
/// The node's own chain: tenants and domains. It can be looked at, and nothing runs in it.
pub const NODE: &str = "node";

/// Number of the root key.
const ROOT_KEY: u32 = 1;

/// How a tenant stands in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can work.
    Active,
    /// It can be looked at.
    Suspended,
    /// Only its chain is left.
    Deleted,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Suspended, Self::Deleted];

    /// The name in records and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

/// Who is attached, and with which token. All of it was found by the daemon, but for the token, which is an allegation.
pub struct Credential {
    /// The tenant attached to.
    pub tenant: TenantId,
    /// The user: `root`, `uid-N`, or whom root speaks for.
    pub user: UserId,
    /// The role of the connection.
    pub role: Role,
    /// The token, where one came.
    pub token: Option<TokenBytes>,
    /// The peer.
    pub peer: Peer,
}

/// Who asked for something, as its event says it.
#[derive(Debug, Clone, Copy)]
pub struct By {
    /// The peer.
    pub peer: Peer,
    /// The request's trace.
    pub trace: TraceId,
}

impl By {
    /// An event of a room, with who asked for it.
    ///
    /// # Errors
    /// `internal` where the kind or subject can be none.
    pub fn event(&self, kind: &str, subject: &str) -> Result<NewEvent, Refusal> {
        let kind: EventType = kind.parse().map_err(internal)?;
        let subject: Subject = subject.parse().map_err(internal)?;
        Ok(self.mark(NewEvent::new(kind, subject)))
    }

    /// Adds who asked.
    #[must_use]
    pub fn mark(&self, event: NewEvent) -> NewEvent {
        event.observe("uid", self.peer.uid).observe("pid", self.peer.pid).observe("trace_id", self.trace.to_string())
    }
}

/// A defect, as a refusal.
pub fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

/// A tenant's name that is a constant here.
///
/// # Panics
/// Never: both are names.
#[must_use]
pub fn tenant_named(name: &str) -> TenantId {
    name.parse().expect("a constant name of a tenant")
}

/// The registries.
pub struct Registries {
    authority: Mutex<Authority>,
    tenants: Mutex<BTreeMap<TenantId, Standing>>,
    root: RootKey,
    house: TokenBytes,
    /// Held while a registry changes, so that what is durable and what is in force have the same order.
    pub changing: tokio::sync::Mutex<()>,
}

impl Registries {
    /// Registries that trust the root key of this seed; nothing is in them yet.
    ///
    /// # Errors
    /// `internal`.
    pub fn new(seed: &[u8; 32]) -> Result<Self, Refusal> {
        let root = RootKey::from_seed(ROOT_KEY, seed);
        let authority = Authority::new(vec![root.public()], 0)?;
        let house = root.mint(&house_grant(seed)?, &derived(seed, "house"))?;
        Ok(Self {
            authority: Mutex::new(authority),
            tenants: Mutex::default(),
            root,
            house,
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// The registries of tokens, domains, contracts and quotas.
    pub fn authority(&self) -> MutexGuard<'_, Authority> {
        self.authority.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry of tenants.
    pub fn tenants(&self) -> MutexGuard<'_, BTreeMap<TenantId, Standing>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a tenant stands, as sessions see it.
    #[must_use]
    pub fn tenancy(&self, tenant: &TenantId) -> Tenancy {
        match self.tenants().get(tenant) {
            Some(Standing::Active) => Tenancy::Active,
            Some(Standing::Suspended | Standing::Deleted) => Tenancy::Suspended,
            None if tenant.as_str() == NODE => Tenancy::Suspended,
            None => Tenancy::Unknown,
        }
    }

    /// The first token of the node, for its administrator.
    #[must_use]
    pub const fn house(&self) -> &TokenBytes {
        &self.house
    }

    /// Makes a token of a grant.
    ///
    /// # Errors
    /// Those of [`RootKey::mint`].
    pub fn mint(&self, grant: &Grant) -> Result<TokenBytes, Refusal> {
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(internal)?;
        self.root.mint(grant, &entropy)
    }

    /// Validates the token of whoever is attached; without one, root in the tenant `local` uses the node's own.
    ///
    /// # Errors
    /// `token_missing`, and those of the token registry.
    pub fn validate(&self, who: &Credential, ledger: &Ledger) -> Result<VerifiedToken, Refusal> {
        let clock = clock(ledger, &who.tenant);
        let token = self.token_of(who)?;
        let presented = Presented { tenant_id: &who.tenant, user_id: &who.user, trigger: Trigger::Manual, clock };
        self.authority().tokens.validate(token, &presented)
    }

    /// The token that a credential uses.
    ///
    /// # Errors
    /// `token_missing`.
    pub fn token_of<'a>(&'a self, who: &'a Credential) -> Result<&'a TokenBytes, Refusal> {
        let is_embedded = who.peer.uid == 0 && who.tenant.as_str() == LOCAL;
        let own = is_embedded.then_some(&self.house);
        let missing = || Refusal::new(Code::TokenMissing, format!("tenant {} needs one", who.tenant));
        who.token.as_ref().or(own).ok_or_else(missing)
    }
}

/// The clocks, as a decision about this tenant reads them.
#[must_use]
pub fn clock(ledger: &Ledger, tenant: &TenantId) -> Clock {
    static LATEST_S: AtomicU64 = AtomicU64::new(0);
    let wall_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let last_event_s = ledger.head(tenant).map_or(0, |head| head.wall_clock_us / 1_000_000);
    Clock { wall_s, last_event_s: latest(&LATEST_S, last_event_s), mono_ms: now_ms() }
}

/// The latest time of any event that this life of the daemon has seen: a refusal for a clock that went back is an event
/// too, and must not make the clock right. With the clock set right and behind it, a new start forgets.
fn latest(seen_s: &AtomicU64, event_s: u64) -> u64 {
    seen_s.fetch_max(event_s, Ordering::Relaxed).max(event_s)
}

fn derived(seed: &[u8; 32], purpose: &str) -> [u8; 32] {
    *Digest::of(&[purpose.as_bytes(), b"\0", seed].concat()).as_bytes()
}

/// What the node's first token may do: everything that this node offers, in the tenant `local`, for root.
fn house_grant(seed: &[u8; 32]) -> Result<Grant, Refusal> {
    let mut id = [0; 16];
    id.copy_from_slice(&derived(seed, "house.id")[..16]);
    let scopes = domains::descriptors();
    let scopes = scopes
        .iter()
        .flat_map(|descriptor| descriptor.methods.keys().map(|method| format!("{}.{method}=*", descriptor.domain)));
    let rights = scopes.map(|scope| scope.parse::<Right>().map_err(internal)).collect::<Result<_, _>>()?;
    Ok(Grant {
        protocol_version: PROTOCOL_VERSION.into(),
        token_id: TokenId::from_entropy(id),
        tenant_id: tenant_named(LOCAL),
        user_id: "root".parse().map_err(internal)?,
        rights,
        triggers: Trigger::ALL.into(),
        expires_s: remand_model::grant::EXPIRY_MAX_S,
        calls_max: remand_model::quota::VALUE_MAX,
        cpu_ms_max: remand_model::quota::VALUE_MAX,
        epoch: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_clock_that_went_back_does_not_make_the_clock_right() {
        let seen_s = AtomicU64::new(0);
        assert_eq!([5, 9, 2, 9, 10].map(|event_s| latest(&seen_s, event_s)), [5, 9, 9, 9, 10]);
    }
}
