//! DSSE envelopes (Dead Simple Signing Envelope 1.0): a payload, its type, and signatures over both.
//!
//! Envelopes are written and read as canonical JSON only, so that one envelope has one spelling. The key id of a signature
//! is the signer's whole vkey. It is a hint, as the format says: it lets anybody notice damage, but whom to trust is never
//! taken from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use remand_model::canonical::{self, CanonError, Object, Value};

use crate::keys::{AttestKey, AttestSigner, KeyError};

/// The type of an in-toto statement.
pub const IN_TOTO_TYPE: &str = "application/vnd.in-toto+json";
/// The longest envelope in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Signatures of an envelope.
const SIGNATURES_MAX: usize = 8;

/// Why bytes are no envelope, or not one that holds.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// More than [`ENVELOPE_BYTES_MAX`] bytes.
    #[error("an envelope of {0} bytes; at most {ENVELOPE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not canonical JSON.
    #[error("the envelope is no canonical JSON")]
    Json(#[from] CanonError),
    /// Canonical JSON of another shape.
    #[error("the envelope is no DSSE envelope: {0}")]
    Form(&'static str),
    /// The payload is of another type.
    #[error("the envelope holds {0}, not an in-toto statement")]
    OtherType(String),
    /// A signature does not hold.
    #[error("a signature of the envelope does not hold")]
    Signature(#[from] KeyError),
    /// None of the signers is trusted.
    #[error("the envelope is signed by {0}, whom nobody named; add that key if you trust it")]
    Untrusted(String),
}

/// One signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EnvelopeSignature {
    keyid: String,
    signature: Vec<u8>,
}

/// A payload with its signatures, well formed and not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

impl Envelope {
    /// Signs an in-toto statement.
    #[must_use]
    pub fn sign(payload: Vec<u8>, signer: &AttestSigner) -> Self {
        let signature = signer.sign_bytes(&pre_authentication(IN_TOTO_TYPE, &payload)).to_vec();
        let signatures = vec![EnvelopeSignature { keyid: signer.key().to_string(), signature }];
        Self { payload, payload_type: IN_TOTO_TYPE.to_owned(), signatures }
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// [`EnvelopeError`]: too long, not canonical, or of another shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLong(bytes.len()));
        }
        let value = canonical::parse(bytes)?;
        if canonical::to_bytes(&value) != bytes {
            return Err(EnvelopeError::Form("it is not in its canonical spelling"));
        }
        Self::from_value(&value)
    }

    /// Reads an envelope out of a larger document.
    ///
    /// # Errors
    /// [`EnvelopeError::Form`].
    pub fn from_value(value: &Value) -> Result<Self, EnvelopeError> {
        let [payload, payload_type, signatures] = members(value, ["payload", "payloadType", "signatures"])?;
        let payload = payload.as_text().and_then(|text| STANDARD.decode(text).ok());
        let payload = payload.ok_or(EnvelopeError::Form("payload is no base64"))?;
        let payload_type = payload_type.as_text().ok_or(EnvelopeError::Form("payloadType is no text"))?.to_owned();
        let signatures = signatures.as_list().filter(|list| (1..=SIGNATURES_MAX).contains(&list.len()));
        let signatures = signatures.ok_or(EnvelopeError::Form("signatures are no list of 1 to 8"))?;
        let signatures = signatures.iter().map(read_signature).collect::<Result<_, _>>()?;
        Ok(Self { payload, payload_type, signatures })
    }

    /// The envelope as a value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let spell = |one: &EnvelopeSignature| {
            let sig = STANDARD.encode(&one.signature);
            object([("keyid", Value::from(one.keyid.as_str())), ("sig", Value::from(sig))])
        };
        object([
            ("payload", Value::from(STANDARD.encode(&self.payload))),
            ("payloadType", Value::from(self.payload_type.as_str())),
            ("signatures", Value::List(self.signatures.iter().map(spell).collect())),
        ])
    }

    /// The envelope's canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(&self.to_value())
    }

    /// The payload, for whoever checks it by other means (its hash in a log). Nothing is verified by reading it.
    #[must_use]
    pub fn alleged_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks every signature against the key that it names, and that a trusted key is among them. Without `trusted` the
    /// envelope is only shown to be undamaged: then something else must vouch for its payload.
    ///
    /// # Errors
    /// [`EnvelopeError::OtherType`], [`EnvelopeError::Signature`], [`EnvelopeError::Untrusted`].
    pub fn verify(&self, trusted: Option<&[AttestKey]>) -> Result<&[u8], EnvelopeError> {
        if self.payload_type != IN_TOTO_TYPE {
            return Err(EnvelopeError::OtherType(self.payload_type.clone()));
        }
        let message = pre_authentication(&self.payload_type, &self.payload);
        let mut is_trusted = trusted.is_none();
        for signature in &self.signatures {
            let known = trusted.unwrap_or_default().iter().find(|key| key.public().vkey() == signature.keyid);
            match known {
                Some(key) => key.verify(&message, &signature.signature)?,
                None => signature.keyid.parse::<AttestKey>()?.verify(&message, &signature.signature)?,
            }
            is_trusted |= known.is_some();
        }
        let signers = || self.signatures.iter().map(|one| one.keyid.as_str()).collect::<Vec<_>>().join(", ");
        if is_trusted { Ok(&self.payload) } else { Err(EnvelopeError::Untrusted(signers())) }
    }
}

/// DSSE's pre-authentication encoding: what is signed.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn read_signature(value: &Value) -> Result<EnvelopeSignature, EnvelopeError> {
    let [keyid, sig] = members(value, ["keyid", "sig"])?;
    let keyid = keyid.as_text().ok_or(EnvelopeError::Form("keyid is no text"))?.to_owned();
    let signature = sig.as_text().and_then(|text| STANDARD.decode(text).ok());
    Ok(EnvelopeSignature { keyid, signature: signature.ok_or(EnvelopeError::Form("sig is no base64"))? })
}

/// The members of an object that has exactly these.
fn members<'a, const N: usize>(value: &'a Value, names: [&str; N]) -> Result<[&'a Value; N], EnvelopeError> {
    let object = value.as_object().filter(|object| object.len() == N);
    let found = object.and_then(|object| names.iter().map(|name| object.get(*name)).collect::<Option<Vec<_>>>());
    found.and_then(|found| found.try_into().ok()).ok_or(EnvelopeError::Form("it has other members"))
}

/// An object of these members.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Object>())
}

/// Reads `attest`: one vkey a line, who may sign envelopes.
///
/// # Errors
/// The number of the line, from 1, and what is wrong with it.
pub fn parse_attest_keys(bytes: &[u8]) -> Result<Vec<AttestKey>, (usize, KeyError)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_empty() || text.ends_with('\n'));
    let text = text.filter(|text| text.len() <= ENVELOPE_BYTES_MAX).ok_or((1, KeyError::Form))?;
    (1..).zip(text.split_terminator('\n')).map(|(line, key)| key.parse().map_err(|why| (line, why))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signer(seed: u8) -> AttestSigner {
        AttestSigner::from_seed("node1.example/attest".parse().unwrap(), &[seed; 32])
    }

    #[test]
    fn the_signed_bytes_are_those_of_the_specification() {
        assert_eq!(
            pre_authentication("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn an_envelope_is_read_back_and_verifies_with_its_key_only() {
        let bytes = Envelope::sign(b"{}".to_vec(), &signer(1)).to_bytes();
        let envelope = Envelope::parse(&bytes).unwrap();
        assert_eq!(envelope.verify(Some(&[signer(1).key().clone()])).unwrap(), b"{}");
        assert_eq!(envelope.verify(None).unwrap(), b"{}");
        assert!(matches!(envelope.verify(Some(&[signer(2).key().clone()])), Err(EnvelopeError::Untrusted(_))));
        assert!(matches!(envelope.verify(Some(&[])), Err(EnvelopeError::Untrusted(_))));
    }

    #[test]
    fn another_type_of_payload_is_refused() {
        let mut envelope = Envelope::sign(b"{}".to_vec(), &signer(1));
        envelope.payload_type = "text/plain".to_owned();
        assert!(matches!(envelope.verify(None), Err(EnvelopeError::OtherType(_))));
    }

    #[test]
    fn an_envelope_with_a_further_member_or_another_spelling_is_refused() {
        let text = String::from_utf8(Envelope::sign(b"{}".to_vec(), &signer(1)).to_bytes()).unwrap();
        for (from, to) in
            [("{\"payload\"", "{\"extra\":1,\"payload\""), (":[", ": ["), ("\"sig\"", "\"sigs\""), (":[{", ":[null,{")]
        {
            let changed = text.replacen(from, to, 1);
            assert!(changed != text && Envelope::parse(changed.as_bytes()).is_err(), "{changed}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_of_an_envelope_is_refused(place: prop::sample::Index, bit in 0_u8..8) {
            let mut bytes = Envelope::sign(b"{\"a\":1}".to_vec(), &signer(1)).to_bytes();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let verdict = Envelope::parse(&bytes).and_then(|envelope| envelope.verify(None).map(<[u8]>::to_vec));
            prop_assert!(verdict.is_err());
        }

        #[test]
        fn hostile_envelopes_and_key_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Envelope::parse(&bytes).is_err());
            if let Ok(keys) = parse_attest_keys(&bytes) {
                prop_assert!(keys.is_empty());
            }
        }
    }
}
