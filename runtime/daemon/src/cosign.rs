//! Asking witnesses for their cosignatures, and what they remember of our logs.

use std::net::SocketAddr;
use std::str::FromStr;

use remand_ledger::checkpoint::SignedCheckpoint;
use remand_ledger::keys::WitnessKey;
use remand_ledger::witness::{ANSWER_BYTES_MAX, Reply, WitnessError, check_rollback, read_answer};
use remand_model::TenantId;
use remand_model::refusal::{Code, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits;
use crate::node::Node;
use crate::notary::{chain, refusal};

/// A witness that this node asks: `ADDRESS,VKEY`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it listens.
    pub place: SocketAddr,
    /// Its key.
    pub key: WitnessKey,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, key) = text.split_once(',').ok_or("a witness is ADDRESS,VKEY")?;
        let place = place.parse().map_err(|error| format!("{place}: {error}"))?;
        Ok(Self { place, key: key.parse().map_err(|error| format!("{error}"))? })
    }
}

/// Why a witness's cosignature is missing.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("it cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    #[error("it does not answer in time")]
    Slow,
    #[error(transparent)]
    Witness(#[from] WitnessError),
    #[error(transparent)]
    Own(#[from] remand_ledger::notary::NotaryError),
}

/// Signs the newest durable head of a tenant's log and has every witness cosign it. A witness that cannot be reached is
/// missing under it, which whoever verifies with a quorum will see.
///
/// # Errors
/// A refusal where there is no log, or where a witness remembers more of it than there is: it was rolled back.
pub async fn checkpoint(node: &Node, tenant: &TenantId) -> Result<SignedCheckpoint, Refusal> {
    let mut signed = node.notary.checkpoint(&node.ledger, tenant).map_err(refusal)?;
    for peer in &node.config.arguments.witnesses {
        match ask(node, tenant, &signed, peer).await {
            Ok(line) => signed.put_cosignature(line).map_err(|why| Refusal::new(Code::Internal, chain(&why)))?,
            Err(AskError::Witness(why @ WitnessError::RolledBack { .. })) => {
                return Err(Refusal::new(Code::AuditUnavailable, format!("{}: {}", peer.key.name(), chain(&why))));
            }
            Err(why) => tracing::warn!(witness = %peer.key.name(), why = chain(&why), "no cosignature"),
        }
    }
    Ok(signed)
}

/// Asks the witnesses about every log, before anybody is served.
///
/// # Errors
/// A refusal where one of them remembers more of a log than there is.
pub async fn compare_all(node: &Node) -> Result<(), Refusal> {
    if node.config.arguments.witnesses.is_empty() {
        return Ok(());
    }
    for head in node.ledger.heads() {
        drop(checkpoint(node, &head.tenant).await?);
    }
    Ok(())
}

async fn ask(
    node: &Node,
    tenant: &TenantId,
    signed: &SignedCheckpoint,
    peer: &Peer,
) -> Result<remand_ledger::note::SignatureLine, AskError> {
    let own = signed.checkpoint().size;
    let kept = node.ledger.kept_checkpoint(tenant, &node.notary.log_key(tenant))?;
    // A guess; the witness says what it remembers where it is wrong.
    let mut old = kept.map_or(0, |kept| kept.checkpoint().size.min(own));
    for _ in 0..limits::WITNESS_TRIES {
        let request = node.ledger.consistency_proof(tenant, old, signed)?.to_string();
        let asked = timeout(limits::WITNESS_WAIT, post(peer.place, request.as_bytes())).await;
        let (status, body) = asked.map_err(|_elapsed| AskError::Slow)??;
        match read_answer(status, &body, signed, &peer.key)? {
            Reply::Cosigned { line, .. } => return Ok(line),
            Reply::Conflict { size } => {
                check_rollback(own, size)?;
                old = size;
            }
        }
    }
    Err(WitnessError::Malformed.into())
}

async fn post(place: SocketAddr, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
    let mut socket = TcpStream::connect(place).await?;
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: {place}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body).await?;
    let mut bytes = Vec::new();
    let bytes_max = limits::WITNESS_HEAD_BYTES_MAX + ANSWER_BYTES_MAX;
    socket.take(bytes_max as u64).read_to_end(&mut bytes).await?;
    let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no HTTP answer");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok());
    Ok((status.ok_or_else(broken)?, bytes.split_off(end + 4)))
}
