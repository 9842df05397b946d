//! Whoever changes an export, with or without the log's key, is refused, and nothing that they do makes a verifier panic.

mod kit;

use kit::{
    Heads, claims, cosign, export, log, log_signer, plain_export, policy, run, told, trust, verify, verify_with,
};
use proptest::prelude::*;
use remand_ledger::bundle::Trust;
use remand_ledger::folder::MemoryFolder;
use remand_ledger::memory::MemoryLog;
use remand_ledger::tile::{decode_bundle, encode_bundle};

const BUNDLE: &str = "tile/entries/000";

/// Changes the first bundle of an export of a log of at least 256 entries.
fn rebundle(folder: &MemoryFolder, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> MemoryFolder {
    let mut folder = folder.clone();
    let bundle = folder.files.get_mut(BUNDLE).unwrap();
    let mut entries: Vec<Vec<u8>> = decode_bundle(bundle, 256).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut entries);
    *bundle = encode_bundle(&entries).unwrap();
    folder
}

/// Some files of each kind: every one that there is few of, some of those that there are many of.
fn some_of_each_kind(folder: &MemoryFolder) -> Vec<String> {
    let many = |path: &str| path.starts_with("proofs/") || path.starts_with("provenance/");
    let (many, few): (Vec<_>, Vec<_>) = folder.files.keys().cloned().partition(|path| many(path));
    few.into_iter().chain(many.into_iter().step_by(40)).collect()
}

fn refused_at(folder: &MemoryFolder, event: u64) {
    let report = verify(folder, &trust("acme"));
    let found = report.fault.as_ref().and_then(|fault| fault.event);
    assert_eq!(found, Some(event), "{}", told(&report));
}

/// The log of another history from event `fork` on: what a holder of the stolen key would publish.
fn rewritten(executions: u64, fork: u64) -> MemoryLog {
    let honest = log("acme", executions);
    let mut forged = honest.fork(fork);
    let mut number = 0;
    while forged.size() < honest.size() {
        run(&mut forged, "acme", &format!("forged-{number}"));
        number += 1;
    }
    forged
}

#[test]
fn an_untouched_export_holds() {
    for executions in [1, 51, 52, 60, 120] {
        let report = verify(&plain_export("acme", executions), &trust("acme"));
        assert!(report.is_ok(), "{executions}: {}", told(&report));
        assert_eq!(report.count("events"), Some(executions * 5));
        assert_eq!(report.count("executions"), Some(executions));
        assert_eq!(report.count("inclusion proofs"), Some(executions * 5));
        assert!(report.count("consistency proofs") >= Some(2));
    }
}

#[test]
fn a_log_without_entries_holds() {
    let mut log = log("acme", 0);
    let checkpoint = log_signer("acme").sign(&log.head());
    let report = verify(&export(&mut log, &checkpoint, &policy("acme")), &trust("acme"));
    assert!(report.is_ok(), "{}", told(&report));
}

#[test]
fn a_dropped_entry_is_named() {
    let folder = plain_export("acme", 60);
    refused_at(&rebundle(&folder, |entries| drop(entries.remove(100))), 100);
}

#[test]
fn swapped_entries_are_named() {
    let folder = plain_export("acme", 60);
    refused_at(&rebundle(&folder, |entries| entries.swap(17, 200)), 17);
}

#[test]
fn a_doubled_entry_is_named() {
    let folder = plain_export("acme", 60);
    refused_at(&rebundle(&folder, |entries| entries.insert(33, entries[33].clone())), 34);
}

#[test]
fn a_truncated_entry_is_named() {
    let folder = plain_export("acme", 60);
    refused_at(&rebundle(&folder, |entries| entries[99].truncate(50)), 99);
    let mut cut = folder.clone();
    cut.files.get_mut(BUNDLE).unwrap().pop();
    refused_at(&cut, 255);
}

#[test]
fn a_padded_entry_and_a_padded_bundle_are_named() {
    let folder = plain_export("acme", 60);
    refused_at(&rebundle(&folder, |entries| entries[99].push(b' ')), 99);
    let mut padded = folder.clone();
    padded.files.get_mut(BUNDLE).unwrap().push(0);
    refused_at(&padded, 255);
}

#[test]
fn a_leaf_changed_together_with_its_entry_is_named_by_the_tile_above() {
    let folder = plain_export("acme", 60);
    let mut both = rebundle(&folder, |entries| entries[7][90] ^= 1);
    let entries = decode_bundle(&both.files[BUNDLE], 256).unwrap();
    let leaf = remand_ledger::merkle::leaf_hash(entries[7]);
    both.files.get_mut("tile/0/000").unwrap()[7 * 32..8 * 32].copy_from_slice(leaf.as_bytes());
    let report = verify(&both, &trust("acme"));
    assert!(!report.is_ok() && report.fault.as_ref().unwrap().event <= Some(7), "{}", told(&report));
}

#[test]
fn every_missing_file_is_noticed() {
    let folder = plain_export("acme", 60);
    for path in &some_of_each_kind(&folder) {
        let mut without = folder.clone();
        without.files.remove(path);
        let optional = path.starts_with("proofs/") || path.starts_with("consistency/");
        assert_eq!(verify(&without, &trust("acme")).is_ok(), optional, "{path}");
    }
}

#[test]
fn every_foreign_file_is_refused() {
    let folder = plain_export("acme", 60);
    let foreign = [
        "README",
        "tile/0/001",
        "tile/0/001.p/43",
        "tile/0/002.p/1",
        "tile/2/000.p/1",
        "tile/entries/x000/000",
        "tile/9/000",
        "proofs/300.tlog-proof",
        "proofs/01.tlog-proof",
        "proofs/a",
        "consistency/5-4.tlog-consistency",
        "consistency/1-301.tlog-consistency",
        "provenance/exec_00000000000000000000000000000000.dsse.json",
        "provenance/../x",
        "tile/a/b/c/d/e/f/g/h/i/j/k/l/m/n",
        "proofs/x/y",
        "checkpoint.old",
        "tile/entries/001.p/44.tmp",
    ];
    for path in foreign {
        let mut with = folder.clone();
        with.files.insert(path.to_owned(), b"x".to_vec());
        assert!(!verify(&with, &trust("acme")).is_ok(), "{path}");
    }
}

#[test]
fn every_truncated_or_padded_file_is_refused() {
    let folder = plain_export("acme", 60);
    for path in &some_of_each_kind(&folder) {
        for change in
            [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes.push(b'x'), Vec::clear]
        {
            let mut changed = folder.clone();
            change(changed.files.get_mut(path).unwrap());
            assert!(!verify(&changed, &trust("acme")).is_ok(), "{path}");
        }
    }
}

#[test]
fn an_event_of_another_tenant_is_refused_though_the_log_key_signed_it() {
    let mut log = log("acme", 10);
    log.append_entry(kit::log("other", 11).entries()[50].clone());
    let checkpoint = log_signer("acme").sign(&log.head());
    let report = verify(&export(&mut log, &checkpoint, &policy("acme")), &trust("acme"));
    assert!(told(&report).contains("of tenant other"), "{}", told(&report));
    assert_eq!(report.fault.unwrap().event, Some(50));
}

#[test]
fn entries_that_are_no_events_are_refused_though_the_log_key_signed_them() {
    let good = String::from_utf8(log("acme", 1).entries()[3].clone()).unwrap();
    let bad = [
        String::new(),
        "{}".to_owned(),
        good.replace("\"event_id\":3", "\"event_id\":4"),
        good.replace("\"causation_id\":0", "\"causation_id\":3"),
        good.replace("\"causation_id\":0", "\"causation_id\":-1"),
        good.replace("\"1.0\"", "\"2.0\""),
        good.replace("{\"causation_id\"", "{ \"causation_id\""),
        good.replace("\"pid\":4711", "\"pid\":4711.0"),
        good.replace("acme", "Acme"),
    ];
    for entry in bad {
        let mut log = log("acme", 10).fork(3);
        log.append_entry(entry.clone().into_bytes());
        let checkpoint = log_signer("acme").sign(&log.head());
        let report = verify(&export(&mut log, &checkpoint, &policy("acme")), &trust("acme"));
        assert_eq!(report.fault.as_ref().and_then(|fault| fault.event), Some(3), "{entry}: {}", told(&report));
    }
}

#[test]
fn an_execution_recorded_twice_is_refused() {
    let mut log = log("acme", 3);
    run(&mut log, "acme", "request-1");
    let checkpoint = log_signer("acme").sign(&log.head());
    let dir = tempfile::tempdir().unwrap();
    let attest = [kit::attest_signer().key().clone()];
    let plan = remand_ledger::export::ExportPlan {
        checkpoint: &checkpoint,
        policy: &policy("acme"),
        attest: &attest,
        earlier: &[],
        proofs: remand_ledger::export::ProofChoice::None,
    };
    let written = remand_ledger::export::write_export(&mut log, &plan, &dir.path().join("x"), &mut |_, _| {});
    assert!(written.is_err(), "the writer does not write what the verifier refuses");
}

#[test]
fn a_forged_checkpoint_is_refused() {
    let folder = plain_export("acme", 60);
    let thief = remand_ledger::keys::LogSigner::from_seed("node1.example/audit/acme".parse().unwrap(), &[66; 32]);
    let mut forged = folder.clone();
    forged.files.insert("checkpoint".to_owned(), thief.sign(&log("acme", 60).head()).to_string().into_bytes());
    assert!(told(&verify(&forged, &trust("acme"))).contains("not signed by"));
}

#[test]
fn another_tenants_export_is_refused_though_it_is_honest() {
    let report = verify(&plain_export("other", 60), &trust("acme"));
    assert!(told(&report).contains("no log of the policy"), "{}", told(&report));
    let both = Trust::in_policy(policy("other")).for_origin("node1.example/audit/acme".parse().unwrap());
    assert!(!verify(&plain_export("other", 60), &both).is_ok());
}

#[test]
fn a_stolen_log_key_rewrites_history_only_where_nobody_remembers_it() {
    let mut forged = rewritten(60, 100);
    let checkpoint = log_signer("acme").sign(&forged.head());
    let folder = export(&mut forged, &checkpoint, &policy("acme"));
    let alone = verify(&folder, &trust("acme"));
    assert!(alone.is_ok() && alone.remarks.iter().any(|remark| remark.contains("could have rewritten")));
    let remembered = log_signer("acme").sign(&log("acme", 60).head_at(150)).to_string().into_bytes();
    let report = verify_with(&folder, &trust("acme"), &[remembered]);
    assert!(told(&report).contains("history was rewritten"), "{}", told(&report));
    let older = log_signer("acme").sign(&log("acme", 60).head_at(100)).to_string().into_bytes();
    assert!(verify_with(&folder, &trust("acme"), &[older]).is_ok(), "before the fork both histories are one");
}

#[test]
fn a_stolen_log_key_is_worth_nothing_where_witnesses_are_asked_for() {
    let (witnesses, mut heads) = ([kit::witness(1), kit::witness(2)], [Heads::default(), Heads::default()]);
    let mut honest = log("acme", 60);
    let mut checkpoint = log_signer("acme").sign(&honest.head());
    let proof = honest.consistency(0, &checkpoint);
    for (witness, heads) in witnesses.iter().zip(&mut heads) {
        cosign(&mut checkpoint, &proof, witness, heads).unwrap();
    }
    let policy = kit::witnessed_policy(&witnesses, 2);
    let trust = Trust::in_policy(policy.clone());
    let report = verify(&export(&mut honest, &checkpoint, &policy), &trust);
    assert!(report.is_ok(), "{}", told(&report));
    assert_eq!(report.cosigned.len(), 2);

    let mut forged = rewritten(80, 100);
    let mut checkpoint = log_signer("acme").sign(&forged.head());
    let proof = forged.consistency(honest.size(), &checkpoint);
    for (witness, heads) in witnesses.iter().zip(&mut heads) {
        assert_eq!(cosign(&mut checkpoint, &proof, witness, heads), Err(422));
    }
    let report = verify(&export(&mut forged, &checkpoint, &policy), &trust);
    assert!(told(&report).contains("quorum"), "{}", told(&report));
}

#[test]
fn a_split_view_convinces_no_quorum_of_a_majority() {
    let witnesses = [kit::witness(1), kit::witness(2), kit::witness(3)];
    let mut heads: [Heads; 3] = Default::default();
    let policy = kit::witnessed_policy(&witnesses, 2);
    let mut accepted = 0;
    for (mut view, order) in [(log("acme", 60), [0, 1, 2]), (rewritten(60, 100), [2, 1, 0])] {
        let mut checkpoint = log_signer("acme").sign(&view.head());
        let proof = view.consistency(0, &checkpoint);
        for number in order.into_iter().take(2) {
            // A witness that has seen the other view refuses; that is what the count below shows.
            let cosigned = cosign(&mut checkpoint, &proof, &witnesses[number], &mut heads[number]);
            assert!(cosigned.is_ok() || cosigned == Err(409));
        }
        accepted +=
            u8::from(verify(&export(&mut view, &checkpoint, &policy), &Trust::in_policy(policy.clone())).is_ok());
    }
    assert_eq!(accepted, 1);
}

#[test]
fn a_rolled_back_log_is_refused_by_whoever_remembers_more() {
    let remembered = log_signer("acme").sign(&log("acme", 60).head()).to_string().into_bytes();
    let report = verify_with(&plain_export("acme", 50), &trust("acme"), &[remembered]);
    assert!(told(&report).contains("rolled back"), "{}", told(&report));
}

#[test]
fn an_earlier_checkpoint_by_another_key_is_no_memory() {
    let thief = remand_ledger::keys::LogSigner::from_seed("node1.example/audit/acme".parse().unwrap(), &[66; 32]);
    let remembered = thief.sign(&log("acme", 10).head()).to_string().into_bytes();
    assert!(!verify_with(&plain_export("acme", 60), &trust("acme"), &[remembered]).is_ok());
}

#[test]
fn an_envelope_signed_by_a_stranger_is_refused() {
    let folder = plain_export("acme", 3);
    let path = format!("provenance/{}.dsse.json", claims("acme", "request-1").execution_id);
    let stranger = remand_ledger::keys::AttestSigner::from_seed("node1.example/attest".parse().unwrap(), &[67; 32]);
    let payload = remand_ledger::dsse::Envelope::parse(&folder.files[&path]).unwrap().alleged_payload().to_vec();
    let mut forged = folder.clone();
    forged.files.insert(path, remand_ledger::dsse::Envelope::sign(payload, &stranger).to_bytes());
    assert!(told(&verify(&forged, &trust("acme"))).contains("whom nobody named"));
    assert!(!verify(&forged, &Trust::in_policy(policy("acme"))).is_ok(), "nor by the folder's own list");
}

#[test]
fn swapped_envelopes_are_refused() {
    let folder = plain_export("acme", 3);
    let [one, two] =
        ["request-1", "request-2"].map(|r| format!("provenance/{}.dsse.json", claims("acme", r).execution_id));
    let mut swapped = folder.clone();
    swapped.files.insert(one.clone(), folder.files[&two].clone());
    swapped.files.insert(two, folder.files[&one].clone());
    assert!(told(&verify(&swapped, &trust("acme"))).contains("the log recorded the statement"));
}

#[test]
fn a_proof_file_under_another_name_is_refused() {
    let folder = plain_export("acme", 3);
    let mut renamed = folder.clone();
    renamed.files.insert("proofs/3.tlog-proof".to_owned(), folder.files["proofs/4.tlog-proof"].clone());
    assert!(told(&verify(&renamed, &trust("acme"))).contains("something else than its name says"));
}

#[test]
fn a_bit_flipped_in_every_file_is_refused() {
    let folder = plain_export("acme", 4);
    for (number, path) in folder.files.keys().enumerate() {
        let mut flipped = folder.clone();
        let bytes = flipped.files.get_mut(path).unwrap();
        let at = (number * 7919) % bytes.len();
        bytes[at] ^= 1 << (number % 8);
        assert!(!verify(&flipped, &trust("acme")).is_ok(), "{path} at {at}");
    }
}

#[test]
fn every_bit_of_the_small_files_counts() {
    let folder = plain_export("acme", 1);
    for path in ["checkpoint", "policy", "attest"] {
        for place in 0..folder.files[path].len() * 8 {
            let mut flipped = folder.clone();
            flipped.files.get_mut(path).unwrap()[place / 8] ^= 1 << (place % 8);
            assert!(!verify(&flipped, &Trust::in_policy(policy("acme"))).is_ok(), "{path} bit {place}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_flipped_bit_of_any_file_is_refused(file: prop::sample::Index, place: prop::sample::Index, bit in 0_u8..8) {
        thread_local!(static FOLDER: MemoryFolder = plain_export("acme", 55));
        let mut folder = FOLDER.with(Clone::clone);
        let path = file.get(&folder.files.keys().cloned().collect::<Vec<_>>()).clone();
        let bytes = folder.files.get_mut(&path).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(!verify(&folder, &Trust::in_policy(policy("acme"))).is_ok(), "{} at {}", path, at);
    }

    #[test]
    fn hostile_files_never_panic(file: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        thread_local!(static FOLDER: MemoryFolder = plain_export("acme", 3));
        let mut folder = FOLDER.with(Clone::clone);
        let path = file.get(&folder.files.keys().cloned().collect::<Vec<_>>()).clone();
        folder.files.insert(path, bytes);
        prop_assert!(!verify(&folder, &trust("acme")).is_ok());
    }
}
