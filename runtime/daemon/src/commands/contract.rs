//! Contracts: registered, validated, shown, executed.

use std::collections::BTreeMap;
use std::sync::Arc;

use remand_authority::contracts::{Validated, validate_contract};
use remand_authority::table::Action;
use remand_model::canonical::{self, Value};
use remand_model::contract::{Contract, ContractId, Draft};
use remand_model::envelope::Command;
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, PROTOCOL_VERSION, RequestId};
use serde::Deserialize;
use serde_json::json;

use crate::authority::internal;
use crate::conversation::{Call, Reply};
use crate::node::Node;
use crate::{contracts, journal, run};

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Contract, "register") => Some(Action::ContractRegister),
        (Command::Contract, "validate") => Some(Action::ContractValidate),
        (Command::Contract, "get") => Some(Action::ContractGet),
        (Command::Contract, "hash") => Some(Action::ContractHash),
        (Command::Contract, "list") => Some(Action::ContractList),
        (Command::Contract, "execute") => Some(Action::ExecutionSubmit),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    contract: Option<Value>,
    contract_id: Option<ContractId>,
    contract_hash: Option<Digest>,
    request_id: Option<RequestId>,
    #[serde(default)]
    input: Value,
}

impl Asked {
    fn named(&self, node: &Node, call: &Call) -> Result<Arc<Validated<Contract>>, Refusal> {
        let id = self.contract_id.as_ref().ok_or_else(|| Refusal::new(Code::Malformed, "contract_id is missing"))?;
        node.registries.authority().contracts.get(&super::tenant(call)?, id, self.contract_hash)
    }
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    let tenant = super::tenant(call)?;
    let hash_of = |id: &ContractId, hash: Digest| json!({"protocol_version": PROTOCOL_VERSION, "contract_id": id, "contract_hash": hash});
    let answer = match asked.what.as_str() {
        "register" => {
            let contract = sealed(node, call, asked.contract)?;
            let _changing = node.registries.changing.lock().await;
            validate_contract(contract.clone(), &node.registries.authority().domains)?;
            if let Some(claimed) = asked.contract_hash.filter(|claimed| contract.hash().as_ref() != Ok(claimed)) {
                return Err(Refusal::new(Code::ContractForged, format!("{claimed} was named, another content came")));
            }
            let event = call.by().event("CONTRACT_REGISTERED", &format!("contract:{}", contract.contract_id))?;
            let id = contract.contract_id.clone();
            hash_of(&id, node.keep_contract(&tenant, contract, event).await?)
        }
        "validate" => {
            let contract = sealed(node, call, asked.contract)?;
            let validated = validate_contract(contract, &node.registries.authority().domains)?;
            hash_of(&validated.contract().contract_id, validated.hash())
        }
        "get" => serde_json::to_value(asked.named(node, call)?.contract()).map_err(internal)?,
        "hash" => {
            let contract = asked.named(node, call)?;
            hash_of(&contract.contract().contract_id, contract.hash())
        }
        "list" => {
            let authority = node.registries.authority();
            let rows: Vec<_> = authority.contracts.list(&tenant).map(|(id, hash)| hash_of(id, hash)).collect();
            json!({"protocol_version": PROTOCOL_VERSION, "contracts": rows})
        }
        _ => execute(node, call, reply, asked).await?,
    };
    reply.answer(&answer).await;
    Ok(())
}

/// The contract of a draft: what the draft leaves out is measured here, what it states must be what is measured.
fn sealed(node: &Node, call: &Call, draft: Option<Value>) -> Result<Contract, Refusal> {
    let value = draft.ok_or_else(|| Refusal::new(Code::Malformed, "contract is missing"))?;
    let draft = Draft::from_json(&canonical::to_bytes(&value))?;
    let profile = draft.profile().ok_or_else(|| Refusal::new(Code::ContractInvalid, "program.profile is missing"))?;
    let root = value.get("program").and_then(|program| program.get("root")).and_then(Value::as_text);
    let root = root.map(str::parse::<Digest>).transpose();
    let root = root.map_err(|error| Refusal::new(Code::ContractInvalid, error.to_string()))?;
    let policy = contracts::policy_hash(node, profile, root.as_ref())?;
    let contract = draft.seal(policy, &BTreeMap::new())?;
    let tenant = super::tenant(call)?;
    for file in &contract.program.files {
        drop(journal::blob(node, &tenant, &file.digest)?);
    }
    Ok(contract)
}

/// The input is checked before anything starts, the output before it is released.
async fn execute(node: &Node, call: &mut Call, reply: &Reply, asked: Asked) -> Result<serde_json::Value, Refusal> {
    let tenant = super::tenant(call)?;
    let contract = asked.named(node, call)?;
    let input = canonical::to_bytes(&asked.input);
    contract.check_input(&input).map(drop)?;
    let by_trace = format!("trace-{}", call.header.trace).parse().map_err(internal)?;
    let request = contracts::request_of(&contract, asked.request_id.unwrap_or(by_trace));
    let prepared = run::prepare(node, &tenant, &request)?;
    let id = prepared.id.clone();
    let result = match journal::final_result(node, &tenant, &id)? {
        Some(kept) => kept,
        None => run::attended(node, call, reply, prepared, input).await?,
    };
    let output = journal::blob(node, &tenant, &result.outputs.stdout.sha256)?;
    let mut answer = json!({
        "protocol_version": PROTOCOL_VERSION, "execution_id": id, "contract_hash": contract.hash(),
        "cause": result.cause.name(), "exit_code": result.exit_code, "result": result,
    });
    if result.exit_code == 0 {
        contract.check_output(&output)?;
        answer["output"] = serde_json::from_slice(&output).map_err(internal)?;
    }
    Ok(answer)
}
