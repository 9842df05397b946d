//! What the registries hold, durably: each change is one transaction of the chain it belongs to, and is read back at boot.
//!
//! Tenants and domains are kept in the chain of the node; quotas, tokens, revocations and contracts in their tenant's.

use std::sync::Arc;

use remand_authority::domain::Descriptor;
use remand_authority::token::{Revocation, TokenRecord};
use remand_cgroup::TenantLimits;
use remand_ledger::store::StateScan;
use remand_ledger::{StateKey, StateOp, Transaction};
use remand_model::canonical;
use remand_model::contract::{Contract, ContractId};
use remand_model::event::{Cause, NewEvent, Subject};
use remand_model::grant::TokenId;
use remand_model::quota::{Dimension, Quota, Usage, WindowUsage};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use remand_model::{Digest, EventType, ExecutionId, TenantId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::authority::{self, LOCAL, NODE, Standing, internal, tenant_named};
use crate::node::{Execution, Node};
use crate::{domains, limits};

const TENANTS: &str = "registry.tenants";
const DOMAINS: &str = "registry.domains";
const QUOTAS: &str = "registry.quota";
const TOKENS: &str = "registry.tokens";
const REVOCATIONS: &str = "registry.revocations";
const CONTRACTS: &str = "registry.contracts";
const LATEST: &str = "registry.latest";
const USED: &str = "quota.used";

#[derive(Serialize, Deserialize)]
struct DomainRecord {
    descriptor: Descriptor,
    revoked: bool,
}

/// Everything at once, as far as a tenant can have it: what the tenant `local` gets, so that one machine's owner meets no
/// bound but the machine's.
const GENEROUS: Quota = Quota {
    max_cpu_seconds: 1 << 40,
    max_memory_mb: 1 << 30,
    max_disk_mb: 1 << 30,
    max_network_kb: 1 << 30,
    max_concurrent_tasks: 1 << 16,
    max_pids: 1 << 32,
    max_output_bytes: 1 << 50,
    window_seconds: 86_400,
    weight: 100,
};

fn key(namespace: &str, name: &str) -> Result<StateKey, Refusal> {
    StateKey::new(namespace, name).map_err(internal)
}

fn bytes(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    canonical::from_serialize(value).map(|value| canonical::to_bytes(&value)).map_err(internal)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(internal)
}

impl Node {
    fn kept(&self, tenant: &TenantId, namespace: &str) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
        let scan = StateScan { namespace, prefix: "", after: "", limit: usize::MAX };
        self.ledger.state_list(tenant, &scan).map_err(internal)
    }

    /// Makes one value of a registry durable, with its event.
    async fn keep(&self, of: &TenantId, event: NewEvent, name: StateKey, value: Vec<u8>) -> Result<(), Refusal> {
        let set = StateOp::Set { key: name, value };
        self.append(Transaction::new(of.clone()).event(event).op(set)).await.map(drop)
    }

    /// Reads every registry back, and makes what must be there from the start. Also after the ledger was opened anew: a change
    /// that failed may be durable all the same.
    ///
    /// # Errors
    /// A record that does not say what it was written to say; nothing may be served then.
    pub async fn restore(&self) -> Result<(), Refusal> {
        self.restore_domains().await?;
        let node = tenant_named(NODE);
        for (name, value) in self.kept(&node, TENANTS)? {
            let standing = Standing::ALL.into_iter().find(|standing| standing.name().as_bytes() == value);
            let standing = standing.ok_or_else(|| internal(format!("tenant {name} stands in no known way")))?;
            self.registries.tenants().insert(name.parse().map_err(internal)?, standing);
        }
        let tenants = self.registries.tenants().clone();
        for (tenant, _) in tenants.iter().filter(|(_, standing)| **standing != Standing::Deleted) {
            self.restore_tenant(tenant)?;
        }
        if tenants.contains_key(&tenant_named(LOCAL)) { Ok(()) } else { self.first_tenant().await }
    }

    async fn restore_domains(&self) -> Result<(), Refusal> {
        let node = tenant_named(NODE);
        let mut waiting = Vec::new();
        for (_, value) in self.kept(&node, DOMAINS)? {
            waiting.push(read::<DomainRecord>(&value)?);
        }
        waiting.retain(|record| !self.is_in_force(record));
        // A domain comes after those that it requires; every round takes at least one in.
        for _ in 0..waiting.len() {
            let mut left = Vec::new();
            for record in std::mem::take(&mut waiting) {
                let registered =
                    self.registries.authority().domains.register_domain(record.descriptor.clone(), Role::Admin);
                if registered.is_err() {
                    left.push(record);
                } else if record.revoked {
                    self.registries.authority().domains.revoke_domain(&record.descriptor.domain, Role::Admin)?;
                }
            }
            waiting = left;
        }
        if let Some(record) = waiting.first() {
            tracing::error!(domain = %record.descriptor.domain, "a domain requires what is not in force; it stays out");
        }
        self.own_domains().await
    }

    fn is_in_force(&self, record: &DomainRecord) -> bool {
        let authority = self.registries.authority();
        authority.domains.list().any(|(known, revoked)| *known == record.descriptor && revoked == record.revoked)
    }

    /// The domains that this program really has, where they are not known yet.
    async fn own_domains(&self) -> Result<(), Refusal> {
        let known: Vec<_> = self.registries.authority().domains.list().map(|(known, _)| known.domain.clone()).collect();
        for descriptor in domains::descriptors().into_iter().filter(|own| !known.contains(&own.domain)) {
            let event = own_event("DOMAIN_REGISTERED", &format!("domain:{}", descriptor.domain))?;
            self.keep_domain(&descriptor, false, event).await?;
            self.registries.authority().domains.register_domain(descriptor, Role::Admin)?;
        }
        Ok(())
    }

    /// The tenant `local` with a generous quota, and the node's first token.
    async fn first_tenant(&self) -> Result<(), Refusal> {
        let local = tenant_named(LOCAL);
        self.keep_tenant(&local, Standing::Active, own_event("TENANT_CREATED", &format!("tenant:{LOCAL}"))?).await?;
        self.keep_quota(&local, GENEROUS, own_event("QUOTA_REGISTERED", &format!("tenant:{LOCAL}"))?).await?;
        let record = self.registries.authority().tokens.record(self.registries.house())?;
        let subject = format!("token:{}", record.grant.token_id);
        self.keep_token(record, own_event("TOKEN_ISSUED", &subject)?).await
    }

    fn restore_tenant(&self, tenant: &TenantId) -> Result<(), Refusal> {
        for (_, value) in self.kept(tenant, QUOTAS)? {
            let is_new = self.registries.authority().quotas.get_quota(tenant).is_err();
            self.put_quota(tenant, read(&value)?)?;
            // Else what is counted in memory is no less: it holds what could not be recorded, too.
            if is_new {
                self.restore_used(tenant)?;
            }
        }
        let mut authority = self.registries.authority();
        for (_, value) in self.kept(tenant, TOKENS)? {
            authority.tokens.admit(read::<TokenRecord>(&value)?)?;
        }
        for (_, value) in self.kept(tenant, REVOCATIONS)? {
            authority.tokens.revoke(read::<Revocation>(&value)?)?;
        }
        let latest: Vec<Vec<u8>> = self.kept(tenant, LATEST)?.into_iter().map(|(_, hash)| hash).collect();
        let mut contracts = self.kept(tenant, CONTRACTS)?;
        // The latest of each id comes last, so that it is the latest again.
        contracts.sort_by_key(|(hash, _)| latest.iter().any(|latest| latest == hash.as_bytes()));
        let remand_authority::permit::Authority { contracts: registry, domains, .. } = &mut *authority;
        for (hash, value) in contracts {
            if let Err(refusal) = registry.restore(tenant, &value, hash.parse().map_err(internal)?, domains) {
                tracing::error!(%tenant, hash, %refusal, "a contract cannot be taken back in; it cannot be executed");
            }
        }
        Ok(())
    }

    /// Sums up what this window's counters say.
    fn restore_used(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let wall_s = authority::clock(&self.ledger, tenant).wall_s;
        let quota = self.registries.authority().quotas.get_quota(tenant)?.quota;
        let window_start_s = wall_s - wall_s % quota.window_seconds;
        let mut used = Usage::default();
        for dimension in Dimension::ALL.into_iter().filter(|dimension| dimension.is_windowed()) {
            let counter = used_key(window_start_s, dimension)?;
            *used.get_mut(dimension) = self.ledger.counter(tenant, &counter).map_err(internal)?;
        }
        self.registries.authority().quotas.restore(tenant, WindowUsage { window_start_s, used })
    }

    /// Keeps how a tenant stands, then lets it stand so.
    ///
    /// # Errors
    /// A refusal: nothing changed.
    pub async fn keep_tenant(&self, tenant: &TenantId, standing: Standing, event: NewEvent) -> Result<(), Refusal> {
        let node = tenant_named(NODE);
        self.keep(&node, event, key(TENANTS, tenant.as_str())?, standing.name().into()).await?;
        self.registries.tenants().insert(tenant.clone(), standing);
        Ok(())
    }

    /// Keeps a domain; the caller registers or revokes it afterwards.
    ///
    /// # Errors
    /// A refusal: nothing changed.
    pub async fn keep_domain(&self, descriptor: &Descriptor, revoked: bool, event: NewEvent) -> Result<(), Refusal> {
        let record = DomainRecord { descriptor: descriptor.clone(), revoked };
        let name = key(DOMAINS, record.descriptor.domain.as_str())?;
        self.keep(&tenant_named(NODE), event, name, bytes(&record)?).await
    }

    /// Keeps a quota, then puts it in force.
    ///
    /// # Errors
    /// `quota_invalid`, or it could not be recorded; nothing changed.
    pub async fn keep_quota(&self, tenant: &TenantId, quota: Quota, event: NewEvent) -> Result<(), Refusal> {
        quota.ceiling()?;
        self.keep(tenant, event, key(QUOTAS, "quota")?, bytes(&quota)?).await?;
        self.put_quota(tenant, quota)
    }

    fn put_quota(&self, tenant: &TenantId, quota: Quota) -> Result<(), Refusal> {
        self.registries.authority().quotas.register_tenant_quota(tenant, quota, Role::Admin)?;
        self.workshop.set_walls(tenant, walls(&quota));
        Ok(())
    }

    /// Keeps a token's record, then admits it.
    ///
    /// # Errors
    /// A refusal: the token must not be handed out.
    pub async fn keep_token(&self, record: TokenRecord, event: NewEvent) -> Result<(), Refusal> {
        let grant = canonical::from_serialize(&record.grant).map_err(internal)?;
        let (tenant, name) = (record.grant.tenant_id.clone(), key(TOKENS, record.grant.token_id.as_str())?);
        self.keep(&tenant, event.claim("grant", grant), name, bytes(&record)?).await?;
        self.registries.authority().tokens.admit(record)
    }

    /// Keeps a revocation, then puts it in force; the event that says so.
    ///
    /// # Errors
    /// A refusal: the token still works.
    pub async fn keep_revocation(&self, of: &TenantId, revoked: Revocation, event: NewEvent) -> Result<u64, Refusal> {
        let set = StateOp::Set { key: key(REVOCATIONS, &revoked.block)?, value: bytes(&revoked)? };
        let ack = self.append(Transaction::new(of.clone()).event(event).op(set)).await?;
        self.registries.authority().tokens.revoke(revoked)?;
        let receipt = ack.events.first().ok_or_else(|| internal("no receipt came with a durable event"))?;
        Ok(receipt.event_id)
    }

    /// Ends everything that waits or runs under a token, for the event that revoked it.
    ///
    /// What enters the table after this finds the token revoked before it starts.
    ///
    /// # Errors
    /// The reason could not be recorded; it is ended all the same.
    pub async fn end_under(&self, of: &TenantId, token: &TokenId, because: u64) -> Result<Vec<ExecutionId>, Refusal> {
        let under = self.running_under(of, token);
        let recorded = self.record_revoked(of, token, because, &under).await;
        under.iter().for_each(|(_, execution)| execution.cancel.notify_one());
        recorded.map(|()| under.into_iter().map(|(id, _)| id).collect())
    }

    async fn record_revoked(
        &self,
        of: &TenantId,
        token: &TokenId,
        because: u64,
        under: &[(ExecutionId, Arc<Execution>)],
    ) -> Result<(), Refusal> {
        for some in under.chunks(limits::REVOKED_AT_ONCE) {
            let mut transaction = Transaction::new(of.clone());
            for (id, _) in some {
                let event = own_event("EXECUTION_REVOKED", Subject::from(id).as_str())?;
                transaction = transaction.event(event.claim("token_id", token.as_str()).because(Cause::Event(because)));
            }
            drop(self.append(transaction).await?);
        }
        Ok(())
    }

    /// Keeps a contract that was validated, and makes it the latest of its id.
    ///
    /// # Errors
    /// A refusal: it is not registered.
    pub async fn keep_contract(&self, of: &TenantId, contract: Contract, event: NewEvent) -> Result<Digest, Refusal> {
        let (hash, id): (Digest, ContractId) = (contract.hash()?, contract.contract_id.clone());
        let hex = hash.to_hex();
        let transaction = Transaction::new(of.clone())
            .event(event.claim("contract_hash", hash))
            .op(StateOp::Set { key: key(CONTRACTS, &hex)?, value: canonical::to_bytes(&contract.to_value()?) })
            .op(StateOp::Set { key: key(LATEST, id.as_str())?, value: hex.into_bytes() });
        drop(self.append(transaction).await?);
        let mut authority = self.registries.authority();
        let remand_authority::permit::Authority { contracts, domains, .. } = &mut *authority;
        contracts.register_contract(of, contract, Some(hash), domains).map(|_| hash)
    }
}

/// What the kernel holds a tenant to as a whole; what is beyond a machine is left open. Every execution's keeper counts as
/// a process, too.
fn walls(quota: &Quota) -> TenantLimits {
    let memory = quota.max_memory_mb.checked_mul(1 << 20).filter(|bytes| (1 << 20..1 << 48).contains(bytes));
    let pids = quota.max_pids.saturating_add(quota.max_concurrent_tasks);
    TenantLimits {
        memory_bytes_max: memory,
        pids_max: Some(pids).filter(|pids| (1..1 << 20).contains(pids)),
        cpu_millis_max: None,
        cpu_weight: u32::try_from(quota.weight).ok(),
    }
}

fn used_key(window_start_s: u64, dimension: Dimension) -> Result<StateKey, Refusal> {
    key(USED, &format!("{window_start_s}/{}", dimension.field()))
}

/// The operations that add what was used to the counters of its window.
///
/// # Errors
/// `internal`.
pub fn used_ops(window: &WindowUsage) -> Result<Vec<StateOp>, Refusal> {
    let used =
        Dimension::ALL.into_iter().filter(|dimension| dimension.is_windowed() && window.used.get(*dimension) > 0);
    used.map(|dimension| {
        let add = i64::try_from(window.used.get(dimension)).map_err(internal)?;
        Ok(StateOp::Count { key: used_key(window.window_start_s, dimension)?, add, max: i64::MAX.unsigned_abs() })
    })
    .collect()
}

/// An event that the node itself brought about.
///
/// # Errors
/// `internal` where the kind or subject can be none.
pub fn own_event(kind: &str, subject: &str) -> Result<NewEvent, Refusal> {
    let kind: EventType = kind.parse().map_err(internal)?;
    Ok(NewEvent::new(kind, subject.parse::<Subject>().map_err(internal)?).observe("by", "node"))
}

/// What a tenant is refused that does not stand so that it could do this.
#[must_use]
pub fn unknown(tenant: &TenantId) -> Refusal {
    Refusal::new(Code::TenantUnknown, tenant.as_str())
}

impl Node {
    /// Writes the node's first token into root's file, whole or not at all, and closes it. It works in the tenant `local`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_admin_token(&self, mut file: std::fs::File) -> std::io::Result<()> {
        use std::io::Write as _;
        let text = format!("{}\n", self.registries.house().to_text());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
            if let Err(error) = file.set_len(0) {
                tracing::error!(%error, "half a token is in the first token's file: remove it and start again");
            }
        })
    }
}
