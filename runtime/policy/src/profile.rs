//! A resolved profile: what one policy says after everything that it extends has been added.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use remand_model::Limits;
use serde::{Deserialize, Serialize};

use crate::error::PolicyError;
use crate::library::Library;
use crate::resolve::Files;
use crate::values;

/// The writable places of every box: all of them on one tmpfs, limited in bytes and inodes together.
pub const WRITABLE_PLACES: [&str; 5] = ["/tmp", "/out", "/work", "/dev/shm", "/home/user"];

/// One policy, complete: nothing in it is inherited any more.
///
/// Holding one tells you that every name in it is known and that every rule compiles to something; not that this host
/// can enforce it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name it was loaded by: a name of the library, or the stem of the file.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its own name and the names of what it extends, nearest first.
    pub lineage: Vec<String>,
    /// Which system calls happen.
    pub syscalls: Syscalls,
    /// What the root is made of.
    pub root: Root,
    /// What Landlock permits, path by path.
    pub files: Vec<FileRule>,
    /// The limits.
    pub limits: Limits,
    /// The whole environment of the payload.
    pub environment: Vec<Variable>,
    /// Who and where the payload is.
    pub process: Process,
}

impl Profile {
    /// Loads `name_or_path` with everything that it extends.
    ///
    /// A text with a slash or the ending `.toml` is a file's path, anything else a name in `library`.
    ///
    /// # Errors
    /// [`PolicyError`]: the profile is unknown, unreadable or wrong; every mistake of the reading is in it.
    pub fn load(name_or_path: &str, library: &Library) -> Result<Self, PolicyError> {
        Self::load_with_files(name_or_path, library).map(|(profile, _)| profile)
    }

    /// As [`Profile::load`], with the files that the profile was made from: for whoever keeps it.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn load_with_files(name_or_path: &str, library: &Library) -> Result<(Self, Files), PolicyError> {
        crate::resolve::load(name_or_path, library)
    }

    /// Sets one key of the policy file: `limits.memory`, or for limits short `memory`.
    ///
    /// # Errors
    /// [`PolicyError::Setting`]: no such key, no such value, or a list that only a profile may widen.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), PolicyError> {
        crate::settings::set(self, key, value)
    }

    /// Adds a folder or file of the host at `target`, with the Landlock rule that lets the payload use it.
    ///
    /// Read-only gives reading and executing; writable gives everything that the writable places have.
    ///
    /// # Errors
    /// [`PolicyError::Setting`]: a path is not absolute, holds `..`, or is not UTF-8.
    pub fn bind(&mut self, source: &Path, target: &Path, mode: Mode) -> Result<(), PolicyError> {
        let checked = |path: &Path| {
            let refuse = |message| PolicyError::Setting { key: "bind".to_owned(), message };
            let text = path.to_str().ok_or_else(|| format!("{path:?} is not UTF-8; rename it"));
            text.and_then(values::path).map_err(refuse)
        };
        let (source, target, why) = (checked(source)?, checked(target)?, "asked for by the caller".to_owned());
        let access = match mode {
            Mode::ReadOnly => vec![Access::Read, Access::Execute],
            Mode::ReadWrite => Access::ALL_OF_A_PLACE.to_vec(),
        };
        self.files.push(FileRule { path: target.clone(), access, optional: false, why: why.clone() });
        self.root.binds.push(Bind { source, target, mode, optional: false, why });
        Ok(())
    }

    /// Replaces the binds and generated files by a whole root of the caller's, which may be read and executed throughout.
    pub fn use_own_root(&mut self) {
        let why = "the caller gave a whole root of its own".to_owned();
        self.root = Root::default();
        let access = vec![Access::Read, Access::Execute];
        self.files.push(FileRule { path: "/".into(), access, optional: false, why });
    }

    /// The generated files with their placeholders filled in: path and content.
    #[must_use]
    pub fn generated_files(&self) -> Vec<(PathBuf, GeneratedContent)> {
        self.root.generated.iter().map(|file| (file.path.clone(), file.content.filled(&self.process))).collect()
    }
}

/// What happens to system calls. A name that is not here is unknown to the payload's kernel: `ENOSYS`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Syscalls {
    /// What is said about each named call.
    pub statements: BTreeMap<String, Statement>,
    /// What the arguments of allowed calls must be.
    pub arguments: Vec<ArgumentRule>,
}

impl Syscalls {
    /// The names that are allowed, in their order.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter(|(_, s)| s.verdict == Verdict::Allow).map(|(name, _)| name.as_str())
    }

    /// The names that end the execution, in their order.
    pub fn killed(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter(|(_, s)| s.verdict == Verdict::Kill).map(|(name, _)| name.as_str())
    }
}

/// What a profile says about one system call, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What happens.
    pub verdict: Verdict,
    /// The reason, for people.
    pub why: String,
    /// The profile that says so.
    pub source: String,
}

/// What happens to a named system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It happens, if its arguments pass.
    Allow,
    /// It fails with this error.
    Deny(Errno),
    /// The execution ends with the cause `seccomp` and this call's name.
    Kill,
}

/// An error number of the kernel, 1 to 4095.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errno(pub u16);

impl Errno {
    const NAMED: [(&'static str, i32); 10] = [
        ("EPERM", libc::EPERM),
        ("ENOENT", libc::ENOENT),
        ("EACCES", libc::EACCES),
        ("EINVAL", libc::EINVAL),
        ("ENOTTY", libc::ENOTTY),
        ("ENOSYS", libc::ENOSYS),
        ("EAFNOSUPPORT", libc::EAFNOSUPPORT),
        ("EPROTONOSUPPORT", libc::EPROTONOSUPPORT),
        ("EOPNOTSUPP", libc::EOPNOTSUPP),
        ("ENODEV", libc::ENODEV),
    ];

    /// "Not permitted": for what is refused on purpose.
    pub const EPERM: Self = Self(libc::EPERM as u16);
    /// "No such call": for what the payload shall believe is not there, so that libraries fall back.
    pub const ENOSYS: Self = Self(libc::ENOSYS as u16);

    pub(crate) fn named(name: &str) -> Option<Self> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name)?;
        u16::try_from(found.1).ok().map(Self)
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, number)| *number == i32::from(self.0)) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// A condition on one argument of an allowed call; where it does not hold the call fails with `errno`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgumentRule {
    /// The call.
    pub syscall: String,
    /// Which argument, counted from 0.
    pub argument: u8,
    /// How much of the register the kernel reads, and the filter compares.
    pub width: Width,
    /// The condition.
    pub test: Test,
    /// The error where the condition does not hold.
    pub errno: Errno,
    /// The reason, for people.
    pub why: String,
}

/// How much of an argument's register counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Width {
    /// The low half, as for an `int`.
    #[serde(rename = "32")]
    Half,
    /// All of it, as for a `long` or a pointer.
    #[serde(rename = "64")]
    Full,
}

/// What an argument must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// One of these values.
    OneOf(Vec<Constant>),
    /// None of these values.
    NotOneOf(Vec<Constant>),
    /// A value without any of these bits.
    ForbidBits(Vec<Constant>),
}

impl Test {
    /// The values that the test lists.
    #[must_use]
    pub fn constants(&self) -> &[Constant] {
        match self {
            Self::OneOf(list) | Self::NotOneOf(list) | Self::ForbidBits(list) => list,
        }
    }
}

/// A value as the profile writes it and as the kernel compares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constant {
    /// As written: a constant's name or a number.
    pub name: String,
    /// The value.
    pub value: u64,
}

/// What the root of the box is made of, beside the writable places, `/proc` and `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Root {
    /// What of the host is visible, in the order in which it is mounted.
    ///
    /// A source that is a symbolic link on the host (`/bin` where it is part of `/usr`) becomes the same link.
    pub binds: Vec<Bind>,
    /// Files that the runtime writes itself.
    pub generated: Vec<Generated>,
}

/// A folder or file of the host inside the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is in the box.
    pub target: PathBuf,
    /// Whether it can be written.
    pub mode: Mode,
    /// Whether a host without it is fine.
    pub optional: bool,
    /// The reason, for people.
    pub why: String,
}

/// Whether a bind can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Read-only.
    #[serde(rename = "ro")]
    ReadOnly,
    /// Writable.
    #[serde(rename = "rw")]
    ReadWrite,
}

/// A file that the runtime writes itself, read-only inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// Where it is in the box.
    pub path: PathBuf,
    /// What it holds.
    pub content: GeneratedContent,
    /// The reason, for people.
    pub why: String,
}

/// What a generated file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GeneratedContent {
    /// A regular file with this text; `{user}`, `{uid}`, `{gid}` and `{hostname}` stand for the values of the process.
    Text(String),
    /// A symbolic link to this path in the box.
    Link(String),
}

impl GeneratedContent {
    fn filled(&self, process: &Process) -> Self {
        match self {
            Self::Link(target) => Self::Link(target.clone()),
            Self::Text(text) => Self::Text(
                text.replace("{user}", &process.user)
                    .replace("{uid}", &process.uid.to_string())
                    .replace("{gid}", &process.gid.to_string())
                    .replace("{hostname}", &process.hostname),
            ),
        }
    }
}

/// What the payload may do at and below one path (Landlock).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRule {
    /// The path in the box.
    pub path: PathBuf,
    /// What is allowed there.
    pub access: Vec<Access>,
    /// Whether a box without the path is fine.
    pub optional: bool,
    /// The reason, for people.
    pub why: String,
}

/// A group of Landlock's access rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reading files and listing folders.
    Read,
    /// Listing folders only.
    List,
    /// Executing files.
    Execute,
    /// Writing and truncating files that exist.
    Write,
    /// Making files, folders, links, sockets and pipes; never devices.
    Create,
    /// Removing files and folders.
    Remove,
    /// Linking and renaming between folders.
    Refer,
    /// `ioctl` on devices.
    Ioctl,
    /// Connecting to sockets with a name in the file system.
    Connect,
}

impl Access {
    /// Every word, in the order in which files list them.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::List,
        Self::Execute,
        Self::Write,
        Self::Create,
        Self::Remove,
        Self::Refer,
        Self::Ioctl,
        Self::Connect,
    ];
    /// What a writable bind of the caller's gets.
    pub(crate) const ALL_OF_A_PLACE: [Self; 7] =
        [Self::Read, Self::Execute, Self::Write, Self::Create, Self::Remove, Self::Refer, Self::Connect];

    /// The word in a profile.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Execute => "execute",
            Self::Write => "write",
            Self::Create => "create",
            Self::Remove => "remove",
            Self::Refer => "refer",
            Self::Ioctl => "ioctl",
            Self::Connect => "connect",
        }
    }
}

/// One variable of the payload's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
    /// The reason, for people.
    pub why: String,
}

/// Who and where the payload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its user's name inside.
    pub user: String,
    /// Its user id inside; never the host's.
    pub uid: u32,
    /// Its group id inside.
    pub gid: u32,
    /// The host name inside.
    pub hostname: String,
    /// The folder that it starts in.
    pub directory: PathBuf,
    /// Bits that new files do not get.
    pub umask: u32,
    /// Which network it has.
    pub network: Network,
    /// Whether it gets a time namespace of its own.
    pub time_namespace: bool,
}

/// Which network the payload has. Always one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// None: Landlock refuses TCP as well, where the kernel can.
    None,
    /// The loopback of its own namespace.
    Loopback,
}
