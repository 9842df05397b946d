//! `exec.run`: executes a registered contract.

use std::sync::Arc;

use remand_authority::contracts::{ContractRegistry, Validated};
use remand_authority::domain::Descriptor;
use remand_authority::permit::{Demand, Permit};
use remand_engine::domain::{Domain, Done, Need};
use remand_model::canonical::{self, Object, Value};
use remand_model::contract::Contract;
use remand_model::outcome::{Cause, ExecutionResult};
use remand_model::plan::{Frozen, Step};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, TenantId};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::authority::internal;
use crate::execution::{Executed, Input, Ticket};
use crate::node::Node;
use crate::order::Order;
use crate::{contracts, journal};

/// The domain over a node.
pub struct Exec(pub Node);

pub fn descriptor() -> Descriptor {
    super::describe("exec", &[("run", true)])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    contract_id: Option<String>,
    contract_hash: Option<Digest>,
    #[serde(default)]
    input: Value,
}

impl Domain for Exec {
    fn descriptor(&self) -> Descriptor {
        descriptor()
    }

    fn need(&self, tenant: &TenantId, step: &Step, contracts: &ContractRegistry) -> Result<Need, Refusal> {
        let Params { contract_id, contract_hash, input } = super::params(step.params())?;
        super::same(contract_id.as_deref(), step.resource().as_str())?;
        let id = step.resource().as_str().parse();
        let id = id.map_err(|_| Refusal::new(Code::ContractUnknown, step.resource().as_str()))?;
        let contract = contracts.get(tenant, &id, contract_hash)?;
        contract.check_input(&canonical::to_bytes(&input)).map(drop)?;
        let demand = Demand::of(&contract.contract().limits, 0);
        Ok(Need { contract: Some(contract), demand })
    }

    fn execute(&self, permit: &Permit, execution_id: &ExecutionId, params: &Frozen) -> Done {
        let mut usage = Usage::default();
        let outcome = self.run(permit, execution_id, params, &mut usage);
        super::done(outcome, usage)
    }
}

impl Exec {
    fn run(
        &self,
        permit: &Permit,
        id: &ExecutionId,
        params: &Frozen,
        usage: &mut Usage,
    ) -> Result<(Object, Vec<u8>), Refusal> {
        let Params { input, .. } = super::params(params)?;
        let contract = permit.contract().ok_or_else(|| internal("a permit without a contract"))?;
        let result = self.execute_now(permit, contract, id, canonical::to_bytes(&input))?;
        *usage = contracts::used(&result.0, &contract.contract().limits);
        let (result, stored) = result;
        let claims = claims(&result);
        let output = journal::blob(&self.0, permit.tenant_id(), &result.outputs.stdout.sha256);
        let failed = (result.cause != Cause::Exited { code: 0 }).then(|| self.failure(permit, id, &result));
        self.0.steps.leave(result, stored);
        if let Some(refusal) = failed {
            return Err(refusal);
        }
        let output = output?;
        contract.check_output(&output)?;
        Ok((claims, output))
    }

    /// Why a program's end is not the step's: it was ended because its token or tenant may do nothing any more, or failed.
    fn failure(&self, permit: &Permit, id: &ExecutionId, result: &ExecutionResult) -> Refusal {
        let ended = (result.cause == Cause::Cancelled).then(|| self.0.still_permitted(permit).err()).flatten();
        let failed = || Refusal::new(Code::StepFailed, format!("{id}: {} {}", result.cause.name(), result.exit_code));
        ended.unwrap_or_else(failed)
    }

    fn execute_now(
        &self,
        permit: &Permit,
        contract: &Validated<Contract>,
        id: &ExecutionId,
        input: Vec<u8>,
    ) -> Result<(ExecutionResult, Vec<remand_ledger::blob::Stored>), Refusal> {
        let (node, tenant) = (&self.0, permit.tenant_id());
        let started = node.steps.take_started(id).ok_or_else(|| internal("no receipt of the start"))?;
        let request = contracts::request_of(contract, "step".parse().map_err(internal)?);
        crate::images::unpack(node, tenant, &request.root)?;
        let order = Order::new(&request, &node.ground);
        let mut order = order.map_err(|error| Refusal::new(Code::ContractInvalid, error.to_string()))?;
        contracts::apply(node, tenant, contract.contract(), &mut order)?;
        let running = node.running(tenant, id).ok_or_else(|| internal("an execution without a turn"))?;
        let (sender, receiver) = mpsc::channel(2);
        let fed = sender.try_send(Input::Bytes(input)).and_then(|()| sender.try_send(Input::End));
        fed.map_err(internal)?;
        let ticket = Ticket {
            execution_id: id.clone(),
            tenant: tenant.clone(),
            input: receiver,
            cancel: Arc::clone(&running.cancel),
            watcher: None,
        };
        let work = node.workshop.execute(&order, ticket, std::future::ready(Ok(started)), permit);
        let Executed { result, stored, .. } = tokio::runtime::Handle::current().block_on(work)?;
        node.leave(tenant, id, Some(Arc::new(result.clone())));
        Ok((result, stored))
    }
}

fn claims(result: &ExecutionResult) -> Object {
    [
        ("cause".to_owned(), Value::from(result.cause.name())),
        ("exit_code".to_owned(), result.exit_code.into()),
        ("stdout_sha256".to_owned(), result.outputs.stdout.sha256.into()),
        ("stderr_sha256".to_owned(), result.outputs.stderr.sha256.into()),
        ("files".to_owned(), u32::try_from(result.outputs.files.len()).unwrap_or(u32::MAX).into()),
    ]
    .into()
}
