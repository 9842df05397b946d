//! The house style, held over every file of the checkout; each rule is first shown a sample that breaks it.
#![forbid(unsafe_code)]

use remand_tests::repository::{self, File};
use remand_tests::{licences, tidy};

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

fn over(files: &[File], rule: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    files.iter().flat_map(rule).collect()
}

fn sample(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn files_stay_below_their_wall() {
    assert_eq!(tidy::long_file(&sample("a.rs", &"x\n".repeat(tidy::FILE_LINES_MAX + 1))).len(), 1);
    assert_none(tidy::long_file(&sample("a.rs", &"x\n".repeat(tidy::FILE_LINES_MAX))));
    assert_none(over(&repository::rust_files(), tidy::long_file));
}

#[test]
fn functions_stay_below_their_wall() {
    let long = format!("fn f() {{\n{}}}\n", "a();\n".repeat(tidy::FUNCTION_LINES_MAX - 1));
    assert_eq!(tidy::long_functions(&sample("a.rs", &long)).len(), 1);
    let fits = format!("fn f() {{\n{}}}\n", "a();\n".repeat(tidy::FUNCTION_LINES_MAX - 2));
    assert_none(tidy::long_functions(&sample("a.rs", &fits)));
    assert_none(over(&repository::rust_files(), tidy::long_functions));
}

#[test]
fn every_file_says_first_what_it_is_responsible_for() {
    assert_eq!(tidy::headless(&sample("a.rs", "use x;\n")).len(), 1);
    assert_none(over(&repository::rust_files(), tidy::headless));
}

#[test]
fn unsafe_has_one_address() {
    let body = "fn f() { unsafe { g() } }\n";
    assert_eq!(tidy::misplaced_unsafe(&sample("runtime/x.rs", body)).len(), 1);
    assert_none(tidy::misplaced_unsafe(&sample("runtime/x.rs", "// unsafe\nconst A: &str = \"unsafe\";\n")));
    assert_none(over(&repository::rust_files(), tidy::misplaced_unsafe));
}

#[test]
fn every_other_crate_forbids_unsafe_at_its_head() {
    assert_eq!(
        tidy::unforbidden_unsafe(&sample("runtime/x/src/lib.rs", "//! x\n// #![forbid(unsafe_code)]\n")).len(),
        1
    );
    let files = repository::rust_files();
    let heads = repository::crate_heads(&repository::metadata());
    assert!(heads.len() >= 15, "cargo names only {} crates", heads.len());
    let heads: Vec<File> = files.into_iter().filter(|file| heads.contains(&file.path)).collect();
    assert_none(over(&heads, tidy::unforbidden_unsafe));
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let bare = "fn f() {\n    // it is fine\n    unsafe { g() }\n}\n";
    assert_eq!(tidy::unexplained_unsafe(&sample("a.rs", bare)).len(), 1);
    let far = "// SAFETY: of something else.\nlet a = 1;\nlet b = unsafe { g() };\n";
    assert_eq!(tidy::unexplained_unsafe(&sample("a.rs", far)).len(), 1);
    let noted = "// SAFETY: `fd` is open for the call,\n// because it is borrowed.\nlet a =\n    unsafe { g() };\n";
    assert_none(tidy::unexplained_unsafe(&sample("a.rs", noted)));
    assert_none(over(&repository::rust_files(), tidy::unexplained_unsafe));
}

#[test]
fn no_result_is_thrown_away_without_a_word() {
    assert_eq!(tidy::discarded_results(&sample("a.rs", "let _ = f();\nlet _: R = f();\nlet _kept = f();\n")).len(), 2);
    assert_none(over(&repository::rust_files(), tidy::discarded_results));
}

#[test]
fn nothing_names_the_place_it_was_written_at() {
    for word in tidy::forbidden_words() {
        assert!(!tidy::forbidden(&sample("a.md", &format!("see {} here", word.to_uppercase()))).is_empty(), "{word}");
    }
    assert_none(over(&repository::files(), tidy::forbidden));
}

#[test]
fn every_decision_record_is_complete() {
    let bad = sample("runtime/decisions/first.md", "# Title\n## Context\n## Decision\n");
    assert_eq!(tidy::incomplete_decision(&bad).len(), 3);
    let decisions: Vec<File> =
        repository::files().into_iter().filter(|file| file.path.starts_with("runtime/decisions/")).collect();
    assert_none(over(&decisions, tidy::incomplete_decision));
    let mut numbers: Vec<&str> = decisions.iter().filter_map(|file| file.path.split(['/', '-']).nth(2)).collect();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "two decision records share a number");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let text = "- held: `a_real_test_name`\n- bare\n- stale: `kernel::no_such_test_name`\n";
    let names = ["a_real_test_name".to_owned()].into();
    assert_eq!(tidy::unproved_promises(&sample("S.md", text), &names).len(), 2);
    let files = repository::files();
    let Some(specification) = files.iter().find(|file| file.path == "runtime/SPECIFICATION.md") else {
        eprintln!("skipped: every_promise_names_a_test_that_exists: runtime/SPECIFICATION.md is not written yet");
        return;
    };
    assert_none(tidy::unproved_promises(specification, &tidy::names(&files)));
}

#[test]
fn the_root_holds_only_the_fixed_folders() {
    let folders = std::fs::read_dir(repository::root()).unwrap().map(Result::unwrap);
    let names = folders.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.file_name().into_string().unwrap());
    let others: Vec<String> = names
        .filter(|name| !name.starts_with('.') && name != "target" && !tidy::TOP_FOLDERS.contains(&name.as_str()))
        .collect();
    assert_none(others);
}

#[test]
fn dependencies_are_permissive_and_come_from_the_registry() {
    assert_none(licences::refusals(&repository::metadata()));
}

#[test]
fn cargo_deny_is_told_the_same_licences() {
    let files = repository::files();
    let deny = &files.iter().find(|file| file.path == "deny.toml").expect("deny.toml").text;
    let missing = licences::PERMISSIVE.iter().filter(|licence| !deny.contains(&format!("\"{licence}\"")));
    assert_none(missing.map(|licence| format!("deny.toml lacks {licence}")).collect());
}
