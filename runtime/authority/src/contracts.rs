//! The registry of contracts: what may run at all.
//!
//! [`Validated`] is a contract whose bounds were kept, whose schemas compiled and end, and whose capabilities exist. Only this
//! room makes one, and the engine takes nothing else, so that a contract that was not validated cannot run:
//!
//! ```compile_fail
//! use remand_authority::contracts::Validated;
//! use remand_model::contract::Contract;
//! fn forge(contract: Contract) -> Validated<Contract> {
//!     Validated { value: contract, hash: todo!(), input: todo!(), output: todo!() }
//! }
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use remand_model::canonical::{self, Value};
use remand_model::contract::{Contract, ContractId};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, TenantId};

use crate::domain::{DomainRegistry, Registered};
use crate::schema::{Checked, Schema};

/// Contracts of one tenant, all versions counted.
pub const CONTRACTS_MAX: usize = 4096;

/// A value that passed every check of this room.
pub struct Validated<T> {
    value: T,
    hash: Digest,
    input: Schema,
    output: Schema,
}

impl<T> std::fmt::Debug for Validated<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "validated {}", self.hash)
    }
}

impl Validated<Contract> {
    /// The contract.
    #[must_use]
    pub const fn contract(&self) -> &Contract {
        &self.value
    }

    /// SHA-256 over its canonical form.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// Checks an input, before anything starts.
    ///
    /// # Errors
    /// `too_large`, `input_invalid`.
    pub fn check_input(&self, bytes: &[u8]) -> Result<Checked, Refusal> {
        self.input.check_input(bytes)
    }

    /// Checks an output, before it is released.
    ///
    /// # Errors
    /// `too_large`, `output_invalid`.
    pub fn check_output(&self, bytes: &[u8]) -> Result<Checked, Refusal> {
        self.output.check_output(bytes)
    }
}

/// Validates a contract.
///
/// # Errors
/// `contract_invalid`, `version_unsupported`, `schema_invalid`, `schema_too_costly`; `domain_unknown`, `domain_revoked` or
/// `method_unknown` where it requires a capability that is not in force.
pub fn validate_contract(contract: Contract, domains: &DomainRegistry) -> Result<Validated<Contract>, Refusal> {
    contract.check()?;
    for scope in &contract.capability_requirements {
        let descriptor = domains.get_domain(&scope.domain)?;
        if !descriptor.methods.contains_key(&scope.method) {
            return Err(Refusal::new(Code::MethodUnknown, scope.to_string()));
        }
    }
    let schema = |name: &str, schema: &Value| {
        Schema::compile(schema).map_err(|refusal| Refusal::new(refusal.code, format!("{name}: {}", refusal.detail)))
    };
    let input = schema("input_schema", &contract.input_schema)?;
    let output = schema("output_schema", &contract.output_schema)?;
    Ok(Validated { hash: contract.hash()?, value: contract, input, output })
}

#[derive(Default)]
struct Versions {
    latest: Option<Digest>,
    by_hash: BTreeMap<Digest, Arc<Validated<Contract>>>,
}

/// The registry.
#[derive(Default)]
pub struct ContractRegistry {
    tenants: BTreeMap<TenantId, BTreeMap<ContractId, Versions>>,
}

impl ContractRegistry {
    /// Validates a contract and makes it the latest of its id. Earlier versions stay, under their hashes.
    ///
    /// `claimed` is the hash that the sender means to register; another content is a forgery.
    ///
    /// # Errors
    /// `contract_forged`, `too_large` above [`CONTRACTS_MAX`], those of [`validate_contract`].
    pub fn register_contract(
        &mut self,
        tenant_id: &TenantId,
        contract: Contract,
        claimed: Option<Digest>,
        domains: &DomainRegistry,
    ) -> Result<(Arc<Validated<Contract>>, Registered), Refusal> {
        let validated = Arc::new(validate_contract(contract, domains)?);
        if let Some(claimed) = claimed.filter(|claimed| *claimed != validated.hash) {
            return Err(forged(&claimed, &validated.hash));
        }
        let ids = self.tenants.entry(tenant_id.clone()).or_default();
        let known: usize = ids.values().map(|versions| versions.by_hash.len()).sum();
        let versions = ids.entry(validated.value.contract_id.clone()).or_default();
        let registered = match versions.latest {
            Some(latest) if latest == validated.hash => return Ok((validated, Registered::Same)),
            Some(_) => Registered::Replaced,
            None => Registered::New,
        };
        if known >= CONTRACTS_MAX && !versions.by_hash.contains_key(&validated.hash) {
            return Err(Refusal::new(Code::TooLarge, format!("{CONTRACTS_MAX} contracts of one tenant")));
        }
        versions.latest = Some(validated.hash);
        versions.by_hash.insert(validated.hash, Arc::clone(&validated));
        Ok((validated, registered))
    }

    /// Reads a contract back from a store that is believed to hold the one with this hash.
    ///
    /// # Errors
    /// `contract_forged` where the bytes are another contract; else as [`ContractRegistry::register_contract`].
    pub fn restore(
        &mut self,
        tenant_id: &TenantId,
        bytes: &[u8],
        hash: Digest,
        domains: &DomainRegistry,
    ) -> Result<(), Refusal> {
        let actual = Digest::of(bytes);
        if actual != hash || !canonical::is_canonical(bytes) {
            return Err(forged(&hash, &actual));
        }
        self.register_contract(tenant_id, Contract::from_json(bytes)?, Some(hash), domains).map(drop)
    }

    /// The contract to execute: the latest of its id, or the version with this hash.
    ///
    /// # Errors
    /// `contract_unknown` where the tenant has none of this id, `contract_forged` where it has none with this hash.
    pub fn get(
        &self,
        tenant_id: &TenantId,
        contract_id: &ContractId,
        hash: Option<Digest>,
    ) -> Result<Arc<Validated<Contract>>, Refusal> {
        let unknown = || Refusal::new(Code::ContractUnknown, contract_id.as_str());
        let versions = self.tenants.get(tenant_id).and_then(|ids| ids.get(contract_id)).ok_or_else(unknown)?;
        let latest = versions.latest.ok_or_else(unknown)?;
        let asked = hash.unwrap_or(latest);
        versions.by_hash.get(&asked).cloned().ok_or_else(|| forged(&asked, &latest))
    }

    /// The hash of the latest contract of this id.
    ///
    /// # Errors
    /// `contract_unknown`.
    pub fn get_contract_hash(&self, tenant_id: &TenantId, contract_id: &ContractId) -> Result<Digest, Refusal> {
        self.get(tenant_id, contract_id, None).map(|contract| contract.hash)
    }

    /// The tenant's contracts, the latest of each id.
    pub fn list(&self, tenant_id: &TenantId) -> impl Iterator<Item = (&ContractId, Digest)> {
        let ids = self.tenants.get(tenant_id).into_iter().flatten();
        ids.filter_map(|(id, versions)| versions.latest.map(|latest| (id, latest)))
    }

    /// Forgets a tenant.
    pub fn remove(&mut self, tenant_id: &TenantId) {
        self.tenants.remove(tenant_id);
    }
}

fn forged(stated: &Digest, actual: &Digest) -> Refusal {
    Refusal::new(Code::ContractForged, format!("{stated} was named, {actual} is there"))
}

#[cfg(test)]
#[path = "contracts_tests.rs"]
pub(crate) mod tests;
