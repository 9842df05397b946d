//! The size of the trusted base, printed and held.
#![forbid(unsafe_code)]

use remand_tests::budget;
use remand_tests::repository::{self, File};

#[test]
fn a_base_that_is_too_large_or_gone_is_found() {
    let of = |lines: usize| {
        let text = "x();\n".repeat(lines);
        let file = |folder: &&str| File { path: format!("{folder}src/a.rs"), text: text.clone() };
        budget::sizes(&budget::FOLDERS.iter().map(file).collect::<Vec<_>>())
    };
    assert!(budget::overrun(&of(budget::LINES_MAX / 4)).is_none());
    assert!(budget::overrun(&of(budget::LINES_MAX / 4 + 1)).is_some());
    assert!(budget::overrun(&of(0)).is_some());
}

#[test]
fn the_trusted_base_fits_its_budget() {
    let sizes = budget::sizes(&repository::rust_files());
    for size in &sizes {
        eprintln!("trusted base: {:<15} {:>5} lines, {:>5} of code", size.folder, size.lines, size.code);
    }
    let (lines, code) = sizes.iter().fold((0, 0), |sum, size| (sum.0 + size.lines, sum.1 + size.code));
    eprintln!("trusted base: {:<15} {lines:>5} lines, {code:>5} of code, budget {}", "all", budget::LINES_MAX);
    assert_eq!(budget::overrun(&sizes), None);
}
