//! Tenants: made, shown, suspended, resumed, deleted. A deleted tenant's chain stays.

use remand_authority::table::Action;
use remand_model::envelope::Command;
use remand_model::refusal::{Code, Refusal};
use remand_model::{PROTOCOL_VERSION, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::authority::{LOCAL, NODE, Standing};
use crate::conversation::{Call, Reply};
use crate::limits;
use crate::node::Node;
use crate::registry::unknown;

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Tenant, "create") => Some(Action::TenantCreate),
        (Command::Tenant, "list") => Some(Action::TenantList),
        (Command::Tenant, "show") => Some(Action::TenantShow),
        (Command::Tenant, "suspend") => Some(Action::TenantSuspend),
        (Command::Tenant, "resume") => Some(Action::TenantResume),
        (Command::Tenant, "delete") => Some(Action::TenantDelete),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    tenant_id: Option<TenantId>,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    if asked.what == "list" {
        let tenants = node.registries.tenants().clone();
        let rows: Vec<Value> = tenants.iter().map(|(tenant, standing)| row(node, tenant, *standing)).collect();
        reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "tenants": rows})).await;
        return Ok(());
    }
    let tenant = asked.tenant_id.ok_or_else(|| Refusal::new(Code::Malformed, "tenant_id is missing"))?;
    if asked.what != "show" {
        change(node, call, &tenant, &asked.what).await?;
    }
    let standing = node.registries.tenants().get(&tenant).copied().ok_or_else(|| unknown(&tenant))?;
    let mut shown = row(node, &tenant, standing);
    shown["protocol_version"] = PROTOCOL_VERSION.into();
    reply.answer(&shown).await;
    Ok(())
}

fn row(node: &Node, tenant: &TenantId, standing: Standing) -> Value {
    let head = node.ledger.head(tenant);
    json!({
        "tenant_id": tenant,
        "state": standing.name(),
        "events": head.as_ref().map_or(0, |head| head.size),
        "root_hash": head.map(|head| head.root),
        "running": node.running_of(tenant).len(),
        "has_quota": node.registries.authority().quotas.get_quota(tenant).is_ok(),
    })
}

async fn change(node: &Node, call: &Call, tenant: &TenantId, what: &str) -> Result<(), Refusal> {
    let _changing = node.registries.changing.lock().await;
    let now = node.registries.tenants().get(tenant).copied();
    if tenant.as_str() == NODE {
        return Err(Refusal::new(Code::Conflict, "node is the node's own name"));
    }
    let (kind, next) = match (what, now) {
        ("create", None) => ("TENANT_CREATED", Standing::Active),
        ("create", Some(standing)) => {
            return Err(Refusal::new(Code::Conflict, format!("tenant {tenant} is {}", standing.name())));
        }
        (_, None) => return Err(unknown(tenant)),
        (_, Some(Standing::Deleted)) => {
            return Err(Refusal::new(Code::Conflict, format!("tenant {tenant} is deleted; only its chain is left")));
        }
        ("suspend", _) => ("TENANT_SUSPENDED", Standing::Suspended),
        ("resume", _) => ("TENANT_RESUMED", Standing::Active),
        _ if tenant.as_str() == LOCAL => {
            return Err(Refusal::new(Code::Conflict, "local is there as long as the node"));
        }
        _ => ("TENANT_DELETED", Standing::Deleted),
    };
    if now == Some(next) {
        return Ok(());
    }
    let mut event = call.by().event(kind, &format!("tenant:{tenant}"))?;
    if next == Standing::Deleted {
        // Nothing starts any more, then what runs ends: so nothing can be left.
        node.registries.tenants().insert(tenant.clone(), Standing::Suspended);
        empty(node, tenant).await?;
        if let Some(head) = node.ledger.head(tenant) {
            event = event.claim("archived_root", head.root).claim("archived_events", head.size.to_string());
        }
    }
    node.keep_tenant(tenant, next, event).await?;
    if next == Standing::Deleted {
        let mut authority = node.registries.authority();
        authority.quotas.remove(tenant);
        authority.contracts.remove(tenant);
    }
    Ok(())
}

/// Ends what a tenant runs and removes its group.
async fn empty(node: &Node, tenant: &TenantId) -> Result<(), Refusal> {
    let ended = async {
        while !node.running_of(tenant).is_empty() {
            node.cancel_of(tenant);
            sleep(limits::CLEAR_PAUSE).await;
        }
    };
    let late = |_| Refusal::new(Code::Conflict, format!("executions of {tenant} do not end; try again"));
    timeout(limits::COLLECT_WAIT, ended).await.map_err(late)?;
    if let Err(error) = node.workshop.unhouse(tenant) {
        tracing::debug!(%error, %tenant, "the tenant's group is not there, or goes with the next sweep");
    }
    Ok(())
}
