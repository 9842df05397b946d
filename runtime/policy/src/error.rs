//! What can be wrong with a profile, a setting or a compilation, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The profile cannot be used.
    Error,
    /// The profile can be used; a person should look.
    Warning,
}

/// One thing found wrong in a profile's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the caller or the library names it.
    pub file: String,
    /// The line, counted from 1, where the finding belongs to one.
    pub line: Option<usize>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Finding {
    pub(crate) fn error(file: &str, line: Option<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, file: file.to_owned(), line, message: message.into() }
    }

    pub(crate) fn warning(file: &str, line: Option<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Why there is no usable policy. Every message says what its reader can do next.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The profile has errors: all of those that one reading finds.
    #[error("{}", lines(.0))]
    Profile(Vec<Finding>),
    /// No profile of this name exists.
    #[error("there is no policy {name:?}{hint}; known are: {known}. A file is named with a slash or with .toml")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// A guess at what was meant, ready to print, or nothing.
        hint: String,
        /// The names that exist.
        known: String,
    },
    /// The profile's file cannot be read.
    #[error("the policy file {path} cannot be read; give a readable TOML file of at most 1 MiB")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A profile that came as a text extends a file: the reader would open it with rights that the writer may not have.
    #[error(
        "{path:?} cannot be extended by a profile that was sent as a text; extend a profile of the library by its name"
    )]
    PathFromText {
        /// The file that was named.
        path: String,
    },
    /// A profile that came as a text is too long.
    #[error("the policy {name:?} is {bytes} bytes long; write one of at most {bytes_max}")]
    TooLong {
        /// The name that it was given.
        name: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: u64,
    },
    /// A `KEY=VALUE` setting is wrong.
    #[error("{key}: {message}")]
    Setting {
        /// The key as it was given.
        key: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// The kernel's Landlock is missing or too old.
    #[error(
        "this kernel offers Landlock ABI {found}, the policy needs at least {least}: boot Linux 5.19 or newer with landlock in `lsm=`"
    )]
    LandlockAbi {
        /// What the kernel offers; 0 or less is no Landlock at all.
        found: i32,
        /// The least that can be enforced.
        least: i32,
    },
    /// The argument rules do not compile.
    #[error("the argument rules of the policy do not compile; shorten them")]
    Arguments(#[from] seccompiler::BackendError),
}
