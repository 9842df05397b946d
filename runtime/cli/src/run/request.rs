//! From flags to a request. What can be seen to be wrong here is refused here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use remand_model::RequestId;
use remand_model::digest::hex;
use remand_model::run::{RootChoice, RunRequest, Volume};

use crate::arguments::WhatArguments;
use crate::failure::Failure;

/// The longest policy file, in bytes.
const POLICY_BYTES_MAX: u64 = 256 << 10;

pub(crate) fn request(arguments: &WhatArguments) -> Result<RunRequest, Failure> {
    let id = arguments.request_id.clone().map_or_else(random_id, Ok)?;
    let argv = arguments.command.iter().map(text).collect::<Result<_, _>>()?;
    let mut request = RunRequest::new(id, argv);
    (request.policy, request.policy_text) = policy(&arguments.policy)?;
    request.settings = settings(arguments)?;
    request.environment = environment(&arguments.environment)?;
    request.folder = arguments.workdir.as_deref().map(inside).transpose()?;
    request.volumes = arguments.volumes.iter().map(|text| volume(text)).collect::<Result<_, _>>()?;
    request.execution_seed = arguments.seed;
    request.priority = arguments.priority;
    if let Some(folder) = &arguments.rootfs {
        request.root = RootChoice::Folder { path: root(folder)? };
    }
    Ok(request)
}

pub(crate) fn terminal_name() -> String {
    std::env::var("TERM").ok().filter(|name| is_plain(name)).unwrap_or_else(|| "dumb".into())
}

fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b))
}

fn random_id() -> Result<RequestId, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::asked(format!("no random bytes for a request id: {error}")))?;
    format!("run-{}", hex(&bytes)).parse().map_err(|bad| Failure::asked(format!("{bad}")))
}

fn text(argument: &OsString) -> Result<String, Failure> {
    let text = argument.to_str().filter(|text| !text.contains('\0')).map(str::to_owned);
    text.ok_or_else(|| Failure::asked(format!("{argument:?} is not UTF-8; give the program its input another way")))
}

/// A name is looked up by the daemon; a file is read here and its text sent.
fn policy(name: &str) -> Result<(String, Option<String>), Failure> {
    const NEXT: &str = "name a profile (remand policy list) or a readable file with --policy";
    if !name.contains('/') && Path::new(name).extension().is_none_or(|end| end != "toml") {
        return Ok((name.to_owned(), None));
    }
    let path = Path::new(name);
    let file = File::open(path).map_err(Failure::file("open the policy", path, NEXT))?;
    let mut text = String::new();
    let read = file.take(POLICY_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(Failure::file("read the policy", path, NEXT))?;
    if text.len() as u64 > POLICY_BYTES_MAX {
        return Err(Failure::asked(format!("{name} is longer than {POLICY_BYTES_MAX} bytes; name a policy file")));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| remand_model::ids::is_name(stem));
    Ok((stem.unwrap_or("own").to_owned(), Some(text)))
}

fn settings(arguments: &WhatArguments) -> Result<Vec<(String, String)>, Failure> {
    let given = arguments.settings.iter().map(|text| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let wrong = || Failure::asked(format!("-p {text:?} is not KEY=VALUE; write one like -p limits.pids=32"));
        pair.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).ok_or_else(wrong)
    });
    let flags = arguments.limits.settings().map(|(key, value)| Ok((key.to_owned(), value.to_owned())));
    given.chain(flags).collect()
}

fn environment(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    given.iter().map(|text| variable(text)).collect()
}

fn variable(text: &str) -> Result<(String, String), Failure> {
    let name = text.split('=').next().unwrap_or_default();
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Failure::asked(format!("-e {text:?} has no name of letters, digits and '_'; write -e NAME=VALUE")));
    }
    if let Some((_, value)) = text.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    let missing = || Failure::asked(format!("-e {name}: no such variable is set here; write -e {name}=VALUE"));
    std::env::var(name).map(|value| (name.to_owned(), value)).map_err(|_| missing())
}

/// `SRC:DST[:ro|rw]`. The source's links are followed here, by whoever asks; the daemon follows none.
fn volume(text: &str) -> Result<Volume, Failure> {
    let wrong = |why: &str| Failure::asked(format!("-v {text:?} {why}; write -v SRC:DST, SRC:DST:ro or SRC:DST:rw"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, writable) = match parts[..] {
        [source, target] | [source, target, "ro"] => (source, target, false),
        [source, target, "rw"] => (source, target, true),
        [_, _, _] => return Err(wrong("ends with neither :ro nor :rw")),
        _ => return Err(wrong("is not two paths")),
    };
    if source.is_empty() {
        return Err(wrong("has no source"));
    }
    let target = inside(target)?;
    if target == "/" {
        return Err(Failure::asked(format!("-v {text:?} would cover the root; use --rootfs {source}")));
    }
    const NEXT: &str = "name a path that exists with -v";
    let path = fs::canonicalize(source).map_err(Failure::file("find", source, NEXT))?;
    Ok(Volume { source: utf8(&path)?, target, writable })
}

/// An absolute path inside, without `..`, spelled one way.
fn inside(path: &str) -> Result<String, Failure> {
    let wrong = || Failure::asked(format!("{path:?} is no absolute path inside without '..'; write one like /work"));
    if !path.starts_with('/') || path.contains('\0') {
        return Err(wrong());
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(wrong()),
        }
    }
    utf8(&clean)
}

fn root(folder: &Path) -> Result<String, Failure> {
    const NEXT: &str = "name a folder that holds a root file system with --rootfs";
    let path = fs::canonicalize(folder).map_err(Failure::file("find the root", folder, NEXT))?;
    if !path.is_dir() {
        return Err(Failure::asked(format!("{} is no folder; for a tarball use --image", folder.display())));
    }
    utf8(&path)
}

fn utf8(path: &Path) -> Result<String, Failure> {
    let wrong = || Failure::asked(format!("{path:?} is not UTF-8; rename it, or give it through a link's target"));
    path.to_str().map(str::to_owned).ok_or_else(wrong)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
