//! Exports: a tenant's log is written to disk as plain files, checked against its checkpoint, and sent file by file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use remand_ledger::checkpoint::SignedCheckpoint;
use remand_ledger::export::{CHECKPOINT_FILE, ExportPlan, Exported, ProofChoice, write_export};
use remand_model::envelope::{Command, STREAM_BYTES_MAX};
use remand_model::refusal::{Code, Refusal};
use remand_model::{PROTOCOL_VERSION, TenantId};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::conversation::Reply;
use crate::cosign;
use crate::limits;
use crate::node::Node;
use crate::notary::{chain, refusal};

static AT_ONCE: Semaphore = Semaphore::const_new(limits::EXPORTS_AT_ONCE);
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Where exports lie until they are sent. What an earlier life left there is removed with [`clear`].
const FOLDER: &str = "exports";

/// Removes what interrupted exports left.
///
/// # Errors
/// What keeps them from being removed.
pub fn clear(config: &crate::config::Config) -> std::io::Result<()> {
    for left in std::fs::read_dir(config.state(FOLDER))? {
        std::fs::remove_dir_all(left?.path())?;
    }
    Ok(())
}

/// A folder that is removed when this is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "an export's folder could not be removed; the next start does it");
        }
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Internal, chain(error))
}

/// Sends a tenant's log: for every file its name and length, then its bytes; at last what it was.
///
/// # Errors
/// A refusal: what was sent is to be thrown away.
pub async fn send(node: &Node, tenant: &TenantId, reply: &Reply) -> Result<(), Refusal> {
    let turn = AT_ONCE.acquire().await.map_err(|error| internal(&error))?;
    let place = node.config.state(FOLDER).join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    let place = Temporary(place);
    let checkpoint = cosign::checkpoint(node, tenant).await?;
    let done = crate::threads::blocking(|| write(node, tenant, &checkpoint, &place.0))?;
    let files = crate::threads::blocking(|| files(&place.0)).map_err(|error| internal(&error))?;
    for path in &files {
        if !send_file(&place.0, path, reply).await.map_err(|error| internal(&error))? {
            return Ok(());
        }
    }
    drop(turn);
    let says = checkpoint.checkpoint();
    reply
        .answer(&json!({
            "protocol_version": PROTOCOL_VERSION,
            "origin": says.origin.to_string(),
            "tree_size": says.size,
            "root_hash": says.root,
            "executions": done.executions,
            "files": files.len(),
            "log_key": node.notary.log_key(tenant).to_string(),
            "attest_key": node.notary.attest().key().to_string(),
        }))
        .await;
    Ok(())
}

fn write(node: &Node, tenant: &TenantId, checkpoint: &SignedCheckpoint, place: &Path) -> Result<Exported, Refusal> {
    let (ledger, notary) = (&node.ledger, &node.notary);
    let size = checkpoint.checkpoint().size;
    let kept = ledger.kept_checkpoint(tenant, &notary.log_key(tenant)).map_err(refusal)?;
    let earlier = kept.map(|kept| kept.checkpoint().size).filter(|earlier| (1..size).contains(earlier));
    let witnesses: Vec<_> = node.config.arguments.witnesses.iter().map(|peer| peer.key.clone()).collect();
    let policy = notary.policy(tenant, &witnesses).map_err(|error| internal(&error))?;
    let attest = [notary.attest().key().clone()];
    let plan = ExportPlan {
        checkpoint,
        policy: &policy,
        attest: &attest,
        earlier: earlier.as_slice(),
        proofs: ProofChoice::Recorded,
    };
    let mut source = ledger.export_source(tenant).map_err(refusal)?;
    let done = write_export(&mut source, &plan, place, &mut |_, _| {}).map_err(|error| internal(&error))?;
    ledger.keep_checkpoint(tenant, checkpoint).map_err(refusal)?;
    Ok(done)
}

/// The files below a folder by name; the checkpoint last, so that an export that was cut short is none.
fn files(root: &Path) -> std::io::Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
    files.sort_by_key(|path| (path == CHECKPOINT_FILE, path.clone()));
    Ok(files)
}

/// Whether the client is still there.
async fn send_file(root: &Path, path: &str, reply: &Reply) -> std::io::Result<bool> {
    let mut file = File::open(root.join(path))?;
    let announced = json!({"path": path, "bytes": file.metadata()?.len()}).to_string();
    let mut there = reply.send(Command::Event, announced.into_bytes()).await;
    let mut chunk = vec![0; STREAM_BYTES_MAX];
    while there {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        there = reply.stream(Command::Data, &chunk[..length]).await;
    }
    Ok(there)
}
