//! Every call of the client is shown once by a program that compiles.

use std::fs;
use std::path::Path;

fn texts(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).expect("our own folder");
    let files = entries.map(|entry| entry.expect("our own folder").path());
    files.map(|path| fs::read_to_string(path).expect("source is text")).collect()
}

/// Names of the public functions in the blocks `impl Client`.
fn calls() -> Vec<String> {
    let mut calls = Vec::new();
    for text in texts("src") {
        for block in text.split("impl Client {").skip(1) {
            let block = block.split("\n}").next().unwrap_or_default();
            let names = block.split("pub fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            calls.extend(names.map(str::to_owned));
        }
    }
    calls
}

#[test]
fn every_call_of_the_client_has_an_example() {
    let (calls, examples) = (calls(), texts("examples").concat());
    assert!(calls.iter().any(|call| call == "export_audit_log") && calls.len() > 15, "{calls:?}");
    let used = |call: &&String| !["(", "::<"].iter().any(|open| examples.contains(&format!("{call}{open}")));
    let missing: Vec<_> = calls.iter().filter(used).collect();
    assert!(missing.is_empty(), "without an example: {missing:?}");
}
