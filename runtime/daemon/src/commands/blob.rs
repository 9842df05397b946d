//! Blobs: bytes by their digest, up and down.

use std::io::Read as _;
use std::sync::Arc;

use remand_authority::table::Action;
use remand_ledger::blob::{BlobStore, BlobWriter, Stored};
use remand_ledger::store::{Condition, StoreError};
use remand_ledger::{StateKey, StateOp, Transaction};
use remand_model::envelope::{Command, Frame, STREAM_BYTES_MAX};
use remand_model::event::{NewEvent, Subject};
use remand_model::refusal::{Code, Refusal};
use remand_model::{Digest, EventType, PROTOCOL_VERSION, TenantId};
use serde::Deserialize;
use serde_json::json;

use crate::conversation::{Call, Reply};
use crate::direct;
use crate::images::unusable;
use crate::limits;
use crate::node::Node;
use crate::threads::blocking;

/// Blobs that a client has put: each holds one reference.
const PUT: &str = "blob.put";

pub fn action(command: Command, what: &str) -> Option<Action> {
    match (command, what) {
        (Command::Blob, "put" | "remove") => Some(Action::BlobPut),
        (Command::Blob, "get" | "list") => Some(Action::BlobGet),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    what: String,
    sha256: Option<Digest>,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let tenant = super::tenant(call)?;
    let asked: Asked = super::read(&call.payload)?;
    match (asked.what.as_str(), asked.sha256) {
        ("put", None) => {
            direct::holds(node, call, "blob.put")?;
            put(node, &tenant, call, reply).await
        }
        ("get", Some(digest)) => {
            direct::authorize(node, call, "blob.get", &digest.to_hex()).await?;
            get(node, &tenant, &digest, reply).await
        }
        ("list", None) => {
            direct::holds(node, call, "blob.get")?;
            list(node, &tenant, reply).await
        }
        ("remove", Some(digest)) => {
            direct::authorize(node, call, "blob.put", &digest.to_hex()).await?;
            remove(node, &tenant, &digest, reply).await
        }
        _ => Err(Refusal::new(Code::Malformed, "put and list take no sha256, get and remove take one")),
    }
}

/// The next frame of the upload; nothing where the client is gone.
async fn next(call: &mut Call) -> Option<Frame> {
    loop {
        let gone = Arc::clone(&call.gone);
        tokio::select! {
            biased;
            frame = call.stream.recv() => match frame {
                Some(frame) if frame.header.sequence == call.header.sequence => return Some(frame),
                // A frame of an earlier request that came late.
                Some(_) => {}
                None => return None,
            },
            () = gone.notified() => {
                // Rung again for the conversation's own end.
                gone.notify_one();
                return None;
            }
        }
    }
}

async fn put(node: &Node, tenant: &TenantId, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let writer = node.workshop.blobs.writer(tenant, limits::BLOB_BYTES_MAX);
    let mut writer = Some(writer.map_err(|error| unusable(error.into()))?);
    while let Some(frame) = next(call).await {
        let refusal = match (frame.header.command, frame.payload.is_empty()) {
            (Command::Data, true) => match writer.take() {
                Some(writer) => return finish(node, call, writer, reply).await,
                None => return Ok(()),
            },
            (Command::Data, false) => take(&mut writer, &frame.payload),
            (other, _) => Err(Refusal::new(Code::Malformed, format!("a {} frame inside of a blob", other.name()))),
        };
        if let Err(refusal) = refusal
            && writer.take().is_some()
        {
            // Told at once; what the client had sent before it heard is passed over.
            reply.refuse(refusal).await;
        }
    }
    Ok(())
}

fn take(writer: &mut Option<BlobWriter>, bytes: &[u8]) -> Result<(), Refusal> {
    writer.as_mut().map_or(Ok(()), |writer| writer.take(bytes)).map_err(unusable)
}

async fn finish(node: &Node, call: &Call, writer: BlobWriter, reply: &Reply) -> Result<(), Refusal> {
    let stored = blocking(|| writer.finish()).map_err(unusable)?;
    direct::authorize(node, call, "blob.put", &stored.digest().to_hex()).await?;
    keep(node, &super::tenant(call)?, &stored).await?;
    let (sha256, bytes) = (stored.digest(), stored.bytes());
    reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "sha256": sha256, "bytes": bytes})).await;
    Ok(())
}

/// Refers to a blob for the client that put it; once, however often it is put.
pub async fn keep(node: &Node, tenant: &TenantId, blob: &Stored) -> Result<(), Refusal> {
    let internal = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, error.to_string());
    let key = StateKey::new(PUT, &blob.digest().to_hex()).map_err(|error| internal(&error))?;
    let is_kept = || node.ledger.state(tenant, &key).map(|value| value.is_some()).map_err(|error| internal(&error));
    if is_kept()? {
        return Ok(());
    }
    let event = NewEvent::new(EventType::BLOB_STORED, Subject::from(tenant))
        .claim("sha256", *blob.digest())
        .claim("bytes", blob.bytes().to_string());
    let mut transaction = Transaction::new(tenant.clone())
        .event(event)
        .op(StateOp::Require { key: key.clone(), condition: Condition::Absent })
        .op(StateOp::Set { key: key.clone(), value: b"1".to_vec() });
    transaction.ops.extend(blob.keep_ops(limits::TENANT_BLOB_BYTES_MAX));
    match node.append(transaction).await {
        // Somebody else put the same bytes at the same time.
        Err(refusal) if refusal.code == Code::Conflict && is_kept()? => Ok(()),
        other => other.map(drop),
    }
}

/// Every blob of the tenant, by its digest, and how much of the chain and of clients refers to it.
async fn list(node: &Node, tenant: &TenantId, reply: &Reply) -> Result<(), Refusal> {
    let rows = blocking(|| {
        let mut all = node.workshop.blobs.list(tenant)?;
        all.sort_unstable();
        let row = |(digest, bytes): (Digest, u64)| {
            let references = node.workshop.blobs.references(tenant, &digest)?;
            Ok(json!({"sha256": digest, "bytes": bytes, "references": references}))
        };
        all.into_iter().map(row).collect::<Result<Vec<_>, StoreError>>()
    });
    let rows = rows.map_err(|error| unusable(error.into()))?;
    reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "blobs": rows})).await;
    Ok(())
}

/// Gives back the reference of the client that put a blob. What the chain refers to stays; the rest goes with the next sweep.
async fn remove(node: &Node, tenant: &TenantId, digest: &Digest, reply: &Reply) -> Result<(), Refusal> {
    let internal = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, error.to_string());
    let key = StateKey::new(PUT, &digest.to_hex()).map_err(|error| internal(&error))?;
    if node.ledger.state(tenant, &key).map_err(|error| internal(&error))?.is_none() {
        return Err(Refusal::new(Code::NotFound, format!("blob {digest}: no client of this tenant has put it")));
    }
    let file = blocking(|| node.workshop.blobs.open_blob(tenant, digest)).map_err(unusable)?;
    let bytes = file.metadata().map_err(|error| internal(&error))?.len();
    let event = NewEvent::new(EventType::BLOB_RELEASED, Subject::from(tenant))
        .claim("sha256", *digest)
        .claim("bytes", bytes.to_string());
    let mut transaction = Transaction::new(tenant.clone())
        .event(event)
        .op(StateOp::Require { key: key.clone(), condition: Condition::Present })
        .op(StateOp::Delete { key });
    transaction.ops.extend(BlobStore::release_ops(digest, bytes));
    drop(node.append(transaction).await?);
    let references = node.workshop.blobs.references(tenant, digest).map_err(|error| internal(&error))?;
    reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "sha256": digest, "references": references})).await;
    Ok(())
}

async fn get(node: &Node, tenant: &TenantId, digest: &Digest, reply: &Reply) -> Result<(), Refusal> {
    let mut sent = 0_u64;
    if *digest != Digest::of(b"") {
        let file = blocking(|| node.workshop.blobs.open_blob(tenant, digest)).map_err(unusable)?;
        let mut file = std::io::BufReader::with_capacity(STREAM_BYTES_MAX, file);
        let mut chunk = vec![0; STREAM_BYTES_MAX];
        loop {
            let length = file.read(&mut chunk).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
            if length == 0 {
                break;
            }
            sent += length as u64;
            if !reply.stream(Command::Data, &chunk[..length]).await {
                return Ok(());
            }
        }
    }
    reply.answer(&json!({"protocol_version": PROTOCOL_VERSION, "sha256": digest, "bytes": sent})).await;
    Ok(())
}
