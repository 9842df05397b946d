//! Witnessing (C2SP tlog-witness) without sockets: what a witness answers to add-checkpoint, and how a log reads the answer.
//!
//! A witness remembers one head per log and cosigns only what that head grows into. The new head is stored before the
//! answer leaves, by a store that compares and sets in one step: otherwise two requests at once could make it forget
//! leaves that it vouched for.

use remand_model::Digest;

use crate::checkpoint::{AllegedCheckpoint, Checkpoint, CheckpointError, SignedCheckpoint};
use crate::keys::{LogKey, WitnessKey, WitnessSigner};
use crate::note::{NoteError, SignatureLine, cosign, parse_lines};
use crate::proof::{ConsistencyProof, ProofError};

/// The longest answer of a witness that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 16_384;

/// The head of one log as a witness last cosigned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessedHead {
    /// Leaves.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// The checkpoint with the log's signature and the witness's own, to be served to monitors.
    pub note: String,
}

/// Where a witness keeps its heads.
pub trait WitnessStore {
    /// Why it cannot.
    type Error;

    /// The head last stored for this origin.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn latest(&mut self, origin: &str) -> Result<Option<WitnessedHead>, Self::Error>;

    /// In one step: where the stored head's size still is `old` (nothing where none was stored), stores `new` durably and
    /// says true; otherwise changes nothing and says false.
    ///
    /// # Errors
    /// Whatever keeps `new` from being durable; then nothing may be answered.
    fn advance(&mut self, origin: &str, old: Option<u64>, new: &WitnessedHead) -> Result<bool, Self::Error>;
}

/// What goes back over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    fn refuse(status: u16, why: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{why}\n").into_bytes() }
    }

    fn conflict(size: u64) -> Self {
        Self { status: 409, content_type: "text/x.tlog.size", body: format!("{size}\n").into_bytes() }
    }
}

/// A witness: its key and the logs whose heads it remembers.
#[derive(Debug)]
pub struct Witness {
    signer: WitnessSigner,
    logs: Vec<LogKey>,
}

impl Witness {
    /// The witness that signs with `signer` for `logs`; several keys for one origin are all trusted.
    #[must_use]
    pub const fn new(signer: WitnessSigner, logs: Vec<LogKey>) -> Self {
        Self { signer, logs }
    }

    /// The key that verifies its cosignatures.
    #[must_use]
    pub const fn key(&self) -> &WitnessKey {
        self.signer.key()
    }

    /// Trusts a further log key.
    pub fn add_log(&mut self, key: LogKey) {
        if !self.logs.contains(&key) {
            self.logs.push(key);
        }
    }

    /// Answers one add-checkpoint request; `now_s` is POSIX time.
    ///
    /// # Errors
    /// What the store says; answer with status 500 and nothing signed.
    ///
    /// # Panics
    /// Where `now_s` is 0: a cosignature without a time would be a lie.
    pub fn handle_add_checkpoint<S: WitnessStore>(
        &self,
        store: &mut S,
        body: &[u8],
        now_s: u64,
    ) -> Result<Answer, S::Error> {
        assert!(now_s > 0, "a witness needs a clock");
        let (old, proof, signed) = match self.vet(body) {
            Ok(vetted) => vetted,
            Err(refusal) => return Ok(refusal),
        };
        let origin = signed.checkpoint().origin.as_str().to_owned();
        let latest = store.latest(&origin)?;
        let known = latest.as_ref().map_or(0, |head| head.size);
        if old != known {
            return Ok(Answer::conflict(known));
        }
        if let Err(why) = check_growth(latest.as_ref(), &proof) {
            return Ok(Answer::refuse(422, &why.to_string()));
        }
        let (line, head) = self.cosigned(signed, now_s);
        if store.advance(&origin, latest.map(|head| head.size), &head)? {
            return Ok(Answer { status: 200, content_type: "text/plain; charset=utf-8", body: line });
        }
        Ok(Answer::conflict(store.latest(&origin)?.map_or(0, |head| head.size)))
    }

    /// Everything about a request that does not depend on what is remembered.
    fn vet(&self, body: &[u8]) -> Result<(u64, ConsistencyProof, SignedCheckpoint), Answer> {
        let proof = ConsistencyProof::parse(body).map_err(|why| match why {
            ProofError::Checkpoint(CheckpointError::EmptyRoot) => Answer::refuse(422, &why.to_string()),
            _ => Answer::refuse(400, &why.to_string()),
        })?;
        let signed = self.verify(proof.checkpoint())?;
        let (old, size) = (proof.old(), signed.checkpoint().size);
        if old > size {
            return Err(Answer::refuse(400, "the old size is above the checkpoint's"));
        }
        Ok((old, proof, signed))
    }

    fn verify(&self, alleged: &AllegedCheckpoint) -> Result<SignedCheckpoint, Answer> {
        let keys: Vec<_> = self.logs.iter().filter(|key| *key.name() == alleged.alleged().origin).collect();
        if keys.is_empty() {
            return Err(Answer::refuse(404, "this witness does not know the log"));
        }
        let mut signed = Err(NoteError::NotSignedBy(alleged.alleged().origin.to_string()).into());
        for key in keys {
            match alleged.clone().verify(key) {
                Err(CheckpointError::Note(NoteError::NotSignedBy(_))) => {}
                Err(why) => return Err(Answer::refuse(403, &why.to_string())),
                verified => signed = verified,
            }
        }
        signed.map_err(|why: CheckpointError| Answer::refuse(403, &why.to_string()))
    }

    fn cosigned(&self, mut signed: SignedCheckpoint, now_s: u64) -> (Vec<u8>, WitnessedHead) {
        let line = cosign(signed.note().text(), &self.signer, now_s);
        let body = format!("{line}\n").into_bytes();
        // A note full of strangers' lines still gets its cosignature; only the copy kept for monitors goes without it.
        let note = match signed.put_cosignature(line) {
            Ok(()) => signed.to_string(),
            Err(_) => signed.note().text().to_owned(),
        };
        let Checkpoint { size, root, .. } = *signed.checkpoint();
        (body, WitnessedHead { size, root, note })
    }
}

fn check_growth(latest: Option<&WitnessedHead>, proof: &ConsistencyProof) -> Result<(), crate::merkle::MerkleError> {
    proof.verify_path(&latest.map_or_else(crate::merkle::empty_root, |head| head.root))
}

/// What a witness's answer means to the log that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It cosigned; the line holds and can be put under the checkpoint.
    Cosigned {
        /// The line.
        line: SignatureLine,
        /// The POSIX time that it states.
        time_s: u64,
    },
    /// It remembers another size than the request named: ask again with a proof from there, unless that is a rollback.
    Conflict {
        /// The size that it remembers.
        size: u64,
    },
}

/// Why a witness's answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// Another status.
    #[error("the witness refused with status {status}: {body}")]
    Refused {
        /// The HTTP status code.
        status: u16,
        /// The first line of its body.
        body: String,
    },
    /// An answer that does not follow the protocol.
    #[error("the witness's answer is malformed; check its address and key")]
    Malformed,
    /// A cosignature that does not hold, or none by the key asked for.
    #[error("the witness's answer holds no cosignature by its key")]
    NoCosignature(#[source] NoteError),
    /// The witness has seen more of the log than there is.
    #[error(
        "the witness saw {witnessed} entries of this log, here are {own}: the log was rolled back; do not append to it, \
         restore the missing entries or begin a log with a new origin"
    )]
    RolledBack {
        /// Entries here.
        own: u64,
        /// Entries that the witness cosigned.
        witnessed: u64,
    },
}

/// Reads the answer to a request for `checkpoint` by the witness with this key.
///
/// # Errors
/// [`WitnessError`].
pub fn read_answer(
    status: u16,
    body: &[u8],
    checkpoint: &SignedCheckpoint,
    key: &WitnessKey,
) -> Result<Reply, WitnessError> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= ANSWER_BYTES_MAX);
    let text = text.ok_or(WitnessError::Malformed)?;
    match status {
        200 => read_cosignature(text, checkpoint, key),
        409 => {
            let size = text.strip_suffix('\n').and_then(crate::checkpoint::parse_decimal);
            size.map(|size| Reply::Conflict { size }).ok_or(WitnessError::Malformed)
        }
        _ => {
            let body = text.lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).take(200).collect();
            Err(WitnessError::Refused { status, body })
        }
    }
}

fn read_cosignature(text: &str, checkpoint: &SignedCheckpoint, key: &WitnessKey) -> Result<Reply, WitnessError> {
    let lines = parse_lines(text).map_err(|_| WitnessError::Malformed)?;
    let ours = lines.into_iter().filter(|line| line.is_by(key.public()));
    for line in ours {
        let mut trial = checkpoint.clone();
        trial.put_cosignature(line.clone()).map_err(WitnessError::NoCosignature)?;
        let time = trial.note().verify_witness(key).map_err(WitnessError::NoCosignature)?;
        if let Some(time_s) = time {
            return Ok(Reply::Cosigned { line, time_s });
        }
    }
    Err(WitnessError::NoCosignature(NoteError::NotSignedBy(key.name().to_string())))
}

/// Compares the log's own size with what a witness remembers, as a node does before it appends after a start.
///
/// # Errors
/// [`WitnessError::RolledBack`] where the witness saw more.
pub const fn check_rollback(own: u64, witnessed: u64) -> Result<(), WitnessError> {
    if witnessed > own { Err(WitnessError::RolledBack { own, witnessed }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
