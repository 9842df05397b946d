//! What is stated about an execution: an in-toto Statement v1 in canonical JSON, and its place in the log.
//!
//! The statement tells claims, which the same request gives again on any machine, and observations, which are of this one
//! run. The proof hash covers the claims alone. The statement is bound to the log by an event that carries its SHA-256,
//! `execution_provenance_recorded`, or for a plan's step the one that completes it; it names the tree before that event, so
//! that nothing is circular: envelope → statement's hash → leaf → inclusion → checkpoint → cosignatures.

use std::collections::BTreeMap;

use remand_model::canonical::{self, CanonError, INTEGER_MAX, Object, Value};
use remand_model::event::{EventType, NewEvent, Subject};
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION, TenantId};

use crate::checkpoint::Origin;
use crate::dsse::object;

/// The type of an in-toto statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of our predicate: a name that nobody can take away, as a UUID is nobody's but whoever drew it.
pub const PREDICATE_TYPE: &str = "urn:uuid:4d5224d7-9a61-42a5-bba0-00ac9e6d72e6#/execution/v1";
/// What a contract's hash is appended to for a SLSA build type.
pub const BUILD_TYPE: &str = "urn:uuid:4d5224d7-9a61-42a5-bba0-00ac9e6d72e6#/contract/v1/";
/// What a node's name is appended to for a SLSA builder.
pub const BUILDER_ID: &str = "urn:uuid:4d5224d7-9a61-42a5-bba0-00ac9e6d72e6#/node/v1/";
/// The type of a SLSA provenance predicate.
pub const SLSA_TYPE: &str = "https://slsa.dev/provenance/v1";
/// The name under which the output as a whole is a subject, where an execution left no files.
pub const OUTPUT_NAME: &str = "output";
/// The name of the event's observation that holds the statement's SHA-256.
pub const STATEMENT_MEMBER: &str = "statement_sha256";
/// The name of the event's claim that holds the execution.
pub const EXECUTION_MEMBER: &str = "execution_id";

/// Why bytes are no statement of ours.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not canonical JSON.
    #[error("the statement is no canonical JSON")]
    Json(#[from] CanonError),
    /// A member is missing, of another kind, or too much.
    #[error("the statement's {0} is missing, of another kind or too much")]
    Member(&'static str),
    /// A number that the statement cannot carry.
    #[error("{0} is beyond 2^53 - 1; count in a larger unit")]
    TooLarge(String),
}

/// A file that an execution left, by name and content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// Its path below the output folder.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// What the same request gives again on any machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The execution.
    pub execution_id: ExecutionId,
    /// Whose it was.
    pub tenant_id: TenantId,
    /// The contract that it ran under.
    pub contract_hash: Digest,
    /// Its input.
    pub input_hash: Digest,
    /// Its output and the way it ended.
    pub output_hash: Digest,
    /// The seed of its clock and generator.
    pub execution_seed: u64,
    /// The rules that confined it.
    pub isolation_profile_hash: Digest,
    /// The files that it left; where there are none, the output as a whole stands for them.
    pub artifacts: Vec<Artifact>,
}

/// The tree before the record's own event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPosition {
    /// The log.
    pub origin: Origin,
    /// Its entries.
    pub tree_size: u64,
    /// The root over them.
    pub root_hash: Digest,
}

/// What whoever ran an execution saw of this one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The node that ran it.
    pub node_id: String,
    /// The schedule that placed it, in a cluster.
    pub cluster_schedule_hash: Option<Digest>,
    /// The members of the cluster.
    pub membership_hash: Option<Digest>,
    /// The token that permitted it.
    pub token_id: Option<String>,
    /// What it used, each in the unit that its name ends with.
    pub resource_usage: BTreeMap<String, u64>,
}

/// What was seen in this one run, and where in the log its record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observations {
    /// What its runner saw.
    pub seen: Seen,
    /// The tree before its record.
    pub audit: AuditPosition,
}

/// A statement about one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What would be the same again.
    pub claims: Claims,
    /// What was seen this time.
    pub observations: Observations,
}

impl Claims {
    /// The proof hash: SHA-256 over the canonical claims, the same for every run of the same deterministic execution.
    #[must_use]
    pub fn proof_hash(&self) -> Digest {
        let mut members = self.members();
        members.insert("predicate_type".to_owned(), Value::from(PREDICATE_TYPE));
        members.insert("subject".to_owned(), self.subject());
        canonical::hash(&Value::Object(members))
    }

    fn members(&self) -> Object {
        let seed =
            Value::try_from(self.execution_seed).unwrap_or_else(|_| Value::from(self.execution_seed.to_string()));
        let members = [
            ("protocol_version", Value::from(PROTOCOL_VERSION)),
            ("execution_id", Value::from(self.execution_id.as_str())),
            ("tenant_id", Value::from(self.tenant_id.as_str())),
            ("contract_hash", Value::from(self.contract_hash)),
            ("input_hash", Value::from(self.input_hash)),
            ("output_hash", Value::from(self.output_hash)),
            ("execution_seed", seed),
            ("isolation_profile_hash", Value::from(self.isolation_profile_hash)),
        ];
        members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn subject(&self) -> Value {
        let whole = Artifact { name: OUTPUT_NAME.to_owned(), sha256: self.output_hash };
        let artifacts = if self.artifacts.is_empty() { std::slice::from_ref(&whole) } else { &self.artifacts };
        let spell = |artifact: &Artifact| {
            let digest = object([("sha256", Value::from(artifact.sha256))]);
            object([("digest", digest), ("name", Value::from(artifact.name.as_str()))])
        };
        Value::List(artifacts.iter().map(spell).collect())
    }
}

impl Statement {
    /// The statement's canonical bytes: what the envelope signs and the log's event hashes.
    ///
    /// # Errors
    /// [`StatementError::TooLarge`] where a number of the observations is beyond 53 bits.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        let mut predicate = self.claims.members();
        predicate.extend(self.observations.members()?);
        let statement = object([
            ("_type", Value::from(STATEMENT_TYPE)),
            ("predicate", Value::Object(predicate)),
            ("predicateType", Value::from(PREDICATE_TYPE)),
            ("subject", self.claims.subject()),
        ]);
        Ok(canonical::to_bytes(&statement))
    }

    /// Reads a statement and refuses every spelling but the one that [`Statement::to_bytes`] gives.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        let value = canonical::parse(bytes)?;
        let predicate = Members(value.get("predicate").ok_or(StatementError::Member("predicate"))?);
        let subject = value.get("subject").and_then(Value::as_list).ok_or(StatementError::Member("subject"))?;
        let mut artifacts = subject.iter().map(read_artifact).collect::<Result<Vec<_>, _>>()?;
        let output_hash = predicate.parsed("output_hash")?;
        if artifacts == [Artifact { name: OUTPUT_NAME.to_owned(), sha256: output_hash }] {
            artifacts.clear();
        }
        let claims = Claims {
            execution_id: predicate.parsed("execution_id")?,
            tenant_id: predicate.parsed("tenant_id")?,
            contract_hash: predicate.parsed("contract_hash")?,
            input_hash: predicate.parsed("input_hash")?,
            output_hash,
            execution_seed: predicate.seed()?,
            isolation_profile_hash: predicate.parsed("isolation_profile_hash")?,
            artifacts,
        };
        let statement = Self { claims, observations: Observations::read(&predicate)? };
        // Types, versions, further members and second spellings all show here, because what is written is what is said.
        if statement.to_bytes()? == bytes { Ok(statement) } else { Err(StatementError::Member("form")) }
    }

    /// The event that binds a statement to the log; `sha256` is of what [`Statement::to_bytes`] gave.
    #[must_use]
    pub fn recorded_event(execution: &ExecutionId, sha256: Digest) -> NewEvent {
        NewEvent::new(EventType::EXECUTION_PROVENANCE_RECORDED, Subject::from(execution))
            .claim(EXECUTION_MEMBER, execution.as_str())
            .observe(STATEMENT_MEMBER, sha256)
    }

    /// The same execution as a SLSA v1 provenance statement, for tools that read those. A view, not a record: it is signed
    /// in an envelope of its own, and no log entry vouches for it.
    #[must_use]
    pub fn slsa_view(&self) -> Vec<u8> {
        let (claims, seen) = (&self.claims, &self.observations.seen);
        let build = object([
            ("buildType", Value::from(format!("{BUILD_TYPE}{}", claims.contract_hash))),
            (
                "externalParameters",
                object([
                    ("input_hash", Value::from(claims.input_hash)),
                    ("tenant_id", Value::from(claims.tenant_id.as_str())),
                ]),
            ),
            (
                "internalParameters",
                object([
                    ("cluster_schedule_hash", optional(seen.cluster_schedule_hash)),
                    ("execution_seed", Value::from(claims.execution_seed.to_string())),
                    ("isolation_profile_hash", Value::from(claims.isolation_profile_hash)),
                    ("membership_hash", optional(seen.membership_hash)),
                    ("proof_hash", Value::from(claims.proof_hash())),
                ]),
            ),
            ("resolvedDependencies", Value::List(Vec::new())),
        ]);
        let run = object([
            ("builder", object([("id", Value::from(format!("{BUILDER_ID}{}", seen.node_id)))])),
            ("metadata", object([("invocationId", Value::from(claims.execution_id.as_str()))])),
        ]);
        canonical::to_bytes(&object([
            ("_type", Value::from(STATEMENT_TYPE)),
            ("predicate", object([("buildDefinition", build), ("runDetails", run)])),
            ("predicateType", Value::from(SLSA_TYPE)),
            ("subject", claims.subject()),
        ]))
    }
}

impl Observations {
    fn members(&self) -> Result<Vec<(String, Value)>, StatementError> {
        let number =
            |name: &str, value: u64| Value::try_from(value).map_err(|_| StatementError::TooLarge(name.to_owned()));
        let seen = &self.seen;
        let usage = seen.resource_usage.iter().map(|(name, value)| Ok((name.clone(), number(name, *value)?)));
        let usage: Object = usage.collect::<Result<_, StatementError>>()?;
        let audit = object([
            ("origin", Value::from(self.audit.origin.name().as_str())),
            ("root_hash", Value::from(self.audit.root_hash)),
            ("tree_size", number("tree_size", self.audit.tree_size)?),
        ]);
        let members = [
            ("node_id", Value::from(seen.node_id.as_str())),
            ("cluster_schedule_hash", optional(seen.cluster_schedule_hash)),
            ("membership_hash", optional(seen.membership_hash)),
            ("token_id", seen.token_id.as_deref().map_or(Value::Null, Value::from)),
            ("resource_usage", Value::Object(usage)),
            ("audit", audit),
        ];
        Ok(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn read(predicate: &Members<'_>) -> Result<Self, StatementError> {
        let usage = predicate.get("resource_usage")?.as_object().ok_or(StatementError::Member("resource_usage"))?;
        let count = |(name, value): (&String, &Value)| {
            value.as_u64().map(|value| (name.clone(), value)).ok_or(StatementError::Member("resource_usage"))
        };
        let audit = Members(predicate.get("audit")?);
        let seen = Seen {
            node_id: predicate.text("node_id")?.to_owned(),
            cluster_schedule_hash: predicate.optional("cluster_schedule_hash")?,
            membership_hash: predicate.optional("membership_hash")?,
            token_id: predicate.optional("token_id")?,
            resource_usage: usage.iter().map(count).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            seen,
            audit: AuditPosition {
                origin: audit.parsed("origin")?,
                tree_size: audit.get("tree_size")?.as_u64().ok_or(StatementError::Member("tree_size"))?,
                root_hash: audit.parsed("root_hash")?,
            },
        })
    }
}

fn optional(digest: Option<Digest>) -> Value {
    digest.map_or(Value::Null, Value::from)
}

fn read_artifact(value: &Value) -> Result<Artifact, StatementError> {
    let name = Members(value).text("name")?.to_owned();
    let digest = value.get("digest").ok_or(StatementError::Member("digest"))?;
    Ok(Artifact { name, sha256: Members(digest).parsed("sha256")? })
}

/// The members of an object, each asked for by name and kind.
struct Members<'a>(&'a Value);

impl<'a> Members<'a> {
    fn get(&self, name: &'static str) -> Result<&'a Value, StatementError> {
        self.0.get(name).ok_or(StatementError::Member(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, StatementError> {
        self.get(name)?.as_text().ok_or(StatementError::Member(name))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, StatementError> {
        self.text(name)?.parse().map_err(|_| StatementError::Member(name))
    }

    fn optional<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, StatementError> {
        if *self.get(name)? == Value::Null { Ok(None) } else { self.parsed(name).map(Some) }
    }

    fn seed(&self) -> Result<u64, StatementError> {
        let value = self.get("execution_seed")?;
        let large = value.as_text().and_then(|text| text.parse().ok());
        let large = large.filter(|seed| *seed > INTEGER_MAX.unsigned_abs());
        value.as_u64().or(large).ok_or(StatementError::Member("execution_seed"))
    }
}

#[cfg(test)]
#[path = "provenance_tests.rs"]
mod tests;
