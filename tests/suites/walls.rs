//! The walls between the rooms: who may use whom, and all that the trusted base is made of.
#![forbid(unsafe_code)]

use remand_tests::{repository, walls};
use std::collections::{BTreeMap, BTreeSet};

/// All that is compiled into the spawner or the shim. A change of this list is a change of what must be trusted.
const SHIM_CLOSURE: &str = include_str!("../data/shim-closure.txt");

fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
    edges.iter().map(|(from, to)| ((*from).to_owned(), to.iter().map(|to| (*to).to_owned()).collect())).collect()
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_forbidden_edge_and_an_unknown_crate_are_found() {
    let edges =
        graph(&[("remand-client", &["remand-engine"]), ("remand-surprise", &[]), ("remand-tests", &["remand-sys"])]);
    assert_eq!(
        walls::breaches(&edges),
        ["`remand-client` may not use `remand-engine`", "`remand-surprise` is in no row of the table of arrows"]
    );
}

#[test]
fn every_edge_between_rooms_is_an_arrow_of_the_design() {
    let edges = walls::edges(&repository::metadata());
    assert!(edges.len() > walls::ARROWS.len(), "cargo names only {} crates", edges.len());
    assert_none(&walls::breaches(&edges));
}

#[test]
fn nothing_uses_the_suites() {
    let edges = walls::edges(&repository::metadata());
    let users: Vec<String> =
        edges.iter().filter(|(_, uses)| uses.contains(walls::SUITES)).map(|(from, _)| from.clone()).collect();
    assert_none(&users);
}

#[test]
fn only_the_daemon_and_the_command_probe_the_host() {
    let edges = walls::edges(&repository::metadata());
    let users: Vec<&str> =
        edges.iter().filter(|(_, uses)| uses.contains("remand-host")).map(|(from, _)| from.as_str()).collect();
    let allowed = ["remand-cli", "remand-daemon", walls::SUITES];
    assert!(users.iter().all(|user| allowed.contains(user)), "{users:?}");
}

#[test]
fn authority_never_reaches_the_engine() {
    let bad = graph(&[("remand-authority", &["x"]), ("x", &["remand-engine"])]);
    assert!(walls::reach(&bad, "remand-authority").contains("remand-engine"));
    let edges = walls::edges(&repository::metadata());
    assert!(!walls::reach(&edges, "remand-authority").contains("remand-engine"));
}

#[test]
fn the_shim_never_reaches_the_runtime() {
    let shim: BTreeSet<String> = ["remand-inside".to_owned(), "remand-spec".to_owned()].into();
    let bad = graph(&[("remand-inside", &["remand-spec"]), ("remand-spec", &["remand-model"])]);
    assert_eq!(walls::shim_escapes(&bad, &shim).len(), 2);
    let metadata = repository::metadata();
    let shim = walls::crates_below(&metadata, "shim");
    assert!(shim.len() >= 4, "{shim:?}");
    assert_none(&walls::shim_escapes(&walls::edges(&metadata), &shim));
}

#[test]
fn the_shim_is_made_of_exactly_what_the_list_says() {
    let found = walls::closure(&repository::metadata(), &walls::crates_below(&repository::metadata(), "shim"));
    assert!(found.iter().any(|line| line.starts_with("remand-spawner ")), "the closure lacks the spawner itself");
    let listed: Vec<&str> = SHIM_CLOSURE.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(found, listed, "tests/data/shim-closure.txt must read:\n{}\n", found.join("\n"));
}
