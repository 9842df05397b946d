//! The one place where a failure becomes a line for people and an exit code for scripts.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use remand_client::ClientError;

use crate::text::printable;

/// Why the command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The conversation with the daemon.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Asked(String),
    /// A local file.
    #[error("cannot {doing} {}; {next}", path.display())]
    File { doing: &'static str, path: PathBuf, next: &'static str, source: io::Error },
    /// The daemon could not be started.
    #[error("{0}")]
    Start(String),
    /// The terminal, a signal handler, a standard stream.
    #[error("cannot {doing}; see what the system says")]
    System { doing: &'static str, source: io::Error },
}

impl Failure {
    pub(crate) fn asked(text: impl Into<String>) -> Self {
        Self::Asked(text.into())
    }

    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
        next: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, next, source }
    }

    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }

    /// 141, as a shell would say it, where the reader of our output went away; 125 for all else.
    pub(crate) fn exit_code(&self) -> u8 {
        const BROKEN_PIPE: u8 = 128 + 13;
        if self.is_broken_pipe() { BROKEN_PIPE } else { crate::FAILED }
    }

    fn is_broken_pipe(&self) -> bool {
        let source = match self {
            Self::Client(ClientError::Local { source, .. }) | Self::System { source, .. } => source,
            _ => return false,
        };
        source.kind() == io::ErrorKind::BrokenPipe
    }

    /// One line on standard error, nothing in it that a terminal acts on.
    pub(crate) fn print(&self) {
        if self.is_broken_pipe() {
            return;
        }
        say(&self.line());
    }

    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = self.source();
        // A refusal is its own source and says everything already.
        while let Some(cause) = source {
            line = format!("{line} ({cause})");
            source = cause.source();
        }
        line
    }
}

/// Prints `remand: …` on standard error; further lines are set in, so that none can pass for one of ours. Where that is
/// gone, nobody is left to tell.
pub(crate) fn say(line: &str) {
    let lines: Vec<String> = line.lines().map(printable).collect();
    writeln!(io::stderr(), "remand: {}", lines.join("\n  ")).unwrap_or(());
}

/// Prints a line of our own on standard error, without a name in front.
pub(crate) fn say_plain(line: &str) {
    writeln!(io::stderr(), "{}", printable(line)).unwrap_or(());
}
