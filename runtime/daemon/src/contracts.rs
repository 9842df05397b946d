//! Contracts and executions: the contract that an ad-hoc request amounts to, and the request that a contract amounts to.

use std::collections::BTreeMap;
use std::sync::Arc;

use remand_authority::contracts::{Validated, validate_contract};
use remand_authority::permit::{Call, Demand, Permit};
use remand_model::canonical::{Object, Value};
use remand_model::contract::{self, Contract, Program};
use remand_model::grant::Scope;
use remand_model::outcome::ExecutionResult;
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::run::{ContractChoice, RootChoice, RunRequest};
use remand_model::{Digest, Limits, PROTOCOL_VERSION, RequestId, TenantId};

use crate::authority::{self, Credential, internal};
use crate::node::Node;
use crate::order::Order;
use crate::run::Prepared;
use crate::{images, journal};

/// The method that executions are.
const RUN: &str = "exec.run";

fn run_scope() -> Result<Scope, Refusal> {
    RUN.parse().map_err(internal)
}

/// The contract that a request without one amounts to. Its id names the request's digest, so that every byte of the request
/// is part of the contract's hash.
///
/// # Errors
/// Those of [`validate_contract`].
pub fn of_request(
    node: &Node,
    request: &RunRequest,
    canonical: &[u8],
    order: &Order,
) -> Result<Arc<Validated<Contract>>, Refusal> {
    let digest = Digest::of(canonical).to_hex();
    let (argv, env) = texts(request, &digest);
    let profile = if remand_model::ids::is_name(&request.policy) { request.policy.clone() } else { "own".into() };
    let root = match &request.root {
        RootChoice::Image { sha256 } => sha256.parse().ok(),
        RootChoice::Policy | RootChoice::Folder { .. } => None,
    };
    let program = Program { argv, root, profile, policy_hash: order.compiled().policy_hash, files: Vec::new(), env };
    let anything = || Value::Object(Object::new());
    let contract = Contract {
        protocol_version: PROTOCOL_VERSION.into(),
        contract_id: format!("adhoc-{}", &digest[..32]).parse().map_err(internal)?,
        program,
        execution_seed: request.execution_seed,
        input_schema: anything(),
        output_schema: anything(),
        capability_requirements: [run_scope()?].into(),
        limits: order.limits,
    };
    validate_contract(contract, &node.registries.authority().domains).map(Arc::new)
}

/// Arguments and environment; what a contract cannot hold is named by the request's digest.
fn texts(request: &RunRequest, digest: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let size = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.len() + 1).sum::<usize>();
    let fits =
        request.argv.len() <= contract::ARGUMENTS_MAX && size(&mut request.argv.iter()) <= contract::TEXT_BYTES_MAX;
    let argv = if fits { request.argv.clone() } else { vec![format!("sha256:{digest}")] };
    let name = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let env = &request.environment;
    let plain = env.keys().all(|key| !key.is_empty() && name(key));
    let fits = plain && size(&mut env.keys().chain(env.values())) <= contract::TEXT_BYTES_MAX;
    let env = if fits { env.clone() } else { [("REQUEST_SHA256".to_owned(), digest.to_owned())].into() };
    (argv, env)
}

/// The request that executes a contract.
#[must_use]
pub fn request_of(contract: &Validated<Contract>, request_id: RequestId) -> RunRequest {
    let Contract { contract_id, program, execution_seed, .. } = contract.contract();
    let root = program.root.map_or(RootChoice::Policy, |digest| RootChoice::Image { sha256: digest.to_hex() });
    RunRequest {
        policy: program.profile.clone(),
        environment: program.env.clone(),
        root,
        stdin: true,
        execution_seed: *execution_seed,
        contract: Some(ContractChoice { contract_id: contract_id.clone(), contract_hash: contract.hash() }),
        ..RunRequest::new(request_id, program.argv.clone())
    }
}

/// The digest of a profile as it resolves on this node today.
///
/// # Errors
/// `contract_invalid` where there is no such profile.
pub fn policy_hash(node: &Node, profile: &str, root: Option<&Digest>) -> Result<Digest, Refusal> {
    let root = root.map_or(RootChoice::Policy, |digest| RootChoice::Image { sha256: digest.to_hex() });
    let id = "measure".parse().map_err(internal)?;
    let request = RunRequest { policy: profile.to_owned(), root, ..RunRequest::new(id, vec!["true".into()]) };
    let order = Order::new(&request, &node.ground);
    order
        .map(|order| order.compiled().policy_hash)
        .map_err(|error| Refusal::new(Code::ContractInvalid, error.to_string()))
}

/// Makes the order what the contract says: its limits, its files; the policy must be the one it was registered for.
///
/// # Errors
/// `contract_forged` where the policy changed since, `not_found` where a file's bytes are gone.
pub fn apply(node: &Node, tenant: &TenantId, contract: &Contract, order: &mut Order) -> Result<(), Refusal> {
    let (stated, found) = (contract.program.policy_hash, order.compiled().policy_hash);
    if stated != found {
        let detail = format!("the policy {} is {found} now, registered was {stated}", contract.program.profile);
        return Err(Refusal::new(Code::ContractForged, detail));
    }
    order.limit(&contract.limits);
    for file in &contract.program.files {
        match file.executable {
            true => order.show_program(&file.path, &images::program(node, tenant, &file.digest)?),
            false => order.show_file(&file.path, journal::blob(node, tenant, &file.digest)?),
        }
    }
    Ok(())
}

impl Node {
    /// The contract that a request names.
    ///
    /// # Errors
    /// `contract_unknown`, `contract_forged`.
    pub fn contract(&self, tenant: &TenantId, choice: &ContractChoice) -> Result<Arc<Validated<Contract>>, Refusal> {
        self.registries.authority().contracts.get(tenant, &choice.contract_id, Some(choice.contract_hash))
    }

    /// Leave to run what was prepared: token, scope, contract and room within the quota.
    ///
    /// # Errors
    /// The first of these that refuses.
    pub fn permit(&self, who: &Credential, prepared: &Prepared) -> Result<Permit, Refusal> {
        let token = self.registries.validate(who, &self.ledger)?;
        let clock = authority::clock(&self.ledger, &who.tenant);
        let contract = &prepared.contract;
        let resource = contract.contract().contract_id.as_str().parse().map_err(internal)?;
        let (scope, demand) = (run_scope()?, Demand::of(&contract.contract().limits, 0));
        let call = Call { scope: &scope, resource: &resource, contract: Some(Arc::clone(contract)), demand };
        let mut authority = self.registries.authority();
        let scoped = authority.authorize(&token, who.role, call, &clock)?;
        authority.permit(scoped, &clock)
    }
}

/// What an execution used, in the amounts that quotas count.
#[must_use]
pub fn used(result: &ExecutionResult, limits: &Limits) -> Usage {
    let (usage, outputs) = (&result.usage, &result.outputs);
    let files: u64 = outputs.files.iter().map(|file| file.bytes).sum();
    Usage {
        cpu_ms: (usage.cpu_user_us + usage.cpu_system_us).div_ceil(1000),
        memory_bytes: usage.memory_peak_bytes.unwrap_or(0),
        disk_bytes: usage.disk_free_bytes.map_or(0, |free| limits.disk_bytes_max.saturating_sub(free)),
        network_bytes: usage.network_bytes,
        tasks: 1,
        pids: usage.pids_peak.unwrap_or(0),
        output_bytes: outputs.stdout.bytes + outputs.stderr.bytes + files,
    }
}
