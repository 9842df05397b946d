//! Executions that wait for their turn in a real daemon: needs root.

mod kit;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kit::{Place, events_of, kinds, people, place, request, text};
use remand_client::{Client, ClientError, RunSink};
use remand_model::ExecutionId;
use remand_model::outcome::Cause;
use remand_model::refusal::Code;
use serde_json::Value;

/// Long enough for a test to end it first.
const FOREVER: &str = "sleep 1000";

/// A daemon's configuration in which one runs and so many of a tenant wait.
fn narrow(place: &Place, rest: &str) -> String {
    people::configured(place, &format!("[scheduler]\nexecutions_at_once = 1\n{rest}"))
}

fn submit(client: &mut Client, name: &str, script: &str) -> ExecutionId {
    client.submit_execution_request(&request(name, script)).expect("it is taken")
}

fn state(client: &mut Client, id: &ExecutionId) -> String {
    text(&client.query_execution_status(id).expect("it is known"), "state")
}

fn names(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| text(event, "event_type")).collect()
}

/// A tenant with a quota, and a client of it with a token.
fn equipped(place: &Place, name: &str) -> Client {
    people::tenant(place, name);
    people::attached(place, name, &people::issue(place, name, "root", &["exec.run=*"]))
}

#[test]
fn what_finds_no_room_is_queued_runs_in_its_turn_and_its_record_names_the_schedule() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let mut client = place.client("local");
    let first = submit(&mut client, "first", FOREVER);
    let second = submit(&mut client, "second", "echo done");
    assert_eq!((state(&mut client, &first), state(&mut client, &second)), ("running".into(), "queued".into()));
    let rows = client.list_executions().expect("a list");
    assert!(rows["executions"].as_array().expect("rows").iter().any(|row| row["state"] == "queued"), "{rows}");
    assert_eq!(client.list_cluster_nodes().expect("nodes")["nodes"][0]["queued"], 1);

    drop(client.kill_execution(&first).expect("it runs"));
    assert_eq!(client.wait_for_execution(&second).expect("its turn comes").cause, Cause::Exited { code: 0 });
    let events = events_of(&mut client, &second);
    assert_eq!(names(&events)[..2], ["EXECUTION_QUEUED", "EXECUTION_STARTED"]);
    let hash = text(&events[1]["payload"]["observations"], "schedule_hash");
    assert_eq!(events[1]["payload"]["observations"]["schedule_order"], 1);
    let proof = String::from_utf8(kit::proof(&mut client, &second)).expect("JSON");
    let statement = statement_of(&proof);
    assert!(statement.contains(&format!("\"cluster_schedule_hash\":\"{hash}\"")), "{statement}");
}

/// The statement inside of a proof.
fn statement_of(proof: &str) -> String {
    let proof: Value = serde_json::from_str(proof).expect("JSON");
    let payload = text(&proof["dsse"], "payload");
    let bytes = STANDARD.decode(payload).expect("base64");
    String::from_utf8(bytes).expect("a statement is text")
}

#[test]
fn a_queued_execution_is_killed_without_having_started_and_says_so_afterwards() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let mut client = place.client("local");
    let first = submit(&mut client, "first", FOREVER);
    let second = submit(&mut client, "second", "echo done");
    let killed = client.kill_execution(&second).expect("it waits");
    assert_eq!(killed["cause"]["kind"], "cancelled");
    assert_eq!(client.wait_for_execution(&second).expect("its record").cause, Cause::Cancelled);
    assert_eq!(names(&events_of(&mut client, &second)), ["EXECUTION_QUEUED", "EXECUTION_DENIED"]);
    assert_eq!(state(&mut client, &first), "running");
    drop(client.kill_execution(&first).expect("it runs"));
    let third = submit(&mut client, "third", "true");
    assert_eq!(client.wait_for_execution(&third).expect("there is room again").exit_code, 0);
}

#[test]
fn a_full_queue_refuses_with_a_hint_and_leaves_an_event_and_no_execution() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &narrow(&place, "queue_per_tenant = 1\n")]);
    let mut client = place.client("local");
    let first = submit(&mut client, "first", FOREVER);
    let second = submit(&mut client, "second", "echo done");
    match client.submit_execution_request(&request("third", "echo done")) {
        Err(ClientError::Refused(refusal)) => {
            assert_eq!((refusal.code, refusal.retry_after_ms.is_some()), (Code::QueueFull, true));
        }
        taken => panic!("{taken:?}"),
    }
    assert!(kinds(&mut client).contains(&"REQUEST_REFUSED".to_owned()));
    // The very same request is taken once there is room.
    drop(client.kill_execution(&first).expect("it runs"));
    drop(client.wait_for_execution(&second).expect("its turn comes"));
    let third = submit(&mut client, "third", "echo done");
    assert_eq!(client.wait_for_execution(&third).expect("its turn comes").exit_code, 0);
}

#[test]
fn a_tenant_that_came_late_with_little_is_not_behind_all_that_another_has_queued() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let (mut acme, mut globex) = (equipped(&place, "acme"), equipped(&place, "globex"));
    let first = submit(&mut acme, "first", FOREVER);
    let many: Vec<_> = (0..6).map(|number| submit(&mut acme, &format!("a{number}"), "true")).collect();
    let late = submit(&mut globex, "late", "true");
    drop(acme.kill_execution(&first).expect("it runs"));
    drop(globex.wait_for_execution(&late).expect("its turn comes"));
    drop(many.iter().map(|id| acme.wait_for_execution(id).expect("its turn comes")).collect::<Vec<_>>());
    let order = |client: &mut Client, id| {
        let events = events_of(client, id);
        let started = events.iter().find(|event| event["event_type"] == "EXECUTION_STARTED").expect("it started");
        started["payload"]["observations"]["schedule_order"].as_u64().expect("a number")
    };
    let late = order(&mut globex, &late);
    let behind = many.iter().filter(|id| order(&mut acme, id) > late).count();
    assert!(behind >= 4, "the late one was number {late}");
}

#[test]
fn by_priority_the_urgent_one_goes_first_whoever_was_earlier() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &narrow(&place, "strategy = \"priority\"\n")]);
    let mut client = place.client("local");
    assert_eq!(client.list_cluster_nodes().expect("nodes")["nodes"][0]["strategy"], "priority");
    let first = submit(&mut client, "first", FOREVER);
    let patient = submit(&mut client, "patient", FOREVER);
    let mut urgent = request("urgent", "true");
    urgent.priority = 9;
    let urgent = client.submit_execution_request(&urgent).expect("it is taken");
    drop(client.kill_execution(&first).expect("it runs"));
    assert_eq!(client.wait_for_execution(&urgent).expect("it is next").exit_code, 0);
    drop(client.kill_execution(&patient).expect("it waits or runs"));
}

#[test]
fn what_waited_at_a_kill_is_answered_for_and_may_be_asked_for_again() {
    let Some(place) = place() else { return };
    let daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let mut client = place.client("local");
    let first = submit(&mut client, "first", FOREVER);
    let second = submit(&mut client, "second", "echo done");
    daemon.kill();
    let _daemon = place.start();
    let mut client = place.client("local");
    assert!(matches!(client.wait_for_execution(&first).expect("its record").cause, Cause::Lost { .. }));
    assert!(matches!(client.wait_for_execution(&second).expect("its record").cause, Cause::Refused { .. }));
    assert_eq!(names(&events_of(&mut client, &second)), ["EXECUTION_QUEUED", "EXECUTION_DENIED"]);
    assert_eq!(submit(&mut client, "second", "echo done"), second);
    assert_eq!(client.wait_for_execution(&second).expect("it runs now").cause, Cause::Exited { code: 0 });
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_nothing_open_of_what_ran_and_waited() {
    let Some(place) = place() else { return };
    let daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let mut client = place.client("local");
    let first = submit(&mut client, "first", FOREVER);
    let waiting: Vec<_> = (0..5).map(|number| submit(&mut client, &format!("w{number}"), "true")).collect();
    assert!(daemon.stop().success());
    let _daemon = place.start();
    let mut client = place.client("local");
    assert_eq!(client.wait_for_execution(&first).expect("its record").cause, Cause::Cancelled);
    for id in &waiting {
        assert_eq!(client.wait_for_execution(id).expect("its record").cause, Cause::Cancelled);
        assert_eq!(names(&events_of(&mut client, id)), ["EXECUTION_QUEUED", "EXECUTION_DENIED"]);
    }
    assert!(!kinds(&mut client).contains(&"EXECUTION_LOST".to_owned()));
}

#[test]
fn clients_hear_how_their_executions_ended_when_the_daemon_is_told_to_end() {
    let Some(place) = place() else { return };
    let daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let (said, accepted) = std::sync::mpsc::channel();
    let clients: Vec<_> = (0..3)
        .map(|number| {
            let (mut client, said) = (place.client("local"), said.clone());
            std::thread::spawn(move || {
                let request = request(&format!("r{number}"), FOREVER);
                client.run(&request, None, &mut Accepted(said)).map(|end| end.result.cause)
            })
        })
        .collect();
    clients.iter().for_each(|_| accepted.recv().expect("it is accepted"));
    assert!(daemon.stop().success());
    for client in clients {
        assert_eq!(client.join().expect("no panic").expect("an answer"), Cause::Cancelled);
    }
}

/// Says that its execution was accepted.
struct Accepted(std::sync::mpsc::Sender<()>);

impl RunSink for Accepted {
    fn accepted(&mut self, _: &ExecutionId) -> std::io::Result<()> {
        self.0.send(()).map_err(std::io::Error::other)
    }

    fn stdout(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn stderr(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_gives_its_place_up() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &narrow(&place, "")]);
    let mut client = place.client("local");
    let first = submit(&mut client, "first", FOREVER);
    let mut other = place.client("local");
    let end = other.run(&request("second", "true"), None, &mut Leaving).expect("it is answered");
    assert_eq!(end.result.cause, Cause::Cancelled);
    assert_eq!(client.list_cluster_nodes().expect("nodes")["nodes"][0]["queued"], 0);
    drop(client.kill_execution(&first).expect("it runs"));
}

/// Calls its execution off as soon as it hears of it.
struct Leaving;

impl RunSink for Leaving {
    fn accepted(&mut self, _: &ExecutionId) -> std::io::Result<()> {
        Err(std::io::Error::other("this is not what I wanted"))
    }

    fn stdout(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn stderr(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}
