//! `remand run`: asks for an execution, passes its streams on, and says how it ended.

mod image;
mod plan;
mod report;
mod request;
mod sink;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use remand_client::{Client, ClientError, RunEnd};
use remand_model::Limits;
use remand_model::outcome::ExecutionResult;
use remand_model::run::RunRequest;
use rustix::stdio::stdin;

use crate::arguments::{Global, RunArguments, WhatArguments};
use crate::failure::{Failure, say};
use crate::out::OutFolder;
use crate::signals::Signals;
use crate::verbs::Format;
use crate::{connect, output, policies, terminal};
pub(crate) use report::lines as report;
pub(crate) use sink::{Console, Streams};

/// A request whose image was looked at and is still to be sent.
pub(crate) struct Prepared {
    pub(crate) request: RunRequest,
    limits: Option<Limits>,
    image: Option<image::Image>,
}

impl Prepared {
    pub(crate) fn of(arguments: &WhatArguments) -> Result<Self, Failure> {
        let request = request::request(arguments)?;
        let limits = policies::try_settings(&request.policy, request.policy_text.as_deref(), &request.settings)?;
        let image = arguments.image.as_deref().map(image::Image::open).transpose()?;
        Ok(Self { request, limits, image })
    }

    pub(crate) fn send_image(&mut self, client: &mut Client) -> Result<(), Failure> {
        if let Some(image) = self.image.take() {
            self.request.root = image.upload(client)?;
        }
        Ok(())
    }
}

/// Runs and returns the exit code. Whatever can be refused here is refused before anything is started.
pub(crate) fn run(global: &Global, arguments: &RunArguments) -> Result<u8, Failure> {
    let mut prepared = Prepared::of(&arguments.what)?;
    let request = &mut prepared.request;
    request.terminal = arguments.tty;
    if arguments.tty && terminal::is_input() {
        request.environment.entry("TERM".into()).or_insert_with(request::terminal_name);
    }
    request.stdin = !terminal::is_input() || arguments.tty || arguments.interactive;
    request.want_files = arguments.out.is_some();
    let out = arguments.out.as_deref().filter(|_| !arguments.dry_run).map(OutFolder::open).transpose()?;
    let file = arguments.result_file.as_deref().map(ResultFile::open).transpose()?;

    let mut client = connect::attached(global)?;
    prepared.send_image(&mut client)?;
    let Prepared { request, limits, .. } = prepared;
    let json = arguments.json || global.format != Format::Table;
    if arguments.dry_run {
        let plan = client.plan_run(&request).map_err(|error| refused(error, json))?;
        return plan::print(&plan, json).map(|()| 0);
    }
    let signals = Signals::catch(!arguments.tty).map_err(Failure::system("catch signals"))?;
    let streams = if json { Streams::AllToStderr } else { Streams::AsTheyAre };
    let mut console = Console::new(signals, streams, out, arguments.tty, !arguments.quiet && !json);
    let end = client.run(&request, Some(stdin()), &mut console);
    drop(console);
    finish(end.map_err(|error| refused(error, json))?, file, limits.as_ref(), json)
}

fn finish(end: RunEnd, file: Option<ResultFile>, limits: Option<&Limits>, json: bool) -> Result<u8, Failure> {
    let result = end.result;
    if let Some(file) = file {
        file.write(&result)?;
    }
    let failed = end.local_error.filter(|error| {
        // A signal ended the wait for a reader that takes nothing; the result's own exit code says so.
        !matches!(error, ClientError::Local { source, .. } if source.kind() == io::ErrorKind::Interrupted)
    });
    if json {
        output::put_json(&result)?;
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    if !json {
        report(&result, limits).iter().for_each(|line| say(line));
    }
    Ok(result.exit_code)
}

/// With `--json` a refusal is an object too: it has a `code` where a result has a `cause`.
fn refused(error: ClientError, json: bool) -> Failure {
    if let (ClientError::Refused(refusal), true) = (&error, json) {
        // A script that reads stdout finds nothing where it is gone; the line on stderr and the exit code remain.
        output::put_json(refusal.as_ref()).unwrap_or(());
    }
    error.into()
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
