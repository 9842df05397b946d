//! Who belongs to the cluster, as every node would say it: one node is a cluster of one.

use remand_model::canonical::{self, Object, Value};
use remand_model::{Digest, PROTOCOL_VERSION};

use crate::authority::{NODE, tenant_named};
use crate::config::Config;
use crate::notary::Notary;

/// The cluster as this node knows it; nothing in it changes while it runs.
#[derive(Debug, Clone)]
pub struct Membership {
    /// What the node is known by: its name, and the keys that others verify it with.
    pub descriptor: Object,
    /// The hash over all members: the same on every node that knows the same ones.
    pub hash: Digest,
}

impl Membership {
    /// The cluster of this one node.
    #[must_use]
    pub fn of_one(config: &Config, notary: &Notary) -> Self {
        let capacity = u32::try_from(config.bounds.executions_at_once).unwrap_or(u32::MAX);
        let descriptor = object([
            ("protocol_version", PROTOCOL_VERSION.into()),
            ("node_id", config.node_id.as_str().into()),
            ("log_key", notary.log_key(&tenant_named(NODE)).to_string().into()),
            ("attest_key", notary.attest().key().to_string().into()),
            ("witness_key", notary.witness_signer().key().to_string().into()),
            ("capacity", capacity.into()),
        ]);
        let cluster = object([
            ("protocol_version", PROTOCOL_VERSION.into()),
            ("cluster_id", config.node_id.as_str().into()),
            ("nodes", Value::List(vec![Value::Object(descriptor.clone())])),
        ]);
        Self { descriptor, hash: canonical::hash(&Value::Object(cluster)) }
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Object {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
