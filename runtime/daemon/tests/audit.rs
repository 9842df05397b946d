//! The record from outside: a real daemon runs programs, and what it says about them is checked without it.

mod kit;

use std::path::{Path, PathBuf};

use kit::{Folder, Place, audit, kinds, place, proof, request, run, text};
use remand_client::{Captured, Client, ClientError};
use remand_ledger::bundle::{Trust, verify_proof};
use remand_ledger::policy_file::Policy;
use remand_ledger::verify::{Options, verify_export};
use remand_model::Digest;
use remand_model::envelope::Command;
use remand_model::outcome::Cause;
use remand_model::refusal::Code;
use remand_model::run::RootChoice;
use serde_json::json;

/// Trust in the keys that the daemon names; a verifier keeps them from then on.
fn trust(client: &mut Client) -> Trust {
    let root = audit(client, &json!({"what": "root"}));
    let trust = Trust::in_policy(Policy::of_log(text(&root, "log_key").parse().expect("a key")));
    let trust = trust.for_origin(text(&root, "origin").parse().expect("an origin"));
    trust.with_attest(vec![text(&root, "attest_key").parse().expect("a key")]).expect("keys of their own")
}

fn export(client: &mut Client, to: &Path) {
    let tenant = client.tenant().expect("attached").clone();
    client.export_audit_log(&tenant, &mut Folder(to.to_owned(), None)).expect("an export");
}

fn holds(folder: &Path, trust: &Trust, earlier: &[Vec<u8>]) -> bool {
    verify_export(folder, trust, earlier, Options::default(), &|_| {}).is_ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn code(error: &ClientError) -> Option<Code> {
    match error {
        ClientError::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

#[test]
fn an_execution_is_proven_offline_and_again_after_a_restart() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    let first = run(&mut client, "one", "echo hello; echo file > /out/f").execution_id;
    run(&mut client, "two", "exit 3");
    let trust = trust(&mut client);
    let verdict = verify_proof(&proof(&mut client, &first), &trust).expect("the proof holds");
    assert_eq!((verdict.event_id, verdict.attested), (5, true));
    assert_eq!(verdict.statement.claims.artifacts.len(), 1);
    drop(client);
    assert!(daemon.stop().success());
    let _daemon = place.start();
    let mut client = place.client("local");
    run(&mut client, "three", "exit 0");
    let again = verify_proof(&proof(&mut client, &first), &trust).expect("an older execution's proof holds");
    assert_eq!((again.proof_hash, again.statement), (verdict.proof_hash, verdict.statement));
}

#[test]
fn events_are_read_page_by_page() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    run(&mut client, "one", "exit 0");
    let mut page = |payload: &serde_json::Value| -> Vec<u64> {
        let answer = audit(&mut client, payload);
        let events = answer["events"].as_array().expect("a list").iter();
        events.map(|event| event["event_id"].as_u64().expect("an id")).collect()
    };
    for what in ["log", "query"] {
        assert_eq!(page(&json!({"what": what, "from_id": 1, "limit": 2})), [1, 2]);
        assert_eq!(page(&json!({"what": what, "from_id": 3, "limit": 2})), [3, 4]);
        assert_eq!(page(&json!({"what": what, "from_id": 1000, "limit": 2})), [0; 0]);
    }
}

#[test]
fn a_proof_of_another_tenants_execution_is_refused() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let id = run(&mut place.client("local"), "one", "exit 0").execution_id;
    let refused = place.client("other").retrieve_execution_proof(&id).expect_err("it is not theirs");
    assert_eq!(code(&refused), Some(Code::NotFound));
}

#[test]
fn an_export_is_verified_without_the_daemon_and_no_file_of_it_can_be_changed() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    run(&mut client, "one", "echo one");
    let trust = trust(&mut client);
    let earlier = text(&audit(&mut client, &json!({"what": "checkpoint"})), "text").into_bytes();
    run(&mut client, "two", "echo two");
    let folder = place.path().join("export");
    export(&mut client, &folder);
    drop(client);
    assert!(daemon.stop().success());
    assert!(holds(&folder, &trust, std::slice::from_ref(&earlier)));
    assert!(folder.join("consistency/6-10.tlog-consistency").is_file());
    // The two files that only suggest whom to trust are not evidence.
    let evidence = files(&folder).into_iter().filter(|path| !path.ends_with("policy") && !path.ends_with("attest"));
    for path in evidence {
        let good = std::fs::read(&path).expect("our own file");
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(&path, &bad).expect("our own file");
        assert!(!holds(&folder, &trust, std::slice::from_ref(&earlier)), "{} was changed", path.display());
        std::fs::write(&path, &good).expect("our own file");
    }
    assert!(holds(&folder, &trust, &[earlier]));
}

#[test]
fn an_execution_that_was_open_at_a_kill_is_closed_as_lost_before_anybody_is_served() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    let id = client.submit_execution_request(&request("long", "sleep 1000")).expect("it is taken");
    let trust = trust(&mut client);
    // The start is durable before the program runs, so that a submitted execution is found once it is recorded.
    while kinds(&mut client).is_empty() {
        std::thread::yield_now();
    }
    daemon.kill();
    let _daemon = place.start();
    let mut client = place.client("local");
    assert_eq!(kinds(&mut client), ["EXECUTION_STARTED", "EXECUTION_LOST", "execution_provenance_recorded"]);
    let result = client.wait_for_execution(&id).expect("it has ended");
    assert!(matches!(result.cause, Cause::Lost { .. }) && result.exit_code == 125);
    assert!(!result.enforced.confinement_sha256.is_empty());
    let verdict = verify_proof(&proof(&mut client, &id), &trust).expect("that it was lost can be proven");
    assert_eq!(verdict.event_id, 4);
    let refused = client.replay_execution(&id).expect_err("nothing is known of it");
    assert_eq!(code(&refused), Some(Code::Conflict));
}

/// Makes an event of the stopped daemon's database say something else, as whoever holds the disk could.
fn forge(place: &Place, good: &str, bad: &str) {
    let database = rusqlite::Connection::open(place.state("ledger").join("ledger.db")).expect("we are root");
    let wanted = "SELECT id, bytes FROM ev WHERE instr(bytes, CAST(?1 AS BLOB)) > 0";
    let read = database.query_row(wanted, [good], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let (event, entry) = read.expect("the event is there");
    let entry = String::from_utf8(entry).expect("canonical JSON");
    let forged = entry.replace(good, bad).into_bytes();
    database.execute("UPDATE ev SET bytes = ?2 WHERE id = ?1", (event, forged)).expect("we are root");
}

#[test]
fn a_changed_database_is_not_served_and_the_first_bad_event_is_named() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    run(&mut client, "one", "exit 7");
    drop(client);
    assert!(daemon.stop().success());
    forge(&place, "\"exit_code\":7", "\"exit_code\":0");
    let said = place.refused();
    assert!(said.contains("event"), "{said}");
    forge(&place, "\"exit_code\":0", "\"exit_code\":7");
    drop(place.start());
}

#[test]
fn a_changed_event_far_back_is_named_when_the_chain_is_verified() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    run(&mut client, "one", "exit 7");
    for number in 0..70 {
        run(&mut client, &format!("more-{number}"), "exit 0");
    }
    assert_eq!(audit(&mut client, &json!({"what": "verify"}))["executions"], 71);
    drop(client);
    assert!(daemon.stop().success());
    forge(&place, "\"exit_code\":7", "\"exit_code\":9");
    let _daemon = place.start();
    let mut client = place.client("local");
    let refused = client.ask(Command::Audit, &json!({"what": "verify"})).expect_err("it was changed");
    assert!(refused.to_string().contains("event 4"), "{refused}");
    let found = audit(&mut client, &json!({"what": "fsck"}));
    assert!(
        found["ok"] == false && found["faults"][0].as_str().is_some_and(|fault| fault.contains("event 4")),
        "{found}"
    );
}

#[test]
fn a_replay_shows_the_first_byte_that_differs() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let same = run(&mut client, "same", "echo always; echo this > /out/f").execution_id;
    let answer = client.replay_execution(&same).expect("it runs again");
    assert!(answer["same"] == true && answer["note"].as_str().is_some(), "{answer}");
    assert_ne!(text(&answer, "replay_execution_id"), same.as_str());
    let clock = run(&mut client, "clock", "echo now; date +%s%N; date +%s%N > /out/f").execution_id;
    let answer = client.replay_execution(&clock).expect("it runs again");
    let found = answer["differences"].as_array().expect("a list");
    let names: Vec<_> = found.iter().map(|difference| text(difference, "what")).collect();
    assert_eq!(names, ["stdout", "file f"], "{answer}");
    assert!(found[0]["first_difference"]["offset"].as_u64().is_some_and(|offset| offset >= 4), "{answer}");
    assert_eq!(kinds(&mut client).iter().filter(|kind| *kind == "EXECUTION_REPLAYED").count(), 2);
}

#[test]
fn a_replay_is_given_the_input_of_the_first_time() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let path = place.path().join("input");
    std::fs::write(&path, vec![b'x'; 300_000]).expect("our own file");
    let file = std::fs::File::open(&path).expect("our own file");
    let asked = remand_model::run::RunRequest { stdin: true, ..request("input", "wc -c") };
    let end = client.run(&asked, Some(std::os::fd::AsFd::as_fd(&file)), &mut Captured::default()).expect("it runs");
    assert_eq!(end.result.input.bytes, 300_000);
    let answer = client.replay_execution(&end.result.execution_id).expect("it runs again");
    assert_eq!(answer["same"], true, "{answer}");
}

#[test]
fn a_blob_is_recorded_once_and_belongs_to_its_tenant() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let bytes = vec![7; 300_000];
    let stored = client.put_blob(&bytes).expect("it is kept");
    assert_eq!((stored.sha256, stored.bytes), (Digest::of(&bytes), 300_000));
    client.put_blob(&bytes).expect("it is kept already");
    assert_eq!(kinds(&mut client), ["BLOB_STORED"]);
    let mut back = Vec::new();
    client.download(&stored.sha256, &mut back).expect("it is there");
    assert_eq!(back, bytes);
    let refused = place.client("other").download(&stored.sha256, &mut Vec::new()).expect_err("it is not theirs");
    assert_eq!(code(&refused), Some(Code::NotFound));
    let damaged = files(&place.state("blobs")).into_iter().find(|path| path.is_file()).expect("a file");
    std::fs::write(damaged, vec![8; 300_000]).expect("we are root");
    let refused = client.download(&stored.sha256, &mut Vec::new()).expect_err("it is damaged");
    assert_eq!(code(&refused), Some(Code::Internal));
}

/// A root file system with nothing but a shell.
fn image() -> Option<Vec<u8>> {
    let Ok(busybox) = std::fs::read("/bin/busybox") else {
        eprintln!("skipped: there is no static busybox: apt install busybox-static");
        return None;
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/sh", busybox.as_slice()).expect("in memory");
    Some(tar.into_inner().expect("in memory"))
}

#[test]
fn an_image_is_the_root_of_whoever_has_put_it_and_of_nobody_else() {
    let (Some(place), Some(image)) = (place(), image()) else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let sha256 = client.put_blob(&image).expect("it is kept").sha256.to_hex();
    let asked =
        remand_model::run::RunRequest { root: RootChoice::Image { sha256 }, ..request("image", "echo /bin/* /usr/*") };
    let mut said = Captured::default();
    let end = client.run(&asked, None, &mut said).expect("it runs");
    assert_eq!((end.result.cause, said.stdout), (Cause::Exited { code: 0 }, b"/bin/sh /usr/*\n".to_vec()));
    let refused = place.client("other").plan_run(&asked).expect_err("it is not theirs");
    assert_eq!(code(&refused), Some(Code::NotFound));
    let sha256 = client.put_blob(b"no image").expect("it is kept").sha256.to_hex();
    let asked = remand_model::run::RunRequest { root: RootChoice::Image { sha256 }, ..asked };
    let refused = client.run(&asked, None, &mut Captured::default()).expect_err("it is none");
    assert_eq!(code(&refused), Some(Code::ContractInvalid));
}

#[test]
fn keys_can_be_read_by_the_daemon_alone_and_a_node_with_logs_does_not_go_on_without_them() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(place) = place() else { return };
    let daemon = place.start();
    run(&mut place.client("local"), "one", "exit 0");
    assert!(daemon.stop().success());
    let keys = files(&place.state("keys"));
    assert!(keys.len() >= 3);
    for key in &keys {
        assert_eq!(std::fs::metadata(key).expect("we are root").mode() & 0o777, 0o600);
    }
    std::fs::remove_file(place.state("keys").join("log.seed")).expect("we are root");
    assert!(place.refused().contains("restore it from a backup"));
}

/// Copies a stopped daemon's ledger, owners and all.
fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(done.success());
}

/// An address that nobody listens on.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").to_string()
}

#[test]
fn a_witness_cosigns_and_a_log_that_was_rolled_back_behind_it_is_not_served() {
    let (Some(place), Some(other)) = (place(), place()) else { return };
    let address = free_address();
    let (daemon, witness) = (place.start(), other.start());
    let keys = audit(&mut place.client("local"), &json!({"what": "root"}));
    let witness_key = text(&audit(&mut other.client("local"), &json!({"what": "root"})), "witness_key");
    drop((daemon, witness));
    let _witness = other.start_with(&["--witness-listen", &address, "--witness-for", &text(&keys, "log_key")]);
    let asked = format!("{address},{witness_key}");
    let arguments = ["--witness", asked.as_str()];
    let daemon = place.start_with(&arguments);
    let mut client = place.client("local");
    let id = run(&mut client, "one", "exit 0").execution_id;
    let (log, key) = (text(&keys, "log_key").parse().expect("a key"), witness_key.parse().expect("a key"));
    let trust = Trust::in_policy(Policy::of_log_and_witnesses(&log, &[key], 1).expect("keys of their own"));
    let verdict = verify_proof(&proof(&mut client, &id), &trust).expect("the witness vouches");
    assert_eq!(verdict.checkpoint.cosigned().len(), 1);
    let folder = place.path().join("export");
    export(&mut client, &folder);
    assert!(holds(&folder, &trust, &[]));
    drop(client);
    assert!(daemon.stop().success());
    copy(&place.state("ledger"), &place.path().join("backup"));
    let daemon = place.start_with(&arguments);
    let mut client = place.client("local");
    run(&mut client, "two", "exit 0");
    assert_eq!(text(&audit(&mut client, &json!({"what": "checkpoint"})), "text").matches('\u{2014}').count(), 2);
    drop(client);
    assert!(daemon.stop().success());
    std::fs::remove_dir_all(place.state("ledger")).expect("we are root");
    copy(&place.path().join("backup"), &place.state("ledger"));
    assert!(place.refused_with(&arguments).contains("rolled back"));
}

#[test]
fn a_witness_that_is_away_keeps_nobody_from_work_and_its_cosignature_is_missed() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let keys = audit(&mut place.client("local"), &json!({"what": "root"}));
    drop(daemon);
    // The node's own witness key will do: nobody answers for it.
    let asked = format!("{},{}", free_address(), text(&keys, "witness_key"));
    let _daemon = place.start_with(&["--witness", asked.as_str()]);
    let mut client = place.client("local");
    let id = run(&mut client, "one", "exit 0").execution_id;
    let (log, key) =
        (text(&keys, "log_key").parse().expect("a key"), text(&keys, "witness_key").parse().expect("a key"));
    let trust = Trust::in_policy(Policy::of_log_and_witnesses(&log, &[key], 1).expect("keys of their own"));
    let proof = proof(&mut client, &id);
    assert!(verify_proof(&proof, &trust).is_err());
    assert!(verify_proof(&proof, &Trust::in_policy(Policy::of_log(log))).is_ok());
}

#[test]
fn a_witness_listens_on_loopback_and_nowhere_else() {
    let Some(place) = place() else { return };
    assert!(place.refused_with(&["--witness-listen", "0.0.0.0:0"]).contains("loopback only"));
}

#[test]
fn a_submitted_execution_is_in_the_chain_before_its_id_is_given() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    for number in 0..20 {
        let id = client.submit_execution_request(&request(&format!("s{number}"), "exit 0")).expect("taken on");
        let subject = format!("execution:{id}");
        let told = audit(&mut client, &json!({"what": "query", "subject": subject}));
        let first = told["events"][0]["event_type"].as_str();
        assert!(
            first.is_some_and(|kind| kind.starts_with("EXECUTION_")),
            "{id} was acknowledged, and nothing is recorded"
        );
    }
    assert!(daemon.stop().success());
}
