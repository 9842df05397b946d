//! The tenant's executions.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let value = client.list_executions()?;
    writeln!(std::io::stdout(), "{value}")?;
    Ok(())
}
