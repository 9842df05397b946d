//! Makes a program shorter without changing any of its answers.
//!
//! The program is read as a graph from its end, in which equal parts become one; then loads of what the accumulator
//! already holds are left out; then it is written again. Every instruction costs time whenever a program is loaded.

use std::collections::HashMap;

use crate::bpf::{self, Instruction};

/// What follows is the index of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    Return(u32),
    Load(u32, usize),
    And(u32, usize),
    Branch { code: u16, operand: u32, yes: usize, no: usize },
}

/// The shorter program, or the same one where it has a form that is not understood or its jumps would be too long.
pub(crate) fn shorten(program: Vec<Instruction>) -> Vec<Instruction> {
    let mut graph = Graph::default();
    let shorter = graph.read(&program).map(|start| graph.without_needless_loads(start, None));
    match shorter.and_then(|start| graph.write(start)) {
        Some(shorter) if shorter.len() < program.len() => shorter,
        _ => program,
    }
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Node, usize>,
    needed: HashMap<(usize, Option<u32>), usize>,
}

impl Graph {
    fn node(&mut self, node: Node) -> usize {
        if let Node::Branch { yes, no, .. } = node
            && yes == no
        {
            return yes;
        }
        *self.known.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    /// The node at which `program` starts.
    fn read(&mut self, program: &[Instruction]) -> Option<usize> {
        let mut at_line = vec![usize::MAX; program.len()];
        for (line, i) in program.iter().enumerate().rev() {
            let after = |skip: usize| at_line.get(line + 1 + skip).copied();
            let node = match i.code {
                bpf::RETURN => Node::Return(i.operand),
                bpf::LOAD_WORD => Node::Load(i.operand, after(0)?),
                bpf::AND => Node::And(i.operand, after(0)?),
                bpf::JUMP => {
                    at_line[line] = after(i.operand as usize)?;
                    continue;
                }
                bpf::JUMP_EQUAL | bpf::JUMP_GREATER | bpf::JUMP_AT_LEAST | bpf::JUMP_SET => {
                    let (yes, no) = (after(i.jump_true.into())?, after(i.jump_false.into())?);
                    Node::Branch { code: i.code, operand: i.operand, yes, no }
                }
                _ => return None,
            };
            at_line[line] = self.node(node);
        }
        at_line.first().copied()
    }

    /// The part of the graph from `start`, given that the accumulator already holds the word at `held`.
    fn without_needless_loads(&mut self, start: usize, held: Option<u32>) -> usize {
        if let Some(done) = self.needed.get(&(start, held)) {
            return *done;
        }
        let done = match self.nodes[start] {
            Node::Return(_) => start,
            Node::Load(word, next) => {
                let next = self.without_needless_loads(next, Some(word));
                let unread = matches!(self.nodes[next], Node::Return(_) | Node::Load(..));
                if held == Some(word) || unread { next } else { self.node(Node::Load(word, next)) }
            }
            Node::And(mask, next) => {
                let next = self.without_needless_loads(next, None);
                self.node(Node::And(mask, next))
            }
            Node::Branch { code, operand, yes, no } => {
                let yes = self.without_needless_loads(yes, held);
                let no = self.without_needless_loads(no, held);
                self.node(Node::Branch { code, operand, yes, no })
            }
        };
        self.needed.insert((start, held), done);
        done
    }

    /// The graph from `start` as a program, or nothing where a comparison would jump too far.
    fn write(&self, start: usize) -> Option<Vec<Instruction>> {
        let mut backwards = Vec::new();
        self.write_node(start, &mut backwards, &mut HashMap::new())?;
        backwards.reverse();
        Some(backwards)
    }

    /// Writes `node` and what it leads to, each once, the last instruction first.
    fn write_node(
        &self,
        node: usize,
        code: &mut Vec<Instruction>,
        written: &mut HashMap<usize, usize>,
    ) -> Option<usize> {
        if let Some(at) = written.get(&node) {
            return Some(*at);
        }
        let instruction = match self.nodes[node] {
            Node::Return(value) => Instruction::plain(bpf::RETURN, value),
            Node::Load(operand, next) | Node::And(operand, next) => {
                let at = self.write_node(next, code, written)?;
                let skip = code.len() - at - 1;
                if skip > 0 {
                    code.push(Instruction::plain(bpf::JUMP, u32::try_from(skip).ok()?));
                }
                let load = matches!(self.nodes[node], Node::Load(..));
                Instruction::plain(if load { bpf::LOAD_WORD } else { bpf::AND }, operand)
            }
            Node::Branch { code: comparison, operand, yes, no } => {
                let yes = self.write_node(yes, code, written)?;
                let no = self.write_node(no, code, written)?;
                let skip = |target: usize| u8::try_from(code.len() - target - 1).ok();
                Instruction::branch(comparison, operand, skip(yes)?, skip(no)?)
            }
        };
        code.push(instruction);
        written.insert(node, code.len() - 1);
        Some(code.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::{Call, run};

    /// A program of loads, masks, jumps and returns that is drawn from `state`; it always ends.
    fn drawn(state: &mut u32) -> Vec<Instruction> {
        let mut draw = |below: u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 12) % below
        };
        let length = 30;
        let mut program = vec![Instruction::plain(bpf::LOAD_WORD, 0)];
        for line in 1..length {
            let room = length - line;
            program.push(match draw(8) {
                0 | 1 => Instruction::plain(bpf::LOAD_WORD, [0, 4, 16, 20, 24][draw(5) as usize]),
                2 => Instruction::plain(bpf::AND, draw(8)),
                3 => Instruction::plain(bpf::JUMP, draw(room.min(4))),
                4 => Instruction::plain(bpf::RETURN, [0x7fff_0000, 0x0005_0001][draw(2) as usize]),
                _ => {
                    let code =
                        [bpf::JUMP_EQUAL, bpf::JUMP_GREATER, bpf::JUMP_AT_LEAST, bpf::JUMP_SET][draw(4) as usize];
                    Instruction::branch(code, draw(6), draw(room.min(6)) as u8, draw(room.min(6)) as u8)
                }
            });
        }
        program.push(Instruction::plain(bpf::RETURN, 0x7fff_0000));
        program
    }

    #[test]
    fn a_shortened_program_answers_as_before() {
        let mut state = 7;
        let mut shorter = 0;
        for _ in 0..2000 {
            let program = drawn(&mut state);
            let short = shorten(program.clone());
            shorter += usize::from(short.len() < program.len());
            for sample in 0..216_u64 {
                let (number, arch) = ((sample % 6) as u32, (sample / 6 % 6) as u32);
                let call = Call { number, arch, arguments: [sample / 36, sample % 5, 0, 0, 0, 0] };
                assert_eq!(run(&short, &call), run(&program, &call), "{program:?} {short:?} {call:?}");
            }
        }
        assert!(shorter > 1000, "{shorter}");
    }

    #[test]
    fn a_program_of_another_form_stays_as_it_is() {
        let odd = vec![Instruction::plain(0x87, 0), Instruction::plain(bpf::RETURN, 0)];
        assert_eq!(shorten(odd.clone()), odd);
        assert_eq!(shorten(Vec::new()), Vec::new());
    }
}
