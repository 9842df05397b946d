//! The witness: every refusal of the protocol, the race it must not lose, and the two histories it must not cosign.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::CommittedHead;
use crate::keys::LogSigner;
use crate::merkle::{Frontier, MemoryTree, leaf_hash, prove_consistency};
use crate::policy_file::Policy;

const NOW: u64 = 1042;

#[derive(Default)]
struct Memory {
    heads: BTreeMap<String, WitnessedHead>,
    /// Somebody else's head that arrives between the reading and the writing.
    race: Option<WitnessedHead>,
    broken: bool,
}

impl WitnessStore for Memory {
    type Error = &'static str;

    fn latest(&mut self, origin: &str) -> Result<Option<WitnessedHead>, Self::Error> {
        Ok(self.heads.get(origin).cloned())
    }

    fn advance(&mut self, origin: &str, old: Option<u64>, new: &WitnessedHead) -> Result<bool, Self::Error> {
        if self.broken {
            return Err("disk full");
        }
        if let Some(head) = self.race.take() {
            self.heads.insert(origin.to_owned(), head);
        }
        let same = self.heads.get(origin).map(|head| head.size) == old;
        if same {
            self.heads.insert(origin.to_owned(), new.clone());
        }
        Ok(same)
    }
}

fn log() -> LogSigner {
    LogSigner::from_seed("n/audit/acme".parse().unwrap(), &[1; 32])
}

fn witness() -> Witness {
    Witness::new(WitnessSigner::from_seed("w.example".parse().unwrap(), &[2; 32]), vec![log().key().clone()])
}

/// A history whose entries carry `name`, from `fork` on.
fn tree(name: &str, fork: u64, size: u64) -> MemoryTree {
    let entry = |index| if index < fork { format!("{index}") } else { format!("{name} {index}") };
    MemoryTree::from_leaves((0..size).map(|index| leaf_hash(entry(index).as_bytes())))
}

fn checkpoint(tree: &mut MemoryTree, size: u64) -> SignedCheckpoint {
    log().sign(&CommittedHead::after_commit(&Frontier::from_source(tree, size).unwrap()))
}

fn request(tree: &mut MemoryTree, old: u64, size: u64) -> String {
    let hashes = prove_consistency(tree, old, size).unwrap();
    ConsistencyProof::new(old, hashes, &checkpoint(tree, size)).to_string()
}

fn ask(store: &mut Memory, request: &str) -> Answer {
    witness().handle_add_checkpoint(store, request.as_bytes(), NOW).unwrap()
}

#[test]
fn a_growing_log_is_cosigned_step_by_step_and_the_lines_hold() {
    let (mut store, mut tree) = (Memory::default(), tree("", 0, 600));
    for (old, size) in [(0, 3), (3, 3), (3, 256), (256, 257), (257, 600)] {
        let answer = ask(&mut store, &request(&mut tree, old, size));
        let mut signed = checkpoint(&mut tree, size);
        let reply = read_answer(answer.status, &answer.body, &signed, witness().key()).unwrap();
        let Reply::Cosigned { line, time_s: NOW } = reply else { panic!("{reply:?}") };
        signed.put_cosignature(line).unwrap();
        let policy = Policy::of_log_and_witnesses(log().key(), &[witness().key().clone()], 1).unwrap();
        assert!(policy.accept(signed.clone().into()).is_ok());
        assert_eq!(store.heads["n/audit/acme"].note, signed.to_string());
    }
}

#[test]
fn a_wrong_old_size_is_answered_with_the_known_one() {
    let (mut store, mut tree) = (Memory::default(), tree("", 0, 20));
    assert_eq!(ask(&mut store, &request(&mut tree, 0, 10)).status, 200);
    let answer = ask(&mut store, &request(&mut tree, 0, 20));
    assert_eq!((answer.status, answer.content_type, answer.body.as_slice()), (409, "text/x.tlog.size", &b"10\n"[..]));
    let reply = read_answer(answer.status, &answer.body, &checkpoint(&mut tree, 20), witness().key());
    assert_eq!(reply, Ok(Reply::Conflict { size: 10 }));
}

#[test]
fn a_split_view_is_not_cosigned_though_the_log_key_signed_it() {
    let (mut store, mut honest) = (Memory::default(), tree("", 10, 10));
    assert_eq!(ask(&mut store, &request(&mut honest, 0, 10)).status, 200);
    let before = store.heads.clone();
    for size in [10, 15] {
        let mut forged = tree("forged", 4, size);
        assert_eq!(ask(&mut store, &request(&mut forged, 10, size)).status, 422, "size {size}");
    }
    assert_eq!(store.heads, before);
}

#[test]
fn a_rolled_back_log_is_noticed_by_its_own_question() {
    let (mut store, mut tree) = (Memory::default(), tree("", 0, 10));
    assert_eq!(ask(&mut store, &request(&mut tree, 0, 10)).status, 200);
    let answer = ask(&mut store, &request(&mut tree, 0, 7));
    let reply = read_answer(answer.status, &answer.body, &checkpoint(&mut tree, 7), witness().key());
    let Ok(Reply::Conflict { size }) = reply else { panic!("{reply:?}") };
    assert_eq!(check_rollback(7, size), Err(WitnessError::RolledBack { own: 7, witnessed: 10 }));
    assert_eq!(check_rollback(10, size), Ok(()));
}

#[test]
fn a_head_that_another_request_overtook_is_not_cosigned() {
    let mut tree = tree("", 0, 20);
    let race = WitnessedHead { size: 15, root: leaf_hash(b""), note: String::new() };
    let mut store = Memory { race: Some(race), ..Memory::default() };
    let answer = ask(&mut store, &request(&mut tree, 0, 10));
    assert_eq!((answer.status, answer.body.as_slice()), (409, &b"15\n"[..]));
    assert_eq!(store.heads["n/audit/acme"].size, 15);
}

#[test]
fn nothing_is_answered_where_the_head_cannot_be_stored() {
    let mut store = Memory { broken: true, ..Memory::default() };
    let request = request(&mut tree("", 0, 3), 0, 3);
    assert_eq!(witness().handle_add_checkpoint(&mut store, request.as_bytes(), NOW), Err("disk full"));
}

#[test]
fn each_fault_has_the_status_of_the_protocol() {
    let (mut store, mut tree) = (Memory::default(), tree("", 0, 20));
    let good = request(&mut tree, 0, 10);
    let stranger = LogSigner::from_seed("n/audit/other".parse().unwrap(), &[1; 32]);
    let head = CommittedHead::after_commit(&Frontier::from_source(&mut tree, 10).unwrap());
    let unknown = ConsistencyProof::new(0, Vec::new(), &stranger.sign(&head)).to_string();
    let impostor = LogSigner::from_seed("n/audit/acme".parse().unwrap(), &[8; 32]);
    let unsigned = ConsistencyProof::new(0, Vec::new(), &impostor.sign(&head)).to_string();
    let at = good.rfind("acme ").unwrap() + 20;
    let flip = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = format!("{}{flip}{}", &good[..at], &good[at + 1..]);
    let with_proof =
        good.replacen("old 0\n", &format!("old 0\n{}\n", crate::checkpoint::hash_text(&leaf_hash(b""))), 1);
    let cases = [
        (400, "nonsense".to_owned()),
        (400, good.replacen("old 0", "old 00", 1)),
        (400, good.replacen("old 0", "old 11", 1)),
        (404, unknown),
        (403, unsigned),
        (403, damaged),
        (422, with_proof),
        (200, good),
    ];
    for (status, request) in cases {
        assert_eq!(ask(&mut store, &request).status, status, "{request}");
    }
}

#[test]
fn an_answer_by_another_key_or_about_another_head_is_no_cosignature() {
    let (mut store, mut tree) = (Memory::default(), tree("", 0, 20));
    let answer = ask(&mut store, &request(&mut tree, 0, 10));
    let other = WitnessSigner::from_seed("w.example".parse().unwrap(), &[3; 32]);
    let read = |size, key: &WitnessKey| read_answer(200, &answer.body, &checkpoint(&mut tree.clone(), size), key);
    assert!(matches!(read(10, other.key()), Err(WitnessError::NoCosignature(_))));
    assert!(matches!(read(11, witness().key()), Err(WitnessError::NoCosignature(_))));
    assert!(read(10, witness().key()).is_ok());
    let refused = read_answer(503, b"busy\n", &checkpoint(&mut tree, 10), witness().key());
    assert_eq!(refused, Err(WitnessError::Refused { status: 503, body: "busy".to_owned() }));
}

proptest! {
    #[test]
    fn hostile_requests_and_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), status: u16) {
        let answer = witness().handle_add_checkpoint(&mut Memory::default(), &bytes, NOW).unwrap();
        prop_assert!(answer.status >= 400);
        let checkpoint = checkpoint(&mut tree("", 0, 1), 1);
        let reply = read_answer(status, &bytes, &checkpoint, witness().key());
        let cosigned = matches!(reply, Ok(Reply::Cosigned { .. }));
        prop_assert!(!cosigned);
    }
}
