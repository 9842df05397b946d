//! Every decoder on its own seeds, on neighbours of these, and on all that the fuzzer has ever found.
#![forbid(unsafe_code)]

use remand_tests::load::Dice;
use remand_tests::repository;
use remand_tests::targets::{self, Target};
use std::time::{Duration, Instant};

/// Neighbours of seeds that are tried for each target, and how long that may take where a target is slow.
const NEIGHBOURS: u64 = 3000;
const SPENT_MAX: Duration = Duration::from_secs(2);

/// Bytes changed, cut out, doubled, and put behind another seed's: what a fuzzer does without knowing what it reaches.
fn neighbour(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |dice: &mut Dice| seeds[dice.below(seeds.len() as u64) as usize].clone();
    let mut bytes = pick(dice);
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        let end = (at + dice.below(16) as usize).min(bytes.len());
        match dice.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = *b"\0\xff{}[]\"/.\n0"[..].get(dice.below(11) as usize).unwrap_or(&0),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = pick(dice);
                let from = dice.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn try_neighbours(target: &Target) {
    let (seeds, mut dice, began) = ((target.seeds)(), Dice::new(1), Instant::now());
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    for _ in 0..NEIGHBOURS {
        let bytes = neighbour(&mut dice, &seeds);
        (target.attack)(&bytes);
        if began.elapsed() > SPENT_MAX {
            break;
        }
    }
}

#[test]
fn every_decoder_holds_on_its_seeds() {
    for target in targets::ALL {
        (target.seeds)().iter().for_each(|seed| (target.attack)(seed));
    }
}

#[test]
fn every_decoder_holds_on_neighbours_of_its_seeds() {
    targets::ALL.iter().for_each(try_neighbours);
}

#[test]
fn every_decoder_holds_on_nothing_and_on_every_single_byte() {
    for target in targets::ALL {
        (target.attack)(b"");
        (0..=u8::MAX).for_each(|byte| (target.attack)(&[byte]));
    }
}

#[test]
fn what_the_fuzzer_has_found_is_found_no_more() {
    let folder = repository::root().join("tests/fuzz/found");
    let names =
        |folder: &std::path::Path| std::fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    for named in names(&folder) {
        let name = named.file_name().to_str().expect("a plain name").to_owned();
        let target = targets::find(&name).unwrap_or_else(|| panic!("{name} is the name of no target"));
        for input in names(&named.path()) {
            (target.attack)(&std::fs::read(input.path()).expect("a file of the checkout"));
        }
    }
}
