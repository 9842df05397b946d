//! Capability domains: registered, shown, revoked.

use remand_authority::domain::{Descriptor, Registered};
use remand_authority::table::Action;
use remand_model::PROTOCOL_VERSION;
use remand_model::envelope::Command;
use remand_model::grant::DomainName;
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authority::internal;
use crate::conversation::{Call, Reply};
use crate::node::Node;

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Domain, "register") => Some(Action::DomainRegister),
        (Command::Domain, "revoke") => Some(Action::DomainRevoke),
        (Command::Domain, "get") => Some(Action::DomainGet),
        (Command::Domain, "list") => Some(Action::DomainList),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    domain: Option<DomainName>,
    descriptor: Option<Descriptor>,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    let named = || asked.domain.clone().ok_or_else(|| Refusal::new(Code::Malformed, "domain is missing"));
    let answer = match asked.what.as_str() {
        "register" => {
            let descriptor = asked.descriptor.ok_or_else(|| Refusal::new(Code::Malformed, "descriptor is missing"))?;
            register(node, call, descriptor).await?
        }
        "revoke" => revoke(node, call, &named()?).await?,
        "get" => {
            let authority = node.registries.authority();
            serde_json::to_value(authority.domains.get_domain(&named()?)?).map_err(internal)?
        }
        _ => list(node),
    };
    reply.answer(&answer).await;
    Ok(())
}

fn list(node: &Node) -> Value {
    let authority = node.registries.authority();
    let rows: Vec<Value> = authority
        .domains
        .list()
        .map(|(descriptor, is_revoked)| {
            let methods: Vec<&str> = descriptor.methods.keys().map(|method| method.as_str()).collect();
            let (domain, version) = (&descriptor.domain, descriptor.version);
            json!({"domain": domain, "version": version, "methods": methods, "revoked": is_revoked})
        })
        .collect();
    json!({"protocol_version": PROTOCOL_VERSION, "domains": rows})
}

/// Registers, keeps, and takes back what could not be kept: nobody calls it in between, as the lock on changes is held and a
/// caller needs a right for it.
async fn register(node: &Node, call: &Call, descriptor: Descriptor) -> Result<Value, Refusal> {
    let _changing = node.registries.changing.lock().await;
    let registered = node.registries.authority().domains.register_domain(descriptor.clone(), Role::Admin)?;
    if registered != Registered::Same {
        let value = remand_model::canonical::from_serialize(&descriptor).map_err(internal)?;
        let event = call.by().event("DOMAIN_REGISTERED", &format!("domain:{}", descriptor.domain))?;
        let kept = node.keep_domain(&descriptor, false, event.claim("descriptor", value)).await;
        if let Err(refusal) = kept {
            drop(node.registries.authority().domains.revoke_domain(&descriptor.domain, Role::Admin)?);
            return Err(refusal);
        }
    }
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "domain": descriptor.domain, "version": descriptor.version}))
}

async fn revoke(node: &Node, call: &Call, name: &DomainName) -> Result<Value, Refusal> {
    let _changing = node.registries.changing.lock().await;
    let descriptor = node.registries.authority().domains.get_domain(name)?.clone();
    let event = call.by().event("DOMAIN_REVOKED", &format!("domain:{name}"))?;
    node.keep_domain(&descriptor, true, event).await?;
    let blocked = node.registries.authority().domains.revoke_domain(name, Role::Admin)?;
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "domain": name, "revoked": true, "blocked": blocked}))
}
