//! Acting as a witness for other nodes' logs (C2SP tlog-witness): one plain HTTP/1.1 request a connection, on loopback.
//!
//! Only loopback is listened on: whoever witnesses across machines puts a tunnel or a proxy with TLS before it. The answers
//! are signed, so that what lies between can delay them and no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use remand_ledger::keys::LogKey;
use remand_ledger::witness::{Answer, Witness};
use remand_model::TenantId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::limits;
use crate::node::Node;

/// The log beside which the heads of others are kept.
const OWN_LOG: &str = "remand.node";

/// Why nothing is witnessed.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Not loopback.
    #[error("a witness listens on loopback only, not on {0}: put a tunnel or a proxy before it")]
    Place(SocketAddr),
    /// A key.
    #[error("the key of a log to witness: {0}")]
    Key(#[from] remand_ledger::keys::KeyError),
    /// The socket.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// Listens where the configuration says so, and answers until the daemon ends.
///
/// # Errors
/// [`WitnessError`].
pub async fn listen(node: &Node) -> Result<(), WitnessError> {
    let arguments = &node.config.arguments;
    let Some(place) = arguments.witness_listen else { return Ok(()) };
    if !place.ip().is_loopback() {
        return Err(WitnessError::Place(place));
    }
    let logs = arguments.witness_for.iter().map(|key| key.parse::<LogKey>()).collect::<Result<Vec<_>, _>>()?;
    let witness = Arc::new(Witness::new(node.notary.witness_signer(), logs));
    let listener = TcpListener::bind(place).await.map_err(|error| WitnessError::Listen(place, error))?;
    tokio::spawn(serve(node.clone(), witness, listener));
    Ok(())
}

async fn serve(node: Node, witness: Arc<Witness>, listener: TcpListener) {
    let turns = Arc::new(Semaphore::new(limits::WITNESS_CONNECTIONS_MAX));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let (node, witness) = (node.clone(), Arc::clone(&witness));
                tokio::spawn(async move {
                    let done = timeout(limits::WITNESS_WAIT, converse(&node, &witness, socket)).await;
                    if !matches!(done, Ok(Ok(()))) {
                        tracing::debug!("a witness's client is gone or too slow");
                    }
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::error!(%error, "the witness cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(node: &Node, witness: &Witness, mut socket: TcpStream) -> std::io::Result<()> {
    let (status, kind, body) = match request(&mut socket).await? {
        Ok(body) => match answer(node, witness, &body) {
            Ok(Answer { status, content_type, body }) => (status, content_type, body),
            Err(error) => {
                tracing::error!(error, "nothing is cosigned");
                (500, "text/plain", b"the witness cannot keep what it would sign\n".to_vec())
            }
        },
        Err((status, why)) => (status, "text/plain", format!("{why}\n").into_bytes()),
    };
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&body).await?;
    socket.shutdown().await
}

fn answer(node: &Node, witness: &Witness, body: &[u8]) -> Result<Answer, String> {
    let own: TenantId = OWN_LOG.parse().map_err(|error| format!("{error}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let mut heads = node.ledger.witness_heads(own);
    crate::threads::blocking(|| witness.handle_add_checkpoint(&mut heads, body, now.as_secs().max(1)))
        .map_err(|error| crate::notary::chain(&error))
}

type Refused = (u16, &'static str);

/// The body of an add-checkpoint request, or the status of anything else.
async fn request(socket: &mut TcpStream) -> std::io::Result<Result<Vec<u8>, Refused>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > limits::WITNESS_HEAD_BYTES_MAX {
            return Ok(Err((431, "the header is too long")));
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(Err((400, "the request is cut short")));
        }
    };
    let size = match size(&bytes[..head]) {
        Ok(size) => size,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut body = bytes.split_off(head + 4);
    while body.len() < size {
        if socket.read_buf(&mut body).await? == 0 {
            return Ok(Err((400, "the request is cut short")));
        }
    }
    body.truncate(size);
    Ok(Ok(body))
}

/// The body's length, from the head of a request.
fn size(head: &[u8]) -> Result<usize, Refused> {
    let text = std::str::from_utf8(head).map_err(|_| (400, "the header is no text"))?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    match (words.next(), words.next()) {
        (Some("POST"), Some("/add-checkpoint")) => {}
        (_, Some("/add-checkpoint")) => return Err((405, "add-checkpoint is a POST")),
        _ => return Err((404, "there is only /add-checkpoint")),
    }
    let named = |line: &str, name: &str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    let sizes: Vec<String> = lines.filter_map(|line| named(line, "content-length")).collect();
    let [size] = sizes.as_slice() else { return Err((411, "say one Content-Length")) };
    let size = size.parse().map_err(|_| (400, "Content-Length is no number"))?;
    if size > limits::WITNESS_BODY_BYTES_MAX { Err((413, "the request is too long")) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bounded_add_checkpoint_of_one_stated_length_is_read() {
        assert_eq!(size(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\ncontent-length: 12"), Ok(12));
        let statuses = [
            (&b"GET /add-checkpoint HTTP/1.1"[..], 405),
            (b"POST /elsewhere HTTP/1.1\r\nContent-Length: 1", 404),
            (b"POST /add-checkpoint HTTP/1.1", 411),
            (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2", 411),
            (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 9999999", 413),
            (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1", 400),
            (b"\xff", 400),
            (b"", 404),
        ];
        for (head, status) in statuses {
            assert_eq!(size(head).map_err(|(status, _)| status), Err(status), "{}", String::from_utf8_lossy(head));
        }
    }
}
