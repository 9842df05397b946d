//! From a profile to what the kernel takes: programs in the order in which they are loaded, masks, and their digests.

use std::collections::BTreeMap;

use remand_model::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::arch;
use crate::arguments;
use crate::bpf::{self, Instruction};
use crate::error::PolicyError;
use crate::interpreter::{self, Action, Call};
use crate::landlock::{self, Landlock};
use crate::profile::{Errno, Profile, Syscalls, Verdict};
use crate::tree::{self, Segment};

/// What a call that nothing is said about gets.
const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

/// What the shim calls between the allow list and exec, whether or not the profile allows it.
const LOADING: [&str; 2] = ["seccomp", "sendmsg"];

/// A profile made ready for one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// The seccomp programs, in the order in which they are loaded: the last one no longer lets others be loaded.
    pub filters: Vec<Filter>,
    /// What the listener answers to a call that the list does not let through, by number: an error number, or nothing where
    /// the call ends the execution. A number that is not here does not exist: `ENOSYS`.
    pub answers: BTreeMap<u32, Option<Errno>>,
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
    /// The allow list: asks the listener about everything else. Load it with `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    Allow,
    /// Takes away what is needed once more after the list is loaded: loading filters, and sending the listener away.
    Closing,
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
        Self { purpose, bytes, notify: purpose == Purpose::Allow, instructions, sha256 }
    }

    /// What this program alone answers to `call`.
    #[must_use]
    pub fn answer(&self, call: &Call) -> Action {
        bpf::decode(&self.bytes).map_or(Action::KillProcess, |program| interpreter::run(&program, call))
    }
}

impl Compiled {
    /// What becomes of `call` under all programs together: the most severe answer counts (seccomp(2)), and where that is to
    /// ask, the listener's. [`Action::Notify`] is what ends the execution.
    #[must_use]
    pub fn verdict(&self, call: &Call) -> Action {
        match self.filters.iter().map(|filter| filter.answer(call)).min() {
            Some(Action::Notify) => match self.answers.get(&call.number) {
                Some(Some(errno)) => Action::Errno(errno.0),
                Some(None) => Action::Notify,
                None => UNKNOWN,
            },
            answer => answer.unwrap_or(Action::KillProcess),
        }
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
    let (filters, answers) = (filters(&profile.syscalls)?, answers(&profile.syscalls));
    let landlock = landlock::compile(profile, landlock_abi)?;
    let confinement_hash = digest(&(&filters, &answers, &landlock));
    let policy_hash = digest(&(profile, &confinement_hash));
    let syscalls_allowed = profile.syscalls.allowed().count();
    Ok(Compiled { filters, answers, landlock, syscalls_allowed, confinement_hash, policy_hash })
}

fn filters(syscalls: &Syscalls) -> Result<Vec<Filter>, PolicyError> {
    let arguments = arguments::compile(&syscalls.arguments)?;
    let mut filters: Vec<_> = arguments.values().map(|program| Filter::new(Purpose::Arguments, program)).collect();
    filters.push(Filter::new(Purpose::Allow, &allow_list(syscalls)));
    filters.extend(closing(syscalls).map(|program| Filter::new(Purpose::Closing, &program)));
    Ok(filters)
}

/// Every number: allowed, or asked about, so that a refusal can be told with its reason; foreign ABIs are killed.
///
/// What programs try all the time and do without is answered at once and told to nobody: see [`is_quiet`].
fn allow_list(syscalls: &Syscalls) -> Vec<Instruction> {
    let of = |name: &str, verdict| match verdict {
        _ if LOADING.contains(&name) => Action::Allow,
        Verdict::Allow => Action::Allow,
        Verdict::Deny(errno) if is_quiet(errno) => Action::Errno(errno.0),
        Verdict::Deny(_) | Verdict::Kill => Action::Notify,
    };
    let mut stated = by_number(syscalls, of);
    stated.extend(LOADING.map(|name| (known(name), Action::Allow)));
    tree::compile(arch::AUDIT_ARCH, &segments(stated, Action::Notify))
}

/// `ENOSYS` and `EOPNOTSUPP` as stated answers are what a program falls back from; `EPERM` is what stops it.
fn is_quiet(errno: Errno) -> bool {
    [libc::ENOSYS, libc::EOPNOTSUPP].contains(&i32::from(errno.0))
}

/// Nothing where the profile allows both calls. Nobody can be asked here: what ends the execution is killed.
fn closing(syscalls: &Syscalls) -> Option<Vec<Instruction>> {
    let of = |name| match syscalls.statements.get(name).map(|statement| statement.verdict) {
        Some(Verdict::Allow) => Action::Allow,
        Some(Verdict::Deny(errno)) => Action::Errno(errno.0),
        Some(Verdict::Kill) => Action::KillProcess,
        None => UNKNOWN,
    };
    let stated: BTreeMap<u32, Action> = LOADING.map(|name| (known(name), of(name))).into();
    let is_needed = stated.values().any(|action| *action != Action::Allow);
    is_needed.then(|| tree::compile(arch::AUDIT_ARCH, &segments(stated, Action::Allow)))
}

fn answers(syscalls: &Syscalls) -> BTreeMap<u32, Option<Errno>> {
    let of = |_: &str, verdict| match verdict {
        Verdict::Deny(errno) => Some(Some(errno)),
        Verdict::Kill => Some(None),
        Verdict::Allow => None,
    };
    by_number(syscalls, of).into_iter().filter_map(|(number, answer)| Some((number, answer?))).collect()
}

fn by_number<T>(syscalls: &Syscalls, of: impl Fn(&str, Verdict) -> T) -> BTreeMap<u32, T> {
    syscalls.statements.iter().map(|(name, statement)| (known(name), of(name, statement.verdict))).collect()
}

fn known(name: &str) -> u32 {
    arch::number(name).expect("resolved profiles name known calls")
}

/// The whole range of numbers, cut where the action changes.
fn segments(stated: BTreeMap<u32, Action>, default: Action) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut next = 0;
    for (number, action) in stated {
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
