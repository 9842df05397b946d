//! Frames that are none: cut, too long, garbage, of another version, replayed, out of order, under another lease.

use crate::{goes_on, local, memory_kib, refused, refused_somehow, run_request, starting_nothing, starts};
use remand_model::envelope::{Command, HEADER_BYTES, Header};
use remand_model::refusal::Code;
use remand_tests::cases;
use remand_tests::kit::Raw;
use remand_tests::load::Dice;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use serde_json::json;

pub const CASES: &[Case] = cases![
    every_bad_header_is_refused_by_name_and_ends_its_connection,
    a_frame_that_is_cut_anywhere_starts_nothing,
    a_payload_that_is_too_long_is_refused_before_it_comes,
    garbage_is_refused_or_hung_up_on_and_nothing_is_started,
    an_answer_of_a_clients_is_no_request,
    streams_that_belong_to_no_request_hold_up_nothing,
    a_replayed_frame_is_refused_and_runs_nothing_twice,
    frames_out_of_order_are_refused_and_change_nothing,
    a_frame_under_another_lease_is_refused,
    nothing_is_done_before_the_handshake_and_the_attachment,
];

type Change = fn(&mut [u8; HEADER_BYTES]);

const BAD: &[(&str, Code, Change)] = &[
    ("magic", Code::Malformed, |b| b[0] = b'X'),
    ("other magic", Code::Malformed, |b| b[..4].copy_from_slice(b"HTTP")),
    ("major version 0", Code::VersionUnsupported, |b| b[4] = 0),
    ("major version 2", Code::VersionUnsupported, |b| b[4] = 2),
    ("major version 255", Code::VersionUnsupported, |b| b[4] = 255),
    ("unknown command", Code::CommandUnknown, |b| b[6..8].copy_from_slice(&[0x77, 0x07])),
    ("command 0", Code::CommandUnknown, |b| b[6..8].copy_from_slice(&[0, 0])),
    ("unknown stream", Code::CommandUnknown, |b| b[6..8].copy_from_slice(&[0xff, 0x4f])),
    ("role 0", Code::Malformed, |b| b[8] = 0),
    ("role 9", Code::Malformed, |b| b[8] = 9),
    ("arming 7", Code::Malformed, |b| b[9] = 7),
    ("reserved byte", Code::Malformed, |b| b[11] = 1),
    ("reserved tail", Code::Malformed, |b| b[127] = 1),
    ("one byte too many", Code::TooLarge, |b| b[12..16].copy_from_slice(&0x0010_0001_u32.to_le_bytes())),
    ("four gigabytes", Code::TooLarge, |b| b[12..16].copy_from_slice(&u32::MAX.to_le_bytes())),
    ("a tenant of 64 bytes", Code::IdentifierInvalid, |b| b[48] = 64),
    ("a tenant of 255 bytes", Code::IdentifierInvalid, |b| b[48] = 255),
    ("a tenant that leads up", Code::IdentifierInvalid, |b| b[49..54].copy_from_slice(b"../xx")),
    ("a tenant with NUL", Code::IdentifierInvalid, |b| b[50] = 0),
    ("a tenant in capitals", Code::IdentifierInvalid, |b| b[49] = b'L'),
    ("a tenant that is no text", Code::IdentifierInvalid, |b| b[49] = 0xff),
    ("bytes behind the tenant", Code::IdentifierInvalid, |b| b[80] = b'x'),
];

fn every_bad_header_is_refused_by_name_and_ends_its_connection() -> Verdict {
    starting_nothing(|| {
        for (what, code, change) in BAD {
            let mut raw = local();
            let mut bytes = raw.next(Command::Run).encode(0);
            change(&mut bytes);
            raw.bytes(&bytes);
            let (header, reply) = raw.reply().unwrap_or_else(|| panic!("{what}: no word of why"));
            let refusal = reply.expect_err(what);
            assert_eq!((refusal.code, refusal.trace_id), (*code, Raw::trace_of(&bytes)), "{what}");
            assert_eq!(header.trace, refusal.trace_id, "{what}");
            let is_readable = Header::decode(&bytes).is_err_and(|refusal| refusal.tenant_id.is_some());
            assert_eq!(refusal.tenant_id.is_some(), is_readable, "{what}");
            raw.assert_ended();
        }
    });
    Verdict::Proved
}

fn a_frame_that_is_cut_anywhere_starts_nothing() -> Verdict {
    let payload = run_request("cut").to_string().into_bytes();
    let whole = HEADER_BYTES + payload.len();
    starting_nothing(|| {
        for cut in (0..whole).step_by(11).chain([1, HEADER_BYTES - 1, HEADER_BYTES, whole - 1]) {
            let mut raw = local();
            let header = raw.next(Command::Run).encode(payload.len());
            raw.bytes(&[&header[..], &payload].concat()[..cut]);
            raw.close_writing();
            raw.assert_ended();
        }
    });
    Verdict::Proved
}

fn a_payload_that_is_too_long_is_refused_before_it_comes() -> Verdict {
    let mut raw = local();
    let mut header = raw.next(Command::Stdin).encode(0);
    header[12..16].copy_from_slice(&65_537_u32.to_le_bytes());
    let before = memory_kib().1;
    raw.bytes(&header);
    let reply = raw.reply().expect("it says why").1;
    assert!(refused(&raw, reply, Code::TooLarge).detail.contains("65536"));
    raw.assert_ended();
    assert!(memory_kib().1 < before + 4096, "memory was set aside for what was only claimed");
    Verdict::Proved
}

fn garbage_is_refused_or_hung_up_on_and_nothing_is_started() -> Verdict {
    starting_nothing(|| {
        let mut dice = Dice::new(5);
        for _ in 0..200 {
            let mut raw = local();
            let mut bytes: Vec<u8> = (0..dice.below(600)).map(|_| dice.below(256) as u8).collect();
            if dice.below(2) == 0 {
                // Half of it gets past the magic and the version.
                let head = raw.header.encode(0);
                let length = bytes.len().min(6);
                bytes[..length].copy_from_slice(&head[..length]);
            }
            raw.bytes(&bytes);
            raw.close_writing();
            while let Some((_, reply)) = raw.reply() {
                reply.expect_err("garbage is no request");
            }
        }
    });
    Verdict::Proved
}

fn an_answer_of_a_clients_is_no_request() -> Verdict {
    for command in [Command::Answer, Command::Refused] {
        let mut raw = local();
        let header = raw.next(command);
        raw.frame(&header, b"{}");
        let (_, reply) = raw.reply().expect("it says why");
        let refusal = reply.expect_err("it is no request");
        assert_eq!((refusal.code, refusal.trace_id), (Code::CommandUnknown, raw.header.trace));
        assert_eq!(refusal.tenant_id, raw.header.tenant, "the refusal names the tenant of the frame");
        raw.assert_ended();
    }
    Verdict::Proved
}

fn streams_that_belong_to_no_request_hold_up_nothing() -> Verdict {
    let mut raw = local();
    let stream = [Command::Stdin, Command::Stdout, Command::Stderr, Command::Data, Command::Event, Command::Control];
    for number in 0..200 {
        let header = Header { command: stream[number % stream.len()], ..raw.header.clone() };
        raw.frame(&header, b"nobody asked");
    }
    goes_on(&mut raw);
    Verdict::Proved
}

fn a_replayed_frame_is_refused_and_runs_nothing_twice() -> Verdict {
    let mut raw = local();
    let header = raw.next(Command::Run);
    let payload = run_request(&format!("replayed-{}", header.lease)).to_string();
    raw.frame(&header, payload.as_bytes());
    let first = raw.reply().expect("it answers").1.expect("it runs");
    assert_eq!(first["exit_code"], json!(0));
    let before = starts("local");
    for _ in 0..3 {
        raw.frame(&header, payload.as_bytes());
        let reply = raw.reply().expect("it answers").1;
        refused(&raw, reply, Code::SequenceReplayed);
    }
    goes_on(&mut raw);
    assert_eq!(starts("local"), before);
    Verdict::Proved
}

fn frames_out_of_order_are_refused_and_change_nothing() -> Verdict {
    starting_nothing(|| {
        let mut raw = local();
        goes_on(&mut raw);
        for wrong in [0, 1, 3, 4, u64::MAX - 1, u64::MAX] {
            let header = Header { sequence: wrong, command: Command::Run, ..raw.header.clone() };
            raw.frame(&header, run_request("early").to_string().as_bytes());
            let reply = raw.reply().expect("it answers").1;
            let code = if wrong > 2 { Code::SequenceGap } else { Code::SequenceReplayed };
            refused(&raw, reply, code);
        }
        // The count stands where it stood: the right one is taken.
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn a_frame_under_another_lease_is_refused() -> Verdict {
    starting_nothing(|| {
        let (mut raw, other) = (local(), local());
        for lease in [0, other.header.lease, raw.header.lease + 1000, u64::MAX] {
            let header = Header { lease, command: Command::Run, sequence: 1, ..raw.header.clone() };
            raw.frame(&header, run_request("stale").to_string().as_bytes());
            let reply = raw.reply().expect("it answers").1;
            refused(&raw, reply, Code::LeaseExpired);
        }
        // A lease ends with its attachment.
        let stale = raw.header.lease;
        raw.ask(Command::Detach, &json!({})).expect("it lets go");
        raw.header.lease = 0;
        raw.attach("local", None).expect("again");
        let header = Header { lease: stale, command: Command::Run, sequence: 1, ..raw.header.clone() };
        raw.frame(&header, run_request("stale").to_string().as_bytes());
        let reply = raw.reply().expect("it answers").1;
        refused(&raw, reply, Code::LeaseExpired);
        goes_on(&mut raw);
    });
    Verdict::Proved
}

fn nothing_is_done_before_the_handshake_and_the_attachment() -> Verdict {
    starting_nothing(|| {
        let requests = Command::ALL.iter().copied().filter(|command| (*command as u16) < 0x4000);
        for command in requests.filter(|command| !matches!(command, Command::Hello | Command::Ping)) {
            let mut raw = Raw::silent(&stage().place);
            let reply = raw.ask(command, &run_request("early"));
            refused_somehow(&raw, reply);
        }
        let mut raw = Raw::greeted(&stage().place);
        let reply = raw.ask(Command::Run, &run_request("early"));
        refused(&raw, reply, Code::AttachRequired);
        let reply = raw.ask(Command::Hello, &json!({"client": "again", "protocol_version": "1.0"}));
        refused(&raw, reply, Code::HandshakeRepeated);
        raw.attach("local", None).expect("now it may");
        goes_on(&mut raw);
    });
    Verdict::Proved
}
