//! Canonical JSON against `CPython` on random documents: a small sample of `scripts/canon-differential`.

use std::path::Path;
use std::process::Command;

use remand_model::canonical::{parse, to_bytes};

#[test]
fn canonical_bytes_equal_those_of_cpython_on_random_documents() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/canon-differential");
    let seed = std::process::id().to_string();
    let Ok(output) = Command::new("python3").arg(script).args(["--emit", "20000", &seed]).output() else {
        eprintln!("skipped: canonical JSON is not compared with CPython, install python3");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').collect();
    let mut accepted = 0;
    for pair in lines.as_chunks::<2>().0 {
        let [document, expected] = *pair;
        let ours = parse(document).map_or(b"!".to_vec(), |value| to_bytes(&value));
        let spelled = String::from_utf8_lossy(document);
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(expected), "seed {seed}: {spelled}");
        accepted += usize::from(expected != b"!");
    }
    assert!(accepted > 5000, "only {accepted} documents lie in the domain");
}
