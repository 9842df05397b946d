//! The commands beside `run`, as clap reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use remand_model::{Digest, ExecutionId, TenantId};

use crate::arguments::{RunArguments, WhatArguments};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One document
    Json,
    /// One document a line, where the answer is a list
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a program in a box and stream what it prints
    Run(Box<RunArguments>),
    /// Run a program in the background and print its execution's id
    Submit(Box<WhatArguments>),
    /// Show what is known of an execution
    Status { id: ExecutionId },
    /// Wait for an execution's end; the exit code is the execution's
    Wait { id: ExecutionId },
    /// Print what an execution printed
    Logs {
        id: ExecutionId,
        /// Go on until its end
        #[arg(short, long)]
        follow: bool,
    },
    /// List the tenant's executions
    #[command(visible_alias = "list")]
    Ps,
    /// End executions at once, with everything that they started
    #[command(visible_alias = "cancel")]
    Kill {
        #[arg(required = true)]
        ids: Vec<ExecutionId>,
    },
    /// Print an execution's proof, or verify one offline
    Proof(ProofArguments),
    /// Run an execution's record again and compare what comes out
    Replay { id: ExecutionId },
    /// Read, export and verify the audit log
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Manage tenants
    #[command(subcommand)]
    Tenant(TenantVerb),
    /// Manage what tenants may use
    #[command(subcommand)]
    Quota(QuotaVerb),
    /// Manage tokens
    #[command(subcommand)]
    Token(TokenVerb),
    /// Manage capability domains
    #[command(subcommand)]
    Domain(DomainVerb),
    /// Manage and execute contracts
    #[command(subcommand)]
    Contract(ContractVerb),
    /// Check and run plans
    #[command(subcommand)]
    Plan(PlanVerb),
    /// Read and write the tenant's key-value store
    #[command(subcommand)]
    State(StateVerb),
    /// Put and get content-addressed bytes
    #[command(subcommand)]
    Blob(BlobVerb),
    /// List the nodes of the cluster
    Nodes,
    /// Print the root over all chains of the cluster
    ClusterRoot,
    /// Check and explain policies
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Say what this host lacks and how to get it; exit code 0 nothing, 1 something, 2 too much
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End what earlier lives of the daemon left behind; remove blobs that nothing refers to, and images unused for a day
    Gc {
        /// Only say what would be ended
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the canonical bytes of a JSON document from standard input; exit code 65 where it has none
    Canon {
        /// Print their SHA-256 instead
        #[arg(long)]
        hash: bool,
        /// One document a line; a refused one leaves an empty line
        #[arg(long)]
        lines: bool,
    },
    /// Print the JSON Schema of a result
    Schema,
    /// Print a shell's completions
    Completions { shell: Shell },
    /// Print the manual page, or write all of them
    Man {
        /// Folder that takes a page for each command
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ProofArguments {
    /// The execution
    #[arg(required = true)]
    pub(crate) id: Option<ExecutionId>,
    /// As what it is printed
    #[arg(id = "proof_format", long = "format", value_enum, default_value = "bundle")]
    pub(crate) format: ProofFormat,
    #[command(subcommand)]
    pub(crate) verb: Option<ProofVerb>,
}

/// What a proof is printed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProofFormat {
    /// Envelope, inclusion proof and event: what `proof verify` takes
    Bundle,
    /// A SLSA v1 provenance statement in a DSSE envelope, for tools that read those
    Slsa,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProofVerb {
    /// Verify a proof without the daemon
    Verify {
        /// The proof
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArguments,
    },
}

/// Whom to trust. Taken from here and never from what is verified.
#[derive(Debug, Args)]
pub(crate) struct TrustArguments {
    /// Verifier key of the log: the key itself, or a file that holds it
    #[arg(long, value_name = "K", conflicts_with = "policy_file")]
    pub(crate) key: Option<String>,
    /// Verifier key of a witness that must have cosigned; may be repeated
    #[arg(long, value_name = "K", conflicts_with = "policy_file")]
    pub(crate) witness: Vec<String>,
    /// C2SP tlog-policy that names logs, witnesses and the quorum
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_file: Option<PathBuf>,
    /// The one log that is asked for, like node1/audit/acme
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<String>,
    /// Verifier key that may sign statements; may be repeated
    #[arg(long, value_name = "K")]
    pub(crate) attest: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List events, newest last
    Log {
        /// At most so many; 0 for all
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        limit: u64,
    },
    /// Show one event
    Show { event: u64 },
    /// Find events
    Query {
        /// Only of this type
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// Only about this
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        /// Not before this wall clock, in microseconds since 1970
        #[arg(long, value_name = "US")]
        since_us: Option<u64>,
        /// Before this wall clock, in microseconds since 1970
        #[arg(long, value_name = "US")]
        until_us: Option<u64>,
        /// At most so many; 0 for all
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        limit: u64,
    },
    /// Verify an exported log offline; without a folder, have the daemon verify its own
    Verify {
        /// The exported folder
        dir: Option<PathBuf>,
        /// Checkpoint that was kept earlier; may be repeated
        #[arg(long, value_name = "CHECKPOINT", requires = "dir")]
        prev: Vec<PathBuf>,
        #[command(flatten)]
        trust: TrustArguments,
    },
    /// Export the tenant's log into a folder that any web server can serve
    Export { dir: PathBuf },
    /// Print the inclusion proof of one event
    Proof { event: u64 },
    /// Print the signed checkpoint
    Checkpoint,
    /// Print the root of the tenant's chain
    Root,
    /// Check the log's own files
    Fsck,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    /// Create a tenant
    Create { name: TenantId },
    /// List all tenants
    List,
    /// Show a tenant
    Show { name: TenantId },
    /// Let a tenant start nothing more
    Suspend { name: TenantId },
    /// Let a suspended tenant go on
    Resume { name: TenantId },
    /// End what a tenant runs, archive its chain, and clean up
    Delete { name: TenantId },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaVerb {
    /// Register a tenant's quota, from a file or from flags
    Set(Box<QuotaArguments>),
    /// Show a tenant's quota and what is used of it
    Get { name: TenantId },
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArguments {
    /// The tenant
    pub(crate) name: TenantId,
    /// Processor seconds in one window
    #[arg(long, value_name = "N")]
    pub(crate) max_cpu_seconds: u64,
    /// Megabytes of memory at once
    #[arg(long, value_name = "N")]
    pub(crate) max_memory_mb: u64,
    /// Megabytes written in one window
    #[arg(long, value_name = "N")]
    pub(crate) max_disk_mb: u64,
    /// Kilobytes over the network in one window
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_network_kb: u64,
    /// Executions at once
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrent_tasks: u64,
    /// Processes and threads at once
    #[arg(long, value_name = "N")]
    pub(crate) max_pids: u64,
    /// Bytes of captured output in one window
    #[arg(long, value_name = "N")]
    pub(crate) max_output_bytes: u64,
    /// Length of a window in seconds
    #[arg(long, value_name = "N", default_value_t = 86_400)]
    pub(crate) window_seconds: u64,
    /// Share beside other tenants, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) weight: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Issue a token for a grant, and write it into a file that only its owner can read
    Issue {
        /// The grant, as JSON or TOML
        grant: PathBuf,
        /// File that takes the token; must not exist
        #[arg(long, value_name = "F")]
        out: PathBuf,
    },
    /// Narrow the token of --token-file without asking anybody, and write the narrower one into a file of its own
    Delegate {
        /// What it is narrowed to (rights, triggers, expires_s, calls_max, cpu_ms_max), as JSON or TOML
        narrowing: PathBuf,
        /// File that takes the narrower token; must not exist
        #[arg(long, value_name = "F")]
        out: PathBuf,
    },
    /// Revoke a token and everything delegated from it, and end what runs under it
    Revoke { token_id: String },
    /// List the tenant's tokens
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DomainVerb {
    /// Register a domain from its descriptor
    Register { file: PathBuf },
    /// Revoke a domain
    Revoke { name: String },
    /// Show a domain's descriptor
    Get { name: String },
    /// List all domains
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContractVerb {
    /// Register a contract; files that it names by `source` are sent along
    Register { file: PathBuf },
    /// Check a contract without registering it
    Validate { file: PathBuf },
    /// Show a contract
    Get { name: String },
    /// Print a contract's hash
    Hash { name: String },
    /// List the tenant's contracts
    List,
    /// Execute a contract with an input
    Execute {
        name: String,
        /// The input, as JSON; `-` is standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        input: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlanVerb {
    /// Check a plan without running it
    Check { file: PathBuf },
    /// Run a plan
    Run { file: PathBuf },
    /// Show a plan and how it went
    Show { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateVerb {
    /// Print a key's value
    Get { key: String },
    /// Set a key
    Set { key: String, value: String },
    /// List keys
    List {
        /// Only those that start so
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Delete a key
    Delete { key: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BlobVerb {
    /// List the tenant's blobs and how often each is referred to
    List,
    /// Give back the reference of whoever put a blob; what the chain does not name goes with the next `remand gc`
    #[command(visible_alias = "rm")]
    Remove { sha256: Digest },
    /// Put a file's bytes; `-` is standard input
    Put { file: PathBuf },
    /// Write a blob's bytes to a new file, or to standard output
    Get {
        sha256: Digest,
        /// File that takes them; must not exist
        #[arg(long, value_name = "F")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Say what is wrong with policies, or deserves a look
    Check {
        /// Names or files
        #[arg(required = true)]
        policies: Vec<String>,
        #[command(flatten)]
        library: LibraryArguments,
    },
    /// Say what a policy allows, and why
    Explain {
        /// Name or file
        policy: String,
        /// Landlock's ABI on the kernel that is asked about
        #[arg(long, value_name = "N", default_value_t = 6)]
        landlock_abi: i32,
        #[command(flatten)]
        library: LibraryArguments,
    },
    /// List the policies that can be named
    List {
        #[command(flatten)]
        library: LibraryArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LibraryArguments {
    /// Folder with policies of this site
    #[arg(long, value_name = "DIR", env = "REMAND_POLICIES", hide_env_values = true)]
    pub(crate) policies_dir: Option<PathBuf>,
}
