//! The command line as it is promised: its help is a golden file.

use std::fs;

use clap::{Command, CommandFactory};

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/help.txt");

fn pages(command: &mut Command, name: &str, out: &mut String) {
    let page = command.render_long_help().to_string();
    let page: String = page.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    out.push_str(&format!("===== {name}\n{page}\n"));
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for sub in names {
        if let Some(command) = command.find_subcommand_mut(&sub) {
            pages(command, &format!("{name} {sub}"), out);
        }
    }
}

/// `REMAND_BLESS=1 cargo test -p remand-cli help` writes the golden file anew.
#[test]
fn the_help_of_every_command_is_the_golden_file() {
    let mut command = Arguments::command().term_width(100).max_term_width(100);
    command.build();
    let mut found = String::new();
    pages(&mut command, "remand", &mut found);
    if std::env::var_os("REMAND_BLESS").is_some() {
        fs::write(GOLDEN, &found).expect("written");
    }
    let golden = fs::read_to_string(GOLDEN).expect("the golden file");
    let differs = found.lines().zip(golden.lines()).position(|(found, golden)| found != golden);
    assert!(found == golden, "line {differs:?} differs; run with REMAND_BLESS=1 and look at the difference");
}

#[test]
fn the_definition_of_the_command_line_holds_together() {
    Arguments::command().debug_assert();
}

#[test]
fn a_tenant_that_is_no_name_is_refused_at_the_edge() {
    for bad in ["../x", "A", "", "a b", "é"] {
        assert!(Arguments::try_parse_from(["remand", "ps", "--tenant", bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn an_export_is_never_verified_without_a_key_from_elsewhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = dir.path().display().to_string();
    let parsed = Arguments::try_parse_from(["remand", "audit", "verify", &place]).expect("parsed");
    let Verb::Audit(verb) = &parsed.verb else { panic!("another command") };
    let failure = crate::audit::audit(&parsed.global, verb).expect_err("refused");
    assert!(failure.line().contains("--key"), "{}", failure.line());
}

#[test]
fn a_proof_is_asked_for_in_its_own_format_beside_the_commands() {
    let id = format!("exec_{}", "0".repeat(32));
    let given = ["remand", "-o", "json", "proof", id.as_str(), "--format", "slsa"];
    let parsed = Arguments::try_parse_from(given).expect("understood");
    let crate::verbs::Verb::Proof(proof) = &parsed.verb else { panic!("another command") };
    assert_eq!((parsed.global.format, proof.format), (crate::verbs::Format::Json, crate::verbs::ProofFormat::Slsa));
}
