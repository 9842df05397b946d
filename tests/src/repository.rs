//! The checkout itself: its root, its files, and what cargo says about its packages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the checkout.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    /// Its text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// The root of the checkout that these tests were built from.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package lies in the root")
}

/// Every file of the checkout that is text, build results and git's own folder left out, sorted by path.
#[must_use]
pub fn files() -> Vec<File> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    paths.iter().filter_map(|path| read(path)).collect()
}

/// The Rust files of the checkout.
#[must_use]
pub fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout") {
        let entry = entry.expect("an entry of the checkout");
        let kind = entry.file_type().expect("a kind of file");
        let name = entry.file_name();
        // Of a linked worktree, `.git` is a file.
        if ["target", ".git", "__pycache__", "node_modules"].iter().any(|skip| name == *skip) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}

fn read(path: &Path) -> Option<File> {
    let bytes = std::fs::read(path).ok()?;
    if bytes.contains(&0) {
        return None;
    }
    let path = path.strip_prefix(root()).expect("below the root").to_str().expect("a plain name").to_owned();
    Some(File { path, text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// What `cargo metadata` says about the workspace, for the one target that is shipped.
#[must_use]
pub fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// The source file that heads each library and program of the workspace, as paths from the root.
#[must_use]
pub fn crate_heads(metadata: &serde_json::Value) -> Vec<String> {
    let members = metadata["workspace_members"].as_array().expect("members");
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| members.contains(&package["id"]))
        .flat_map(|package| package["targets"].as_array().expect("targets"))
        .filter(|target| is_shipped(target))
        .filter_map(|target| {
            Path::new(target["src_path"].as_str()?).strip_prefix(root()).ok()?.to_str().map(str::to_owned)
        })
        .collect()
}

/// A library or a program; tests and examples are held to the place of unsafe code by every file's own check.
fn is_shipped(target: &serde_json::Value) -> bool {
    let kinds = target["kind"].as_array().expect("kinds");
    kinds.iter().any(|kind| kind == "lib" || kind == "bin")
}
