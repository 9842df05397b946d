//! The same again as Datalog, in exactly the spelling in which the library prints a block.

use std::fmt::Write as _;
use std::time::Duration;

use biscuit_auth::builder::{Fact, Term, fact, int, string};
use biscuit_auth::{AuthorizerBuilder, AuthorizerLimits, Biscuit};
use remand_model::grant::{Grant, Narrowing, Pattern, Resource, Right, Scope, Trigger};
use remand_model::refusal::{Code, Refusal};

use super::{defect, text};

/// Time that one evaluation may take. The library's own default, 1 ms, refuses at random on a busy machine.
const EVALUATION_MAX: Duration = Duration::from_millis(50);

/// The source of the first block: all that the token can ever do.
pub(super) fn authority(grant: &Grant) -> String {
    let mut out = format!("grant(\"{}\");\n", text::grant(grant));
    for right in &grant.rights {
        push(&mut out, &fact_of(right));
    }
    push(&mut out, &format!("check if tenant(\"{}\")", grant.tenant_id));
    push(&mut out, &format!("check if user(\"{}\")", grant.user_id));
    push(&mut out, &triggers(grant.triggers.iter()));
    push(&mut out, &expiry(grant.expires_s));
    out
}

/// The source of a further block: checks and nothing else beside the line that says them.
pub(super) fn narrowing(narrowing: &Narrowing) -> String {
    let mut out = format!("narrowing(\"{}\");\n", text::narrowing(narrowing));
    if let Some(rights) = &narrowing.rights {
        push(&mut out, &format!("check if {}", rights.iter().map(query_of).collect::<Vec<_>>().join(" or ")));
    }
    if let Some(set) = &narrowing.triggers {
        push(&mut out, &triggers(set.iter()));
    }
    if let Some(at) = narrowing.expires_s {
        push(&mut out, &expiry(at));
    }
    out
}

fn push(out: &mut String, clause: &str) {
    writeln!(out, "{clause};").expect("a String takes every text");
}

fn triggers<'a>(set: impl Iterator<Item = &'a Trigger>) -> String {
    let queries = set.map(|trigger| format!("trigger(\"{}\")", trigger.name())).collect::<Vec<_>>();
    format!("check if {}", queries.join(" or "))
}

fn expiry(at: u64) -> String {
    format!("check if now($now), $now < {at}")
}

fn fact_of(right: &Right) -> String {
    let Scope { domain, method } = &right.scope;
    match &right.resources {
        Pattern::Exact(resource) => format!("right_on(\"{domain}\", \"{method}\", \"{resource}\")"),
        Pattern::Prefix(prefix) => format!("right_below(\"{domain}\", \"{method}\", \"{prefix}\")"),
    }
}

fn query_of(right: &Right) -> String {
    let Scope { domain, method } = &right.scope;
    match &right.resources {
        Pattern::Exact(resource) => format!("call(\"{domain}\", \"{method}\", \"{resource}\")"),
        Pattern::Prefix(prefix) => {
            format!("call(\"{domain}\", \"{method}\", $resource), $resource.starts_with(\"{prefix}\")")
        }
    }
}

/// What the authorizer is told about one call.
pub(super) struct Question<'a> {
    pub(super) tenant: &'a str,
    pub(super) user: &'a str,
    pub(super) trigger: Trigger,
    pub(super) now_s: u64,
    pub(super) scope: &'a Scope,
    pub(super) resource: &'a Resource,
}

/// The policy that never changes: rights of the first block only, and what no right allows is denied.
pub(super) fn policy() -> Result<AuthorizerBuilder, Refusal> {
    let limits = AuthorizerLimits { max_facts: 256, max_iterations: 8, max_time: EVALUATION_MAX };
    AuthorizerBuilder::new()
        .policy("allow if call($domain, $method, $resource), right_on($domain, $method, $resource)")
        .and_then(|builder| {
            builder.policy(
                "allow if call($domain, $method, $resource), right_below($domain, $method, $prefix), $resource.starts_with($prefix)",
            )
        })
        .and_then(|builder| builder.policy("deny if true"))
        .map(|builder| builder.set_limits(limits))
        .map_err(defect)
}

/// The library's verdict on one call.
pub(super) fn allows(policy: &AuthorizerBuilder, token: &Biscuit, question: &Question<'_>) -> Result<bool, Refusal> {
    let Question { tenant, user, trigger, now_s, scope, resource } = question;
    let now = i64::try_from(*now_s).map_err(defect)?;
    let text = |name: &str, value: &str| fact(name, &[string(value)]);
    let call: [Term; 3] = [string(scope.domain.as_str()), string(scope.method.as_str()), string(resource.as_str())];
    let facts: [Fact; 5] = [
        text("tenant", tenant),
        text("user", user),
        text("trigger", trigger.name()),
        fact("now", &[int(now)]),
        fact("call", &call),
    ];
    let told = facts.into_iter().try_fold(policy.clone(), AuthorizerBuilder::fact).map_err(defect)?;
    let mut authorizer = told.build(token).map_err(defect)?;
    match authorizer.authorize() {
        Ok(_) => Ok(true),
        Err(biscuit_auth::error::Token::FailedLogic(_)) => Ok(false),
        Err(biscuit_auth::error::Token::RunLimit(_)) => {
            Err(Refusal::new(Code::QueueFull, "the token's rules took longer than 50 ms").retry_after(100))
        }
        Err(other) => Err(defect(other)),
    }
}
