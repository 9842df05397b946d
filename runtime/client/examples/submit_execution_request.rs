//! Submits an execution and goes on: the daemon runs it without us.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;
use remand_model::run::RunRequest;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let request = RunRequest::new("nightly-1".parse()?, vec!["sort".into(), "/etc/passwd".into()]);
    let execution_id = client.submit_execution_request(&request)?;
    writeln!(std::io::stdout(), "{execution_id}")?;
    Ok(())
}
