//! Who the node is: its name, its keys, its first token, its place in the cluster. Needs root.

mod kit;

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use kit::{audit, place, run, text};
use remand_ledger::merkle::{leaf_hash, verify_inclusion};
use remand_model::Digest;
use remand_model::canonical;
use serde_json::{Value, json};

fn digest(value: &Value) -> Digest {
    value.as_str().expect("a digest").parse().expect("a digest")
}

#[test]
fn the_node_shows_its_configured_name_and_the_keys_that_verify_it_and_keeps_both() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let mut client = place.client("local");
    let node = client.list_cluster_nodes().expect("nodes")["nodes"][0].clone();
    assert_eq!(node["node_id"], "node1.example");
    let root = audit(&mut client, &json!({"what": "root"}));
    assert_eq!(node["attest_key"], root["attest_key"], "statements are signed with it");
    assert!(text(&root, "origin").starts_with("node1.example/audit/"));
    assert_eq!(client.node_state().expect("a state")["node_id"], "node1.example");
    assert!(daemon.stop().success());
    let daemon = place.start();
    let again = place.client("local").list_cluster_nodes().expect("nodes")["nodes"][0].clone();
    assert_eq!((&again["attest_key"], &again["log_key"]), (&node["attest_key"], &node["log_key"]));
    assert!(daemon.stop().success());
    let said = place.refused_with(&["--node-id", "node2.example"]);
    assert!(said.contains("named node1.example"), "{said}");
}

#[test]
fn the_clusters_root_covers_every_chain_and_proves_ones_own() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    drop(place.client("acme"));
    let before = client.get_cluster_root().expect("a root");
    assert_eq!(before, client.get_cluster_root().expect("a root"), "nothing happened");
    assert_eq!(before["chains"].as_u64(), before["heads"].as_array().map(|heads| heads.len() as u64));
    run(&mut client, "one", "true");
    let after = client.get_cluster_root().expect("a root");
    assert_ne!(before["cluster_root"], after["cluster_root"]);
    assert_eq!(before["membership_hash"], after["membership_hash"]);

    let own = &after["own"];
    assert_eq!(own["root_hash"], audit(&mut client, &json!({"what": "root"}))["root_hash"]);
    let leaf = json!({"origin": own["origin"], "root_hash": own["root_hash"], "tree_size": own["tree_size"]});
    let leaf = leaf_hash(&canonical::to_bytes(&canonical::from_serialize(&leaf).expect("canonical")));
    let path: Vec<Digest> = own["path"].as_array().expect("a path").iter().map(digest).collect();
    let (index, size) = (own["index"].as_u64().expect("a place"), after["chains"].as_u64().expect("a number"));
    verify_inclusion(&leaf, index, size, &path, &digest(&after["cluster_root"])).expect("the path leads to the root");
}

#[test]
fn the_first_token_is_roots_file_and_the_daemon_cannot_change_it() {
    let Some(place) = place() else { return };
    let daemon = place.start();
    let file = place.state("admin.token");
    let found = std::fs::metadata(&file).expect("made at the first start");
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (0, 0, 0o600));
    let token = std::fs::read_to_string(&file).expect("root reads it");
    let mut client = remand_client::Client::connect(&place.path().join("run/root.sock")).expect("it listens");
    client.hello().expect("it greets");
    client.attach(&"local".parse().expect("a name"), Some(token.trim())).expect("the token is good");

    let daemons = std::fs::metadata(place.state("keys")).expect("the daemon's own");
    assert_ne!(daemons.uid(), 0);
    for attempt in ["echo x >FILE", "mv FILE FILE.old", "rm -f FILE", "cat FILE", "ln FILE FILE.link"] {
        let script = attempt.replace("FILE", &file.display().to_string());
        let tried = Command::new("/bin/sh").args(["-c", &script]).uid(daemons.uid()).gid(daemons.gid()).output();
        assert!(!tried.expect("a shell").status.success(), "{attempt}");
    }
    assert!(daemon.stop().success());
    let _daemon = place.start();
    assert_eq!(std::fs::read_to_string(&file).expect("root reads it"), token, "it is written once");
}
