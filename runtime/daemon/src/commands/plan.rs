//! Plans: checked, run, shown.

use std::sync::Arc;

use remand_authority::table::Action;
use remand_engine::drive::{self, Report};
use remand_engine::runner::Ending;
use remand_ledger::store::Filter;
use remand_model::canonical::{self, Value};
use remand_model::envelope::Command;
use remand_model::event::{EventType, Subject};
use remand_model::plan::{Plan, PlanId};
use remand_model::refusal::{Code, Refusal};
use remand_model::{PROTOCOL_VERSION, RequestId, TenantId};
use serde::Deserialize;
use serde_json::json;

use crate::authority::{Credential, internal};
use crate::conversation::{Call, Reply};
use crate::domains;
use crate::node::Node;
use crate::plans::{PlanGate, PlanJournal};

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Plan, "check") => Some(Action::PlanCheck),
        (Command::Plan, "run") => Some(Action::PlanRun),
        (Command::Plan, "show") => Some(Action::PlanShow),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    plan: Option<Value>,
    plan_id: Option<PlanId>,
    request_id: Option<RequestId>,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let asked: Asked = super::read(&call.payload)?;
    let who = call.credential()?;
    let answer = match asked.what.as_str() {
        "show" => {
            let id = asked.plan_id.ok_or_else(|| Refusal::new(Code::Malformed, "plan_id is missing"))?;
            crate::threads::blocking(|| show(node, &who.tenant, &id))?
        }
        what => {
            let plan = asked.plan.ok_or_else(|| Refusal::new(Code::Malformed, "plan is missing"))?;
            let plan = Plan::from_json(&canonical::to_bytes(&plan))?;
            if *plan.tenant_id() != who.tenant {
                return Err(Refusal::new(Code::TenantMismatch, format!("the plan is of {}", plan.tenant_id())));
            }
            check(node, &who.tenant, &plan)?;
            match what {
                "check" => described(&plan),
                _ => run(node, call, &who, plan, asked.request_id).await?,
            }
        }
    };
    reply.answer(&answer).await;
    Ok(())
}

/// Reads every step's parameters, without any effect.
fn check(node: &Node, tenant: &TenantId, plan: &Plan) -> Result<(), Refusal> {
    let domains = domains::all(node)?;
    let authority = node.registries.authority();
    for (index, step) in plan.steps().iter().enumerate() {
        let scope = step.scope();
        let descriptor = authority.domains.get_domain(&scope.domain)?;
        if !descriptor.methods.contains_key(&scope.method) {
            return Err(Refusal::new(Code::MethodUnknown, scope.to_string()));
        }
        let need = domains.get(&scope.domain).and_then(|domain| domain.need(tenant, step, &authority.contracts));
        need.map_err(|refusal| Refusal::new(refusal.code, format!("step {index}: {}", refusal.detail)))?;
    }
    Ok(())
}

fn described(plan: &Plan) -> serde_json::Value {
    let steps: Vec<_> = plan
        .steps()
        .iter()
        .map(|step| {
            let (scope, digest) = (step.scope().to_string(), step.params().digest());
            json!({"scope": scope, "resource": step.resource(), "params_digest": digest})
        })
        .collect();
    json!({
        "protocol_version": PROTOCOL_VERSION, "plan_id": plan.plan_id(), "plan_hash": plan.hash(), "steps": steps,
    })
}

async fn run(
    node: &Node,
    call: &Call,
    who: &Arc<Credential>,
    plan: Plan,
    request_id: Option<RequestId>,
) -> Result<serde_json::Value, Refusal> {
    let by_trace = format!("trace-{}", call.header.trace).parse().map_err(internal)?;
    let request_id = request_id.unwrap_or(by_trace);
    let shown = described(&plan);
    let domains = domains::all(node)?;
    let mut gate = PlanGate { node: node.clone(), who: Arc::clone(who), turn: None };
    let mut journal = PlanJournal::new(node.clone(), call.by());
    // A task of its own: a client that goes away leaves nothing half done.
    let work = move || drive::run(plan, request_id, &mut gate, &domains, &mut journal);
    let report = tokio::task::spawn_blocking(work).await.map_err(internal)?;
    Ok(told(shown, &report))
}

fn told(mut shown: serde_json::Value, report: &Report) -> serde_json::Value {
    let (state, step, refusal) = match &report.ending {
        Ending::Completed => ("completed", None, None),
        Ending::Failed(step, refusal) => ("failed", *step, Some(refusal)),
        Ending::Unrecorded(refusal) => ("unrecorded", None, Some(refusal)),
    };
    let released: Vec<_> = report.released.iter().map(|released| {
        json!({"execution_id": released.execution_id, "output": String::from_utf8_lossy(&released.output)})
    }).collect();
    shown["state"] = state.into();
    shown["failed_step"] = step.into();
    shown["refusal"] = serde_json::to_value(refusal).unwrap_or_default();
    shown["released"] = released.into();
    shown
}

/// The plan's runs as the chain tells them: what its steps' events say.
fn show(node: &Node, tenant: &TenantId, id: &PlanId) -> Result<serde_json::Value, Refusal> {
    let subject: Subject = format!("plan:{id}").parse().map_err(internal)?;
    let filter = Filter { kind: Some(EventType::TOKEN_VALIDATION), subject: Some(subject), ..Filter::default() };
    let runs = node.ledger.query(tenant, &filter).map_err(internal)?;
    let run = runs.last().ok_or_else(|| Refusal::new(Code::NotFound, format!("no plan {id} has run")))?;
    let hash = run.payload.claims.get("plan_hash").cloned();
    let after = Filter { from_id: run.event_id, ..Filter::default() };
    let events = node.ledger.query(tenant, &after).map_err(internal)?;
    let own = events.iter().filter(|event| event.payload.claims.get("plan_hash") == hash.as_ref());
    let rows: Vec<_> = own
        .map(|event| {
            let claim = |name: &str| event.payload.claims.get(name);
            json!({
                "event_id": event.event_id, "event_type": event.event_type, "step": claim("step"),
                "scope": claim("scope"), "verdict": claim("verdict"), "subject": event.subject,
            })
        })
        .collect();
    Ok(json!({"protocol_version": PROTOCOL_VERSION, "plan_id": id, "plan_hash": hash, "events": rows}))
}
