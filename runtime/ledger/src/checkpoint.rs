//! Checkpoints (C2SP tlog-checkpoint): a log's origin, size and root in a signed note, without extension lines.
//!
//! Levels of trust: an [`AllegedCheckpoint`] is well formed and no more; a [`SignedCheckpoint`] was signed by the log's key
//! (its holder may still have signed two histories); [`crate::policy_file::Policy::accept`] adds what witnesses saw. A log
//! may sign only what is durably stored, because a head signed before a crash would be a broken promise for ever: the
//! signer takes a [`CommittedHead`], and only this crate can make one.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use remand_model::{Digest, TenantId};

use crate::keys::{KeyError, KeyName, LogKey, LogSigner};
use crate::merkle::{Frontier, empty_root};
use crate::note::{Note, NoteError, SignatureLine};
use crate::store::LogTree;

/// Why bytes are no checkpoint, or not one that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// No signed note.
    #[error("the checkpoint is no signed note that holds")]
    Note(#[from] NoteError),
    /// The text is not origin, size and root.
    #[error("the checkpoint's text is not an origin, a size and a root, each on a line of its own")]
    Text,
    /// A log of no entries has a root of its own.
    #[error("a checkpoint of size 0 has another root than that of the empty tree")]
    EmptyRoot,
    /// The origin is no log of a tenant.
    #[error("{0} is not <node>/audit/<tenant>")]
    Origin(String),
    /// The checkpoint is another log's.
    #[error("the checkpoint is of {found}, asked for was {expected}")]
    OtherLog {
        /// The checkpoint's origin.
        found: String,
        /// The origin asked for.
        expected: String,
    },
}

/// The origin of a tenant's log: `<node>/audit/<tenant_id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    name: KeyName,
    tenant: TenantId,
}

impl Origin {
    /// The origin of `tenant`'s log on `node`, a name such as `node1.example`.
    ///
    /// # Errors
    /// [`KeyError::Name`] where the node's name cannot be part of a key's name.
    pub fn new(node: &str, tenant: &TenantId) -> Result<Self, KeyError> {
        if node.is_empty() || node.contains("/audit/") {
            return Err(KeyError::Name);
        }
        Ok(Self { name: format!("{node}/audit/{tenant}").parse()?, tenant: tenant.clone() })
    }

    /// The origin as the name of the log's key.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// Whose log it is.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        self.name.as_str().split_once("/audit/").map_or("", |(node, _)| node)
    }
}

impl FromStr for Origin {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let refuse = || CheckpointError::Origin(text.to_owned());
        let (node, tenant) = text.split_once("/audit/").ok_or_else(refuse)?;
        let tenant = tenant.parse().map_err(|_| refuse())?;
        Self::new(node, &tenant).map_err(|_| refuse())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

/// What a checkpoint says: which log, how many entries, which root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log; the name of the key that signs for it.
    pub origin: KeyName,
    /// Entries in the log.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The note's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Text);
        };
        let origin = origin.parse().map_err(|_| CheckpointError::Text)?;
        let size = parse_decimal(size).ok_or(CheckpointError::Text)?;
        let root = parse_hash(root).ok_or(CheckpointError::Text)?;
        if size == 0 && root != empty_root() {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self { origin, size, root })
    }
}

/// A decimal number below 2^63 without sign and leading zeroes.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = text.parse().ok().filter(|number| i64::try_from(*number).is_ok());
    number.filter(|_| plain)
}

/// A hash in base64.
pub(crate) fn parse_hash(text: &str) -> Option<Digest> {
    if text.len() != 44 {
        return None;
    }
    STANDARD.decode(text).ok()?.try_into().ok().map(Digest::from_bytes)
}

/// The hash in base64.
pub(crate) fn hash_text(hash: &Digest) -> String {
    STANDARD.encode(hash.as_bytes())
}

/// A checkpoint that somebody handed over: well formed, and nothing about it verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllegedCheckpoint {
    note: Note,
    says: Checkpoint,
}

impl AllegedCheckpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`]: no note, no checkpoint, extension lines, or a wrong root for size 0.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let says = Checkpoint::parse(note.text())?;
        Ok(Self { note, says })
    }

    /// What it claims to say.
    #[must_use]
    pub const fn alleged(&self) -> &Checkpoint {
        &self.says
    }

    /// The note around it.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Checks the log's signature.
    ///
    /// # Errors
    /// [`CheckpointError::OtherLog`] where the key is another log's, [`CheckpointError::Note`] where it did not sign.
    pub fn verify(self, key: &LogKey) -> Result<SignedCheckpoint, CheckpointError> {
        if self.says.origin != *key.name() {
            let (found, expected) = (self.says.origin.to_string(), key.name().to_string());
            return Err(CheckpointError::OtherLog { found, expected });
        }
        self.note.verify_log(key)?;
        Ok(SignedCheckpoint { note: self.note, says: self.says })
    }
}

/// A checkpoint that the log's key signed. It is what the log's holder said, not yet what others saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    note: Note,
    says: Checkpoint,
}

impl SignedCheckpoint {
    /// What it says.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.says
    }

    /// The note around it, cosignatures included.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Adds a witness's line, which takes the place of an older one of the same key.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn put_cosignature(&mut self, line: SignatureLine) -> Result<(), NoteError> {
        self.note.put_line(line)
    }
}

impl From<SignedCheckpoint> for AllegedCheckpoint {
    fn from(signed: SignedCheckpoint) -> Self {
        Self { note: signed.note, says: signed.says }
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.note, f)
    }
}

impl fmt::Display for AllegedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.note, f)
    }
}

/// A head that is durably stored. Only the ledger makes one, after its transaction returned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct CommittedHead {
    size: u64,
    root: Digest,
}

impl CommittedHead {
    /// The head of a log whose transaction has just been committed to disk. Call it nowhere else.
    pub(crate) fn after_commit(frontier: &Frontier) -> Self {
        Self { size: frontier.size(), root: frontier.root() }
    }

    /// Entries in the log.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }
}

impl From<&LogTree> for CommittedHead {
    fn from(tree: &LogTree) -> Self {
        // A tree is handed out for durable commits only.
        Self { size: tree.head().size, root: tree.head().root }
    }
}

impl LogSigner {
    /// Signs a head of this key's log.
    #[must_use]
    pub fn sign(&self, head: &CommittedHead) -> SignedCheckpoint {
        let says = Checkpoint { origin: self.key().name().clone(), size: head.size, root: head.root };
        SignedCheckpoint { note: Note::sign(says.to_text(), self), says }
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
