//! The nodes of the cluster.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let value = client.list_cluster_nodes()?;
    writeln!(std::io::stdout(), "{value}")?;
    Ok(())
}
