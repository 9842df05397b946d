//! How an execution ended, what it used, what it left, and which walls stood around it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ExecutionId, PROTOCOL_VERSION, TenantId};

/// Why an execution ended. Exactly one; the first that was noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cause {
    /// The program ended by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: u8,
    },
    /// A signal ended it that none of the causes below sent.
    Signaled {
        /// The signal's number.
        signal: u8,
    },
    /// The wall time was over.
    WallTimeout,
    /// The processor time was used up.
    CpuTimeout,
    /// The memory was used up.
    Oom,
    /// More bytes were printed than allowed.
    OutputLimit,
    /// More processes or threads were wanted than allowed.
    PidsLimit,
    /// The writable places were full when the program failed.
    DiskQuota,
    /// A system call that the policy ends executions for.
    Seccomp {
        /// The call's name.
        syscall: String,
    },
    /// Somebody ended it, or the client that ran it went away.
    Cancelled,
    /// It was not started: the request was refused.
    Refused {
        /// Why.
        reason: String,
    },
    /// It was not started: a wall could not be raised, or there is no such program.
    SetupFailed {
        /// The stage of the cell's making.
        stage: String,
        /// The error number.
        errno: u32,
        /// Why.
        reason: String,
    },
    /// The daemon or the keeper went away; what happened inside is not known.
    Lost {
        /// What is known.
        reason: String,
    },
}

impl Cause {
    /// The name of the kind, as it stands in results and events.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signaled { .. } => "signaled",
            Self::WallTimeout => "wall_timeout",
            Self::CpuTimeout => "cpu_timeout",
            Self::Oom => "oom",
            Self::OutputLimit => "output_limit",
            Self::PidsLimit => "pids_limit",
            Self::DiskQuota => "disk_quota",
            Self::Seccomp { .. } => "seccomp",
            Self::Cancelled => "cancelled",
            Self::Refused { .. } => "refused",
            Self::SetupFailed { .. } => "setup_failed",
            Self::Lost { .. } => "lost",
        }
    }

    /// The exit code of the command that ran it: the program's own up to 123; 124 a time limit; 125 not started or lost;
    /// 126 not executable; 127 not found; 128 and the signal's number.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        const KILLED: u8 = 128 + 9;
        match self {
            Self::Exited { code } => *code,
            Self::Signaled { signal } => signal.saturating_add(128),
            Self::WallTimeout | Self::CpuTimeout => 124,
            Self::Oom | Self::OutputLimit | Self::PidsLimit | Self::Cancelled => KILLED,
            Self::DiskQuota => 1,
            Self::Seccomp { .. } => 128 + 31,
            Self::SetupFailed { stage, errno, .. } if stage == "exec" => match errno {
                2 | 20 => 127,
                _ => 126,
            },
            Self::Refused { .. } | Self::SetupFailed { .. } | Self::Lost { .. } => 125,
        }
    }
}

/// What was used. Times in microseconds, sizes in bytes; nothing where the kernel does not count it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// From the request to the end.
    pub wall_us: u64,
    /// Processor time in user mode.
    pub cpu_user_us: u64,
    /// Processor time in the kernel.
    pub cpu_system_us: u64,
    /// Highest memory use.
    pub memory_peak_bytes: Option<u64>,
    /// Most processes and threads at once, the keeper included.
    pub pids_peak: Option<u64>,
    /// Read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Sent and received outside of the box: zero, as there is no network.
    pub network_bytes: u64,
    /// Periods in which the processor share was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the share.
    pub throttled_us: u64,
    /// Time in which some task waited for a processor, where the kernel measures pressure.
    pub cpu_pressure_us: Option<u64>,
    /// Time in which some task waited for memory.
    pub memory_pressure_us: Option<u64>,
    /// Bytes left in the writable places at the end.
    pub disk_free_bytes: Option<u64>,
}

/// One captured stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Digest of the captured bytes.
    #[schemars(with = "String")]
    pub sha256: Digest,
    /// How many were captured.
    pub bytes: u64,
    /// Whether more came than the limit lets through.
    pub truncated: bool,
}

/// One collected output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Path below `/out`. Bytes that are not UTF-8, control characters and `\` are written `\xNN`.
    pub path: String,
    /// Permission bits, without set-id and sticky.
    pub mode: u16,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of its bytes.
    #[schemars(with = "String")]
    pub sha256: Digest,
}

/// What went in on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputRecord {
    /// Digest of the bytes.
    #[schemars(with = "String")]
    pub sha256: Digest,
    /// How many.
    pub bytes: u64,
    /// Whether they are kept, so that the execution can be replayed.
    pub kept: bool,
}

/// Everything that came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    /// Standard output; with a terminal, everything.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
    /// Files from `/out`, by path.
    pub files: Vec<OutputFile>,
    /// Digest of the one blob that holds the files' bytes, one after the other; nothing where there are none.
    pub pack_sha256: Option<String>,
    /// How many files were left out, by reason.
    pub omitted: BTreeMap<String, u64>,
    /// Whether the files were collected at all; not after a hard kill.
    pub collected: bool,
}

/// One limit as it was asked for and as the kernel gave it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnforcedLimit {
    /// The limit's name.
    pub name: String,
    /// The control group's file that holds it, like `memory.max`.
    #[serde(default)]
    pub file: String,
    /// What was asked for.
    pub wanted: String,
    /// What was read back.
    pub found: String,
}

/// A system call that the policy refused. The program may well have gone on without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The call's name, or its number where this architecture has no such call.
    pub syscall: String,
    /// The error that the program got, like `EPERM`.
    pub errno: String,
    /// The policy's reason.
    pub why: String,
    /// What would let it through, where anything should.
    pub next: String,
}

/// The walls that stood, as read back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enforced {
    /// Facts that the shim read back from inside, by name: namespaces (their inode numbers), capability sets, securebits,
    /// Landlock ABI and rules, loaded filters, sizes.
    pub facts: BTreeMap<String, u64>,
    /// Limits.
    pub limits: Vec<EnforcedLimit>,
    /// `v2`, `hybrid` or `v1`.
    pub cgroup_backend: String,
    /// Digest of the policy.
    pub policy_sha256: String,
    /// Digest of the seccomp programs and the Landlock masks and rules.
    pub confinement_sha256: String,
    /// Digests of the seccomp programs, in load order.
    pub filters: Vec<String>,
    /// First host id of the range that the execution had for itself.
    pub ids_first: u32,
    /// What was used again instead of made anew; empty for a cold start.
    pub recycled: Vec<String>,
}

/// The whole result of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutionResult {
    /// The protocol's version.
    pub protocol_version: String,
    /// The execution.
    #[schemars(with = "String")]
    pub execution_id: ExecutionId,
    /// Its tenant.
    #[schemars(with = "String")]
    pub tenant_id: TenantId,
    /// Why it ended.
    pub cause: Cause,
    /// Limits that were hit on the way, whether or not they ended it.
    pub limits_hit: Vec<String>,
    /// The exit code of the command that ran it.
    pub exit_code: u8,
    /// What was used.
    pub usage: Usage,
    /// What went in.
    pub input: InputRecord,
    /// What came out.
    pub outputs: Outputs,
    /// System calls that were refused on the way, in the order of their first time.
    #[serde(default)]
    pub denials: Vec<Denial>,
    /// The walls that stood.
    pub enforced: Enforced,
    /// When each stage was done, in microseconds after the request.
    pub timing_us: BTreeMap<String, u64>,
    /// What to do about a cause that a person can do something about.
    pub hint: Option<String>,
    /// Where the record of it is.
    pub record: Option<RecordReference>,
}

/// Where an execution's record is in its tenant's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordReference {
    /// Number of the event that says it was started.
    pub started_event: u64,
    /// Number of the event that says it has ended.
    pub completed_event: u64,
    /// Size of the chain when that event had become durable; nothing where the record is read later.
    pub tree_size: Option<u64>,
    /// Root of the chain of that size.
    pub root_hash: Option<String>,
}

impl InputRecord {
    /// Nothing went in.
    #[must_use]
    pub fn none() -> Self {
        Self { sha256: Digest::of(b""), bytes: 0, kept: true }
    }
}

impl Outputs {
    /// No output at all.
    #[must_use]
    pub fn none() -> Self {
        let empty = Stream { sha256: Digest::of(b""), bytes: 0, truncated: false };
        Self {
            stdout: empty.clone(),
            stderr: empty,
            files: Vec::new(),
            pack_sha256: None,
            omitted: BTreeMap::new(),
            collected: false,
        }
    }
}

impl ExecutionResult {
    /// The JSON Schema of a result (draft 2020-12).
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Self).to_value();
        if let Some(object) = schema.as_object_mut() {
            object.insert("title".into(), format!("remand execution result, protocol {PROTOCOL_VERSION}").into());
        }
        schema
    }
}

/// A path of a job as text that can neither end a field nor move a cursor: UTF-8 as it is, everything else `\xNN`.
#[must_use]
pub fn printable_path(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control()
                || c == '\\'
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

/// The bytes of a path that [`printable_path`] wrote.
#[must_use]
pub fn path_bytes(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, next)) = rest.split_first() {
        let code = next.strip_prefix(b"x").and_then(|digits| digits.get(..2)).filter(|_| byte == b'\\');
        let found = code.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(crate::digest::unhex);
        match found {
            Some(found) => {
                out.extend(found);
                rest = &next[3..];
            }
            None => {
                out.push(byte);
                rest = next;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_drive_a_terminal_and_comes_back_whole() {
        for bytes in [&b"a\x1b[2J\nb"[..], b"\xff\xfe/x", "ö\u{202e}".as_bytes(), b"a\\x41", b"\\"] {
            let text = printable_path(bytes);
            assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
            assert_eq!(path_bytes(&text), bytes);
        }
    }

    #[test]
    fn exit_codes_follow_the_habits_of_timeout_and_env() {
        let exec = |errno| Cause::SetupFailed { stage: "exec".into(), errno, reason: String::new() };
        assert_eq!([Cause::WallTimeout, exec(2), exec(13)].map(|cause| cause.exit_code()), [124, 127, 126]);
        assert_eq!(Cause::Signaled { signal: 11 }.exit_code(), 139);
        assert_eq!(Cause::Refused { reason: String::new() }.exit_code(), 125);
    }
}
