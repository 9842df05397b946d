//! `blob.put` and `blob.get`: bytes by their digest.

use remand_authority::contracts::ContractRegistry;
use remand_authority::domain::Descriptor;
use remand_authority::permit::{Demand, Permit};
use remand_engine::domain::{Domain, Done, Need};
use remand_model::canonical::Object;
use remand_model::plan::{Frozen, Step};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, ExecutionId, TenantId};
use serde::Deserialize;

use crate::authority::internal;
use crate::node::Node;
use crate::{commands, journal, limits};

/// The domain over a node.
pub struct Blob(pub Node);

pub fn descriptor() -> Descriptor {
    super::describe("blob", &[("put", true), ("get", false)])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The bytes of `put`, as text.
    text: Option<String>,
}

impl Domain for Blob {
    fn descriptor(&self) -> Descriptor {
        descriptor()
    }

    fn need(&self, _tenant: &TenantId, step: &Step, _contracts: &ContractRegistry) -> Result<Need, Refusal> {
        let Params { text } = super::params(step.params())?;
        let puts = step.scope().method.as_str() == "put";
        if puts != text.is_some() {
            return Err(Refusal::new(Code::PlanInvalid, "put takes a text, get takes none"));
        }
        let digest = step.resource().as_str().parse::<Digest>();
        if !puts && digest.is_err() {
            return Err(Refusal::new(Code::PlanInvalid, "get acts on a blob's digest"));
        }
        Ok(Need { contract: None, demand: Demand::inside(text.map_or(0, |text| text.len() as u64), 0) })
    }

    fn execute(&self, permit: &Permit, _id: &ExecutionId, params: &Frozen) -> Done {
        let text = super::params::<Params>(params).map(|params| params.text);
        let bytes = text.as_ref().ok().and_then(Option::as_ref).map_or(0, |text| text.len() as u64);
        let usage = Usage { disk_bytes: bytes, ..Usage::default() };
        super::done(text.and_then(|text| self.act(permit, text)), usage)
    }
}

impl Blob {
    fn act(&self, permit: &Permit, text: Option<String>) -> Result<(Object, Vec<u8>), Refusal> {
        let tenant = permit.tenant_id();
        let (digest, output) = match text {
            Some(text) => {
                let blobs = &self.0.workshop.blobs;
                let stored = blobs.put(tenant, text.as_bytes(), limits::BLOB_BYTES_MAX).map_err(internal)?;
                let keeping = commands::blob::keep(&self.0, tenant, &stored);
                tokio::runtime::Handle::current().block_on(keeping)?;
                (*stored.digest(), stored.digest().to_hex().into_bytes())
            }
            None => {
                let digest = permit.resource().as_str().parse().map_err(internal)?;
                (digest, journal::blob(&self.0, tenant, &digest)?)
            }
        };
        Ok(([("sha256".to_owned(), digest.into())].into(), output))
    }
}
