//! How busy the daemon is.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    client.ping()?;
    let node = client.node_state()?;
    writeln!(std::io::stdout(), "{}: {} run, {} wait", node["node_id"], node["executions"], node["queued"])?;
    Ok(())
}
