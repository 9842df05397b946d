//! Executions with their streams, and blobs, as a scripted peer sees them.
#![forbid(unsafe_code)]

mod kit;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kit::{accepted, attached, bytes, execution_id, json_of, request, result};
use remand_client::{Captured, ClientError, Control, RunSink};
use remand_model::Digest;
use remand_model::envelope::Command;
use remand_model::refusal::Code;
use serde_json::json;

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe().expect("a pipe")
}

#[test]
fn streams_files_and_result_arrive_each_at_its_place() {
    let files: [(&str, &[u8]); 3] = [("a", b"alpha"), ("empty", b""), ("b/c", &[7; 100_000])];
    let (mut client, peer) = attached(move |peer| {
        let run = peer.expect(Command::Run).header;
        peer.send(&run, Command::Event, &accepted());
        peer.send(&run, Command::Stdout, b"out");
        peer.send(&run, Command::Stderr, b"err");
        peer.send(&run, Command::Answer, &bytes(&result(&files)));
        for (_, content) in files {
            content.chunks(60_000).for_each(|chunk| peer.send(&run, Command::Data, chunk));
        }
        let ping = peer.expect(Command::Ping).header;
        peer.answer(&ping, "{}");
    });
    let mut request = request();
    request.want_files = true;
    let mut captured = Captured::default();
    let end = client.run(&request, None, &mut captured).expect("an end");
    assert_eq!((end.result.exit_code, end.local_error.is_none()), (3, true));
    assert_eq!((captured.stdout.as_slice(), captured.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    assert_eq!(captured.execution_id, Some(execution_id()));
    assert_eq!(captured.files, files.map(|(path, content)| (path.to_owned(), content.to_vec())));
    client.ping().expect("the connection goes on");
    peer.join().expect("the script");
}

#[test]
fn a_file_with_other_bytes_or_another_size_than_the_result_names_is_refused() {
    for sent in [&b"alphb"[..], b"alpha and more"] {
        let (mut client, _) = attached(move |peer| {
            let run = peer.expect(Command::Run).header;
            peer.send(&run, Command::Answer, &bytes(&result(&[("a", b"alpha")])));
            peer.send(&run, Command::Data, sent);
        });
        let mut request = request();
        request.want_files = true;
        let error = client.run(&request, None, &mut Captured::default()).expect_err("an error");
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    }
}

#[test]
fn input_is_sent_whole_and_ended_with_an_empty_frame() {
    let (mut client, peer) = attached(|peer| {
        let run = peer.expect(Command::Run).header;
        let mut input = Vec::new();
        loop {
            let frame = peer.expect(Command::Stdin);
            assert_eq!((frame.header.sequence, frame.header.lease), (run.sequence, run.lease));
            if frame.payload.is_empty() {
                break;
            }
            input.extend(frame.payload);
        }
        assert_eq!(input, vec![5; 300_000]);
        peer.send(&run, Command::Answer, &bytes(&result(&[])));
    });
    let (reader, writer) = pipe();
    let feeder = std::thread::spawn(move || std::fs::File::from(writer).write_all(&vec![5; 300_000]));
    let mut request = request();
    request.stdin = true;
    client.run(&request, Some(reader.as_fd()), &mut Captured::default()).expect("an end");
    feeder.join().expect("the feeder").expect("fed");
    peer.join().expect("the script");
}

#[test]
fn a_peer_that_takes_no_input_can_still_print_and_end() {
    let (mut client, peer) = attached(|peer| {
        let run = peer.expect(Command::Run).header;
        for _ in 0..200 {
            peer.send(&run, Command::Stdout, &[1; 60_000]);
        }
        peer.send(&run, Command::Answer, &bytes(&result(&[])));
    });
    let zeros = std::fs::File::open("/dev/zero").expect("zeros");
    let mut request = request();
    request.stdin = true;
    let mut captured = Captured::default();
    client.run(&request, Some(zeros.as_fd()), &mut captured).expect("an end");
    assert_eq!(captured.stdout.len(), 200 * 60_000);
    peer.join().expect("the script");
}

/// Wakes once and then says what it was given.
struct Says(OwnedFd, Vec<Control>);

impl RunSink for Says {
    fn stdout(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn stderr(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        (!self.1.is_empty()).then(|| self.0.as_fd())
    }

    fn controls(&mut self) -> Vec<Control> {
        std::mem::take(&mut self.1)
    }
}

#[test]
fn a_cancel_and_a_window_are_told_in_the_name_of_the_run() {
    let (mut client, peer) = attached(|peer| {
        let run = peer.expect(Command::Run).header;
        let window = peer.expect(Command::Control);
        assert_eq!(json_of(&window), json!({"columns": 80, "rows": 24}));
        let cancel = peer.expect(Command::Control);
        assert_eq!((json_of(&cancel), cancel.header.sequence), (json!({"cancel": true}), run.sequence));
        peer.send(&run, Command::Answer, &bytes(&result(&[])));
    });
    let (reader, writer) = pipe();
    std::fs::File::from(writer).write_all(b"x").expect("woken");
    let mut sink = Says(reader, vec![Control::Window { rows: 24, columns: 80 }, Control::Cancel]);
    let end = client.run(&request(), None, &mut sink).expect("an end");
    assert!(end.local_error.is_none());
    peer.join().expect("the script");
}

#[test]
fn an_execution_whose_output_nobody_takes_is_cancelled_and_its_result_still_read() {
    let (mut client, peer) = attached(|peer| {
        let run = peer.expect(Command::Run).header;
        peer.send(&run, Command::Stderr, b"to nobody");
        assert_eq!(json_of(&peer.expect(Command::Control)), json!({"cancel": true}));
        peer.send(&run, Command::Answer, &bytes(&result(&[])));
    });
    let end = client.run(&request(), None, &mut Says(pipe().0, Vec::new())).expect("an end");
    assert_eq!(end.result.execution_id, execution_id());
    assert!(
        matches!(end.local_error, Some(ClientError::Local { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe)
    );
    peer.join().expect("the script");
}

#[test]
fn a_refused_run_is_an_error_and_leaves_the_connection() {
    let (mut client, peer) = attached(|peer| {
        let run = peer.expect(Command::Run).header;
        peer.refuse(&run, Code::QuotaMissing);
        let ping = peer.expect(Command::Ping).header;
        peer.answer(&ping, "{}");
    });
    let error = client.run(&request(), None, &mut Captured::default()).expect_err("refused");
    assert!(matches!(error, ClientError::Refused(refusal) if refusal.code == Code::QuotaMissing));
    client.ping().expect("a pong");
    peer.join().expect("the script");
}

#[test]
fn a_connection_lost_in_the_middle_of_a_run_is_an_error() {
    let (mut client, _) = attached(|peer| {
        let run = peer.expect(Command::Run).header;
        peer.send(&run, Command::Stdout, b"half");
    });
    let error = client.run(&request(), None, &mut Captured::default()).expect_err("lost");
    assert!(matches!(error, ClientError::Closed), "{error}");
}

#[test]
fn a_blob_goes_up_in_frames_and_its_digest_is_checked() {
    let (mut client, peer) = attached(|peer| {
        for keeps in [b'x', b'y'] {
            let put = peer.expect(Command::Blob).header;
            let mut bytes = 0;
            loop {
                let frame = peer.expect(Command::Data);
                bytes += frame.payload.len();
                if frame.payload.is_empty() {
                    break;
                }
            }
            let kept = Digest::of(&vec![keeps; bytes]);
            peer.answer(&put, &json!({"bytes": bytes, "sha256": kept}).to_string());
        }
    });
    assert_eq!(client.put_blob(&[b'x'; 150_000]).expect("kept").bytes, 150_000);
    let error = client.put_blob(&[b'x'; 150_000]).expect_err("other bytes");
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    peer.join().expect("the script");
}

#[test]
fn an_upload_that_is_refused_in_its_middle_ends_at_once() {
    let (mut client, _) = attached(|peer| {
        let put = peer.expect(Command::Blob).header;
        peer.refuse(&put, Code::TooLarge);
    });
    let error = client.put_blob(&vec![0; 32 << 20]).expect_err("refused");
    assert!(matches!(error, ClientError::Refused(refusal) if refusal.code == Code::TooLarge));
}

#[test]
fn a_blob_that_comes_with_other_bytes_is_refused() {
    for (sent, is_good) in [(&b"good"[..], true), (b"evil", false)] {
        let (mut client, _) = attached(move |peer| {
            let get = peer.expect(Command::Blob).header;
            peer.send(&get, Command::Data, sent);
            peer.answer(&get, "{}");
        });
        assert_eq!(client.download(&Digest::of(b"good"), &mut Vec::new()).is_ok(), is_good);
    }
}

#[test]
fn an_export_comes_file_by_file() {
    let (mut client, peer) = attached(|peer| {
        let export = peer.expect(Command::Audit).header;
        for (path, content) in [("checkpoint", &b"abc"[..]), ("tile/0/000", b"")] {
            peer.send(&export, Command::Event, &bytes(&json!({"bytes": content.len(), "path": path})));
            content.chunks(2).for_each(|chunk| peer.send(&export, Command::Data, chunk));
        }
        peer.answer(&export, r#"{"files":2}"#);
    });
    let mut files = Captured::default();
    let tenant = "acme".parse().expect("a name");
    assert_eq!(client.export_audit_log(&tenant, &mut files).expect("exported")["files"], 2);
    assert_eq!(files.files, [("checkpoint".to_owned(), b"abc".to_vec()), ("tile/0/000".to_owned(), Vec::new())]);
    peer.join().expect("the script");
}
