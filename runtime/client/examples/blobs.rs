//! Puts bytes under their digest and gets them back.
#![forbid(unsafe_code)]

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let stored = client.put_blob(b"an input")?;
    let mut back = Vec::new();
    client.download(&stored.sha256, &mut back)?;
    assert_eq!(back, b"an input");
    Ok(())
}
