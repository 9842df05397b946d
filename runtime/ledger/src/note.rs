//! Signed notes (C2SP signed-note): a text, an empty line, and signature lines under it. Says nothing about trust.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::keys::{KeyError, KeyName, LogKey, LogSigner, PublicKey, WitnessKey, WitnessSigner};

/// The longest note in bytes.
pub const NOTE_BYTES_MAX: usize = 65_536;
/// Signature lines that a note can have.
pub const SIGNATURES_MAX: usize = 64;

/// Why bytes are no signed note, or not one that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More than [`NOTE_BYTES_MAX`] bytes.
    #[error("a note of {0} bytes; at most {NOTE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not UTF-8, or with control characters.
    #[error("the note is not plain UTF-8 text")]
    NotText,
    /// No text, or no signatures behind an empty line.
    #[error("the note has no signatures behind its text")]
    NoSignatures,
    /// A line that is no signature.
    #[error("signature line {0} of the note is malformed")]
    SignatureLine(usize),
    /// More than [`SIGNATURES_MAX`] lines.
    #[error("the note has more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// The key that had to sign did not.
    #[error("the note is not signed by {0}")]
    NotSignedBy(String),
    /// A signature by a known key does not hold.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// One line under a note. Until a key has verified it, anybody can have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: KeyName,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl SignatureLine {
    /// Reads one line, without its newline.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        (!signature.is_empty()).then_some(())?;
        Some(Self { name: name.parse().ok()?, id: *id, signature: signature.to_vec() })
    }

    /// The name of the key that the line claims to be by.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    pub(crate) fn is_by(&self, key: &PublicKey) -> bool {
        self.name == *key.name() && self.id == key.id()
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "— {} {}", self.name, STANDARD.encode([&self.id, self.signature.as_slice()].concat()))
    }
}

/// A text with its signature lines, well formed and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    lines: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`]: too long, not text, no signatures, or a malformed line.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let all = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if all.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::NotText);
        }
        let split = all.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, under) = (&all[..=split], &all[split + 2..]);
        let lines = parse_lines(under)?;
        if text.len() < 2 || lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        Ok(Self { text: text.to_owned(), lines })
    }

    /// The signed text, its last newline included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines under it.
    #[must_use]
    pub fn lines(&self) -> &[SignatureLine] {
        &self.lines
    }

    /// Puts `text` under the log's key.
    pub(crate) fn sign(text: String, signer: &LogSigner) -> Self {
        let signature = signer.sign_bytes(text.as_bytes()).to_vec();
        let public = signer.key().public();
        let line = SignatureLine { name: public.name().clone(), id: public.id(), signature };
        Self { text, lines: vec![line] }
    }

    /// Adds a line, unless the same key's line is there already: then it takes its place.
    pub(crate) fn put_line(&mut self, line: SignatureLine) -> Result<(), NoteError> {
        self.lines.retain(|old| old.name != line.name || old.id != line.id);
        if self.lines.len() >= SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        self.lines.push(line);
        Ok(())
    }

    /// Checks that the log's key signed the text.
    ///
    /// # Errors
    /// [`NoteError::NotSignedBy`], or [`KeyError::Signature`] where any line in its name does not hold.
    pub fn verify_log(&self, key: &LogKey) -> Result<(), NoteError> {
        let lines: Vec<_> = self.lines.iter().filter(|line| line.is_by(key.public())).collect();
        if lines.is_empty() {
            return Err(NoteError::NotSignedBy(key.name().to_string()));
        }
        lines.iter().try_for_each(|line| Ok(key.verify(self.text.as_bytes(), &line.signature)?))
    }

    /// The POSIX time at which this witness cosigned the text, or nothing where it did not.
    ///
    /// # Errors
    /// [`KeyError::Signature`] where a line in its name does not hold.
    pub fn verify_witness(&self, key: &WitnessKey) -> Result<Option<u64>, NoteError> {
        let lines = self.lines.iter().filter(|line| line.is_by(key.public()));
        let times = lines.map(|line| verify_cosignature(&self.text, line, key)).collect::<Result<Vec<_>, _>>()?;
        Ok(times.into_iter().max())
    }
}

/// A witness's line under `text`, at POSIX time `time_s` (C2SP tlog-cosignature, `cosignature/v1`).
pub(crate) fn cosign(text: &str, signer: &WitnessSigner, time_s: u64) -> SignatureLine {
    let signature = signer.sign_bytes(&cosigned_message(text, time_s));
    let public = signer.key().public();
    let signature = [&time_s.to_be_bytes()[..], &signature].concat();
    SignatureLine { name: public.name().clone(), id: public.id(), signature }
}

fn verify_cosignature(text: &str, line: &SignatureLine, key: &WitnessKey) -> Result<u64, NoteError> {
    let refuse = || KeyError::Signature(key.name().to_string());
    let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(refuse)?;
    let time = u64::from_be_bytes(*time);
    if time == 0 || i64::try_from(time).is_err() {
        return Err(refuse().into());
    }
    key.verify(&cosigned_message(text, time), signature)?;
    Ok(time)
}

fn cosigned_message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// Signature lines, each with its newline.
pub(crate) fn parse_lines(under: &str) -> Result<Vec<SignatureLine>, NoteError> {
    if under.is_empty() {
        return Ok(Vec::new());
    }
    let count = under.matches('\n').count();
    let body = under.strip_suffix('\n').ok_or(NoteError::SignatureLine(count + 1))?;
    if count > SIGNATURES_MAX {
        return Err(NoteError::TooManySignatures);
    }
    let read = |(place, line)| SignatureLine::parse(line).ok_or(NoteError::SignatureLine(place));
    (1..).zip(body.split('\n')).map(read).collect()
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "This is an example message.\n";
    const SPECIFIED: &str = "This is an example message.\n\n— example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn log(name: &str, seed: u8) -> LogSigner {
        LogSigner::from_seed(name.parse().unwrap(), &[seed; 32])
    }

    fn witness(name: &str, seed: u8) -> WitnessSigner {
        WitnessSigner::from_seed(name.parse().unwrap(), &[seed; 32])
    }

    #[test]
    fn the_note_of_the_specification_verifies() {
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let note = Note::parse(SPECIFIED.as_bytes()).unwrap();
        assert_eq!(note.verify_log(&key), Ok(()));
        assert_eq!(note.to_string(), SPECIFIED);
    }

    #[test]
    fn unknown_signatures_are_ignored_but_never_enough() {
        let (known, unknown) = (log("a.example", 1), log("b.example", 2));
        let mut note = Note::sign(TEXT.to_owned(), &unknown);
        assert_eq!(note.verify_log(known.key()), Err(NoteError::NotSignedBy("a.example".to_owned())));
        note.put_line(Note::sign(TEXT.to_owned(), &known).lines[0].clone()).unwrap();
        assert_eq!(note.verify_log(known.key()), Ok(()));
    }

    #[test]
    fn one_bad_line_of_a_known_key_spoils_the_note() {
        let signer = log("a.example", 1);
        let mut note = Note::sign(TEXT.to_owned(), &signer);
        let mut bad = note.lines[0].clone();
        bad.signature[0] ^= 1;
        note.lines.push(bad);
        assert!(matches!(note.verify_log(signer.key()), Err(NoteError::Key(KeyError::Signature(_)))));
    }

    #[test]
    fn a_cosignature_counts_only_as_a_cosignature() {
        let signer = witness("w.example", 3);
        let mut note = Note::sign(TEXT.to_owned(), &log("a.example", 1));
        assert_eq!(note.verify_witness(signer.key()), Ok(None));
        note.put_line(cosign(TEXT, &signer, 1042)).unwrap();
        assert_eq!(note.verify_witness(signer.key()), Ok(Some(1042)));
        let line = note.lines.last_mut().unwrap();
        line.signature[7] ^= 1;
        assert!(note.verify_witness(signer.key()).is_err(), "another time than the signed one");
    }

    #[test]
    fn a_log_signature_under_a_witness_id_is_refused() {
        let signer = witness("a.example", 1);
        let mut note = Note::sign(TEXT.to_owned(), &log("a.example", 1));
        let mut line = note.lines[0].clone();
        line.id = signer.key().public().id();
        note.put_line(line).unwrap();
        assert!(note.verify_witness(signer.key()).is_err());
    }

    #[test]
    fn malformed_notes_are_refused() {
        let whole = SPECIFIED.to_owned();
        let cut = whole.trim_end_matches('\n').to_owned();
        let many = whole.clone() + &whole.lines().last().map(|line| format!("{line}\n")).unwrap().repeat(64);
        let crlf = whole.replace('\n', "\r\n");
        let non_canonical = whole.replace("aQM=", "aQN=");
        for bad in ["", "\n", "\n\n", "text\n", "text\n\n", "\n\n— a AAAAAAA=\n", &cut, &many, &crlf, &non_canonical]
        {
            assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Note::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_as_a_note_is_spelled_the_same_again(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(note) = Note::parse(&bytes) {
                prop_assert_eq!(note.to_string().into_bytes(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_never_verifies(place in 0_usize..SPECIFIED.len() * 8) {
            let key: LogKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
            let mut bytes = SPECIFIED.as_bytes().to_vec();
            bytes[place / 8] ^= 1 << (place % 8);
            prop_assert!(Note::parse(&bytes).and_then(|note| note.verify_log(&key)).is_err());
        }
    }
}
