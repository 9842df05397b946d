//! A tenant's chain, read out of its export by rules of C2SP that are written down here once more.

use super::Told;
use crate::kit::Place;
use remand_model::TenantId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The events of an exported chain, in order, and what the offline verifier said of the export.
#[derive(Debug)]
pub struct Chain {
    events: Vec<Value>,
    /// The exit code of `remand audit verify` on the export, and what it printed.
    pub verified: (i32, String),
}

impl Chain {
    /// Exports a tenant's chain, has the export verified offline, and reads it.
    #[must_use]
    pub fn export(place: &Place, tenant: &TenantId) -> Self {
        let folder = place.path().join("export").join(tenant.as_str());
        fs::create_dir_all(folder.parent().expect("it lies in a folder")).expect("our own folder");
        let path = folder.to_str().expect("a plain path");
        drop(place.remand(&["--tenant", tenant.as_str(), "audit", "export", path]).expect(0));
        let policy = fs::read_to_string(folder.join("policy")).expect("an export names its keys");
        let key = policy.lines().find_map(|line| line.strip_prefix("log ")).expect("the log's key").to_owned();
        let checked = place.remand(&["audit", "verify", path, "--key", &key]);
        Self { events: events(&folder), verified: (checked.code(), checked.text() + &checked.complaint()) }
    }

    /// How many events it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What a client was told and the chain does not hold, in words.
    #[must_use]
    pub fn missing(&self, told: &[Told]) -> Vec<String> {
        let by_subject = self.by_subject();
        let begins = |kind: &&str| matches!(*kind, "EXECUTION_STARTED" | "EXECUTION_QUEUED");
        let taken = |id: &str| by_subject.get(id).is_some_and(|kinds| kinds.iter().any(begins));
        let is =
            |event: &u64, kind: &str| self.events.get(*event as usize).is_some_and(|found| found["event_type"] == kind);
        let of = |event: &u64, id: &str| {
            let found = self.events.get(*event as usize);
            found.is_some_and(|found| subject(found).is_some_and(|subject| subject == id))
        };
        let held = |told: &&Told| match told {
            Told::Ended(id, first, last) => {
                is(first, "EXECUTION_STARTED") && of(first, id.as_str()) && of(last, id.as_str()) && first < last
            }
            Told::Taken(id) => taken(id.as_str()),
            Told::Written(event) => is(event, "STATE_SET"),
        };
        told.iter().filter(|told| !held(told)).map(|told| format!("{told:?}")).collect()
    }

    /// How many executions it tells of.
    #[must_use]
    pub fn executions(&self) -> usize {
        self.by_subject().len()
    }

    /// Executions with another number of starts or ends than one, in words.
    #[must_use]
    pub fn unbalanced(&self) -> Vec<String> {
        let is_end = |kind: &&&str| !matches!(**kind, "EXECUTION_STARTED" | "EXECUTION_QUEUED");
        let counted = self.by_subject().into_iter().map(|(id, kinds)| {
            let starts = kinds.iter().filter(|kind| **kind == "EXECUTION_STARTED").count();
            (id, starts, kinds.iter().filter(is_end).count(), kinds)
        });
        // A step that was refused has an end and no start.
        let bad = counted.filter(|(_, starts, ends, _)| *ends != 1 || *starts > 1);
        bad.map(|(id, _, _, kinds)| format!("{id}: {kinds:?}")).collect()
    }

    fn by_subject(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for event in &self.events {
            let (Some(subject), Some(kind)) = (subject(event), event["event_type"].as_str()) else { continue };
            if kind.starts_with("EXECUTION_") {
                found.entry(subject).or_default().push(kind);
            }
        }
        found
    }
}

/// The id of the execution that an event is about, where it is about one.
fn subject(event: &Value) -> Option<&str> {
    event["subject"].as_str()?.strip_prefix("execution:")
}

/// The entries of an export: bundles in the order of their names, each entry behind its length in two bytes, big-endian.
fn events(folder: &Path) -> Vec<Value> {
    let mut bundles = files(&folder.join("tile/entries"));
    // `x001/000` comes behind `999`, and a partial bundle `012.p/34` behind all whole ones.
    bundles.sort_by_key(|path| {
        let text = path.strip_prefix(folder).expect("below").display().to_string();
        let whole = text.split(".p/").next().unwrap_or_default().replace("tile/entries/", "");
        whole.split('/').fold(0_u64, |number, part| {
            number * 1000 + part.trim_start_matches('x').parse::<u64>().expect("a bundle's number")
        })
    });
    bundles.iter().flat_map(|bundle| entries(&fs::read(bundle).expect("our own export"))).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).expect("our own export").map(|entry| entry.expect("our own export").path());
    found.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn entries(mut bundle: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at(u16::from_be_bytes(*length).into());
        found.push(serde_json::from_slice(entry).expect("an entry is JSON"));
        bundle = rest;
    }
    found
}
