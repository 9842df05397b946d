//! A plan: a fixed list of calls, made before anything runs.
//!
//! There is nothing in it that could branch, loop, retry or look at a result. Once made it cannot be changed: its fields
//! are private, and the parameters of each step are kept as the canonical bytes that they were read as.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonError, Value};
use crate::grant::{DomainName, MethodName, Resource, Scope};
use crate::ids::{is_name, text_id};
use crate::refusal::{Code, Refusal};
use crate::{Digest, PROTOCOL_VERSION, TenantId};

/// Steps of one plan.
pub const STEPS_MAX: usize = 64;
/// Bytes of the canonical parameters of one step.
pub const PARAMS_BYTES_MAX: usize = 64 << 10;
/// Bytes of a plan as sent.
pub const PLAN_BYTES_MAX: usize = 1 << 20;

text_id!(
    /// A plan's name within its tenant.
    PlanId, "a plan's id", "[a-z0-9][a-z0-9._-]{0,62}", is_name
);

/// Parameters of one step: canonical bytes that nobody can change any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    bytes: Arc<[u8]>,
    digest: Digest,
}

impl Frozen {
    /// Freezes a deep copy of `params`.
    ///
    /// # Errors
    /// `plan_invalid` where they are no object, `too_large` above [`PARAMS_BYTES_MAX`].
    pub fn of(params: &Value) -> Result<Self, Refusal> {
        if params.as_object().is_none() {
            return Err(refuse("the parameters of a step are an object"));
        }
        params.check_depth().map_err(invalid)?;
        let bytes = canonical::to_bytes(params);
        if bytes.len() > PARAMS_BYTES_MAX {
            let detail = format!("parameters of {} bytes; {PARAMS_BYTES_MAX} at most", bytes.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        Ok(Self { digest: Digest::of(&bytes), bytes: bytes.into() })
    }

    /// The canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 over the canonical bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// A fresh copy to read from; changing it changes nothing here.
    ///
    /// # Panics
    /// Never: the bytes are canonical since they were frozen.
    #[must_use]
    pub fn to_value(&self) -> Value {
        canonical::parse(&self.bytes).expect("frozen bytes are canonical")
    }
}

/// One call of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    scope: Scope,
    resource: Resource,
    params: Frozen,
}

impl Step {
    /// A call of `scope` on `resource` with a frozen copy of `params`.
    ///
    /// # Errors
    /// As [`Frozen::of`].
    pub fn new(scope: Scope, resource: Resource, params: &Value) -> Result<Self, Refusal> {
        Ok(Self { scope, resource, params: Frozen::of(params)? })
    }

    /// The method that is called.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What it acts on: the contract's id for `exec.run`, the key for `state.*`.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Its parameters.
    #[must_use]
    pub const fn params(&self) -> &Frozen {
        &self.params
    }
}

/// A plan as it is sent; [`Plan`] is what is made of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    protocol_version: String,
    plan_id: PlanId,
    tenant_id: TenantId,
    steps: Vec<WireStep>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStep {
    domain: DomainName,
    method: MethodName,
    #[serde(default = "Resource::none")]
    resource: Resource,
    params: Value,
}

/// An immutable, non-empty list of calls in fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    plan_id: PlanId,
    tenant_id: TenantId,
    steps: Arc<[Step]>,
    hash: Digest,
}

impl Plan {
    /// The plan of these steps.
    ///
    /// # Errors
    /// `plan_invalid` where there is no step or more than [`STEPS_MAX`]; `too_large`.
    pub fn new(plan_id: PlanId, tenant_id: TenantId, steps: Vec<Step>) -> Result<Self, Refusal> {
        if !(1..=STEPS_MAX).contains(&steps.len()) {
            return Err(refuse(format!("a plan has 1 to {STEPS_MAX} steps, not {}", steps.len())));
        }
        let bytes = canonical::to_bytes(&describe(&plan_id, &tenant_id, &steps));
        if bytes.len() > PLAN_BYTES_MAX {
            return Err(too_large(bytes.len()));
        }
        Ok(Self { plan_id, tenant_id, steps: steps.into(), hash: Digest::of(&bytes) })
    }

    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// `plan_invalid` with the place, `too_large`, `version_unsupported`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > PLAN_BYTES_MAX {
            return Err(too_large(bytes.len()));
        }
        let wire: Wire = canonical::parse(bytes).and_then(|value| value.decode()).map_err(invalid)?;
        if wire.protocol_version != PROTOCOL_VERSION {
            return Err(Refusal::new(Code::VersionUnsupported, wire.protocol_version));
        }
        let freeze =
            |step: WireStep| Step::new(Scope { domain: step.domain, method: step.method }, step.resource, &step.params);
        Self::new(wire.plan_id, wire.tenant_id, wire.steps.into_iter().map(freeze).collect::<Result<_, _>>()?)
    }

    /// Its name.
    #[must_use]
    pub const fn plan_id(&self) -> &PlanId {
        &self.plan_id
    }

    /// The only tenant that it runs for.
    #[must_use]
    pub const fn tenant_id(&self) -> &TenantId {
        &self.tenant_id
    }

    /// Its calls, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// SHA-256 over its canonical form.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// Its canonical form.
    #[must_use]
    pub fn to_value(&self) -> Value {
        describe(&self.plan_id, &self.tenant_id, &self.steps)
    }
}

fn describe(plan_id: &PlanId, tenant_id: &TenantId, steps: &[Step]) -> Value {
    let object = |members: Vec<(&str, Value)>| {
        Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let step = |step: &Step| {
        object(vec![
            ("domain", step.scope.domain.as_str().into()),
            ("method", step.scope.method.as_str().into()),
            ("resource", step.resource.as_str().into()),
            ("params", step.params.to_value()),
        ])
    };
    object(vec![
        ("protocol_version", PROTOCOL_VERSION.into()),
        ("plan_id", plan_id.as_str().into()),
        ("tenant_id", tenant_id.as_str().into()),
        ("steps", Value::List(steps.iter().map(step).collect())),
    ])
}

fn refuse(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Code::PlanInvalid, detail)
}

fn too_large(bytes: usize) -> Refusal {
    Refusal::new(Code::TooLarge, format!("a plan of {bytes} bytes; {PLAN_BYTES_MAX} at most"))
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function value in map_err")]
fn invalid(error: CanonError) -> Refusal {
    match std::error::Error::source(&error) {
        Some(source) => refuse(format!("{error}: {source}")),
        None => refuse(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = r#"{"protocol_version":"1.0","plan_id":"p1","tenant_id":"acme","steps":[
        {"domain":"state","method":"get","resource":"a","params":{"key":"a"}},
        {"domain":"exec","method":"run","resource":"word-count","params":{"input":{"text":"x"}}},
        {"domain":"state","method":"set","resource":"a","params":{"key":"a","value":"1"}}]}"#;

    #[test]
    fn a_plan_keeps_the_order_and_survives_its_canonical_form() {
        let plan = Plan::from_json(THREE.as_bytes()).expect("a plan");
        let scopes: Vec<_> = plan.steps().iter().map(|step| step.scope().to_string()).collect();
        assert_eq!(scopes, ["state.get", "exec.run", "state.set"]);
        let again = Plan::from_json(&canonical::to_bytes(&plan.to_value())).expect("again");
        assert_eq!(again, plan);
        assert_eq!(plan.hash(), canonical::hash(&plan.to_value()));
    }

    #[test]
    fn the_order_of_steps_is_part_of_the_hash() {
        let plan = Plan::from_json(THREE.as_bytes()).expect("a plan");
        let mut steps = plan.steps().to_vec();
        steps.reverse();
        let reversed = Plan::new(plan.plan_id().clone(), plan.tenant_id().clone(), steps).expect("a plan");
        assert_ne!(reversed.hash(), plan.hash());
    }

    #[test]
    fn changing_a_copy_of_the_parameters_changes_nothing_in_the_plan() {
        let plan = Plan::from_json(THREE.as_bytes()).expect("a plan");
        let mut copy = plan.steps()[0].params().to_value();
        copy = Value::List(vec![copy]);
        assert_ne!(copy, plan.steps()[0].params().to_value());
        assert_eq!(plan.steps()[0].params().bytes(), br#"{"key":"a"}"#);
    }

    #[test]
    fn empty_and_endless_plans_are_refused() {
        let id = || ("p".parse().expect("a name"), "acme".parse().expect("a name"));
        let (plan_id, tenant_id) = id();
        assert_eq!(Plan::new(plan_id, tenant_id, vec![]).expect_err("empty").code, Code::PlanInvalid);
        let step = Plan::from_json(THREE.as_bytes()).expect("a plan").steps()[0].clone();
        let (plan_id, tenant_id) = id();
        let many = vec![step; STEPS_MAX + 1];
        assert_eq!(Plan::new(plan_id, tenant_id, many).expect_err("long").code, Code::PlanInvalid);
    }

    #[test]
    fn parameters_that_are_large_deep_or_no_object_are_refused() {
        let large = Value::Object([("x".to_owned(), "y".repeat(PARAMS_BYTES_MAX).into())].into());
        assert_eq!(Frozen::of(&large).expect_err("large").code, Code::TooLarge);
        assert_eq!(Frozen::of(&Value::Null).expect_err("no object").code, Code::PlanInvalid);
        let deep = format!(r#"{{"protocol_version":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(Plan::from_json(deep.as_bytes()).expect_err("deep").code, Code::PlanInvalid);
        assert_eq!(Plan::from_json(&vec![b' '; PLAN_BYTES_MAX + 1]).expect_err("large").code, Code::TooLarge);
    }

    #[test]
    fn a_plan_of_another_version_or_with_unknown_fields_is_refused() {
        let other = THREE.replace("\"1.0\"", "\"2.0\"");
        assert_eq!(Plan::from_json(other.as_bytes()).expect_err("version").code, Code::VersionUnsupported);
        let unknown = THREE.replacen("\"plan_id\"", "\"retries\":3,\"plan_id\"", 1);
        assert_eq!(Plan::from_json(unknown.as_bytes()).expect_err("unknown").code, Code::PlanInvalid);
        assert_eq!(Plan::from_json(b"\xff\x00garbage").expect_err("garbage").code, Code::PlanInvalid);
    }
}
