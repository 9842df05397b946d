//! Argument rules as programs: one per error number, each allowing everything but what its rules refuse.
//!
//! The BPF comes from `seccompiler`, whose filters have one action for what matches: a rule's *violation* is what matches.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::arch;
use crate::bpf::Instruction;
use crate::profile::{ArgumentRule, Errno, Test, Width};
use crate::shorten::shorten;

/// The programs of `rules`, by error number.
pub(crate) fn compile(rules: &[ArgumentRule]) -> Result<BTreeMap<u16, Vec<Instruction>>, BackendError> {
    let mut by_errno: BTreeMap<u16, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    for rule in rules {
        let number = arch::number(&rule.syscall).expect("resolved profiles name known calls");
        let chain = by_errno.entry(rule.errno.0).or_default().entry(i64::from(number)).or_default();
        chain.extend(violations(rule)?);
    }
    by_errno.into_iter().map(|(errno, chains)| Ok((errno, program(Errno(errno), chains)?))).collect()
}

fn program(errno: Errno, chains: BTreeMap<i64, Vec<SeccompRule>>) -> Result<Vec<Instruction>, BackendError> {
    let action = SeccompAction::Errno(u32::from(errno.0));
    let filter = SeccompFilter::new(chains, SeccompAction::Allow, action, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    let one =
        |i: &seccompiler::sock_filter| Instruction { code: i.code, jump_true: i.jt, jump_false: i.jf, operand: i.k };
    Ok(shorten(program.iter().map(one).collect()))
}

/// The ways in which a call can break `rule`.
fn violations(rule: &ArgumentRule) -> Result<Vec<SeccompRule>, BackendError> {
    let condition = |operator, value| SeccompCondition::new(rule.argument, width(rule.width), operator, value);
    let alone = |operator, value| SeccompRule::new(vec![condition(operator, value)?]);
    match &rule.test {
        Test::OneOf(list) => {
            let all = list.iter().map(|c| condition(SeccompCmpOp::Ne, c.value)).collect::<Result<_, _>>()?;
            Ok(vec![SeccompRule::new(all)?])
        }
        Test::NotOneOf(list) => list.iter().map(|c| alone(SeccompCmpOp::Eq, c.value)).collect(),
        Test::ForbidBits(list) => {
            let mask = list.iter().fold(0, |mask, c| mask | c.value);
            let (top, single) = split_bits(mask, rule.width);
            let top = top.map(|least| alone(SeccompCmpOp::Ge, least));
            let single = single.into_iter().map(|bit| alone(SeccompCmpOp::MaskedEq(bit), bit));
            top.into_iter().chain(single).collect()
        }
    }
}

const fn width(width: Width) -> SeccompCmpArgLen {
    match width {
        Width::Half => SeccompCmpArgLen::Dword,
        Width::Full => SeccompCmpArgLen::Qword,
    }
}

/// A mask as one comparison for the run of bits that reaches the top of the width, and the bits below one by one.
///
/// Any value with a bit of that run set is at least the run's lowest bit, and no other value is.
fn split_bits(mask: u64, width: Width) -> (Option<u64>, Vec<u64>) {
    let bits = match width {
        Width::Half => 32,
        Width::Full => 64,
    };
    let least = (0..bits).rev().take_while(|bit| mask >> bit & 1 == 1).last();
    let below = least.unwrap_or(bits);
    (least.map(|bit| 1 << bit), (0..below).filter(|bit| mask >> bit & 1 == 1).map(|bit| 1 << bit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::{Action, Call, run};
    use crate::profile::Constant;

    fn verdict(width: Width, test: fn(Vec<Constant>) -> Test, values: &[u64], argument: u64) -> Action {
        let list = values.iter().map(|value| Constant { name: value.to_string(), value: *value }).collect();
        let syscall = "ioctl".to_owned();
        let rule = ArgumentRule { syscall, argument: 1, width, test: test(list), errno: Errno(13), why: String::new() };
        let programs = compile(&[rule]).unwrap();
        run(&programs[&13], &Call::native(16, [0, argument, 0, 0, 0, 0]))
    }

    #[test]
    fn a_high_bit_does_not_hide_a_value_that_the_kernel_reads_in_32_bits() {
        for argument in [7, 1 << 32 | 7, u64::MAX << 32 | 7] {
            assert_eq!(verdict(Width::Half, Test::NotOneOf, &[7, 9], argument), Action::Errno(13), "{argument:#x}");
            assert_eq!(verdict(Width::Half, Test::OneOf, &[7, 9], argument), Action::Allow, "{argument:#x}");
        }
        assert_eq!(verdict(Width::Half, Test::OneOf, &[7, 9], 8), Action::Errno(13));
    }

    #[test]
    fn a_full_width_value_is_compared_whole() {
        assert_eq!(verdict(Width::Full, Test::OneOf, &[7], 1 << 32 | 7), Action::Errno(13));
        assert_eq!(verdict(Width::Full, Test::OneOf, &[1 << 32 | 7], 1 << 32 | 7), Action::Allow);
        assert_eq!(verdict(Width::Full, Test::ForbidBits, &[1 << 63, 4], 1 << 63), Action::Errno(13));
        assert_eq!(verdict(Width::Full, Test::ForbidBits, &[1 << 63, 4], 4 << 32 | 4), Action::Errno(13));
        assert_eq!(verdict(Width::Full, Test::ForbidBits, &[1 << 63, 4], 4 << 32 | 8), Action::Allow);
    }

    #[test]
    fn every_forbidden_bit_is_refused_alone_and_every_other_passes() {
        let mask = 0xfe02_0000_u64;
        for bit in 0..64 {
            let forbidden = bit < 32 && mask >> bit & 1 == 1;
            let expected = if forbidden { Action::Errno(13) } else { Action::Allow };
            assert_eq!(verdict(Width::Half, Test::ForbidBits, &[mask], 1 << bit), expected, "{bit}");
        }
    }
}
