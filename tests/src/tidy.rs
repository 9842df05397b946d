//! The house style's rules that a machine can hold. Each takes text and returns findings; an empty list is a pass.

use crate::repository::File;
use crate::source;
use std::collections::BTreeSet;

/// The longest Rust file, in lines.
pub const FILE_LINES_MAX: usize = 500;
/// The longest function, in lines.
pub const FUNCTION_LINES_MAX: usize = 70;
/// The one folder that may hold unsafe code.
pub const UNSAFE_FOLDER: &str = "shim/sys/";
/// The headings of a decision record, in lower case.
pub const DECISION_HEADINGS: [&str; 4] = ["context", "decision", "consequences", "what would change our mind"];
/// The folders that the root may hold, beside hidden ones.
pub const TOP_FOLDERS: [&str; 5] = ["runtime", "shim", "policies", "tests", "scripts"];

fn finding(file: &File, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", file.path)
}

/// Files longer than the wall.
#[must_use]
pub fn long_file(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![finding(file, lines, &format!("{lines} lines, at most {FILE_LINES_MAX}: split it by responsibility"))]
}

/// Functions longer than the wall.
#[must_use]
pub fn long_functions(file: &File) -> Vec<String> {
    source::functions(&file.text)
        .into_iter()
        .filter(|function| function.lines > FUNCTION_LINES_MAX)
        .map(|f| finding(file, f.line, &format!("`{}` has {} lines, at most {FUNCTION_LINES_MAX}", f.name, f.lines)))
        .collect()
}

/// A file that does not start with its doc line.
#[must_use]
pub fn headless(file: &File) -> Vec<String> {
    let first = file.text.lines().find(|line| !line.starts_with("#!") && !line.trim().is_empty());
    if first.is_some_and(|line| line.starts_with("//!")) {
        return Vec::new();
    }
    vec![finding(file, 1, "starts without a `//!` line that says what it is responsible for")]
}

/// The word `unsafe` outside the one folder that may hold it.
#[must_use]
pub fn misplaced_unsafe(file: &File) -> Vec<String> {
    if file.path.starts_with(UNSAFE_FOLDER) {
        return Vec::new();
    }
    words(file, "unsafe", &format!("unsafe code outside {UNSAFE_FOLDER}"))
}

/// A crate whose head does not forbid unsafe code.
#[must_use]
pub fn unforbidden_unsafe(head: &File) -> Vec<String> {
    if head.path.starts_with(UNSAFE_FOLDER) || head.text.lines().any(|line| line == "#![forbid(unsafe_code)]") {
        return Vec::new();
    }
    vec![finding(head, 1, "this crate's head lacks `#![forbid(unsafe_code)]`")]
}

/// Unsafe blocks and impls without a SAFETY note directly above their statement.
#[must_use]
pub fn unexplained_unsafe(file: &File) -> Vec<String> {
    let blanked = source::blank(&file.text);
    let lines: Vec<&str> = file.text.lines().collect();
    source::occurrences(&blanked, "unsafe")
        .into_iter()
        .filter(|at| {
            let after = blanked[at + "unsafe".len()..].trim_start();
            after.starts_with('{') || after.starts_with("impl")
        })
        .map(|at| source::line_of(&blanked, at))
        .filter(|line| !has_safety_note(&lines, *line))
        .map(|line| finding(file, line, "unsafe without a `// SAFETY:` note above it"))
        .collect()
}

/// Looks upwards from `line` (counted from 1) through the statement's own lines, then its comment.
fn has_safety_note(lines: &[&str], line: usize) -> bool {
    let above = lines[..line - 1].iter().rev().map(|text| text.trim());
    let mut in_comment = false;
    for text in above {
        if text.starts_with("//") {
            in_comment = true;
            if text.starts_with("// SAFETY:") {
                return true;
            }
        } else if in_comment || text.is_empty() || text.ends_with([';', '{', '}']) {
            return false;
        }
    }
    false
}

/// `let _ =`, which throws an error away without a word.
#[must_use]
pub fn discarded_results(file: &File) -> Vec<String> {
    let blanked = source::blank(&file.text);
    source::occurrences(&blanked, "let")
        .into_iter()
        .filter(|at| {
            let after = blanked[at + 3..].trim_start();
            after.strip_prefix('_').is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
        })
        .map(|at| finding(file, source::line_of(&blanked, at), "`let _ =`: handle it, or say why it may be dropped"))
        .collect()
}

fn words(file: &File, word: &str, what: &str) -> Vec<String> {
    let blanked = source::blank(&file.text);
    source::occurrences(&blanked, word)
        .into_iter()
        .map(|at| finding(file, source::line_of(&blanked, at), what))
        .collect()
}

/// What must not be committed: where it was written, and by what ticket. Spelt in halves, so that this file is clean.
#[must_use]
pub fn forbidden_words() -> Vec<String> {
    [
        ["issue ", "#"],
        ["issues ", "show"],
        ["/work/", "main"],
        ["/work/", "shared"],
        ["/work/", "."],
        ["../sha", "red/"],
        ["BRIEF", ".md"],
        ["VM", ".md"],
        ["/process", "_api"],
        ["disabled-by", "-farm"],
        ["artifact", "-registry"],
        ["clau", "de"],
        ["anthro", "pic"],
    ]
    .map(|halves| halves.concat().to_lowercase())
    .to_vec()
}

/// Lines with one of the forbidden words, in any case of letters.
#[must_use]
pub fn forbidden(file: &File) -> Vec<String> {
    let forbidden = forbidden_words();
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let line = line.to_lowercase();
        for word in forbidden.iter().filter(|word| line.contains(*word)) {
            found.push(finding(file, number + 1, &format!("`{word}` has no place in this repository")));
        }
    }
    found
}

/// A decision record that lacks one of its headings, or whose name is not `NNNN-title.md`.
#[must_use]
pub fn incomplete_decision(file: &File) -> Vec<String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let numbered = name.len() > 8 && name[..4].bytes().all(|b| b.is_ascii_digit()) && name.as_bytes()[4] == b'-';
    let mut found = Vec::new();
    if !numbered {
        found.push(finding(file, 1, "a decision record is named NNNN-title.md"));
    }
    let headings: Vec<String> = file
        .text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .collect();
    for heading in DECISION_HEADINGS.iter().filter(|heading| !headings.iter().any(|h| h == *heading)) {
        found.push(finding(file, 1, &format!("lacks the heading \"{heading}\"")));
    }
    found
}

/// Every function of the Rust files and every `def` of the Python files: what a promise can name.
#[must_use]
pub fn names(files: &[File]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files {
        if file.path.ends_with(".rs") {
            names.extend(source::functions(&file.text).into_iter().map(|function| function.name));
        } else if file.path.ends_with(".py") {
            let defs = file.text.lines().filter_map(|line| line.trim_start().strip_prefix("def "));
            names.extend(defs.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
    names
}

/// Promises (list items and table rows) of a specification that name no test, or one that does not exist.
#[must_use]
pub fn unproved_promises(specification: &File, tests: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (line, promise) in promises(&specification.text) {
        let named: Vec<&str> = promise.split('`').skip(1).step_by(2).filter(|word| is_sentence(word)).collect();
        if named.is_empty() {
            found.push(finding(specification, line, "a promise that names no test"));
        }
        for name in named {
            let last = name.rsplit("::").next().unwrap_or(name);
            if !tests.contains(last) {
                found.push(finding(specification, line, &format!("there is no test `{name}`")));
            }
        }
    }
    found
}

/// A test's name is a sentence: at least three words.
fn is_sentence(word: &str) -> bool {
    let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b':');
    plain && word.rsplit("::").next().unwrap_or(word).matches('_').count() >= 2
}

/// List items with their continuation lines, and table rows below a rule.
fn promises(text: &str) -> Vec<(usize, String)> {
    let mut promises: Vec<(usize, String)> = Vec::new();
    let (mut open, mut in_table) = (false, false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("|--") || line.starts_with("| --") || line.starts_with("|:-") {
            in_table = true;
        } else if line.starts_with("- ") || (in_table && line.starts_with('|')) {
            promises.push((number + 1, line.to_owned()));
            open = line.starts_with("- ");
        } else if open && line.starts_with("  ") {
            let last = promises.last_mut().expect("an open promise");
            last.1.push_str(line);
        } else {
            open = false;
            in_table = false;
        }
    }
    promises
}
