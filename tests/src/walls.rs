//! Which room may use which: the arrows of the design, read from what cargo says, so that no wall falls unnoticed.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Each crate of the workspace with the crates of the workspace that it may use directly, outside its own tests.
///
/// `remand-tests` attacks the whole product and may use anything; nothing may use it.
pub const ARROWS: [(&str, &[&str]); 15] = [
    ("remand-model", &[]),
    ("remand-image", &["remand-model"]),
    ("remand-spec", &[]),
    ("remand-sys", &[]),
    ("remand-spawner", &["remand-spec", "remand-sys"]),
    ("remand-inside", &["remand-spec", "remand-sys"]),
    ("remand-authority", &["remand-model"]),
    ("remand-policy", &["remand-model", "remand-spec"]),
    ("remand-ledger", &["remand-model"]),
    ("remand-cgroup", &["remand-model"]),
    ("remand-host", &["remand-model", "remand-cgroup", "remand-spec"]),
    ("remand-engine", &["remand-model", "remand-authority", "remand-policy", "remand-ledger", "remand-spec"]),
    (
        "remand-daemon",
        &[
            "remand-model",
            "remand-authority",
            "remand-policy",
            "remand-ledger",
            "remand-cgroup",
            "remand-host",
            "remand-image",
            "remand-engine",
            "remand-spec",
        ],
    ),
    ("remand-client", &["remand-model"]),
    (
        "remand-cli",
        &["remand-model", "remand-client", "remand-host", "remand-policy", "remand-ledger", "remand-authority"],
    ),
];

/// The one crate that may use everything.
pub const SUITES: &str = "remand-tests";

/// Direct edges between crates of the workspace, tests' own edges left out.
#[must_use]
pub fn edges(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members = member_names(metadata);
    packages(metadata)
        .filter(|package| members.contains(text(&package["name"])))
        .map(|package| {
            let uses = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| text(&dependency["kind"]) != "dev")
                .map(|dependency| text(&dependency["name"]).to_owned())
                .filter(|name| members.contains(name.as_str()))
                .collect();
            (text(&package["name"]).to_owned(), uses)
        })
        .collect()
}

/// Edges that no arrow allows, and crates that the table does not know.
#[must_use]
pub fn breaches(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut found = Vec::new();
    for (from, uses) in edges {
        if from == SUITES {
            continue;
        }
        let Some(allowed) = arrows.get(from.as_str()) else {
            found.push(format!("`{from}` is in no row of the table of arrows"));
            continue;
        };
        let forbidden = uses.iter().filter(|to| !allowed.contains(&to.as_str()));
        found.extend(forbidden.map(|to| format!("`{from}` may not use `{to}`")));
    }
    found
}

/// Everything that a crate reaches over any number of edges.
#[must_use]
pub fn reach(edges: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(next) = open.pop() {
        for to in edges.get(&next).into_iter().flatten() {
            if seen.insert(to.clone()) {
                open.push(to.clone());
            }
        }
    }
    seen
}

/// Crates of `shim/` that reach a crate outside it.
#[must_use]
pub fn shim_escapes(edges: &BTreeMap<String, BTreeSet<String>>, shim: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for from in shim {
        let outside = reach(edges, from).into_iter().filter(|to| !shim.contains(to));
        found.extend(outside.map(|to| format!("`{from}` of shim/ reaches `{to}`")));
    }
    found
}

/// The crates whose manifest lies below `folder` of the root.
#[must_use]
pub fn crates_below(metadata: &Value, folder: &str) -> BTreeSet<String> {
    let prefix = format!("{}/{folder}/", text(&metadata["workspace_root"]));
    packages(metadata)
        .filter(|package| text(&package["manifest_path"]).starts_with(&prefix))
        .map(|package| text(&package["name"]).to_owned())
        .collect()
}

/// `name version` of all that is compiled into, or runs while compiling, the named crates; sorted.
#[must_use]
pub fn closure(metadata: &Value, crates: &BTreeSet<String>) -> Vec<String> {
    let nodes: BTreeMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array().expect("nodes").iter().map(|node| (text(&node["id"]), node)).collect();
    let by_id: BTreeMap<&str, &Value> = packages(metadata).map(|package| (text(&package["id"]), package)).collect();
    let mut open: Vec<&str> =
        by_id.iter().filter(|(_, package)| crates.contains(text(&package["name"]))).map(|(id, _)| *id).collect();
    let mut seen: BTreeSet<&str> = open.iter().copied().collect();
    while let Some(id) = open.pop() {
        for dependency in nodes[id]["deps"].as_array().expect("deps") {
            let to = text(&dependency["pkg"]);
            if ships(dependency) && seen.insert(to) {
                open.push(to);
            }
        }
    }
    let mut list: Vec<String> =
        seen.iter().map(|id| format!("{} {}", text(&by_id[id]["name"]), text(&by_id[id]["version"]))).collect();
    list.sort();
    list
}

/// Used outside tests: normally or by a build script.
fn ships(dependency: &Value) -> bool {
    dependency["dep_kinds"].as_array().expect("kinds").iter().any(|kind| text(&kind["kind"]) != "dev")
}

fn member_names(metadata: &Value) -> BTreeSet<&str> {
    let members = metadata["workspace_members"].as_array().expect("members");
    packages(metadata)
        .filter(|package| members.contains(&package["id"]))
        .map(|package| text(&package["name"]))
        .collect()
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().expect("packages").iter()
}

/// The text of a field; a missing one (`"kind": null` is a normal dependency) is empty.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
