//! What is stated about an execution: from the event of its start, and from what came of it.
//!
//! A box states its result. A plan's step that ran no box states its call: the digest of its parameters went in, its verdict
//! and its claims came out, and nothing confined it but the runtime itself.

use std::collections::BTreeMap;

use remand_ledger::provenance::{Artifact, Claims, Seen};
use remand_model::canonical::{self, Object, Value};
use remand_model::event::Payload;
use remand_model::outcome::ExecutionResult;
use remand_model::refusal::Refusal;
use remand_model::{Digest, ExecutionId, TenantId};

use crate::authority::internal;

/// Names and digests of output files in a statement; beyond it the output as a whole stands for them.
const ARTIFACT_BYTES_MAX: usize = 256 << 10;
/// What a file's digest and the syntax around it add to its name.
const ARTIFACT_BYTES: usize = 96;

/// What the event of a start says of its execution.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The contract, or what stands for one.
    contract_hash: Digest,
    token_id: Option<String>,
    execution_seed: u64,
    schedule_hash: Option<Digest>,
    params_digest: Option<Digest>,
}

impl Begun {
    /// Reads the payload of an `EXECUTION_STARTED` event.
    ///
    /// # Errors
    /// `internal` where a claim is not what it was written as.
    pub fn read(started: &Payload) -> Result<Self, Refusal> {
        let digest = |of: &Object, name| {
            let text = of.get(name).and_then(Value::as_text);
            text.map(str::parse::<Digest>).transpose().map_err(internal)
        };
        let claims = &started.claims;
        let text = |name| claims.get(name).and_then(Value::as_text);
        // A seed beyond 53 bits is spelled as a text.
        let seed = claims.get("execution_seed").and_then(Value::as_u64);
        let seed = seed.or_else(|| text("execution_seed").and_then(|text| text.parse().ok()));
        Ok(Self {
            contract_hash: digest(claims, "contract_hash")?.unwrap_or_else(|| call_hash(claims)),
            token_id: text("token_id").map(str::to_owned),
            execution_seed: seed.unwrap_or_default(),
            schedule_hash: digest(&started.observations, "schedule_hash")?,
            params_digest: digest(claims, "params_digest")?,
        })
    }

    fn seen(&self, resource_usage: BTreeMap<String, u64>) -> Seen {
        let (token_id, cluster_schedule_hash) = (self.token_id.clone(), self.schedule_hash);
        Seen { token_id, cluster_schedule_hash, resource_usage, ..Seen::default() }
    }

    /// What is stated about an execution in a box.
    ///
    /// # Errors
    /// `internal` where the result cannot be spelled.
    pub fn boxed(&self, result: &ExecutionResult) -> Result<(Claims, Seen), Refusal> {
        let files = &result.outputs.files;
        let bytes: usize = files.iter().map(|file| file.path.len() + ARTIFACT_BYTES).sum();
        let artifacts = files.iter().map(|file| Artifact { name: file.path.clone(), sha256: file.sha256 });
        let confinement = &result.enforced.confinement_sha256;
        let claims = Claims {
            execution_id: result.execution_id.clone(),
            tenant_id: result.tenant_id.clone(),
            contract_hash: self.contract_hash,
            input_hash: result.input.sha256,
            output_hash: output_hash(result)?,
            execution_seed: self.execution_seed,
            isolation_profile_hash: if confinement.is_empty() {
                Digest::of(b"")
            } else {
                confinement.parse().map_err(internal)?
            },
            artifacts: if bytes > ARTIFACT_BYTES_MAX { Vec::new() } else { artifacts.collect() },
        };
        let usage = canonical::from_serialize(&result.usage).map_err(internal)?;
        Ok((claims, self.seen(amounts(&usage))))
    }

    /// What is stated about a plan's step that ran no box.
    #[must_use]
    pub fn called(&self, tenant: &TenantId, id: &ExecutionId, ended: &Payload, usage: &Value) -> (Claims, Seen) {
        let came_out = ["result", "verdict"].map(|name| (name.to_owned(), member(&ended.claims, name)));
        let claims = Claims {
            execution_id: id.clone(),
            tenant_id: tenant.clone(),
            contract_hash: self.contract_hash,
            input_hash: self.params_digest.unwrap_or_else(|| Digest::of(b"")),
            output_hash: canonical::hash(&Value::Object(came_out.into())),
            execution_seed: self.execution_seed,
            isolation_profile_hash: Digest::of(b""),
            artifacts: Vec::new(),
        };
        (claims, self.seen(amounts(usage)))
    }
}

fn member(of: &Object, name: &str) -> Value {
    of.get(name).cloned().unwrap_or(Value::Null)
}

/// What stands for the contract of a call that has none: what is called, and on what.
fn call_hash(started: &Object) -> Digest {
    let call = ["resource", "scope"].map(|name| (name.to_owned(), member(started, name)));
    canonical::hash(&Value::Object(call.into()))
}

/// Digest over everything that came out, and the way it ended.
fn output_hash(result: &ExecutionResult) -> Result<Digest, Refusal> {
    let outputs = &result.outputs;
    let mut output = Object::new();
    output.insert("cause".into(), canonical::from_serialize(&result.cause).map_err(internal)?);
    output.insert("exit_code".into(), result.exit_code.into());
    output.insert("stdout_sha256".into(), outputs.stdout.sha256.into());
    output.insert("stderr_sha256".into(), outputs.stderr.sha256.into());
    output.insert("files".into(), canonical::from_serialize(&outputs.files).map_err(internal)?);
    Ok(canonical::hash(&Value::Object(output)))
}

fn amounts(usage: &Value) -> BTreeMap<String, u64> {
    let members = usage.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
}

/// A seed as events carry it.
#[must_use]
pub fn seed(seed: u64) -> Value {
    Value::try_from(seed).unwrap_or_else(|_| Value::from(seed.to_string()))
}
