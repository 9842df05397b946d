//! Tokens: issued, listed, revoked, narrowed. A token's bytes leave the daemon once, in the answer to its issue.

use remand_authority::table::Action;
use remand_authority::token::delegate;
use remand_model::canonical::Value as Canonical;
use remand_model::envelope::Command;
use remand_model::grant::{Grant, Narrowing, TokenId};
use remand_model::refusal::{Code, Refusal};
use remand_model::{PROTOCOL_VERSION, TenantId};
use serde::Deserialize;
use serde_json::json;

use crate::authority::internal;
use crate::conversation::{Call, Reply};
use crate::node::Node;

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Token, "issue") => Some(Action::TokenIssue),
        (Command::Token, "revoke") => Some(Action::TokenRevoke),
        (Command::Token, "list" | "delegate") => Some(Action::TokenList),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    grant: Option<Canonical>,
    token_id: Option<TokenId>,
    tenant_id: Option<TenantId>,
    narrowing: Option<Narrowing>,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    match asked.what.as_str() {
        "issue" => issue(node, call, asked, reply).await,
        "revoke" => revoke(node, call, asked, reply).await,
        "delegate" => narrow(node, call, asked, reply).await,
        _ => {
            let tenant = super::tenant(call)?;
            let tokens: Vec<Grant> = node.registries.authority().tokens.list(&tenant).cloned().collect();
            reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "tokens": tokens})).await;
            Ok(())
        }
    }
}

/// A grant as a person writes it: what has only one answer may be left out.
fn completed(grant: Option<Canonical>, call: &Call) -> Result<Grant, Refusal> {
    let invalid = |error: &dyn std::fmt::Display| Refusal::new(Code::GrantInvalid, error.to_string());
    let Some(Canonical::Object(mut members)) = grant else { return Err(invalid(&"a grant is an object")) };
    let mut entropy = [0; 16];
    getrandom::fill(&mut entropy).map_err(internal)?;
    let mut fill = |name: &str, value: Canonical| {
        members.entry(name.to_owned()).or_insert(value);
    };
    fill("protocol_version", PROTOCOL_VERSION.into());
    fill("token_id", TokenId::from_entropy(entropy).as_str().into());
    fill("user_id", "root".into());
    fill("epoch", 0_u32.into());
    if let Some(tenant) = &call.tenant {
        fill("tenant_id", tenant.as_str().into());
    }
    Canonical::Object(members).decode().map_err(|error| invalid(&error))
}

async fn issue(node: &Node, call: &Call, asked: Asked, reply: &Reply) -> Result<(), Refusal> {
    let _changing = node.registries.changing.lock().await;
    let grant = completed(asked.grant, call)?;
    node.known(&grant.tenant_id)?;
    if node.registries.authority().tokens.list(&grant.tenant_id).any(|known| known.token_id == grant.token_id) {
        return Err(Refusal::new(Code::Conflict, format!("{} exists", grant.token_id)));
    }
    let token = node.registries.mint(&grant)?;
    let record = node.registries.authority().tokens.record(&token)?;
    let event = call.by().event("TOKEN_ISSUED", &format!("token:{}", grant.token_id))?;
    node.keep_token(record, event).await?;
    let (id, tenant) = (&grant.token_id, &grant.tenant_id);
    let answer = json!({
        "protocol_version": PROTOCOL_VERSION, "token_id": id, "tenant_id": tenant, "user_id": grant.user_id,
        "expires_s": grant.expires_s, "token": token.to_text(),
    });
    reply.answer(&answer).await;
    Ok(())
}

async fn revoke(node: &Node, call: &Call, asked: Asked, reply: &Reply) -> Result<(), Refusal> {
    let _changing = node.registries.changing.lock().await;
    let tenant = asked.tenant_id.or_else(|| call.tenant.clone());
    let tenant = tenant.ok_or_else(|| Refusal::new(Code::AttachRequired, "revoke"))?;
    let id = asked.token_id.ok_or_else(|| Refusal::new(Code::Malformed, "token_id is missing"))?;
    let revocation = node.registries.authority().tokens.revocation(&id, &tenant)?;
    let event = call.by().event("TOKEN_REVOKED", &format!("token:{id}"))?;
    let revoked = node.keep_revocation(&tenant, revocation, event).await?;
    let ended = node.end_under(&tenant, &id, revoked).await?;
    let answer = json!({"protocol_version": PROTOCOL_VERSION, "token_id": id, "revoked": true, "ended": ended});
    reply.answer(&answer).await;
    Ok(())
}

/// Narrows the token that the caller is attached with. Its holder could do so alone; here for holders without tools.
async fn narrow(node: &Node, call: &Call, asked: Asked, reply: &Reply) -> Result<(), Refusal> {
    let who = call.credential()?;
    let narrowing = asked.narrowing.ok_or_else(|| Refusal::new(Code::Malformed, "narrowing is missing"))?;
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(internal)?;
    let token = delegate(node.registries.token_of(&who)?, &narrowing, &entropy)?;
    reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "token": token.to_text()})).await;
    Ok(())
}
