//! Quotas: registered, and shown with where they stand.

use remand_authority::table::Action;
use remand_model::envelope::Command;
use remand_model::quota::Quota;
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use remand_model::{PROTOCOL_VERSION, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authority::internal;
use crate::conversation::{Call, Reply};
use crate::node::Node;

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Quota, "register") => Some(Action::QuotaRegister),
        (Command::Quota, "get") => Some(Action::QuotaGet),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    tenant_id: TenantId,
    quota: Option<Quota>,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    let tenant = asked.tenant_id;
    let is_own = call.tenant.as_ref() == Some(&tenant);
    if !is_own && call.header.role < Role::Admin {
        return Err(Refusal::new(Code::TenantMismatch, format!("attached to {:?}", call.tenant)));
    }
    match (asked.what.as_str(), asked.quota) {
        ("register", Some(quota)) => register(node, call, &tenant, quota).await?,
        ("register", None) => return Err(Refusal::new(Code::Malformed, "quota is missing")),
        _ => {}
    }
    reply.answer(&show(node, &tenant)?).await;
    Ok(())
}

async fn register(node: &Node, call: &Call, tenant: &TenantId, quota: Quota) -> Result<(), Refusal> {
    let _changing = node.registries.changing.lock().await;
    node.known(tenant)?;
    let event = call.by().event("QUOTA_REGISTERED", &format!("tenant:{tenant}"))?;
    let value = remand_model::canonical::from_serialize(&quota);
    let value = value.map_err(|error| Refusal::new(Code::QuotaInvalid, error.to_string()))?;
    node.keep_quota(tenant, quota, event.claim("quota", value)).await
}

fn show(node: &Node, tenant: &TenantId) -> Result<Value, Refusal> {
    let standing = node.registries.authority().quotas.get_quota(tenant)?;
    let value = |usage| serde_json::to_value(usage).map_err(internal);
    Ok(json!({
        "protocol_version": PROTOCOL_VERSION,
        "tenant_id": tenant,
        "quota": serde_json::to_value(standing.quota).map_err(internal)?,
        "used": value(standing.window.used)?,
        "window_start_s": standing.window.window_start_s,
        "reserved": value(standing.reserved)?,
    }))
}
