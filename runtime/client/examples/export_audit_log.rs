//! Takes a tenant's exported log into memory; a program would write it where a web server finds it.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::{Captured, Client};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let mut files = Captured::default();
    client.export_audit_log(&"local".parse()?, &mut files)?;
    for (path, bytes) in &files.files {
        writeln!(std::io::stdout(), "{path}: {} bytes", bytes.len())?;
    }
    Ok(())
}
