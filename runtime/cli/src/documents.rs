//! Files that a request carries: contracts, plans, grants, descriptors, as JSON or TOML, bounded.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use remand_client::Client;
use serde_json::{Value, json};

use crate::failure::Failure;

/// The longest document, in bytes: what one frame can carry.
const DOCUMENT_BYTES_MAX: u64 = 1 << 20;
const NEXT: &str = "name a readable file";

/// Reads a document; TOML where the name ends so, else JSON. `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Value, Failure> {
    let bytes = bytes(path)?;
    let place = path.display();
    if path.extension().is_some_and(|end| end == "toml") {
        let wrong = |why: String| Failure::asked(format!("{place} is no TOML document: {why}; correct it"));
        let text = String::from_utf8(bytes).map_err(|bad| wrong(bad.to_string()))?;
        let table: toml::Table = text.parse().map_err(|bad: toml::de::Error| wrong(bad.message().to_owned()))?;
        return serde_json::to_value(table).map_err(|bad| wrong(bad.to_string()));
    }
    let wrong = |why| Failure::asked(format!("{place} is no canonical JSON: {why}; correct it"));
    remand_model::canonical::decode(&bytes).map_err(wrong)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(Failure::file("open", path, NEXT))?;
        file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes)
    };
    read.map_err(Failure::file("read", path, NEXT))?;
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        let place = path.display();
        return Err(Failure::asked(format!(
            "{place} has more than {DOCUMENT_BYTES_MAX} bytes; put large data into a blob"
        )));
    }
    Ok(bytes)
}

/// Sends the files that a contract names by `source`, and names them by `digest` instead. Sources are paths beside the
/// contract's own file.
pub(crate) fn send_sources(client: &mut Client, contract: &mut Value, path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let files = contract.pointer_mut("/program/files").and_then(Value::as_array_mut);
    for file in files.into_iter().flatten().filter_map(Value::as_object_mut) {
        let Some(source) = file.remove("source") else { continue };
        let source =
            source.as_str().ok_or_else(|| Failure::asked("a file's source is a path; correct the contract"))?;
        let digest = json!(send_file(client, &folder.join(source))?.sha256);
        match file.insert("digest".into(), digest.clone()) {
            Some(stated) if stated != digest => {
                let text = format!("{source} has digest {digest}, the contract states {stated}; correct one of them");
                return Err(Failure::asked(text));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts a file's bytes into the daemon's store. `-` is standard input.
pub(crate) fn send_file(client: &mut Client, path: &Path) -> Result<remand_client::Stored, Failure> {
    let mut upload = client.upload()?;
    let sent = if path.as_os_str() == "-" {
        io::copy(&mut io::stdin(), &mut upload)
    } else {
        File::open(path).and_then(|mut file| io::copy(&mut file, &mut upload))
    };
    if let Err(source) = sent {
        let error = upload.into_error();
        return Err(error.map_or_else(|| Failure::file("read", path, NEXT)(source), Failure::from));
    }
    Ok(upload.finish()?)
}
