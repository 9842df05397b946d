//! Runs a program and passes its streams on.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::AsFd;

use remand_client::{Client, RunSink};
use remand_model::run::RunRequest;

struct Console;

impl RunSink for Console {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().write_all(bytes)
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().write_all(bytes)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = Client::connect(remand_client::DEFAULT_SOCKET.as_ref())?;
    client.hello()?;
    client.attach(&"local".parse()?, None)?;
    let mut request = RunRequest::new("count-1".parse()?, vec!["wc".into(), "-c".into()]);
    request.stdin = true;
    let end = client.run(&request, Some(io::stdin().as_fd()), &mut Console)?;
    std::process::exit(end.result.exit_code.into());
}
