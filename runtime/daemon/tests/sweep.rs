//! What a sweep takes and what it leaves: blobs by their references, unpacked images by their last use. Needs root.
#![forbid(unsafe_code)]

mod kit;

use std::fs::{File, FileTimes};
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use kit::place;
use remand_client::{Client, ClientError};
use remand_model::Digest;
use remand_model::envelope::Command;
use remand_model::refusal::Code;
use serde_json::{Value, json};

fn put(client: &mut Client, bytes: &[u8]) -> Digest {
    let mut upload = client.upload().expect("a connection");
    upload.write_all(bytes).expect("taken");
    assert_eq!(upload.finish().expect("stored").bytes, bytes.len() as u64);
    Digest::of(bytes)
}

fn blob(client: &mut Client, payload: &Value) -> Result<Value, ClientError> {
    client.ask(Command::Blob, payload)
}

fn references(client: &mut Client, digest: &Digest) -> Option<u64> {
    let all = blob(client, &json!({"what": "list"})).expect("a list");
    let row = all["blobs"].as_array().expect("rows").iter().find(|row| row["sha256"] == digest.to_hex());
    row.and_then(|row| row["references"].as_u64())
}

/// The types of the events about blobs.
fn blob_events(client: &mut Client) -> Vec<String> {
    kit::kinds(client).into_iter().filter(|kind| kind.starts_with("BLOB_")).collect()
}

#[test]
fn a_blob_goes_with_its_last_reference_and_the_chain_says_so() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let (mine, output) = (put(&mut client, b"mine"), Digest::of(b"an output\n"));
    drop(kit::run(&mut client, "writes", "echo an output"));
    assert_eq!((references(&mut client, &mine), references(&mut client, &output)), (Some(1), Some(1)));
    assert_eq!(client.sweep(false).expect("swept")["blobs"], 0);

    drop(blob(&mut client, &json!({"what": "remove", "sha256": mine})).expect("given back"));
    let again = blob(&mut client, &json!({"what": "remove", "sha256": mine}));
    assert!(matches!(again, Err(ClientError::Refused(refusal)) if refusal.code == Code::NotFound));
    let of_the_chain = blob(&mut client, &json!({"what": "remove", "sha256": output}));
    assert!(matches!(of_the_chain, Err(ClientError::Refused(refusal)) if refusal.code == Code::NotFound));

    assert_eq!(client.sweep(true).expect("looked")["blobs"], 1);
    assert_eq!(references(&mut client, &mine), Some(0), "a dry run removes nothing");
    let swept = client.sweep(false).expect("swept");
    assert_eq!((&swept["blobs"], &swept["blobs_bytes"]), (&json!(1), &json!(4)));
    assert_eq!((references(&mut client, &mine), references(&mut client, &output)), (None, Some(1)));
    assert_eq!(blob_events(&mut client), ["BLOB_STORED", "BLOB_RELEASED", "BLOB_REMOVED"]);
}

#[test]
fn an_unpacked_image_goes_after_a_day_without_use() {
    let Some(place) = place() else { return };
    let _daemon = place.start();
    let mut client = place.client("local");
    let images = place.state("images");
    for name in ["used", "unused"] {
        std::fs::create_dir(images.join(name)).expect("the daemon's folder");
    }
    let day = Duration::from_secs(25 * 3600);
    let times = FileTimes::new().set_accessed(SystemTime::now() - day);
    File::open(images.join("unused")).and_then(|folder| folder.set_times(times)).expect("ours");
    assert_eq!(client.sweep(true).expect("looked")["images"], 1);
    assert_eq!(client.sweep(false).expect("swept")["images"], 1);
    assert!(images.join("used").exists() && !images.join("unused").exists());
}
