//! Sends a stream that need not fit into memory, and puts it under its digest.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let mut upload = client.upload()?;
    io::copy(&mut io::stdin(), &mut upload)?;
    let stored = upload.finish()?;
    writeln!(io::stdout(), "{} ({} bytes)", stored.sha256, stored.bytes)?;
    Ok(())
}
