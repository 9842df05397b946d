//! What a program of filters answers to a system call: the kernel's own semantics, in plain code.
//!
//! It serves `policy explain` and proves the compiler: the verdict of every number is checked against the profile.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::arch;
use crate::bpf::{self, Instruction};

/// What the kernel does with a system call (`SECCOMP_RET_*`), the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The whole process dies with `SIGSYS`.
    KillProcess,
    /// The call fails with this error number.
    Errno(u16),
    /// The listener is asked. As a verdict: it ends the execution.
    Notify,
    /// The call happens.
    Allow,
}

impl Action {
    /// The value that a program returns for this action.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Self::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }

    /// The action of a returned value; everything unknown kills, as in the kernel.
    #[must_use]
    pub const fn from_value(value: u32) -> Self {
        match value & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ERRNO => Self::Errno((value & libc::SECCOMP_RET_DATA) as u16),
            libc::SECCOMP_RET_USER_NOTIF => Self::Notify,
            libc::SECCOMP_RET_ALLOW => Self::Allow,
            _ => Self::KillProcess,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess => f.write_str("kill process"),
            Self::Errno(errno) => write!(f, "{}", crate::profile::Errno(*errno)),
            Self::Notify => f.write_str("end execution"),
            Self::Allow => f.write_str("allow"),
        }
    }
}

/// One system call as a filter sees it (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The number.
    pub number: u32,
    /// The calling convention (`AUDIT_ARCH_*`).
    pub arch: u32,
    /// The six argument registers.
    pub arguments: [u64; 6],
}

impl Call {
    /// A call of the native ABI.
    #[must_use]
    pub const fn native(number: u32, arguments: [u64; 6]) -> Self {
        Self { number, arch: arch::AUDIT_ARCH, arguments }
    }

    /// The 32-bit word at `offset`; the instruction pointer reads as zero. Nothing outside the structure.
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            bpf::OFFSET_NUMBER => Some(self.number),
            bpf::OFFSET_ARCH => Some(self.arch),
            8 | 12 => Some(0),
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                Some((argument >> (8 * (offset % 8))) as u32)
            }
            _ => None,
        }
    }
}

/// What one program answers to `call`; a malformed program kills, as the kernel would refuse to load it.
pub(crate) fn run(program: &[Instruction], call: &Call) -> Action {
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    // Jumps only go forward, so that this ends.
    while let Some(i) = program.get(at) {
        let holds = match i.code {
            bpf::LOAD_WORD => {
                let Some(word) = call.word(i.operand) else { return Action::KillProcess };
                accumulator = word;
                None
            }
            bpf::AND => {
                accumulator &= i.operand;
                None
            }
            bpf::JUMP => {
                at += i.operand as usize;
                None
            }
            bpf::JUMP_EQUAL => Some(accumulator == i.operand),
            bpf::JUMP_GREATER => Some(accumulator > i.operand),
            bpf::JUMP_AT_LEAST => Some(accumulator >= i.operand),
            bpf::JUMP_SET => Some(accumulator & i.operand != 0),
            bpf::RETURN => return Action::from_value(i.operand),
            _ => return Action::KillProcess,
        };
        at += 1 + holds.map_or(0, |holds| usize::from(if holds { i.jump_true } else { i.jump_false }));
    }
    Action::KillProcess
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_of_an_argument_are_read() {
        let call = Call::native(7, [0, 0x1122_3344_5566_7788, 0, 0, 0, 0]);
        assert_eq!((call.word(24), call.word(28), call.word(64)), (Some(0x5566_7788), Some(0x1122_3344), None));
    }

    #[test]
    fn a_program_without_an_answer_kills() {
        assert_eq!(run(&[Instruction::plain(bpf::LOAD_WORD, 0)], &Call::native(0, [0; 6])), Action::KillProcess);
    }

    #[test]
    fn the_most_severe_action_sorts_first() {
        assert!(Action::KillProcess < Action::Errno(1));
        assert!(Action::Errno(1) < Action::Notify);
        assert!(Action::Notify < Action::Allow);
    }
}
