//! `state.get`, `state.set`, `state.list`, `state.delete`: the tenant's own keys and values.

use remand_authority::contracts::ContractRegistry;
use remand_authority::domain::Descriptor;
use remand_authority::permit::{Demand, Permit};
use remand_engine::domain::{Domain, Done, Need};
use remand_ledger::state::{Expected, TenantState};
use remand_model::canonical::{Object, Value};
use remand_model::event::Subject;
use remand_model::plan::{Frozen, Step};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, TenantId};
use serde::Deserialize;

use crate::commands::state::refusal;
use crate::node::Node;

/// The domain over a node.
pub struct State(pub Node);

pub fn descriptor() -> Descriptor {
    super::describe("state", &[("get", false), ("set", true), ("list", false), ("delete", true)])
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    key: Option<String>,
    value: Option<String>,
    prefix: Option<String>,
}

impl Domain for State {
    fn descriptor(&self) -> Descriptor {
        descriptor()
    }

    fn need(&self, _tenant: &TenantId, step: &Step, _contracts: &ContractRegistry) -> Result<Need, Refusal> {
        let Params { key, value, prefix } = super::params(step.params())?;
        super::same(key.as_deref().or(prefix.as_deref()), step.resource().as_str())?;
        let sets = step.scope().method.as_str() == "set";
        if sets != value.is_some() {
            return Err(Refusal::new(Code::PlanInvalid, "set takes a value, the other methods take none"));
        }
        let bytes = if sets { value.map_or(0, |value| value.len() as u64) } else { 0 };
        Ok(Need { contract: None, demand: Demand::inside(bytes, 0) })
    }

    fn execute(&self, permit: &Permit, execution_id: &ExecutionId, params: &Frozen) -> Done {
        let value = super::params::<Params>(params).map(|params| params.value.unwrap_or_default());
        let bytes = value.as_ref().map_or(0, |value| value.len() as u64);
        let usage = Usage { disk_bytes: bytes, ..Usage::default() };
        super::done(value.and_then(|value| self.act(permit, execution_id, &value)), usage)
    }
}

impl State {
    fn act(&self, permit: &Permit, id: &ExecutionId, value: &str) -> Result<(Object, Vec<u8>), Refusal> {
        let quota = remand_ledger::state::DEFAULT_QUOTA;
        let state = TenantState::new(self.0.ledger.clone(), permit.tenant_id().clone(), quota);
        let (about, key) = (Subject::from(id), permit.resource().as_str());
        let mut claims = Object::new();
        let output = match permit.scope().method.as_str() {
            "get" => {
                let missing = || Refusal::new(Code::NotFound, format!("key {key:?}"));
                state.get(&about, key).map_err(refusal)?.ok_or_else(missing)?
            }
            "set" => {
                state.set(&about, key, value.as_bytes(), Expected::Anything).map_err(refusal)?;
                value.as_bytes().to_vec()
            }
            "delete" => {
                let existed = state.delete(&about, key).map_err(refusal)?;
                claims.insert("existed".into(), existed.into());
                Vec::new()
            }
            _ => {
                let keys = state.list(&about, key, "").map_err(refusal)?;
                let keys = Value::List(keys.into_iter().map(Value::from).collect());
                remand_model::canonical::to_bytes(&keys)
            }
        };
        claims.insert("output_sha256".into(), Digest::of(&output).into());
        Ok((claims, output))
    }
}
