//! `events.query`: the tenant's own chain, read by a plan.

use remand_authority::contracts::ContractRegistry;
use remand_authority::domain::Descriptor;
use remand_authority::permit::{Demand, Permit};
use remand_engine::domain::{Domain, Done, Need};
use remand_ledger::store::Filter;
use remand_model::canonical::{self, Object};
use remand_model::event::{EventType, Subject};
use remand_model::plan::{Frozen, Step};
use remand_model::quota::Usage;
use remand_model::refusal::Refusal;
use remand_model::{ExecutionId, TenantId};
use serde::Deserialize;

use crate::authority::internal;
use crate::node::Node;

/// Events of one answer.
const EVENTS_MAX: usize = 1000;

/// The domain over a node.
pub struct Events(pub Node);

pub fn descriptor() -> Descriptor {
    super::describe("events", &[("query", false)])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(rename = "type")]
    kind: Option<EventType>,
    subject: Option<Subject>,
    #[serde(default)]
    from_id: u64,
}

impl Domain for Events {
    fn descriptor(&self) -> Descriptor {
        descriptor()
    }

    fn need(&self, _tenant: &TenantId, step: &Step, _contracts: &ContractRegistry) -> Result<Need, Refusal> {
        super::params::<Params>(step.params())?;
        Ok(Need { contract: None, demand: Demand::inside(0, 0) })
    }

    fn execute(&self, permit: &Permit, _id: &ExecutionId, params: &Frozen) -> Done {
        super::done(super::params(params).and_then(|params| self.query(permit.tenant_id(), params)), Usage::default())
    }
}

impl Events {
    fn query(&self, tenant: &TenantId, params: Params) -> Result<(Object, Vec<u8>), Refusal> {
        let Params { kind, subject, from_id } = params;
        let filter = Filter { kind, subject, from_id, limit: EVENTS_MAX, ..Filter::default() };
        let events = self.0.ledger.query(tenant, &filter).map_err(internal)?;
        let claims = [("events".to_owned(), u32::try_from(events.len()).unwrap_or(u32::MAX).into())];
        let output = canonical::to_bytes(&canonical::from_serialize(&events).map_err(internal)?);
        Ok((claims.into(), output))
    }
}
