//! Policies: what the format's description asks for, and who is enough.

use proptest::prelude::*;

use super::*;
use crate::checkpoint::CommittedHead;
use crate::keys::{LogSigner, WitnessSigner};
use crate::merkle::{Frontier, leaf_hash};
use crate::note::cosign;

fn log() -> LogSigner {
    LogSigner::from_seed("n/audit/acme".parse().unwrap(), &[1; 32])
}

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(format!("w{number}.example").parse().unwrap(), &[100 + number; 32])
}

fn checkpoint(cosigners: &[u8]) -> AllegedCheckpoint {
    let mut frontier = Frontier::new();
    frontier.append(leaf_hash(b"entry"));
    let mut signed = log().sign(&CommittedHead::after_commit(&frontier));
    for number in cosigners {
        let line = cosign(signed.note().text(), &witness(*number), 1042);
        signed.put_cosignature(line).unwrap();
    }
    AllegedCheckpoint::parse(signed.to_string().as_bytes()).unwrap()
}

fn two_houses() -> String {
    let mut text = format!("# two houses\nlog {}\n\n", log().key());
    for number in 1..=6 {
        text += &format!("witness W{number}\t{} https://w{number}.example/\n", witness(number).key());
    }
    text + "group X 2 W1 W2 W3\n group Y any W4 W5 W6 \ngroup both all X Y\nquorum both\n"
}

fn reason(text: &str) -> PolicyReason {
    Policy::parse(text.as_bytes()).unwrap_err().reason
}

#[test]
fn a_quorum_of_groups_is_reached_by_enough_of_each_and_not_before() {
    let policy = Policy::parse(two_houses().as_bytes()).unwrap();
    let accepts = |cosigners: &[u8]| policy.accept(checkpoint(cosigners)).is_ok();
    assert!(accepts(&[1, 3, 5]));
    assert!(accepts(&[1, 2, 3, 4, 5, 6]));
    for few in [&[][..], &[1, 2], &[1, 4], &[1, 4, 5, 6], &[4, 5, 6]] {
        assert!(!accepts(few), "{few:?}");
    }
}

#[test]
fn the_same_witness_twice_counts_once() {
    let policy = Policy::of_log_and_witnesses(log().key(), &[witness(1).key().clone(), witness(2).key().clone()], 2);
    let policy = policy.unwrap();
    let once = checkpoint(&[1]).to_string();
    let line = once.lines().last().unwrap();
    let twice = AllegedCheckpoint::parse(format!("{once}{line}\n").as_bytes()).unwrap();
    assert!(matches!(policy.accept(twice), Err(AcceptError::Quorum { cosigned, .. }) if cosigned == ["w1"]));
    assert!(policy.accept(checkpoint(&[1, 2])).is_ok());
}

#[test]
fn without_known_witnesses_unknown_ones_are_not_enough() {
    let policy = Policy::of_log_and_witnesses(log().key(), &[witness(1).key().clone()], 1).unwrap();
    assert!(policy.accept(checkpoint(&[2, 3, 4])).is_err());
    assert!(Policy::of_log(log().key().clone()).accept(checkpoint(&[2, 3, 4])).is_ok());
}

#[test]
fn a_log_that_the_policy_does_not_name_is_refused() {
    let other = LogSigner::from_seed("n/audit/other".parse().unwrap(), &[2; 32]);
    let policy = Policy::of_log(other.key().clone());
    assert_eq!(policy.accept(checkpoint(&[])), Err(AcceptError::UnknownLog("n/audit/acme".to_owned())));
}

#[test]
fn a_witness_line_that_does_not_hold_spoils_the_checkpoint() {
    let policy = Policy::of_log_and_witnesses(log().key(), &[witness(1).key().clone()], 0).unwrap();
    let whole = checkpoint(&[1]).to_string();
    let at = whole.rfind("w1.example ").unwrap() + 30;
    let swapped = if whole.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{}{swapped}{}", &whole[..at], &whole[at + 1..]);
    let alleged = AllegedCheckpoint::parse(forged.as_bytes()).unwrap();
    assert!(matches!(policy.accept(alleged), Err(AcceptError::Checkpoint(_))));
}

#[test]
fn a_policy_survives_its_own_spelling() {
    let policy = Policy::parse(two_houses().as_bytes()).unwrap();
    assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
}

#[test]
fn faulty_policies_are_refused_with_their_reason() {
    let (log, w1) = (log().key().to_string(), witness(1).key().to_string());
    assert_eq!(reason(""), PolicyReason::Quorum);
    assert_eq!(reason("quorum none\nquorum none\n"), PolicyReason::Quorum);
    assert_eq!(reason("quorum none"), PolicyReason::NotText);
    assert_eq!(reason("quorum\u{b}none\n"), PolicyReason::NotText);
    assert_eq!(reason("quorum a\n"), PolicyReason::Unknown("a".to_owned()));
    assert_eq!(reason("quorum none more\n"), PolicyReason::Form);
    assert_eq!(reason("Quorum none\n"), PolicyReason::Form);
    assert_eq!(reason(&format!("log {log} u v\nquorum none\n")), PolicyReason::Form);
    assert!(matches!(reason(&format!("log {w1}\n")), PolicyReason::Key(KeyError::Type { .. })));
    assert!(matches!(reason(&format!("witness a {log}\n")), PolicyReason::Key(KeyError::Type { .. })));
    assert!(matches!(reason(&format!("log {log}\nlog {log}\n")), PolicyReason::DuplicateKey(_)));
    assert!(matches!(reason(&format!("witness a {w1}\nwitness b {w1}\n")), PolicyReason::DuplicateKey(_)));
    assert_eq!(reason(&format!("witness none {w1}\n")), PolicyReason::DuplicateName("none".to_owned()));
    let a = format!("witness a {w1}\n");
    assert_eq!(reason(&format!("{a}group a 1 a\n")), PolicyReason::DuplicateName("a".to_owned()));
    assert_eq!(reason(&format!("{a}group g 1 a\ngroup h 1 a\n")), PolicyReason::SecondGroup("a".to_owned()));
    assert_eq!(reason(&format!("{a}group g 1 a a\n")), PolicyReason::SecondGroup("a".to_owned()));
    assert_eq!(reason(&format!("{a}group g 1 g\n")), PolicyReason::Unknown("g".to_owned()));
    assert_eq!(reason(&format!("{a}group g 1 none\n")), PolicyReason::Unknown("none".to_owned()));
    for threshold in ["0", "2", "01", "-1", "x"] {
        assert_eq!(reason(&format!("{a}group g {threshold} a\n")), PolicyReason::Threshold);
    }
    assert_eq!(reason(&format!("{a}group g all\n")), PolicyReason::Threshold);
}

#[test]
fn one_key_cannot_be_both_log_and_witness() {
    let witness = WitnessSigner::from_seed("w.example".parse().unwrap(), &[1; 32]);
    let text = format!("log {}\nwitness w {}\nquorum w\n", log().key(), witness.key());
    assert!(matches!(reason(&text), PolicyReason::DuplicateKey(_)));
}

proptest! {
    #[test]
    fn hostile_policies_never_panic(words in prop::collection::vec("(log|witness|group|quorum|none|all|any|[0-9]|a|b|#|\n|é){1}", 0..40)) {
        let text = words.join(" ") + "\n";
        if let Ok(policy) = Policy::parse(text.as_bytes()) {
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
        }
    }
}
