//! Commands that act at once on a tenant's state and blobs. The acting token's scope decides, call by call, and its counters
//! move; only an administrator needs none.

use remand_authority::permit::{self, Demand, Scoped};
use remand_ledger::Transaction;
use remand_model::EventType;
use remand_model::event::{NewEvent, Subject};
use remand_model::grant::{Resource, Scope};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;

use crate::authority::{Credential, clock, internal};
use crate::conversation::Call;
use crate::node::Node;
use crate::plans;

/// Whether this call is an administrator's own, and no token's.
fn is_by_role(call: &Call, who: &Credential) -> bool {
    call.header.role == Role::Admin && who.token.is_none()
}

/// That some resource of this scope may be acted on: asked before the work of finding out which.
///
/// # Errors
/// Those of a token's validation; `scope_denied`.
pub fn holds(node: &Node, call: &Call, scope: &str) -> Result<(), Refusal> {
    let who = call.credential()?;
    if is_by_role(call, &who) {
        return Ok(());
    }
    let scope: Scope = scope.parse().map_err(internal)?;
    let token = node.registries.validate(&who, &node.ledger)?;
    if token.holds(&scope) { Ok(()) } else { Err(Refusal::new(Code::ScopeDenied, scope.to_string())) }
}

/// That this resource may be acted on; recorded, with the token's counters, before it is.
///
/// # Errors
/// Those of a token's validation and of the scope's check; `calls_exhausted`; it could not be recorded.
pub async fn authorize(node: &Node, call: &Call, scope: &str, resource: &str) -> Result<(), Refusal> {
    let who = call.credential()?;
    if is_by_role(call, &who) {
        return Ok(());
    }
    let scoped = scoped(node, call, &who, scope, resource)?;
    let subject: Subject = format!("token:{}", scoped.token_id()).parse().map_err(internal)?;
    let event = NewEvent::new(EventType::AUTHORIZATION_SCOPE_CHECK, subject)
        .claim("scope", scope)
        .claim("resource", resource)
        .claim("verdict", "allow");
    let mut transaction = Transaction::new(who.tenant.clone()).event(call.by().mark(event));
    transaction.ops.extend(plans::charge_ops(scoped.charges())?);
    node.append_charged(transaction, scoped.charges()).await.map(drop)
}

fn scoped(node: &Node, call: &Call, who: &Credential, scope: &str, resource: &str) -> Result<Scoped, Refusal> {
    let malformed = |error: &dyn std::fmt::Display| Refusal::new(Code::Malformed, error.to_string());
    let scope: Scope = scope.parse().map_err(internal)?;
    let resource: Resource = resource.parse().map_err(|error| malformed(&error))?;
    let token = node.registries.validate(who, &node.ledger)?;
    let asked = permit::Call { scope: &scope, resource: &resource, contract: None, demand: Demand::inside(0, 0) };
    let clock = clock(&node.ledger, &who.tenant);
    node.registries.authority().authorize(&token, call.header.role, asked, &clock)
}
