//! What is known of an execution: name its id.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let id = std::env::args().nth(1).ok_or("name an execution")?.parse()?;
    let value = client.query_execution_status(&id)?;
    writeln!(std::io::stdout(), "{value}")?;
    Ok(())
}
