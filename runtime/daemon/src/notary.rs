//! The node's notary: its keys, and what it states with them.
//!
//! Three seeds are made at the first start, one for each purpose: the logs' checkpoints, cosignatures for others' logs,
//! statements about executions. They lie in the state's key folder, readable by the daemon alone, and are never shown.
//! Nothing is signed but what the ledger has made durable.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use remand_ledger::Ledger;
use remand_ledger::Transaction;
use remand_ledger::checkpoint::{Origin, SignedCheckpoint};
use remand_ledger::keys::{AttestSigner, KeyError, LogKey, LogSigner, WitnessKey, WitnessSigner};
use remand_ledger::notary::{NotaryError, Recording, SignedStatement};
use remand_ledger::policy_file::{Policy, PolicyError};
use remand_ledger::provenance::{Claims, Seen, Statement};
use remand_model::TenantId;
use remand_model::event::Cause;
use remand_model::refusal::{Code, Refusal};
use rustix::fs::OFlags;

use crate::unrecorded;

const SEED_BYTES: usize = 32;
/// What the node was called when its logs began.
const NAME_FILE: &str = "node_id";

/// Why the node has no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file.
    #[error("cannot {what} the key {path}: {source}")]
    File {
        /// What was to be done.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A key that others can read, or that is none.
    #[error("{0} is no key of 32 bytes that only its owner can read: restore it from a backup, mode 0600")]
    Unfit(PathBuf),
    /// There are logs, and no key that signed them.
    #[error(
        "{0} is missing and there are logs already: restore it from a backup, or begin anew with another state folder"
    )]
    Missing(PathBuf),
    /// The node's logs have another name.
    #[error(
        "this node's logs are named {was}, not {now}: set node_id to {was}, or begin anew with another state folder"
    )]
    Renamed {
        /// As what it began.
        was: String,
        /// As what it was started.
        now: String,
    },
    /// The node's name.
    #[error("the node's name cannot be part of a log's name: {0}")]
    Name(#[from] KeyError),
}

/// The node's keys.
#[derive(Debug)]
pub struct Notary {
    node: String,
    log: Seed,
    attest: AttestSigner,
    witness: Seed,
    tokens: Seed,
}

/// Secret bytes that no message shows.
struct Seed([u8; SEED_BYTES]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl Notary {
    /// Opens the keys in `folder`. They are made where they are missing, but only for a node `is_new`: a log whose key is
    /// lost must not be continued under another one unnoticed.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(folder: &Path, node: &str, is_new: bool) -> Result<Self, KeysError> {
        let seed = |name: &str| seed(folder, name, is_new);
        let attest = AttestSigner::from_seed(format!("{node}/attest").parse()?, &seed("attest.seed")?.0);
        let (log, witness) = (seed("log.seed")?, seed("witness.seed")?);
        let tokens = self::seed(folder, "tokens.seed", true)?;
        let notary = Self { node: node.to_owned(), log, attest, witness, tokens };
        let any: TenantId = "any".parse().map_err(|_| KeyError::Name)?;
        Origin::new(node, &any)?;
        named(folder, node, is_new)?;
        Ok(notary)
    }

    /// What the root key of tokens is made of. Without it every token would have to be issued anew, and nothing else.
    #[must_use]
    pub const fn token_seed(&self) -> &[u8; SEED_BYTES] {
        &self.tokens.0
    }

    /// The name of a tenant's log.
    #[must_use]
    pub fn origin(&self, tenant: &TenantId) -> Origin {
        Origin::new(&self.node, tenant).expect("the node's name was tried when the keys were opened")
    }

    fn log_signer(&self, tenant: &TenantId) -> LogSigner {
        LogSigner::from_seed(self.origin(tenant).name().clone(), &self.log.0)
    }

    /// The key that verifies a tenant's log.
    #[must_use]
    pub fn log_key(&self, tenant: &TenantId) -> LogKey {
        self.log_signer(tenant).key().clone()
    }

    /// Who signs statements.
    #[must_use]
    pub const fn attest(&self) -> &AttestSigner {
        &self.attest
    }

    /// Who cosigns others' logs.
    #[must_use]
    pub fn witness_signer(&self) -> WitnessSigner {
        let name =
            format!("{}/witness", self.node).parse().expect("the node's name was tried when the keys were opened");
        WitnessSigner::from_seed(name, &self.witness.0)
    }

    /// The policy that this node suggests for a tenant's log: all of these witnesses must have cosigned.
    ///
    /// # Errors
    /// [`PolicyError`] where a key serves twice.
    pub fn policy(&self, tenant: &TenantId, witnesses: &[WitnessKey]) -> Result<Policy, PolicyError> {
        Policy::of_log_and_witnesses(&self.log_key(tenant), witnesses, witnesses.len())
    }

    /// Signs the newest durable head of a tenant's log.
    ///
    /// # Errors
    /// [`NotaryError`].
    pub fn checkpoint(&self, ledger: &Ledger, tenant: &TenantId) -> Result<SignedCheckpoint, NotaryError> {
        ledger.sign_checkpoint(tenant, &self.log_signer(tenant))
    }

    /// Adds to a transaction that ends an execution the statement about it, signed and bound to the log by an event of its
    /// own, caused by the transaction's last event. So there is never an end without its statement, and it costs no sync.
    ///
    /// # Errors
    /// [`NotaryError`].
    pub fn state(
        &self,
        ledger: &Ledger,
        mut transaction: Transaction,
        claims: Claims,
        seen: Seen,
    ) -> Result<Transaction, Refusal> {
        let cause = transaction.events.len().checked_sub(1).map(Cause::Within);
        let (execution, signed) = (claims.execution_id.clone(), self.sign(ledger, claims, seen)?);
        let mut event = Statement::recorded_event(&execution, signed.sha256);
        event.cause = cause;
        transaction.events.push(event);
        transaction.ops.extend(signed.ops);
        Ok(transaction)
    }

    /// Signs a statement; its hash and its operations belong into the transaction of the event that completes its execution.
    ///
    /// # Errors
    /// [`NotaryError`].
    pub fn sign(&self, ledger: &Ledger, claims: Claims, seen: Seen) -> Result<SignedStatement, Refusal> {
        let origin = self.origin(&claims.tenant_id);
        let seen = Seen { node_id: self.node.clone(), ..seen };
        let recording = Recording { claims, seen, cause: None, origin: &origin, signer: &self.attest };
        ledger.sign_statement(recording).map_err(refusal)
    }
}

/// Holds the node to the name that its logs began with: under another one nobody who kept a checkpoint could go on.
fn named(folder: &Path, node: &str, is_new: bool) -> Result<(), KeysError> {
    let path = folder.join(NAME_FILE);
    let failed = |what| {
        let path = path.clone();
        move |source| KeysError::File { what, path, source }
    };
    match std::fs::read_to_string(&path) {
        Ok(was) if is_new || was == node => {}
        Ok(was) => return Err(KeysError::Renamed { was, now: node.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    std::fs::write(&path, node).map_err(failed("write"))
}

/// The key in this file; made where it is missing and may be.
fn seed(folder: &Path, name: &str, may_make: bool) -> Result<Seed, KeysError> {
    let path = folder.join(name);
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => read_seed(file, &path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => make_seed(folder, &path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(KeysError::Missing(path)),
        Err(source) => Err(KeysError::File { what: "open", path, source }),
    }
}

fn read_seed(file: File, path: &Path) -> Result<Seed, KeysError> {
    let failed = |source| KeysError::File { what: "read", path: path.to_owned(), source };
    let about = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(SEED_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let is_private = about.is_file() && about.mode() & 0o077 == 0;
    let seed = bytes.try_into().ok().filter(|_| is_private);
    seed.map(Seed).ok_or_else(|| KeysError::Unfit(path.to_owned()))
}

/// Written whole and durable under another name first: half a key would lock the node out of its own logs.
fn make_seed(folder: &Path, path: &Path) -> Result<Seed, KeysError> {
    let mut seed = [0; SEED_BYTES];
    let fresh = path.with_extension("new");
    let write = |seed: &mut [u8; SEED_BYTES]| -> std::io::Result<()> {
        getrandom::fill(seed).map_err(|error| std::io::Error::other(error.to_string()))?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(seed)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        File::open(folder)?.sync_all()
    };
    write(&mut seed).map_err(|source| KeysError::File { what: "make", path: path.to_owned(), source })?;
    Ok(Seed(seed))
}

/// What a client hears.
#[must_use]
pub fn refusal(error: NotaryError) -> Refusal {
    let code = match &error {
        NotaryError::Append(error) => return unrecorded::refusal(error),
        NotaryError::NoLog(_) | NotaryError::NotRecorded(_) | NotaryError::NoEvent(_) => Code::NotFound,
        NotaryError::Merkle(_) => Code::Malformed,
        _ => Code::Internal,
    };
    Refusal::new(code, chain(&error))
}

/// An error with everything that led to it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let own = cause.to_string();
        // Some errors spell out their source themselves.
        if !text.ends_with(&own) {
            text = format!("{text}: {own}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn keys_are_made_once_and_are_the_same_at_the_next_start() {
        let folder = folder();
        let tenant = "acme".parse().expect("a name");
        let first = Notary::open(folder.path(), "node1", true).expect("made");
        let again = Notary::open(folder.path(), "node1", false).expect("read");
        assert_eq!(first.log_key(&tenant), again.log_key(&tenant));
        assert_eq!(first.attest().key(), again.attest().key());
        assert!(!first.attest().key().public().same_key(first.log_key(&tenant).public()));
        assert!(!first.witness_signer().key().public().same_key(first.log_key(&tenant).public()));
    }

    #[test]
    fn a_node_that_has_logs_keeps_its_name() {
        let folder = folder();
        Notary::open(folder.path(), "localhost", true).expect("made");
        Notary::open(folder.path(), "node1", true).expect("nothing is logged yet");
        let refused = Notary::open(folder.path(), "node2", false).expect_err("its logs are named");
        assert!(refused.to_string().contains("named node1, not node2"), "{refused}");
    }

    #[test]
    fn a_node_that_has_logs_makes_no_new_keys() {
        assert!(matches!(Notary::open(folder().path(), "node1", false), Err(KeysError::Missing(_))));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_cut_short_is_refused() {
        let folder = folder();
        Notary::open(folder.path(), "node1", true).expect("made");
        let path = folder.path().join("log.seed");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("our own file");
        assert!(matches!(Notary::open(folder.path(), "node1", true), Err(KeysError::Unfit(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
        std::fs::write(&path, [7; 31]).expect("our own file");
        assert!(matches!(Notary::open(folder.path(), "node1", true), Err(KeysError::Unfit(_))));
    }

    #[test]
    fn a_node_whose_name_cannot_be_part_of_a_logs_name_has_no_keys() {
        assert!(matches!(Notary::open(folder().path(), "a b", true), Err(KeysError::Name(_))));
    }
}
