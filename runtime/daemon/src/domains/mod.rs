//! The capability domains that this node really has. Adding one is one file here, and a line in [`descriptors`] and [`all`].

mod blob;
mod events;
mod exec;
mod state;

use remand_authority::domain::{Descriptor, Method};
use remand_engine::domain::{Domain, Domains, Done};
use remand_model::PROTOCOL_VERSION;
use remand_model::canonical::Object;
use remand_model::grant::Trigger;
use remand_model::plan::Frozen;
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use serde::de::DeserializeOwned;

use crate::node::Node;

/// What the domains offer.
#[must_use]
pub fn descriptors() -> Vec<Descriptor> {
    vec![exec::descriptor(), state::descriptor(), blob::descriptor(), events::descriptor()]
}

/// The domains over a node.
///
/// # Errors
/// `conflict` where two have one name.
pub fn all(node: &Node) -> Result<Domains, Refusal> {
    let mut domains = Domains::default();
    let own: [Box<dyn Domain>; 4] = [
        Box::new(exec::Exec(node.clone())),
        Box::new(state::State(node.clone())),
        Box::new(blob::Blob(node.clone())),
        Box::new(events::Events(node.clone())),
    ];
    own.into_iter().try_for_each(|domain| domains.add(domain))?;
    Ok(domains)
}

/// A domain whose methods have an effect where the second member says so.
fn describe(domain: &str, methods: &[(&str, bool)]) -> Descriptor {
    let method = |has_effect| Method {
        has_effect,
        role: if has_effect { Role::Operator } else { Role::Viewer },
        triggers: Trigger::ALL.into(),
        requires: [].into(),
    };
    let methods = methods.iter();
    let methods = methods.map(|(name, has_effect)| (name.parse().expect("a constant name"), method(*has_effect)));
    Descriptor {
        protocol_version: PROTOCOL_VERSION.into(),
        domain: domain.parse().expect("a constant name"),
        version: 1,
        methods: methods.collect(),
    }
}

fn params<T: DeserializeOwned>(params: &Frozen) -> Result<T, Refusal> {
    serde_json::from_slice(params.bytes()).map_err(|error| Refusal::new(Code::PlanInvalid, error.to_string()))
}

/// A parameter must name what the step acts on, or nothing: rights are checked for the resource.
fn same(named: Option<&str>, resource: &str) -> Result<(), Refusal> {
    match named {
        Some(named) if named != resource => {
            Err(Refusal::new(Code::PlanInvalid, format!("the parameters name {named}, the step acts on {resource}")))
        }
        _ => Ok(()),
    }
}

fn done(effect: Result<(Object, Vec<u8>), Refusal>, usage: Usage) -> Done {
    let observations = Object::new();
    match effect {
        Ok((claims, output)) => Done { verdict: Ok(()), claims, observations, usage, output },
        Err(refusal) => Done { verdict: Err(refusal), claims: Object::new(), observations, usage, output: Vec::new() },
    }
}
