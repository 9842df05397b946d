//! From a socket's path to a connection that is attached to a tenant; starts a daemon where none listens.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use remand_client::{Client, ClientError};

use crate::arguments::Global;
use crate::failure::Failure;
use crate::start;

/// A token is at most 4 KiB before base64.
const TOKEN_BYTES_MAX: u64 = 8 << 10;
/// A daemon that goes idle can go away between our connect and its answer; another one is started then. Nothing was asked
/// for yet.
const ATTEMPTS: usize = 6;

/// Connects, shakes hands and attaches.
pub(crate) fn attached(global: &Global) -> Result<Client, Failure> {
    let token = global.token_file.as_deref().map(token).transpose()?;
    let greet = |mut client: Client| {
        client.hello()?;
        client.attach(&global.tenant, token.as_deref())?;
        Ok(client)
    };
    greeted(&global.socket, greet)
}

fn greeted(socket: &Path, greet: impl Fn(Client) -> Result<Client, ClientError>) -> Result<Client, Failure> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match Client::connect(socket).and_then(&greet) {
            Ok(client) => return Ok(client),
            Err(error @ ClientError::NotListening { .. }) => {
                start::daemon(socket)?;
                last = Some(error);
            }
            Err(error @ (ClientError::Closed | ClientError::Io { .. })) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.unwrap_or(ClientError::Closed).into())
}

/// The text of a token's file.
pub(crate) fn token(path: &Path) -> Result<String, Failure> {
    const NEXT: &str = "name a readable file with --token-file";
    const OTHERS: u32 = 0o077;
    let file = File::open(path).map_err(Failure::file("open the token file", path, NEXT))?;
    let facts = file.metadata().map_err(Failure::file("look at the token file", path, NEXT))?;
    let place = path.display();
    if !facts.is_file() || facts.mode() & OTHERS != 0 {
        let text = format!("others can read the token in {place}; run: chmod 600 {place}, and have the token replaced");
        return Err(Failure::asked(text));
    }
    let mut text = String::new();
    let read = file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(Failure::file("read the token file", path, NEXT))?;
    if text.len() as u64 > TOKEN_BYTES_MAX {
        return Err(Failure::asked(format!("{place} is too long for a token; name the file that holds the token")));
    }
    Ok(text.trim().to_owned())
}
