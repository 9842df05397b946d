//! A harness for suites whose cases may find that a host lacks what they need: one line a case, skips said and counted.
//!
//! Output: `ok NAME`, `FAILED NAME: why`, `skipped NAME: why`, on stdout. Exit code 1 when a case failed.
//! Arguments: words that a case's name must contain one of; `--list` prints the names.

use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// How a case ended, when it did not panic.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What the name says was shown.
    Proved,
    /// The host lacks something; it says what.
    Skipped(String),
}

/// A case: the sentence it proves, and the function that proves it by not panicking.
pub type Case = (&'static str, fn() -> Verdict);

/// Makes the list of cases from functions, named as they are.
#[macro_export]
macro_rules! cases {
    ($($case:path),* $(,)?) => { &[$((stringify!($case), $case as fn() -> $crate::suite::Verdict)),*] };
}

/// Runs the cases that the process's arguments choose, one after the other.
pub fn main(cases: &[Case]) -> ExitCode {
    let (options, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    let mut stdout = std::io::stdout();
    let chosen =
        cases.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word.as_str())));
    if options.iter().any(|option| option == "--list") {
        chosen.for_each(|(name, _)| say(&mut stdout, name));
        return ExitCode::SUCCESS;
    }
    if run(chosen, &mut stdout) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs cases and writes their lines; false when one failed.
pub fn run<'a>(cases: impl Iterator<Item = &'a Case>, out: &mut impl Write) -> bool {
    let mut all_held = true;
    for (name, case) in cases {
        match panic::catch_unwind(AssertUnwindSafe(case)) {
            Ok(Verdict::Proved) => say(out, &format!("ok {name}")),
            Ok(Verdict::Skipped(why)) => say(out, &format!("skipped {name}: {}", one_line(&why))),
            Err(payload) => {
                all_held = false;
                say(out, &format!("FAILED {name}: {}", one_line(&message(payload.as_ref()))));
            }
        }
    }
    all_held
}

fn say(out: &mut impl Write, line: &str) {
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("stdout takes a line");
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

/// What a job printed may be part of a message: no byte of it may start a line of its own or move a cursor.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proves() -> Verdict {
        Verdict::Proved
    }
    fn skips() -> Verdict {
        Verdict::Skipped("no\nkernel".to_owned())
    }
    fn panics() -> Verdict {
        panic!("broken: {}", 1 + 1)
    }

    #[test]
    fn each_case_leaves_one_line_and_a_panic_fails_the_suite() {
        let mut out = Vec::new();
        assert!(!run(cases![proves, skips, panics].iter(), &mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok proves\nskipped skips: no\\nkernel\nFAILED panics: broken: 2\n"
        );
    }

    #[test]
    fn skips_do_not_fail_a_suite() {
        assert!(run(cases![proves, skips].iter(), &mut Vec::new()));
    }
}
