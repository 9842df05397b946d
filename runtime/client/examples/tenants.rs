//! Asks with a command that has no call of its own: tenants, quotas, tokens, domains, contracts, plans and state.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;
use remand_model::envelope::Command;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let tenants = client.ask(Command::Tenant, &json!({"what": "list"}))?;
    writeln!(std::io::stdout(), "{tenants}")?;
    Ok(())
}
