//! A short program that answers by the system call's number alone: a balanced tree of comparisons over ranges.
//!
//! Only loads, jumps and constant returns occur: for such programs the kernel works out beforehand which numbers are
//! always allowed (`seccomp_is_const_allow`) and then does not run the filter for them at all.

use crate::bpf::{self, Instruction};
use crate::interpreter::Action;

/// From `start` up to the next segment's start, every number gets `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub start: u32,
    pub action: Action,
}

/// A range of one action with single numbers in it that differ: each costs one comparison instead of two.
#[derive(Debug, Clone)]
struct Cluster {
    start: u32,
    action: Action,
    exceptions: Vec<(u32, Action)>,
}

/// More single numbers than this in one cluster would be searched one by one for longer than a tree takes.
const EXCEPTIONS_MAX: usize = 3;

/// The program that kills foreign architectures and answers numbers as `segments` say.
///
/// The first segment must start at 0; starts ascend. Neighbours of the same action may be given and are merged.
pub(crate) fn compile(arch: u32, segments: &[Segment]) -> Vec<Instruction> {
    assert!(segments.first().is_some_and(|first| first.start == 0), "every number has an answer");
    assert!(segments.is_sorted_by(|a, b| a.start < b.start), "segments ascend");
    let clusters = clusters(&merged(segments));
    let mut backwards = Backwards::default();
    let tree = backwards.tree(&clusters);
    let kill = backwards.leaf(Action::KillProcess);
    backwards.enter(tree);
    backwards.code.push(Instruction::plain(bpf::LOAD_WORD, bpf::OFFSET_NUMBER));
    let kill = backwards.distance(kill);
    backwards.code.push(Instruction::branch(bpf::JUMP_EQUAL, arch, 0, kill));
    backwards.code.push(Instruction::plain(bpf::LOAD_WORD, bpf::OFFSET_ARCH));
    backwards.code.reverse();
    backwards.code
}

fn merged(segments: &[Segment]) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in segments {
        if merged.last().is_none_or(|last| last.action != segment.action) {
            merged.push(*segment);
        }
    }
    merged
}

fn clusters(segments: &[Segment]) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut at = 0;
    while let Some(segment) = segments.get(at) {
        let next = (segments.get(at + 1), segments.get(at + 2));
        match (clusters.last_mut(), next) {
            // `segment` is one number between two ranges of the last cluster's action.
            (Some(last), (Some(after), _))
                if after.start == segment.start + 1
                    && after.action == last.action
                    && last.exceptions.len() < EXCEPTIONS_MAX =>
            {
                last.exceptions.push((segment.start, segment.action));
                at += 2;
            }
            _ => {
                clusters.push(Cluster { start: segment.start, action: segment.action, exceptions: Vec::new() });
                at += 1;
            }
        }
    }
    clusters
}

/// A program under construction from its end: every jump's target already stands when the jump is written.
#[derive(Default)]
struct Backwards {
    code: Vec<Instruction>,
    leaves: Vec<(Action, usize)>,
}

impl Backwards {
    /// How far a jump written now must skip to land on the instruction at `target`.
    fn distance(&self, target: usize) -> u8 {
        u8::try_from(self.code.len() - target - 1).expect("targets are brought near before they are jumped to")
    }

    fn far(&self, target: usize) -> bool {
        // A cluster's own instructions may still be written between this question and the jump.
        self.code.len() - target > usize::from(u8::MAX) - 4 * (EXCEPTIONS_MAX + 1)
    }

    /// The return of `action`: the latest one where it is near, else a new one.
    fn leaf(&mut self, action: Action) -> usize {
        let found = self.leaves.iter().rev().find(|(known, at)| *known == action && !self.far(*at));
        if let Some((_, at)) = found {
            return *at;
        }
        self.code.push(Instruction::plain(bpf::RETURN, action.value()));
        self.leaves.push((action, self.code.len() - 1));
        self.code.len() - 1
    }

    /// `target`, or a jump to it where it is too far for a comparison.
    fn near(&mut self, target: usize) -> usize {
        if !self.far(target) {
            return target;
        }
        let skip = u32::try_from(self.code.len() - target - 1).expect("programs are short");
        self.code.push(Instruction::plain(bpf::JUMP, skip));
        self.code.len() - 1
    }

    /// Makes `target` the next instruction to run.
    fn enter(&mut self, target: usize) {
        if target + 1 != self.code.len() {
            let skip = u32::try_from(self.code.len() - target - 1).expect("programs are short");
            self.code.push(Instruction::plain(bpf::JUMP, skip));
        }
    }

    fn cluster(&mut self, cluster: &Cluster) -> usize {
        let mut entry = self.leaf(cluster.action);
        for (number, action) in cluster.exceptions.iter().rev() {
            let leaf = self.leaf(*action);
            let (hit, miss) = (self.distance(leaf), self.distance(entry));
            self.code.push(Instruction::branch(bpf::JUMP_EQUAL, *number, hit, miss));
            entry = self.code.len() - 1;
        }
        entry
    }

    fn tree(&mut self, clusters: &[Cluster]) -> usize {
        if let [only] = clusters {
            return self.cluster(only);
        }
        let (low, high) = clusters.split_at(clusters.len() / 2);
        let above = self.tree(high);
        let below = self.tree(low);
        let above = self.near(above);
        let (hit, miss) = (self.distance(above), self.distance(below));
        self.code.push(Instruction::branch(bpf::JUMP_AT_LEAST, high[0].start, hit, miss));
        self.code.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::{Call, run};

    fn answers(segments: &[Segment], number: u32) -> Action {
        segments.iter().rev().find(|s| s.start <= number).expect("the first starts at 0").action
    }

    fn assert_faithful(segments: &[Segment], up_to: u32) {
        let program = compile(7, segments);
        assert!(program.len() < bpf::INSTRUCTIONS_MAX);
        for number in (0..up_to).chain([u32::MAX - 1, u32::MAX, 1 << 31]) {
            let call = Call { number, arch: 7, arguments: [0; 6] };
            assert_eq!(run(&program, &call), answers(segments, number), "{number}");
            assert_eq!(run(&program, &Call { arch: 8, ..call }), Action::KillProcess, "{number}");
        }
    }

    #[test]
    fn one_range_answers_every_number() {
        assert_faithful(&[Segment { start: 0, action: Action::Allow }], 10);
    }

    #[test]
    fn alternating_numbers_are_answered_one_by_one() {
        let segments: Vec<_> = (0..400)
            .map(|start| Segment { start, action: if start % 2 == 0 { Action::Allow } else { Action::Errno(38) } })
            .collect();
        assert_faithful(&segments, 500);
    }

    #[test]
    fn a_program_longer_than_a_jump_is_still_right() {
        let actions = [Action::Allow, Action::Errno(1), Action::Errno(38), Action::Notify, Action::KillProcess];
        let segments: Vec<_> =
            (0..1500_usize).map(|i| Segment { start: (i * 3) as u32, action: actions[(i * i + i / 3) % 5] }).collect();
        assert_faithful(&segments, 5000);
    }

    #[test]
    fn pseudo_random_segments_are_answered_exactly() {
        let mut state = 0x9e37_79b9_u32;
        for _ in 0..50 {
            let mut segments = vec![Segment { start: 0, action: Action::Allow }];
            for _ in 0..120 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let start = segments.last().expect("one is there").start + 1 + (state >> 16) % 4;
                let action = if state & 0x100 == 0 { Action::Errno((state >> 28) as u16 % 2) } else { Action::Allow };
                segments.push(Segment { start, action });
            }
            assert_faithful(&segments, 600);
        }
    }
}
