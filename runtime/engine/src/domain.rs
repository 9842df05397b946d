//! A capability domain: the one place where a plan's step becomes an effect. Adding one is one file.
//!
//! A step's effect sees its permit, its own frozen parameters and its own execution's id, and nothing else: no other step's
//! result, no token, no registry, no audit log, no engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use remand_authority::contracts::{ContractRegistry, Validated};
use remand_authority::domain::Descriptor;
use remand_authority::permit::{Demand, Permit};
use remand_model::canonical::Object;
use remand_model::contract::Contract;
use remand_model::grant::DomainName;
use remand_model::plan::{Frozen, Step};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::{ExecutionId, TenantId};

/// What a step needs before it can be allowed.
#[derive(Debug, Clone)]
pub struct Need {
    /// The contract that it executes, where it executes one.
    pub contract: Option<Arc<Validated<Contract>>>,
    /// What it may use at most.
    pub demand: Demand,
}

/// What came of an effect. A program that failed is an outcome, too: `verdict` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Whether the step counts as done; a refusal ends the plan.
    pub verdict: Result<(), Refusal>,
    /// What replay would give again: exit cause, digests of outputs.
    pub claims: Object,
    /// What was seen this time.
    pub observations: Object,
    /// What was used.
    pub usage: Usage,
    /// What the caller gets, once the completion is recorded.
    pub output: Vec<u8>,
}

/// A capability domain.
pub trait Domain: Send + Sync {
    /// What it offers; registered with the authority before any plan can name it.
    fn descriptor(&self) -> Descriptor;

    /// Reads a step's parameters, without any effect, and says what it needs.
    ///
    /// # Errors
    /// Whatever makes the step impossible: unknown contract, input that its schema refuses, parameters of another shape.
    fn need(&self, tenant_id: &TenantId, step: &Step, contracts: &ContractRegistry) -> Result<Need, Refusal>;

    /// Acts. Called once for each permit, after the start was recorded; by many plans at once.
    fn execute(&self, permit: &Permit, execution_id: &ExecutionId, params: &Frozen) -> Done;
}

/// The domains that this node really has, by name.
#[derive(Default)]
pub struct Domains {
    domains: BTreeMap<DomainName, Box<dyn Domain>>,
}

impl Domains {
    /// Adds a domain.
    ///
    /// # Errors
    /// `conflict` where one of this name is there.
    pub fn add(&mut self, domain: Box<dyn Domain>) -> Result<(), Refusal> {
        let name = domain.descriptor().domain;
        if self.domains.contains_key(&name) {
            return Err(Refusal::new(Code::Conflict, format!("domain {name} is there")));
        }
        self.domains.insert(name, domain);
        Ok(())
    }

    /// What all of them offer, by name.
    pub fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        self.domains.values().map(|domain| domain.descriptor())
    }

    /// The domain of this name.
    ///
    /// # Errors
    /// `domain_unknown`.
    pub fn get(&self, name: &DomainName) -> Result<&dyn Domain, Refusal> {
        let unknown = || Refusal::new(Code::DomainUnknown, name.as_str());
        self.domains.get(name).map(Box::as_ref).ok_or_else(unknown)
    }
}
