//! The node's registry of tokens: which exist, which are revoked, and the checks in their order.
//!
//! Order: size, revoked, signature and form, exists, tenant and user, trigger, time; then, per call, revoked and time again,
//! scope, and counters that the store moves together with the event. Signatures are cached by the digest of the bytes;
//! revocation, time and counters never are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use biscuit_auth::AuthorizerBuilder;
use remand_model::grant::{Grant, Resource, Scope, TokenId, Trigger, UserId};
use remand_model::quota::Charge;
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, TenantId};
use serde::{Deserialize, Serialize};

use crate::Clock;

use super::verify::{self, BlockId, Facts};
use super::{RootPublic, TokenBytes, datalog, defect};

/// Tokens whose signatures are remembered.
const CACHE_MAX: usize = 4096;
/// Calls of one remembered token whose verdict is remembered.
const CALLS_MAX: usize = 64;
/// Tokens of one node.
pub const TOKENS_MAX: usize = 1 << 20;

/// A token as the node remembers it, durably: what it was issued for, never its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What it was issued for.
    pub grant: Grant,
    /// Its first block, in hexadecimal digits: revoking it revokes every token that descends from it.
    pub root_block: String,
}

/// What is to be revoked; made durable first, then handed to [`TokenRegistry::revoke`], then acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The token that it belongs to.
    pub token_id: TokenId,
    /// The block, in hexadecimal digits.
    pub block: String,
    /// When the record can be forgotten, in seconds since the Unix epoch: the token is over by then.
    pub until_s: u64,
}

/// Who presents a token, on what occasion, at what time. All of it comes from the session and the node, not from the token.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The tenant attached to.
    pub tenant_id: &'a TenantId,
    /// The user of the session.
    pub user_id: &'a UserId,
    /// What set the request off.
    pub trigger: Trigger,
    /// The moment.
    pub clock: Clock,
}

/// A token that was valid when it was presented. Only [`TokenRegistry::validate`] makes one.
///
/// Holding one says: this node issued it, and it was not revoked, of this tenant and user, for this trigger, in time. It does
/// not say that a call is allowed: see [`TokenRegistry::check_call`], which looks at revocation and time again.
pub struct VerifiedToken {
    facts: Arc<Facts>,
    bytes: Digest,
    trigger: Trigger,
}

impl VerifiedToken {
    /// Its id.
    #[must_use]
    pub fn token_id(&self) -> &TokenId {
        &self.facts.grant.token_id
    }

    /// Its tenant.
    #[must_use]
    pub fn tenant_id(&self) -> &TenantId {
        &self.facts.grant.tenant_id
    }

    /// Its user.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.facts.grant.user_id
    }

    /// Number of its blocks; with the id, all that an event says of a token.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.facts.blocks.len()
    }

    /// What set the request off.
    #[must_use]
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// Whether some right of it, after all narrowing, is for this scope.
    #[must_use]
    pub fn holds(&self, scope: &Scope) -> bool {
        self.facts.holds(scope)
    }
}

/// One call that a token allows, if the store can move these counters in the transaction of its event.
///
/// Only [`TokenRegistry::check_call`] makes one; it cannot be copied, so that it serves one call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an allowed call is worth nothing until its counters moved"]
pub struct Allowed {
    token_id: TokenId,
    blocks: usize,
    scope: Scope,
    resource: Resource,
    charges: Vec<Charge>,
}

impl Allowed {
    /// The token's id.
    #[must_use]
    pub const fn token_id(&self) -> &TokenId {
        &self.token_id
    }

    /// Number of the token's blocks.
    #[must_use]
    pub const fn block_count(&self) -> usize {
        self.blocks
    }

    /// The method.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What it acts on.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The counters that must move with the event; where one cannot, the call is refused with its `refused_as`.
    #[must_use]
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }
}

struct Known {
    grant: Grant,
    root: BlockId,
}

struct Remembered {
    facts: Arc<Facts>,
    allowed: Vec<(Trigger, Scope, Resource)>,
}

/// The registry.
pub struct TokenRegistry {
    roots: Vec<RootPublic>,
    records: BTreeMap<TokenId, Known>,
    revoked: HashSet<BlockId>,
    revocations: Vec<Revocation>,
    epoch: u64,
    policy: AuthorizerBuilder,
    cache: HashMap<Digest, Remembered>,
}

impl TokenRegistry {
    /// An empty registry that trusts these root keys and refuses tokens of epochs before `epoch`.
    ///
    /// # Errors
    /// `internal` where the library does not take the policy.
    pub fn new(roots: Vec<RootPublic>, epoch: u64) -> Result<Self, Refusal> {
        Ok(Self {
            roots,
            records: BTreeMap::new(),
            revoked: HashSet::new(),
            revocations: Vec::new(),
            epoch,
            policy: datalog::policy()?,
            cache: HashMap::new(),
        })
    }

    /// The durable record of a token just minted. Store it with its event, then [`TokenRegistry::admit`] it, then hand the
    /// token out.
    ///
    /// # Errors
    /// `token_forged` where the bytes are no token of these root keys.
    pub fn record(&self, token: &TokenBytes) -> Result<TokenRecord, Refusal> {
        let (unverified, blocks) = verify::open(token)?;
        let facts = verify::verify(unverified, blocks, &self.roots)?;
        let root_block = facts.blocks.first().map(BlockId::to_hex).unwrap_or_default();
        Ok(TokenRecord { grant: facts.grant.clone(), root_block })
    }

    /// Takes a durable record in.
    ///
    /// # Errors
    /// `grant_invalid`, `conflict` where another grant has this id, `too_large` above [`TOKENS_MAX`].
    pub fn admit(&mut self, record: TokenRecord) -> Result<(), Refusal> {
        record.grant.check()?;
        if self.records.len() >= TOKENS_MAX {
            return Err(Refusal::new(Code::TooLarge, format!("{TOKENS_MAX} tokens; forget those that are over")));
        }
        let root = block_of(&record.root_block)?;
        match self.records.get(&record.grant.token_id) {
            Some(known) if known.grant != record.grant || known.root != root => {
                Err(Refusal::new(Code::Conflict, format!("{} exists", record.grant.token_id)))
            }
            _ => {
                self.records.insert(record.grant.token_id.clone(), Known { grant: record.grant, root });
                Ok(())
            }
        }
    }

    /// What must be made durable to revoke a token with all that descends from it.
    ///
    /// # Errors
    /// `not_found` where the tenant has no such token.
    pub fn revocation(&self, token_id: &TokenId, tenant_id: &TenantId) -> Result<Revocation, Refusal> {
        let known = self.records.get(token_id).filter(|known| known.grant.tenant_id == *tenant_id);
        let known = known.ok_or_else(|| Refusal::new(Code::NotFound, token_id.to_string()))?;
        let (block, until_s) = (known.root.to_hex(), known.grant.expires_s);
        Ok(Revocation { token_id: token_id.clone(), block, until_s })
    }

    /// What must be made durable to revoke exactly this token, as it was handed on, with all that descends from it.
    ///
    /// # Errors
    /// `token_forged`, `token_block_foreign`, `token_unknown`.
    pub fn revocation_of(&self, token: &TokenBytes) -> Result<Revocation, Refusal> {
        let (unverified, blocks) = verify::open(token)?;
        let facts = verify::verify(unverified, blocks, &self.roots)?;
        let grant = self.record_of(&facts)?;
        let block = facts.blocks.last().map(BlockId::to_hex).unwrap_or_default();
        Ok(Revocation { token_id: grant.token_id.clone(), block, until_s: grant.expires_s })
    }

    /// Takes a durable revocation in: from now on no check passes. Acknowledge it after this, and kill what runs under it.
    ///
    /// # Errors
    /// `malformed` where the block is not 128 hexadecimal digits.
    pub fn revoke(&mut self, revocation: Revocation) -> Result<(), Refusal> {
        let block = block_of(&revocation.block)?;
        if self.revoked.insert(block) {
            self.revocations.push(revocation);
        }
        Ok(())
    }

    /// Whether the token of this id was revoked with all that descends from it.
    #[must_use]
    pub fn is_revoked(&self, token_id: &TokenId) -> bool {
        self.records.get(token_id).is_some_and(|known| self.revoked.contains(&known.root))
    }

    /// Refuses every token of an earlier epoch from now on. Epochs only rise.
    pub fn raise_epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Forgets what is over for more than `skew_s` seconds; the caller removes the same from its store.
    pub fn forget(&mut self, now_s: u64, skew_s: u64) {
        let over = |at: u64| at.saturating_add(skew_s) < now_s;
        self.records.retain(|_, known| !over(known.grant.expires_s));
        self.revocations.retain(|revocation| !over(revocation.until_s));
        self.revoked = self.revocations.iter().filter_map(|revocation| BlockId::from_hex(&revocation.block)).collect();
        self.cache.retain(|_, remembered| !over(remembered.facts.expires_s));
    }

    /// The tenant's tokens.
    pub fn list(&self, tenant_id: &TenantId) -> impl Iterator<Item = &Grant> {
        self.records.values().map(|known| &known.grant).filter(move |grant| grant.tenant_id == *tenant_id)
    }

    /// Validates a token, once per plan.
    ///
    /// # Errors
    /// In this order: `token_too_large`, `token_revoked`, `token_forged`, `token_block_foreign`, `token_unknown`,
    /// `token_tenant_mismatch`, `token_user_mismatch`, `token_trigger_denied`, `clock_backwards`, `token_expired`.
    pub fn validate(&mut self, token: &TokenBytes, presented: &Presented<'_>) -> Result<VerifiedToken, Refusal> {
        let bytes = Digest::of(token.expose());
        let facts = self.facts(token, bytes)?;
        self.record_of(&facts)?;
        check_presented(&facts, presented)?;
        check_time(&facts, presented.clock.wall_s, presented.clock.last_event_s)?;
        Ok(VerifiedToken { facts, bytes, trigger: presented.trigger })
    }

    /// Checks one call of a validated token: revocation and time again, then the scope; counters come with the answer.
    ///
    /// `cpu_ms` is what the call may use at most; what it did not use is given back with [`refund`].
    ///
    /// # Errors
    /// `token_revoked`, `token_unknown`, `clock_backwards`, `token_expired`, `scope_denied`.
    pub fn check_call(
        &mut self,
        token: &VerifiedToken,
        scope: &Scope,
        resource: &Resource,
        cpu_ms: u64,
        clock: &Clock,
    ) -> Result<Allowed, Refusal> {
        let facts = &token.facts;
        self.check_revoked(&facts.blocks)?;
        self.record_of(facts)?;
        check_time(facts, clock.wall_s, clock.last_event_s)?;
        self.check_scope(token, scope, resource, clock.wall_s)?;
        let calls = facts.calls.iter().map(|(key, max)| charge(key, 1, *max, Code::CallsExhausted));
        let cpu = facts.cpu_ms.iter().map(|(key, max)| charge(key, cpu_ms, *max, Code::BudgetExhausted));
        Ok(Allowed {
            token_id: facts.grant.token_id.clone(),
            blocks: facts.blocks.len(),
            scope: scope.clone(),
            resource: resource.clone(),
            charges: calls.chain(cpu.filter(|charge| charge.add > 0)).collect(),
        })
    }

    fn facts(&mut self, token: &TokenBytes, bytes: Digest) -> Result<Arc<Facts>, Refusal> {
        if let Some(remembered) = self.cache.get(&bytes) {
            self.check_revoked(&remembered.facts.blocks)?;
            return Ok(Arc::clone(&remembered.facts));
        }
        let (unverified, blocks) = verify::open(token)?;
        self.check_revoked(&blocks)?;
        let facts = Arc::new(verify::verify(unverified, blocks, &self.roots)?);
        if self.cache.len() >= CACHE_MAX {
            self.cache.clear();
        }
        self.cache.insert(bytes, Remembered { facts: Arc::clone(&facts), allowed: Vec::new() });
        Ok(facts)
    }

    fn check_revoked(&self, blocks: &[BlockId]) -> Result<(), Refusal> {
        match blocks.iter().position(|block| self.revoked.contains(block)) {
            Some(index) => Err(Refusal::new(Code::TokenRevoked, format!("block {index} of {}", blocks.len()))),
            None => Ok(()),
        }
    }

    /// The record must say what the token says: a registry that was tampered with cannot widen a token, nor the reverse.
    fn record_of(&self, facts: &Facts) -> Result<&Grant, Refusal> {
        let same = |known: &&Known| known.grant == facts.grant && Some(&known.root) == facts.blocks.first();
        let known = self.records.get(&facts.grant.token_id).filter(same);
        let grant = &known.ok_or_else(|| Refusal::new(Code::TokenUnknown, facts.grant.token_id.to_string()))?.grant;
        if grant.epoch < self.epoch {
            return Err(Refusal::new(Code::TokenRevoked, format!("epoch {} is over", grant.epoch)));
        }
        Ok(grant)
    }

    /// Both evaluators must allow the call. The library's verdict is remembered per call; time and revocation are not.
    fn check_scope(
        &mut self,
        token: &VerifiedToken,
        scope: &Scope,
        resource: &Resource,
        now_s: u64,
    ) -> Result<(), Refusal> {
        let denied = || Refusal::new(Code::ScopeDenied, format!("{scope} on {resource:?}"));
        if !token.facts.allows(scope, resource) {
            return Err(denied());
        }
        let remembered = self.cache.get_mut(&token.bytes);
        let call =
            |known: &(Trigger, Scope, Resource)| known.0 == token.trigger && known.1 == *scope && known.2 == *resource;
        if remembered.as_ref().is_some_and(|remembered| remembered.allowed.iter().any(call)) {
            return Ok(());
        }
        let Grant { tenant_id, user_id, .. } = &token.facts.grant;
        let question = datalog::Question {
            tenant: tenant_id.as_str(),
            user: user_id.as_str(),
            trigger: token.trigger,
            now_s,
            scope,
            resource,
        };
        if !datalog::allows(&self.policy, &token.facts.biscuit, &question)? {
            return Err(denied());
        }
        if let Some(remembered) = remembered {
            if remembered.allowed.len() >= CALLS_MAX {
                remembered.allowed.clear();
            }
            remembered.allowed.push((token.trigger, scope.clone(), resource.clone()));
        }
        Ok(())
    }
}

/// What to take off the counters again when a call used less processor time than was set aside for it.
#[must_use]
pub fn refund(charges: &[Charge], used_ms: u64) -> Vec<(String, u64)> {
    let budget = charges.iter().filter(|charge| charge.refused_as == Code::BudgetExhausted);
    budget
        .map(|charge| (charge.key.clone(), charge.add.saturating_sub(used_ms)))
        .filter(|(_, back)| *back > 0)
        .collect()
}

fn block_of(hex: &str) -> Result<BlockId, Refusal> {
    BlockId::from_hex(hex).ok_or_else(|| Refusal::new(Code::Malformed, "a block is 128 hexadecimal digits"))
}

fn charge(key: &str, add: u64, max: u64, refused_as: Code) -> Charge {
    Charge { key: key.to_owned(), add, max, refused_as }
}

fn check_presented(facts: &Facts, presented: &Presented<'_>) -> Result<(), Refusal> {
    let grant = &facts.grant;
    if grant.tenant_id != *presented.tenant_id {
        return Err(Refusal::new(Code::TokenTenantMismatch, "the token is of another tenant"));
    }
    if grant.user_id != *presented.user_id {
        return Err(Refusal::new(Code::TokenUserMismatch, format!("the token is not of user {}", presented.user_id)));
    }
    if !facts.allows_trigger(presented.trigger) {
        return Err(Refusal::new(Code::TokenTriggerDenied, presented.trigger.name()));
    }
    Ok(())
}

fn check_time(facts: &Facts, now_s: u64, last_event_s: u64) -> Result<(), Refusal> {
    if now_s < last_event_s {
        let behind = last_event_s - now_s;
        return Err(Refusal::new(Code::ClockBackwards, format!("{behind} s behind the last event")));
    }
    if now_s >= facts.expires_s {
        return Err(Refusal::new(Code::TokenExpired, format!("at {} s since 1970", facts.expires_s)));
    }
    i64::try_from(now_s).map(drop).map_err(defect)
}
