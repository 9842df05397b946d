//! `remand run`: asks for an execution, passes its streams on, and says how it ended.

mod image;
mod plan;
mod report;
mod request;
mod sink;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use remand_client::{ClientError, RunEnd};
use remand_model::outcome::ExecutionResult;
use rustix::stdio::stdin;

use crate::arguments::{Global, RunArguments};
use crate::connect;
use crate::failure::{Failure, say};
use crate::out::OutFolder;
use crate::signals::Signals;
use crate::terminal;
use sink::{Console, Streams};

/// Runs and returns the exit code. Whatever can be refused here is refused before anything is started.
pub(crate) fn run(global: &Global, arguments: &RunArguments) -> Result<u8, Failure> {
    let mut request = request::request(&arguments.what)?;
    request.terminal = arguments.tty;
    if arguments.tty && terminal::is_input() {
        request.environment.entry("TERM".into()).or_insert_with(request::terminal_name);
    }
    request.stdin = !terminal::is_input() || arguments.tty || arguments.interactive;
    request.want_files = arguments.out.is_some();
    let image = arguments.what.image.as_deref().map(image::Image::open).transpose()?;
    let out = arguments.out.as_deref().filter(|_| !arguments.dry_run).map(OutFolder::open).transpose()?;
    let file = arguments.result_file.as_deref().map(ResultFile::open).transpose()?;

    let mut client = connect::attached(global)?;
    if let Some(image) = image {
        request.root = image.upload(&mut client)?;
    }
    if arguments.dry_run {
        let plan = client.plan_run(&request).map_err(|error| refused(error, arguments.json))?;
        return plan::print(&plan, arguments.json).map(|()| 0);
    }
    let signals = Signals::catch(!arguments.tty).map_err(Failure::system("catch signals"))?;
    let streams = if arguments.json { Streams::AllToStderr } else { Streams::AsTheyAre };
    let mut console = Console::new(signals, streams, out, arguments.tty, !arguments.quiet && !arguments.json);
    let end = client.run(&request, Some(stdin()), &mut console);
    drop(console);
    finish(end.map_err(|error| refused(error, arguments.json))?, file, arguments)
}

fn finish(end: RunEnd, file: Option<ResultFile>, arguments: &RunArguments) -> Result<u8, Failure> {
    let result = end.result;
    if let Some(file) = file {
        file.write(&result)?;
    }
    if arguments.json {
        print_json(&result)?;
    } else {
        report::lines(&result).iter().for_each(|line| say(line));
    }
    match end.local_error {
        // The execution was cancelled because of a signal; its own exit code says so.
        Some(ClientError::Local { source, .. }) if source.kind() == io::ErrorKind::Interrupted => Ok(result.exit_code),
        Some(error) => Err(error.into()),
        None => Ok(result.exit_code),
    }
}

/// With `--json` a refusal is an object too: it has a `code` where a result has a `cause`.
fn refused(error: ClientError, json: bool) -> Failure {
    if let (ClientError::Refused(refusal), true) = (&error, json) {
        // A script that reads stdout finds nothing where it is gone; the line on stderr and the exit code remain.
        print_json(refusal.as_ref()).unwrap_or(());
    }
    error.into()
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(io::Error::other).map_err(Failure::system("write JSON"))?;
    writeln!(io::stdout(), "{line}").map_err(Failure::system("print the result"))
}

/// Opened before anything starts, so that an execution never runs whose result nobody can get.
struct ResultFile {
    file: File,
    path: std::path::PathBuf,
}

impl ResultFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        const NEXT: &str = "name a file that can be written with --result-file";
        let file = File::create(path).map_err(Failure::file("write the result file", path, NEXT))?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn write(mut self, result: &ExecutionResult) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(result).map_err(io::Error::other);
        let written = bytes.and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all(&bytes)
        });
        written.map_err(Failure::file("write the result file", self.path, "see to the disk; the record has the result"))
    }
}
