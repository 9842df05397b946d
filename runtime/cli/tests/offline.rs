//! Commands that need no daemon.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use remand_model::Digest;
use serde_json::Value;

const REMAND: &str = env!("CARGO_BIN_EXE_remand");

fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(REMAND);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(input).expect("written");
    child.wait_with_output().expect("ended")
}

#[test]
fn canon_prints_exactly_the_canonical_bytes_or_their_hash() {
    let document = " {\"b\": [1, \"é\"], \"a\": null} \n".as_bytes();
    let canonical = br#"{"a":null,"b":[1,"\u00e9"]}"#;
    assert_eq!(fed(&["canon"], document).stdout, canonical);
    let hash = String::from_utf8(fed(&["canon", "--hash"], document).stdout).expect("text");
    assert_eq!(hash, format!("{}\n", Digest::of(canonical).to_hex()));
}

#[test]
fn canon_refuses_with_65_and_a_reason() {
    for bad in [&b"[1.0]"[..], b"", b"{\"a\":1,\"a\":2}", b"\xff", b"[-0]", b"[9007199254740992]"] {
        let output = fed(&["canon"], bad);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(65), 0), "{bad:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn canon_of_lines_gives_a_line_for_a_line() {
    let output = fed(&["canon", "--lines"], b"[1, 2]\n[1.5]\n{}");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(65), &b"[1,2]\n\n{}\n"[..]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("document 2"));
}

#[test]
fn schema_policies_completions_and_pages_need_no_daemon() {
    let schema: Value = serde_json::from_slice(&fed(&["schema"], b"").stdout).expect("json");
    assert!(schema["properties"]["cause"].is_object());
    let listed = String::from_utf8(fed(&["policy", "list"], b"").stdout).expect("text");
    assert!(listed.contains("batch") && listed.contains("python"), "{listed}");
    assert_eq!(fed(&["policy", "check", "batch"], b"").status.code(), Some(0));
    assert!(!fed(&["policy", "explain", "batch"], b"").stdout.is_empty());
    assert_eq!(fed(&["policy", "explain", "bacth"], b"").status.code(), Some(125));
    assert!(fed(&["completions", "bash"], b"").stdout.len() > 1000);
    assert!(fed(&["man"], b"").stdout.starts_with(b".ie"));
}
