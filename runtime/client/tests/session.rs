//! Handshake, attachment, lease and counting, as a scripted peer sees them.
#![forbid(unsafe_code)]

mod kit;

use kit::{HELLO, Peer, attached, json_of, scripted};
use remand_client::{Client, ClientError};
use remand_model::envelope::Command;
use remand_model::refusal::Code;
use remand_model::role::{Arming, Role};
use serde_json::json;

#[test]
fn the_role_claimed_is_the_role_granted() {
    let (mut client, peer) = attached(|peer| {
        let ping = peer.expect(Command::Ping);
        assert_eq!(ping.header.role, Role::Operator);
        peer.answer(&ping.header, "{}");
    });
    client.ping().expect("a pong");
    peer.join().expect("the script");
}

#[test]
fn hello_claims_nothing_and_names_no_tenant() {
    let (mut client, peer) = scripted(|peer| {
        let hello = peer.expect(Command::Hello);
        assert_eq!((hello.header.tenant.clone(), hello.header.sequence, hello.header.lease), (None, 0, 0));
        assert_eq!((hello.header.role, hello.header.arming), (Role::Viewer, Arming::Safe));
        assert_eq!(json_of(&hello)["protocol_version"], "1.0");
        peer.answer(&hello.header, HELLO);
    });
    assert_eq!(client.hello().expect("hello").node_id, "n1");
    peer.join().expect("the script");
}

#[test]
fn requests_count_from_one_under_the_lease_and_a_refused_one_counts() {
    let (mut client, peer) = attached(|peer| {
        for sequence in 1..=3 {
            let ping = peer.expect(Command::Ping);
            assert_eq!((ping.header.sequence, ping.header.lease), (sequence, 7));
            match sequence {
                2 => peer.refuse(&ping.header, Code::RoleTooLow),
                _ => peer.answer(&ping.header, "{}"),
            }
        }
    });
    client.ping().expect("one");
    assert!(matches!(client.ping(), Err(ClientError::Refused(refusal)) if refusal.code == Code::RoleTooLow));
    client.ping().expect("three");
    peer.join().expect("the script");
}

#[test]
fn a_lease_that_is_half_over_is_renewed_before_the_next_request() {
    let (mut client, peer) = scripted(|peer| {
        let hello = peer.expect(Command::Hello);
        peer.answer(&hello.header, HELLO);
        let attach = peer.expect(Command::Attach);
        peer.answer(&attach.header, r#"{"lease":7,"lease_ms":0}"#);
        let renew = peer.expect(Command::Renew);
        assert_eq!(renew.header.sequence, 1);
        peer.answer(&renew.header, kit::LEASE);
        let ping = peer.expect(Command::Ping);
        assert_eq!(ping.header.sequence, 2);
        peer.answer(&ping.header, "{}");
    });
    client.hello().expect("hello");
    client.attach(&"acme".parse().expect("a name"), None).expect("attach");
    client.ping().expect("a pong");
    peer.join().expect("the script");
}

#[test]
fn what_only_looks_is_sent_unarmed_and_what_acts_is_sent_armed() {
    let (mut client, peer) = attached(|peer| {
        for arming in [Arming::Safe, Arming::Armed, Arming::Safe, Arming::Armed] {
            let frame = peer.read();
            assert_eq!(frame.header.arming, arming, "{}", frame.header.command.name());
            peer.answer(&frame.header, "{}");
        }
    });
    client.list_executions().expect("looked");
    client.sweep(true).expect("swept");
    client.ask(Command::Tenant, &json!({"what": "list"})).expect("looked");
    client.ask(Command::Tenant, &json!({"what": "create"})).expect("acted");
    peer.join().expect("the script");
}

#[test]
fn another_major_version_is_refused() {
    let (mut client, _) = scripted(|peer| {
        let hello = peer.expect(Command::Hello);
        peer.answer(&hello.header, &HELLO.replace("1.0", "2.0"));
    });
    assert!(matches!(client.hello(), Err(ClientError::Version { found }) if found == "2.0"));
    assert!(matches!(client.ping(), Err(ClientError::Broken)));
}

/// What a peer says instead of an answer to a ping, and the error that it must lead to.
fn wrong(say: impl FnOnce(&mut Peer, &remand_model::envelope::Header) + Send + 'static) -> ClientError {
    let (mut client, peer) = attached(|peer| {
        let ping = peer.expect(Command::Ping);
        say(peer, &ping.header);
    });
    let error = client.ping().expect_err("an error");
    assert!(matches!(client.ping(), Err(ClientError::Broken)), "the connection must not be used again");
    peer.join().expect("the script");
    error
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let error = wrong(|peer, to| {
        let mut other = to.clone();
        other.sequence += 1;
        peer.answer(&other, "{}");
    });
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
}

#[test]
fn garbage_is_refused() {
    let error = wrong(|peer, _| {
        use std::io::Write;
        peer.0.write_all(&[0xa5; 4096]).expect("sent");
    });
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
}

#[test]
fn a_truncated_header_and_a_truncated_payload_are_told_from_a_closed_connection() {
    for cut in [1, 127, 128, 129] {
        let error = wrong(move |peer, to| {
            use std::io::Write;
            let mut bytes = to.clone();
            bytes.command = Command::Answer;
            let frame = [bytes.encode(2).as_slice(), b"{}"].concat();
            peer.0.write_all(&frame[..cut]).expect("sent");
        });
        assert!(matches!(error, ClientError::Truncated), "{cut}: {error}");
    }
    assert!(matches!(wrong(|_, _| ()), ClientError::Closed));
}

#[test]
fn a_frame_that_claims_too_much_is_refused_before_its_payload_comes() {
    let oversized = wrong(|peer, to| {
        use std::io::Write;
        let mut header = to.encode(0);
        header[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        peer.0.write_all(&header).expect("sent");
    });
    let stream = wrong(|peer, to| peer.send(to, Command::Data, &vec![0; (64 << 10) + 1]));
    for error in [oversized, stream] {
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    }
}

#[test]
fn a_request_frame_from_the_daemon_is_refused() {
    let error = wrong(|peer, to| peer.send(to, Command::Run, b"{}"));
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
}

#[test]
fn an_answer_outside_of_canonical_json_is_refused() {
    for bad in ["", "{", "[1.5]", r#"{"a":1,"a":2}"#, "\u{feff}{}"] {
        let error = wrong(|peer, to| peer.answer(to, bad));
        assert!(matches!(error, ClientError::Protocol(_)), "{bad:?}: {error}");
    }
}

#[test]
fn notes_on_the_way_to_an_answer_are_passed_over() {
    let (mut client, peer) = attached(|peer| {
        let submit = peer.expect(Command::Submit);
        peer.send(&submit.header, Command::Event, &kit::accepted());
        peer.answer(&submit.header, &json!({"execution_id": kit::execution_id()}).to_string());
    });
    assert_eq!(client.submit_execution_request(&kit::request()).expect("an id"), kit::execution_id());
    peer.join().expect("the script");
}

#[test]
fn an_answer_in_pieces_is_joined() {
    let (mut client, peer) = attached(|peer| {
        let list = peer.expect(Command::List);
        peer.send(&list.header, Command::Data, b"{\"executions\":");
        peer.send(&list.header, Command::Data, b"[]}");
        peer.answer(&list.header, "");
    });
    assert_eq!(client.list_executions().expect("joined"), json!({"executions": []}));
    peer.join().expect("the script");
}

#[test]
fn a_refusal_of_the_whole_connection_is_heard() {
    let (mut client, _) = attached(|peer| {
        let ping = peer.expect(Command::Ping);
        let mut nobody = ping.header;
        nobody.sequence = 0;
        peer.refuse(&nobody, Code::Draining);
    });
    assert!(matches!(client.ping(), Err(ClientError::Refused(refusal)) if refusal.code == Code::Draining));
}

#[test]
fn a_request_that_has_no_form_is_not_sent_and_the_connection_stays() {
    let (mut client, peer) = attached(|peer| {
        let ping = peer.expect(Command::Ping);
        assert_eq!(ping.header.sequence, 1);
        peer.answer(&ping.header, "{}");
    });
    let huge = json!({"what": "put", "value": "x".repeat(2 << 20)});
    assert!(matches!(client.ask(Command::State, &huge), Err(ClientError::Unsendable { .. })));
    assert!(matches!(client.ask(Command::State, &json!({"value": 0.5})), Err(ClientError::Unsendable { .. })));
    client.ping().expect("a pong");
    peer.join().expect("the script");
}

#[test]
fn a_socket_that_nobody_listens_on_is_told_apart() {
    let error = Client::connect("/nonexistent/remand.sock".as_ref()).expect_err("nobody");
    assert!(matches!(error, ClientError::NotListening { .. }), "{error}");
}
