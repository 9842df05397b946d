//! A permit: the one value that lets something run.
//!
//! It unites a token's allowed call, the domain's rules, the validated contract where there is one, and room within the
//! quota. It cannot be made elsewhere, nor copied, so that it serves once:
//!
//! ```compile_fail
//! use remand_authority::permit::Permit;
//! fn forge() -> Permit { Permit { scoped: todo!(), reservation: todo!() } }
//! ```
//! ```compile_fail
//! use remand_authority::permit::Permit;
//! fn twice(permit: Permit) -> (Permit, Permit) { (permit.clone(), permit) }
//! ```
//! ```compile_fail
//! use remand_authority::permit::Permit;
//! fn run(_permit: Permit) {}
//! fn twice(permit: Permit) { run(permit); run(permit) }
//! ```

use std::sync::Arc;

use remand_model::contract::Contract;
use remand_model::grant::{Resource, Scope, TokenId};
use remand_model::quota::{Charge, Usage, WindowUsage};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use remand_model::{Digest, Limits, TenantId};

use crate::contracts::{ContractRegistry, Validated};
use crate::domain::DomainRegistry;
use crate::quota::{QuotaRegistry, Reservation};
use crate::token::{Allowed, TokenRegistry, VerifiedToken, refund};
use crate::{Clock, token};

/// All registries of one node.
pub struct Authority {
    /// Tokens.
    pub tokens: TokenRegistry,
    /// Capability domains.
    pub domains: DomainRegistry,
    /// Contracts.
    pub contracts: ContractRegistry,
    /// Quotas.
    pub quotas: QuotaRegistry,
}

/// What a call may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Amounts to set aside.
    pub amounts: Usage,
    /// How long it runs at most, in milliseconds.
    pub wall_ms_max: u64,
}

impl Demand {
    /// What an execution under these limits may use at most, with this many bytes over the network.
    #[must_use]
    pub fn of(limits: &Limits, network_bytes: u64) -> Self {
        let amounts = Usage {
            cpu_ms: limits.cpu_time_ms_max,
            memory_bytes: limits.memory_bytes_max.saturating_add(limits.swap_bytes_max),
            disk_bytes: limits.disk_bytes_max,
            network_bytes,
            tasks: 1,
            pids: limits.pids_max,
            output_bytes: limits.output_bytes_max.saturating_add(limits.files_bytes_max),
        };
        Self { amounts, wall_ms_max: limits.wall_ms_max }
    }

    /// What a call needs that runs within the daemon and writes at most so many bytes.
    #[must_use]
    pub fn inside(disk_bytes: u64, output_bytes: u64) -> Self {
        Self { amounts: Usage { disk_bytes, output_bytes, ..Usage::default() }, wall_ms_max: 0 }
    }
}

/// What a call asks for, as its domain reads it from the frozen parameters.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The method.
    pub scope: &'a Scope,
    /// What it acts on.
    pub resource: &'a Resource,
    /// The contract that it executes, where it executes one.
    pub contract: Option<Arc<Validated<Contract>>>,
    /// What it may use at most; for a contract, at most what its limits say.
    pub demand: Demand,
}

/// A call whose scope was checked. It has no room yet. Only [`Authority::authorize`] makes one; it cannot be copied.
#[derive(Debug)]
#[must_use = "a checked scope is not yet a permit"]
pub struct Scoped {
    tenant_id: TenantId,
    allowed: Allowed,
    contract: Option<Arc<Validated<Contract>>>,
    demand: Demand,
}

impl Scoped {
    /// The token's id.
    #[must_use]
    pub const fn token_id(&self) -> &TokenId {
        self.allowed.token_id()
    }

    /// Counters that must move in the transaction that records the start.
    #[must_use]
    pub fn charges(&self) -> &[Charge] {
        self.allowed.charges()
    }
}

/// Leave to run one call, once. Only [`Authority::permit`] makes one; it cannot be copied.
///
/// It says that at one moment the token, the domain, the contract and the quota allowed the call. It does not say that the
/// start was recorded: the ledger's receipt says that.
#[derive(Debug)]
#[must_use = "a permit that is not settled keeps its room"]
pub struct Permit {
    scoped: Scoped,
    reservation: Reservation,
}

/// What to store with the usage event of a settled permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// What to add to the tenant's counters of this window, where the tenant is still there.
    pub window: Option<WindowUsage>,
    /// What to take off counters again, by key.
    pub refunds: Vec<(String, u64)>,
}

impl Permit {
    /// The tenant.
    #[must_use]
    pub const fn tenant_id(&self) -> &TenantId {
        &self.scoped.tenant_id
    }

    /// The token's id.
    #[must_use]
    pub const fn token_id(&self) -> &TokenId {
        self.scoped.token_id()
    }

    /// The method.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        self.scoped.allowed.scope()
    }

    /// What it acts on.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        self.scoped.allowed.resource()
    }

    /// The contract, where the call executes one.
    #[must_use]
    pub fn contract(&self) -> Option<&Validated<Contract>> {
        self.scoped.contract.as_deref()
    }

    /// The contract's hash, where the call executes one.
    #[must_use]
    pub fn contract_hash(&self) -> Option<Digest> {
        self.contract().map(Validated::hash)
    }

    /// What is set aside.
    #[must_use]
    pub const fn reserved(&self) -> &Usage {
        self.reservation.amounts()
    }

    /// Counters that must move in the transaction that records the start.
    #[must_use]
    pub fn charges(&self) -> &[Charge] {
        self.scoped.charges()
    }
}

impl Authority {
    /// The registries of a node that trusts these root keys. All else is empty: nothing can run yet.
    ///
    /// # Errors
    /// `internal`.
    pub fn new(roots: Vec<token::RootPublic>, epoch: u64) -> Result<Self, Refusal> {
        Ok(Self {
            tokens: TokenRegistry::new(roots, epoch)?,
            domains: DomainRegistry::default(),
            contracts: ContractRegistry::default(),
            quotas: QuotaRegistry::default(),
        })
    }

    /// Checks a call's scope: the token now, the domain with all that it requires, and what the contract requires.
    ///
    /// # Errors
    /// Those of [`TokenRegistry::check_call`] and [`DomainRegistry::check_capability`].
    pub fn authorize(
        &mut self,
        token: &VerifiedToken,
        role: Role,
        call: Call<'_>,
        clock: &Clock,
    ) -> Result<Scoped, Refusal> {
        let cpu_ms = call.demand.amounts.cpu_ms;
        let allowed = self.tokens.check_call(token, call.scope, call.resource, cpu_ms, clock)?;
        let holds = |scope: &Scope| token.holds(scope);
        self.domains.check_capability(call.scope, role, token.trigger(), holds)?;
        for required in call.contract.iter().flat_map(|contract| &contract.contract().capability_requirements) {
            self.domains.check_capability(required, role, token.trigger(), holds)?;
            if !token.holds(required) {
                let detail = format!("the contract requires {required}");
                return Err(Refusal::new(Code::EscalationBlocked, detail));
            }
        }
        let tenant_id = token.tenant_id().clone();
        Ok(Scoped { tenant_id, allowed, contract: call.contract, demand: call.demand })
    }

    /// Sets room aside for a checked call.
    ///
    /// # Errors
    /// Those of [`QuotaRegistry::enforce_quota`].
    pub fn permit(&mut self, scoped: Scoped, clock: &Clock) -> Result<Permit, Refusal> {
        let Demand { amounts, wall_ms_max } = scoped.demand;
        let reservation = self.quotas.enforce_quota(&scoped.tenant_id, &amounts, wall_ms_max, clock)?;
        Ok(Permit { scoped, reservation })
    }

    /// Takes a permit back with what was truly used: nothing, where the call did not start.
    pub fn settle(&mut self, permit: Permit, used: &Usage, clock: &Clock) -> Settlement {
        let refunds = refund(permit.charges(), used.cpu_ms);
        Settlement { window: self.quotas.settle(permit.reservation, used, clock), refunds }
    }
}

#[cfg(test)]
#[path = "permit_tests.rs"]
mod tests;
