//! One connection, one tenant after another; over a socket that somebody else has opened.
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use remand_client::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::over(UnixStream::connect(remand_client::DEFAULT_SOCKET)?)?;
    client.hello()?;
    for tenant in ["acme", "local"] {
        client.attach(&tenant.parse()?, None)?;
        // Requests renew by themselves; who is silent for long does it by hand.
        std::thread::sleep(Duration::from_secs(1));
        client.renew()?;
        writeln!(std::io::stdout(), "{:?} as {:?}", client.tenant(), client.role())?;
        client.detach()?;
    }
    Ok(())
}
