//! From a profile to what the kernel takes: programs in the order in which they are loaded, masks, and their digests.

use remand_model::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::arch;
use crate::arguments;
use crate::bpf::{self, Instruction};
use crate::error::PolicyError;
use crate::interpreter::{self, Action, Call};
use crate::landlock::{self, Landlock};
use crate::profile::{Profile, Syscalls, Verdict};
use crate::tree::{self, Segment};

/// A profile made ready for one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// The seccomp programs, in the order in which they are loaded: the last one no longer lets others be loaded.
    pub filters: Vec<Filter>,
    /// The Landlock masks and rules.
    pub landlock: Landlock,
    /// How many system calls are allowed.
    pub syscalls_allowed: usize,
    /// Digest over the programs and the Landlock masks and rules: the key under which they can be kept.
    pub confinement_hash: Digest,
    /// Digest over everything that the policy says, its limits, environment and reasons included.
    pub policy_hash: Digest,
}

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Refuses arguments of calls that are otherwise allowed.
    Arguments,
    /// Tells the daemon of calls that end the execution. Load it with `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    Kill,
    /// The allow list.
    Allow,
}

/// One seccomp program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// What it is for.
    pub purpose: Purpose,
    /// `sock_filter` records, 8 bytes each, little-endian, in their order.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// Whether it must be loaded with a listener. At most one of a policy's filters is.
    pub notify: bool,
    /// The number of instructions.
    pub instructions: usize,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
}

impl Filter {
    fn new(purpose: Purpose, program: &[Instruction]) -> Self {
        assert!(program.len() <= bpf::INSTRUCTIONS_MAX, "the kernel would refuse {} instructions", program.len());
        let bytes = bpf::encode(program);
        let (sha256, instructions) = (Digest::of(&bytes), program.len());
        Self { purpose, bytes, notify: purpose == Purpose::Kill, instructions, sha256 }
    }

    /// What this program alone answers to `call`.
    #[must_use]
    pub fn answer(&self, call: &Call) -> Action {
        bpf::decode(&self.bytes).map_or(Action::KillProcess, |program| interpreter::run(&program, call))
    }
}

impl Compiled {
    /// What the kernel does with `call` under all programs together: the most severe answer counts (seccomp(2)).
    #[must_use]
    pub fn verdict(&self, call: &Call) -> Action {
        self.filters.iter().map(|filter| filter.answer(call)).min().unwrap_or(Action::KillProcess)
    }

    /// Instructions of all programs together.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.filters.iter().map(|filter| filter.instructions).sum()
    }
}

/// Compiles `profile` for this architecture and a kernel whose Landlock has the ABI `landlock_abi`.
///
/// # Errors
/// [`PolicyError::LandlockAbi`] and [`PolicyError::Arguments`].
pub fn compile(profile: &Profile, landlock_abi: i32) -> Result<Compiled, PolicyError> {
    let filters = filters(&profile.syscalls)?;
    let landlock = landlock::compile(profile, landlock_abi)?;
    let confinement_hash = digest(&(&filters, &landlock));
    let policy_hash = digest(&(profile, &confinement_hash));
    let syscalls_allowed = profile.syscalls.allowed().count();
    Ok(Compiled { filters, landlock, syscalls_allowed, confinement_hash, policy_hash })
}

fn filters(syscalls: &Syscalls) -> Result<Vec<Filter>, PolicyError> {
    let arguments = arguments::compile(&syscalls.arguments)?;
    let mut filters: Vec<_> = arguments.values().map(|program| Filter::new(Purpose::Arguments, program)).collect();
    if syscalls.killed().next().is_some() {
        filters.push(Filter::new(Purpose::Kill, &kill_list(syscalls)));
    }
    filters.push(Filter::new(Purpose::Allow, &allow_list(syscalls)));
    Ok(filters)
}

/// Answers every number: as stated where something is stated, else `ENOSYS`; foreign ABIs are killed.
///
/// What the kill list names passes here and is caught by its own program, which answers before: `ENOSYS` would win over it.
fn allow_list(syscalls: &Syscalls) -> Vec<Instruction> {
    let of = |verdict| match verdict {
        Verdict::Allow | Verdict::Kill => Action::Allow,
        Verdict::Deny(errno) => Action::Errno(errno.0),
    };
    tree::compile(arch::AUDIT_ARCH, &segments(syscalls, Action::Errno(libc::ENOSYS as u16), of))
}

fn kill_list(syscalls: &Syscalls) -> Vec<Instruction> {
    let of = |verdict| if verdict == Verdict::Kill { Action::Notify } else { Action::Allow };
    tree::compile(arch::AUDIT_ARCH, &segments(syscalls, Action::Allow, of))
}

/// The whole range of numbers, cut where the action changes.
fn segments(syscalls: &Syscalls, default: Action, of: impl Fn(Verdict) -> Action) -> Vec<Segment> {
    let stated = |(name, statement): (&String, &crate::profile::Statement)| {
        (arch::number(name).expect("resolved profiles name known calls"), of(statement.verdict))
    };
    let mut numbers: Vec<(u32, Action)> = syscalls.statements.iter().map(stated).collect();
    numbers.sort_unstable_by_key(|(number, _)| *number);
    let mut segments = Vec::new();
    let mut next = 0;
    for (number, action) in numbers {
        if number > next {
            segments.push(Segment { start: next, action: default });
        }
        segments.push(Segment { start: number, action });
        next = number + 1;
    }
    segments.push(Segment { start: next, action: default });
    segments.push(Segment { start: arch::FOREIGN_FROM, action: Action::KillProcess });
    segments
}

/// SHA-256 over the value as JSON with sorted keys and no spaces.
fn digest(value: &impl Serialize) -> Digest {
    let value = serde_json::to_value(value).expect("plain values have a JSON form");
    let mut text = String::new();
    write_sorted(&value, &mut text);
    Digest::of(text.as_bytes())
}

/// Keys are sorted here and not by the map's type: a feature of another crate could change the map's order.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for key in keys {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_sorted(&map[key], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_sorted(item, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
