//! Says what earlier lives of the daemon left behind, and ends nothing.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let found = client.sweep(true)?;
    writeln!(std::io::stdout(), "{}", found["cells"])?;
    Ok(())
}
