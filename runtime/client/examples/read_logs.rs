//! Follows what an execution prints: `read_logs exec_…`.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::{Captured, Client};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let id = std::env::args().nth(1).ok_or("which execution?")?.parse()?;
    let mut printed = Captured::default();
    let end = client.read_logs(&id, true, &mut printed)?;
    writeln!(std::io::stdout(), "{} bytes, and then: {}", printed.stdout.len(), end["cause"])?;
    Ok(())
}
