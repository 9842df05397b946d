//! A contract: which program may run, on what input, under which limits, with which capabilities.
//!
//! A value of [`Contract`] is an allegation that parses and keeps its bounds. That it may run is said by the registry in
//! `authority` alone, which compiles its schemas and holds its hash. The hash covers the whole canonical form: one changed
//! byte of the program, the policy or a schema is another contract.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::canonical::{self, CanonError, Value};
use crate::grant::Scope;
use crate::ids::{is_name, text_id};
use crate::refusal::{Code, Refusal};
use crate::{Digest, Limits, PROTOCOL_VERSION};

/// Bytes of a contract file, TOML or JSON.
pub const CONTRACT_BYTES_MAX: usize = 1 << 20;
/// Arguments of a program, its name included.
pub const ARGUMENTS_MAX: usize = 256;
/// Bytes of all arguments, and again of all environment variables.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Files that a contract puts into its box.
pub const FILES_MAX: usize = 256;
/// Bytes of one path.
pub const PATH_BYTES_MAX: usize = 4095;
/// Capabilities that one contract asks for.
pub const REQUIREMENTS_MAX: usize = 32;

text_id!(
    /// A contract's name within its tenant.
    ContractId, "a contract's id", "[a-z0-9][a-z0-9._-]{0,62}", is_name
);

/// A program with everything that decides what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The version of this form.
    pub protocol_version: String,
    /// Its name within the tenant.
    pub contract_id: ContractId,
    /// What runs.
    pub program: Program,
    /// Where an execution's time and randomness come from; at most 2^53 - 1.
    pub execution_seed: u64,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the output.
    pub output_schema: Value,
    /// What the token of a caller must hold.
    pub capability_requirements: BTreeSet<Scope>,
    /// What one execution may use.
    pub limits: Limits,
}

/// What runs, and in what box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The content of the image that is its root; without one, the root that the policy profile assembles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Digest>,
    /// The policy profile's name.
    pub profile: String,
    /// The digest of the resolved policy.
    pub policy_hash: Digest,
    /// Files put into the box, read-only.
    #[serde(default)]
    pub files: Vec<ProgramFile>,
    /// The environment; nothing else is in it but what the profile sets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A file that a contract puts into its box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramFile {
    /// Where it is inside of the box: absolute, without `.` or `..`.
    pub path: String,
    /// The digest of its bytes, which lie in the blob store.
    pub digest: Digest,
    /// Whether it can be executed.
    #[serde(default)]
    pub executable: bool,
}

impl Contract {
    /// Reads a contract from JSON.
    ///
    /// # Errors
    /// `contract_invalid` with the place, `too_large`, `version_unsupported`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        bounded(bytes)?;
        Self::from_value(&canonical::parse(bytes).map_err(invalid)?)
    }

    /// Reads a contract from TOML, which says the same with less punctuation; dates and fractions have no place in it.
    ///
    /// # Errors
    /// As [`Contract::from_json`].
    pub fn from_toml(text: &str) -> Result<Self, Refusal> {
        Self::from_value(&toml_value(text)?)
    }

    /// Reads a contract from a canonical value.
    ///
    /// # Errors
    /// As [`Contract::from_json`].
    pub fn from_value(value: &Value) -> Result<Self, Refusal> {
        let contract: Self = value.decode().map_err(invalid)?;
        contract.check()?;
        Ok(contract)
    }

    /// The canonical value that the hash covers.
    ///
    /// # Errors
    /// `contract_invalid` where a number of it is beyond 2^53 - 1.
    pub fn to_value(&self) -> Result<Value, Refusal> {
        canonical::from_serialize(self).map_err(invalid)
    }

    /// SHA-256 over the canonical form.
    ///
    /// # Errors
    /// As [`Contract::to_value`].
    pub fn hash(&self) -> Result<Digest, Refusal> {
        self.to_value().map(|value| canonical::hash(&value))
    }

    /// Checks every bound but the schemas', which are compiled where contracts are registered.
    ///
    /// # Errors
    /// `contract_invalid` with what is wrong, `version_unsupported`, `too_large`.
    pub fn check(&self) -> Result<(), Refusal> {
        check_version(&self.protocol_version)?;
        self.program.check()?;
        check_limits(&self.limits)?;
        if !(1..=REQUIREMENTS_MAX).contains(&self.capability_requirements.len()) {
            return Err(refuse("capability_requirements names 1 to 32 scopes"));
        }
        let size = canonical::to_bytes(&self.to_value()?).len();
        if size > CONTRACT_BYTES_MAX {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("a contract of {size} bytes; {CONTRACT_BYTES_MAX} at most"),
            ));
        }
        Ok(())
    }
}

impl Program {
    fn check(&self) -> Result<(), Refusal> {
        if !(1..=ARGUMENTS_MAX).contains(&self.argv.len()) || self.argv[0].is_empty() {
            return Err(refuse("program.argv holds 1 to 256 arguments, the first of them not empty"));
        }
        if !is_name(&self.profile) {
            return Err(refuse("program.profile is not a profile's name"));
        }
        check_texts("program.argv", self.argv.iter().map(String::as_str))?;
        check_texts("program.env", self.env.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]))?;
        if let Some(key) = self.env.keys().find(|key| !is_variable(key)) {
            return Err(refuse(format!("program.env: {key:?} is not a variable's name")));
        }
        self.check_files()
    }

    fn check_files(&self) -> Result<(), Refusal> {
        if self.files.len() > FILES_MAX {
            return Err(refuse("program.files holds at most 256 files"));
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if !is_plain_path(&file.path) {
                return Err(refuse(format!("program.files: {:?} is not an absolute path without . and ..", file.path)));
            }
            if !seen.insert(&file.path) {
                return Err(refuse(format!("program.files: {:?} twice", file.path)));
            }
        }
        Ok(())
    }
}

/// A contract as a person writes it: digests may be left out, and limits named one by one.
///
/// [`Draft::seal`] fills in the digests that its caller measured. What the draft states must equal what was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft(canonical::Object);

impl Draft {
    /// Reads a draft from JSON.
    ///
    /// # Errors
    /// `contract_invalid`, `too_large`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Refusal> {
        bounded(bytes)?;
        Self::from_value(canonical::parse(bytes).map_err(invalid)?)
    }

    /// Reads a draft from TOML.
    ///
    /// # Errors
    /// As [`Draft::from_json`].
    pub fn from_toml(text: &str) -> Result<Self, Refusal> {
        Self::from_value(toml_value(text)?)
    }

    fn from_value(value: Value) -> Result<Self, Refusal> {
        let Value::Object(members) = value else { return Err(refuse("a contract is an object")) };
        Ok(Self(members))
    }

    /// The policy profile that the draft names.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.0.get("program")?.get("profile")?.as_text()
    }

    /// The paths inside of the box of the files that the draft names; a `source` beside a path says where its bytes are.
    pub fn files(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let files = self.0.get("program").and_then(|program| program.get("files")).and_then(Value::as_list);
        files.unwrap_or_default().iter().filter_map(|file| {
            let path = file.get("path")?.as_text()?;
            Some((path, file.get("source").and_then(Value::as_text)))
        })
    }

    /// The contract with the measured digests of its policy and of its files, by their path inside of the box.
    ///
    /// # Errors
    /// `contract_forged` where the draft states another digest than was measured; else as [`Contract::from_value`].
    pub fn seal(mut self, policy: Digest, files: &BTreeMap<String, Digest>) -> Result<Contract, Refusal> {
        let Some(Value::Object(program)) = self.0.get_mut("program") else { return Err(refuse("program is missing")) };
        state(program, "policy_hash", policy)?;
        if let Some(Value::List(entries)) = program.get_mut("files") {
            entries.iter_mut().try_for_each(|entry| seal_file(entry, files))?;
        }
        self.0.entry("protocol_version".to_owned()).or_insert_with(|| PROTOCOL_VERSION.into());
        let limits = self.0.entry("limits".to_owned()).or_default();
        *limits = with_defaults(limits)?;
        Contract::from_value(&Value::Object(self.0))
    }
}

fn seal_file(entry: &mut Value, measured: &BTreeMap<String, Digest>) -> Result<(), Refusal> {
    let Value::Object(file) = entry else { return Err(refuse("program.files holds objects")) };
    file.remove("source");
    let path = file.get("path").and_then(Value::as_text).unwrap_or_default();
    match measured.get(path).copied() {
        Some(digest) => state(file, "digest", digest),
        None if file.contains_key("digest") => Ok(()),
        None => Err(refuse(format!("program.files: {path:?} has neither a digest nor bytes"))),
    }
}

/// Puts the measured digest in, unless another one is stated there.
fn state(members: &mut canonical::Object, key: &str, measured: Digest) -> Result<(), Refusal> {
    let measured = Value::from(measured);
    match members.insert(key.to_owned(), measured.clone()) {
        Some(stated) if stated != measured => {
            Err(Refusal::new(Code::ContractForged, format!("{key} states {stated}, measured {measured}")))
        }
        _ => Ok(()),
    }
}

/// The default limits with those that were named put over them.
fn with_defaults(named: &Value) -> Result<Value, Refusal> {
    let mut all = canonical::from_serialize(&Limits::default()).map_err(invalid)?;
    match (&mut all, named) {
        (Value::Object(all), Value::Object(named)) => all.extend(named.clone()),
        (_, Value::Null) => {}
        _ => return Err(refuse("limits is an object")),
    }
    Ok(all)
}

fn toml_value(text: &str) -> Result<Value, Refusal> {
    bounded(text.as_bytes())?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| refuse(error.message()))?;
    canonical::from_serialize(&table).map_err(invalid)
}

fn bounded(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() <= CONTRACT_BYTES_MAX {
        return Ok(());
    }
    let detail = format!("a contract of {} bytes; {CONTRACT_BYTES_MAX} at most", bytes.len());
    Err(Refusal::new(Code::TooLarge, detail))
}

fn check_version(version: &str) -> Result<(), Refusal> {
    if version == PROTOCOL_VERSION { Ok(()) } else { Err(Refusal::new(Code::VersionUnsupported, version)) }
}

fn check_limits(limits: &Limits) -> Result<(), Refusal> {
    let needed = [
        (limits.memory_bytes_max, "memory_bytes_max"),
        (limits.cpu_millis_max, "cpu_millis_max"),
        (limits.cpu_time_ms_max, "cpu_time_ms_max"),
        (limits.wall_ms_max, "wall_ms_max"),
        (limits.pids_max, "pids_max"),
        (limits.nofile_max, "nofile_max"),
    ];
    match needed.iter().find(|(value, _)| *value == 0) {
        Some((_, name)) => Err(refuse(format!("limits.{name} is zero, so nothing could run"))),
        None => Ok(()),
    }
}

fn check_texts<'a>(what: &str, texts: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let mut total = 0_usize;
    for text in texts {
        if text.contains('\0') {
            return Err(refuse(format!("{what} holds a NUL byte")));
        }
        total = total.saturating_add(text.len() + 1);
    }
    if total > TEXT_BYTES_MAX { Err(refuse(format!("{what} is above {TEXT_BYTES_MAX} bytes"))) } else { Ok(()) }
}

fn is_variable(key: &str) -> bool {
    let first = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_plain_path(path: &str) -> bool {
    let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
    path.len() <= PATH_BYTES_MAX
        && !path.chars().any(char::is_control)
        && parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")))
}

fn refuse(detail: impl AsRef<str>) -> Refusal {
    Refusal::new(Code::ContractInvalid, detail)
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function value in map_err")]
fn invalid(error: CanonError) -> Refusal {
    let mut detail = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        detail = format!("{detail}: {source}");
    }
    refuse(detail)
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
