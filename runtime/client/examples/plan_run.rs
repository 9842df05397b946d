//! Says what a run would do, and does nothing.
#![forbid(unsafe_code)]

use std::io::Write;

use remand_client::Client;
use remand_model::run::RunRequest;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let plan = client.plan_run(&RunRequest::new("dry-1".parse()?, vec!["true".into()]))?;
    for mount in &plan.mounts {
        writeln!(std::io::stdout(), "{mount}")?;
    }
    Ok(())
}
