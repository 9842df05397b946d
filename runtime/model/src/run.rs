//! A request to run one program, as a client sends it and as its record keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::ContractId;
use crate::limits::Limits;
use crate::{Digest, PROTOCOL_VERSION, RequestId};

/// A host path to be shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Absolute path on the host, without links.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Whether it may be written.
    pub writable: bool,
}

/// What the box's root is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RootChoice {
    /// The host paths that the policy names.
    #[default]
    Policy,
    /// A folder of the host, read-only.
    Folder {
        /// Absolute path on the host, without links.
        path: String,
    },
    /// An image that was uploaded before, by its digest.
    Image {
        /// Digest of the image's bytes.
        sha256: String,
    },
}

/// A registered contract, by its name and the one content that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractChoice {
    /// Its name within the tenant.
    pub contract_id: ContractId,
    /// SHA-256 over its canonical form.
    pub contract_hash: Digest,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The protocol's version.
    pub protocol_version: String,
    /// The client's name for this request: the same twice is the same execution.
    pub request_id: RequestId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Name of a profile that the daemon knows, or the profile's own text.
    pub policy: String,
    /// The text of a profile file, where `policy` is not a known name.
    #[serde(default)]
    pub policy_text: Option<String>,
    /// Keys of a policy file and their values, applied in this order.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
    /// Variables added to those of the policy.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Working folder inside.
    #[serde(default)]
    pub folder: Option<String>,
    /// Host paths to be shown inside.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What the root is.
    #[serde(default)]
    pub root: RootChoice,
    /// Whether the program gets a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Whether bytes of standard input follow.
    #[serde(default)]
    pub stdin: bool,
    /// Whether the output files are to be sent after the result.
    #[serde(default)]
    pub want_files: bool,
    /// Whether only the plan is asked for.
    #[serde(default)]
    pub dry_run: bool,
    /// The seed of what is made deterministic.
    #[serde(default)]
    pub execution_seed: u64,
    /// How urgent it is beside the tenant's other requests, and where the node goes by priority, beside everybody's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// The contract that is executed; program, policy, environment and limits are the contract's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractChoice>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

/// The plan of a run: everything that would be done, as text for people and machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// The protocol's version.
    pub protocol_version: String,
    /// Mounts, in order.
    pub mounts: Vec<String>,
    /// Writes to control groups.
    pub cgroup: Vec<String>,
    /// Landlock rules.
    pub landlock: Vec<String>,
    /// Sizes of the seccomp programs, in instructions.
    pub filters: Vec<u64>,
    /// The limits.
    pub limits: Limits,
    /// The environment.
    pub environment: Vec<String>,
    /// Digest of the policy.
    pub policy_sha256: String,
}

impl RunRequest {
    /// A request with nothing but a program.
    #[must_use]
    pub fn new(request_id: RequestId, argv: Vec<String>) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION.into(),
            request_id,
            argv,
            policy: "batch".into(),
            policy_text: None,
            settings: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            volumes: Vec::new(),
            root: RootChoice::Policy,
            terminal: false,
            stdin: false,
            want_files: false,
            dry_run: false,
            execution_seed: 0,
            priority: 0,
            contract: None,
        }
    }
}
