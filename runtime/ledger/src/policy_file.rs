//! Trust policies (C2SP tlog-policy): which logs and witnesses one knows, and whose cosignatures are enough.
//!
//! A policy is read once and has been checked whole: every name is defined before it is used, no key serves twice, no
//! witness can count twice. [`Policy::accept`] is the only way to an [`AcceptedCheckpoint`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::checkpoint::{AllegedCheckpoint, CheckpointError, SignedCheckpoint};
use crate::keys::{KeyError, LogKey, PublicKey, WitnessKey};
use crate::note::NoteError;

/// The longest policy in bytes.
pub const POLICY_BYTES_MAX: usize = 65_536;
/// Logs, witnesses and groups together that a policy can have.
pub const DEFINITIONS_MAX: usize = 1024;

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {reason}")]
pub struct PolicyError {
    /// The line, from 1; the line behind the last one where something is missing.
    pub line: usize,
    /// What is wrong with it.
    pub reason: PolicyReason,
}

/// What is wrong with a line of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyReason {
    /// More than [`POLICY_BYTES_MAX`] bytes or [`DEFINITIONS_MAX`] definitions.
    #[error("the policy is too large")]
    TooLarge,
    /// A control character other than tab and newline, bytes that are not UTF-8, or no newline at the end.
    #[error("not a text of lines")]
    NotText,
    /// No `log`, `witness`, `group` or `quorum` line of the known form.
    #[error("not a log, witness, group or quorum line of the known form")]
    Form,
    /// Not a key of the kind asked for.
    #[error("{0}")]
    Key(KeyError),
    /// The key stands in the policy already.
    #[error("the key of {0} is defined twice")]
    DuplicateKey(String),
    /// The name stands in the policy already, or is reserved.
    #[error("the name {0} is defined twice or reserved")]
    DuplicateName(String),
    /// The name is not defined above.
    #[error("the name {0} is not defined above")]
    Unknown(String),
    /// The name is a member of a group already.
    #[error("{0} is a member of a group already; each can count once only")]
    SecondGroup(String),
    /// The threshold is not between 1 and the number of members.
    #[error("the threshold must be 1 to the number of members")]
    Threshold,
    /// Not exactly one quorum line.
    #[error("a policy has exactly one quorum line")]
    Quorum,
}

/// Why a checkpoint is not accepted under a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// No log of the policy has this origin.
    #[error("no log of the policy has the origin {0}; add its key if you trust it")]
    UnknownLog(String),
    /// The checkpoint does not hold.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[from] CheckpointError),
    /// Too few of the known witnesses cosigned.
    #[error("the quorum {quorum} is not reached: {} of the policy's witnesses cosigned", .cosigned.len())]
    Quorum {
        /// The quorum's name.
        quorum: String,
        /// The policy's names of the witnesses whose cosignatures hold.
        cosigned: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Witness {
    name: String,
    key: WitnessKey,
    url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    threshold: usize,
    members: Vec<String>,
}

/// A trust policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<(LogKey, Option<String>)>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: String,
}

/// A checkpoint that a policy accepts: signed by a known log and seen by enough known witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCheckpoint {
    signed: SignedCheckpoint,
    cosigned: Vec<(String, u64)>,
}

impl AcceptedCheckpoint {
    /// The checkpoint.
    #[must_use]
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// The policy's names of the witnesses whose cosignatures hold, each with the POSIX time it states.
    #[must_use]
    pub fn cosigned(&self) -> &[(String, u64)] {
        &self.cosigned
    }
}

impl Policy {
    /// The policy of a log whose key alone decides: `quorum none`. Whoever holds that key can rewrite the log; earlier
    /// checkpoints are then the only defence.
    #[must_use]
    pub fn of_log(key: LogKey) -> Self {
        Self { logs: vec![(key, None)], witnesses: Vec::new(), groups: Vec::new(), quorum: "none".to_owned() }
    }

    /// The policy of one log and witnesses of which `threshold` must have cosigned. A threshold of 0 asks for none.
    ///
    /// # Errors
    /// [`PolicyError`] where a key serves twice or the threshold is above the number of witnesses.
    pub fn of_log_and_witnesses(key: &LogKey, witnesses: &[WitnessKey], threshold: usize) -> Result<Self, PolicyError> {
        let mut text = format!("log {key}\n");
        let mut names = String::new();
        for (number, witness) in (1..).zip(witnesses) {
            text += &format!("witness w{number} {witness}\n");
            names += &format!(" w{number}");
        }
        text += &match threshold {
            0 => "quorum none\n".to_owned(),
            _ => format!("group witnesses {threshold}{names}\nquorum witnesses\n"),
        };
        Self::parse(text.as_bytes())
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let whole = |reason| PolicyError { line: 1, reason };
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(whole(PolicyReason::TooLarge));
        }
        let allowed = |byte: &u8| matches!(byte, b'\t' | b'\n' | b' '..=b'~' | 0x80..);
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_empty() || text.ends_with('\n'));
        let text = text.filter(|text| text.as_bytes().iter().all(allowed)).ok_or(whole(PolicyReason::NotText))?;
        let mut reader = Reader::default();
        let mut last = 0;
        for (line, text) in (1..).zip(text.split_terminator('\n')) {
            reader.line(text).map_err(|reason| PolicyError { line, reason })?;
            last = line;
        }
        reader.finish().map_err(|reason| PolicyError { line: last + 1, reason })
    }

    /// The keys of the known logs.
    pub fn logs(&self) -> impl Iterator<Item = &LogKey> {
        self.logs.iter().map(|(key, _)| key)
    }

    /// The known witnesses: name, key and URL.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &WitnessKey, Option<&str>)> {
        self.witnesses.iter().map(|witness| (witness.name.as_str(), &witness.key, witness.url.as_deref()))
    }

    /// Whether cosignatures are asked for at all.
    #[must_use]
    pub fn asks_for_witnesses(&self) -> bool {
        self.quorum != "none"
    }

    /// Checks a checkpoint against this policy: the log's signature, every known witness's line, and the quorum.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub fn accept(&self, alleged: AllegedCheckpoint) -> Result<AcceptedCheckpoint, AcceptError> {
        let origin = alleged.alleged().origin.clone();
        let mut keys = self.logs().filter(|key| *key.name() == origin).peekable();
        let first = *keys.peek().ok_or_else(|| AcceptError::UnknownLog(origin.to_string()))?;
        let signs = |key: &&LogKey| alleged.note().lines().iter().any(|line| line.is_by(key.public()));
        let key = keys.find(signs).unwrap_or(first).clone();
        let signed = alleged.verify(&key)?;
        let cosigned = self.cosignatures(&signed).map_err(CheckpointError::from)?;
        let seen: BTreeSet<&str> = cosigned.iter().map(|(name, _)| name.as_str()).collect();
        if self.is_reached(&seen) {
            return Ok(AcceptedCheckpoint { signed, cosigned });
        }
        let cosigned = cosigned.into_iter().map(|(name, _)| name).collect();
        Err(AcceptError::Quorum { quorum: self.quorum.clone(), cosigned })
    }

    /// Checks a checkpoint's log signature alone, as for an earlier head that one remembers.
    ///
    /// # Errors
    /// [`AcceptError::UnknownLog`] or [`AcceptError::Checkpoint`].
    pub fn accept_unwitnessed(&self, alleged: AllegedCheckpoint) -> Result<SignedCheckpoint, AcceptError> {
        let logs = self.logs.clone();
        let bare = Self { logs, witnesses: Vec::new(), groups: Vec::new(), quorum: "none".to_owned() };
        bare.accept(alleged).map(|accepted| accepted.signed)
    }

    fn cosignatures(&self, signed: &SignedCheckpoint) -> Result<Vec<(String, u64)>, NoteError> {
        let mut cosigned = Vec::new();
        for witness in &self.witnesses {
            if let Some(time) = signed.note().verify_witness(&witness.key)? {
                cosigned.push((witness.name.clone(), time));
            }
        }
        Ok(cosigned)
    }

    fn is_reached(&self, seen: &BTreeSet<&str>) -> bool {
        let mut witnessed = seen.clone();
        // A group names only what is defined above it, so that one pass in order decides all of them.
        for group in &self.groups {
            let count = group.members.iter().filter(|member| witnessed.contains(member.as_str())).count();
            if count >= group.threshold {
                witnessed.insert(&group.name);
            }
        }
        !self.asks_for_witnesses() || witnessed.contains(self.quorum.as_str())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map_or_else(String::new, |url| format!(" {url}"));
        self.logs.iter().try_for_each(|(key, at)| writeln!(f, "log {key}{}", url(at)))?;
        self.witnesses.iter().try_for_each(|w| writeln!(f, "witness {} {}{}", w.name, w.key, url(&w.url)))?;
        for group in &self.groups {
            writeln!(f, "group {} {} {}", group.name, group.threshold, group.members.join(" "))?;
        }
        writeln!(f, "quorum {}", self.quorum)
    }
}

/// What has been read of a policy so far.
#[derive(Debug, Default)]
struct Reader {
    logs: Vec<(LogKey, Option<String>)>,
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<String>,
    /// Every name, and whether it is a member of a group already.
    names: BTreeMap<String, bool>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), PolicyReason> {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        if self.logs.len() + self.names.len() >= DEFINITIONS_MAX {
            return Err(PolicyReason::TooLarge);
        }
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key, url @ ..] => self.log(key, url),
            ["witness", name, key, url @ ..] => self.witness(name, key, url),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            _ => Err(PolicyReason::Form),
        }
    }

    fn log(&mut self, key: &str, url: &[&str]) -> Result<(), PolicyReason> {
        let key: LogKey = key.parse().map_err(PolicyReason::Key)?;
        self.new_key(key.public())?;
        self.logs.push((key, one_url(url)?));
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: &[&str]) -> Result<(), PolicyReason> {
        let key: WitnessKey = key.parse().map_err(PolicyReason::Key)?;
        self.new_key(key.public())?;
        self.new_name(name)?;
        self.witnesses.push(Witness { name: name.to_owned(), key, url: one_url(url)? });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), PolicyReason> {
        let threshold = match threshold {
            "all" => members.len(),
            "any" => 1,
            number => crate::checkpoint::parse_decimal(number).and_then(|k| k.try_into().ok()).unwrap_or(0),
        };
        if !(1..=members.len()).contains(&threshold) {
            return Err(PolicyReason::Threshold);
        }
        for member in members {
            let taken = self.names.get_mut(*member).ok_or_else(|| PolicyReason::Unknown((*member).to_owned()))?;
            if std::mem::replace(taken, true) {
                return Err(PolicyReason::SecondGroup((*member).to_owned()));
            }
        }
        self.new_name(name)?;
        let members = members.iter().map(|member| (*member).to_owned()).collect();
        self.groups.push(Group { name: name.to_owned(), threshold, members });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), PolicyReason> {
        if self.quorum.is_some() {
            return Err(PolicyReason::Quorum);
        }
        if name != "none" && !self.names.contains_key(name) {
            return Err(PolicyReason::Unknown(name.to_owned()));
        }
        self.quorum = Some(name.to_owned());
        Ok(())
    }

    fn new_key(&self, key: &PublicKey) -> Result<(), PolicyReason> {
        let logs = self.logs.iter().map(|(log, _)| log.public());
        let mut known = logs.chain(self.witnesses.iter().map(|witness| witness.key.public()));
        match known.any(|old| old.same_key(key)) {
            true => Err(PolicyReason::DuplicateKey(key.name().to_string())),
            false => Ok(()),
        }
    }

    fn new_name(&mut self, name: &str) -> Result<(), PolicyReason> {
        let fresh = name != "none" && !self.names.contains_key(name);
        if !fresh {
            return Err(PolicyReason::DuplicateName(name.to_owned()));
        }
        self.names.insert(name.to_owned(), false);
        Ok(())
    }

    fn finish(self) -> Result<Policy, PolicyReason> {
        let quorum = self.quorum.ok_or(PolicyReason::Quorum)?;
        Ok(Policy { logs: self.logs, witnesses: self.witnesses, groups: self.groups, quorum })
    }
}

fn one_url(words: &[&str]) -> Result<Option<String>, PolicyReason> {
    match words {
        [] => Ok(None),
        [url] => Ok(Some((*url).to_owned())),
        _ => Err(PolicyReason::Form),
    }
}

#[cfg(test)]
#[path = "policy_file_tests.rs"]
mod tests;
