//! Classic BPF as seccomp takes it: instructions, their bytes, and how a program reads them back.

use serde::Serialize;

/// Bytes of one instruction: `struct sock_filter` of `linux/filter.h`.
pub const INSTRUCTION_BYTES: usize = 8;
/// Most instructions that the kernel accepts in one program (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;

pub(crate) const LOAD_WORD: u16 = 0x20;
pub(crate) const AND: u16 = 0x54;
pub(crate) const JUMP: u16 = 0x05;
pub(crate) const JUMP_EQUAL: u16 = 0x15;
pub(crate) const JUMP_GREATER: u16 = 0x25;
pub(crate) const JUMP_AT_LEAST: u16 = 0x35;
pub(crate) const JUMP_SET: u16 = 0x45;
pub(crate) const RETURN: u16 = 0x06;

pub(crate) const OFFSET_NUMBER: u32 = 0;
pub(crate) const OFFSET_ARCH: u32 = 4;

/// One instruction of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip where it does not.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

impl Instruction {
    pub(crate) const fn plain(code: u16, operand: u32) -> Self {
        Self { code, jump_true: 0, jump_false: 0, operand }
    }

    pub(crate) const fn branch(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Self {
        Self { code, jump_true, jump_false, operand }
    }
}

/// The bytes of a program: `sock_filter` records, little-endian, in the order in which they run.
#[must_use]
pub fn encode(program: &[Instruction]) -> Vec<u8> {
    let one = |i: &Instruction| {
        let (code, operand) = (i.code.to_le_bytes(), i.operand.to_le_bytes());
        [code[0], code[1], i.jump_true, i.jump_false, operand[0], operand[1], operand[2], operand[3]]
    };
    program.iter().flat_map(one).collect()
}

/// The program that `bytes` hold, or nothing where they are no whole number of instructions.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (records, rest) = bytes.as_chunks::<INSTRUCTION_BYTES>();
    let one = |r: &[u8; INSTRUCTION_BYTES]| Instruction {
        code: u16::from_le_bytes([r[0], r[1]]),
        jump_true: r[2],
        jump_false: r[3],
        operand: u32::from_le_bytes([r[4], r[5], r[6], r[7]]),
    };
    rest.is_empty().then(|| records.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_survives_its_bytes() {
        let program = [Instruction::plain(LOAD_WORD, 4), Instruction::branch(JUMP_EQUAL, 0xc000_003e, 1, 0)];
        assert_eq!(encode(&program)[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(decode(&encode(&program)).as_deref(), Some(&program[..]));
        assert_eq!(decode(&[0; 7]), None);
    }
}
