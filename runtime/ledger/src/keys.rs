//! Ed25519 keys, one type for each of the three things that are signed: checkpoints, cosignatures, statements.
//!
//! A key that signs for one purpose must never be taken for another: the types keep them apart in the program, the type
//! byte and the key id (C2SP signed-note) keep them apart on paper, and [`PublicKey::same_key`] lets whoever gathers keys
//! refuse one that serves twice. A holder of a verifying key knows who claims it by name; that it is trusted is decided
//! where it came from.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use remand_model::Digest;
use remand_model::digest::{hex, unhex};

/// The longest name of a key in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 512;
/// The longest vkey in bytes.
const VKEY_BYTES_MAX: usize = KEY_NAME_BYTES_MAX + 64;

/// Why a text is no key, or why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a name.
    #[error("a key's name is 1 to {KEY_NAME_BYTES_MAX} bytes without spaces, control characters and '+'")]
    Name,
    /// Not `name+id+key`.
    #[error("a vkey is <name>+<8 hexadecimal digits>+<base64>; copy it whole")]
    Form,
    /// A key for another purpose.
    #[error("{name} is a key of type 0x{found:02x} where one of type 0x{expected:02x} ({purpose}) is asked for")]
    Type {
        /// The key's name.
        name: String,
        /// Its type byte.
        found: u8,
        /// The type byte asked for.
        expected: u8,
        /// What such a key signs.
        purpose: &'static str,
    },
    /// The id does not belong to the key.
    #[error("the id in the vkey of {0} is not that of its key; it is damaged or forged")]
    Id(String),
    /// The bytes are no Ed25519 public key.
    #[error("the vkey of {0} holds no usable Ed25519 key")]
    Point(String),
    /// The signature is not this key's over these bytes.
    #[error("the signature by {0} does not hold; do not trust what it stands under")]
    Signature(String),
}

/// The name of a key: a URL without scheme, such as `node1.example/audit/acme`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fits = (1..=KEY_NAME_BYTES_MAX).contains(&text.len());
        let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if fits && !text.contains(refused) { Ok(Self(text.to_owned())) } else { Err(KeyError::Name) }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A named Ed25519 public key for one purpose: what [`LogKey`], [`WitnessKey`] and [`AttestKey`] have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    point: VerifyingKey,
    /// The first bytes of a digest over name, type and point: computed once, compared with every signature line.
    id: [u8; 4],
    vkey: String,
}

impl PublicKey {
    fn new(name: KeyName, type_byte: u8, point: VerifyingKey) -> Self {
        let spelled = [name.0.as_bytes(), b"\n", &[type_byte], point.as_bytes()].concat();
        let id = *Digest::of(&spelled).as_bytes().first_chunk().expect("a digest is longer than an id");
        let key = STANDARD.encode([&[type_byte][..], point.as_bytes()].concat());
        let vkey = format!("{name}+{}+{key}", hex(&id));
        Self { name, point, id, vkey }
    }

    fn parse(text: &str, type_byte: u8, purpose: &'static str) -> Result<Self, KeyError> {
        if text.len() > VKEY_BYTES_MAX {
            return Err(KeyError::Form);
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        let name: KeyName = name.parse()?;
        let id: [u8; 4] = unhex(id).and_then(|id| id.try_into().ok()).ok_or(KeyError::Form)?;
        let key = STANDARD.decode(key).map_err(|_| KeyError::Form)?;
        let (found, raw) = key.split_first().ok_or(KeyError::Form)?;
        if *found != type_byte {
            return Err(KeyError::Type { name: name.0, found: *found, expected: type_byte, purpose });
        }
        let point = raw.try_into().ok().and_then(|raw: &[u8; 32]| VerifyingKey::from_bytes(raw).ok());
        let point = point.filter(|point| !point.is_weak()).ok_or_else(|| KeyError::Point(name.0.clone()))?;
        let public = Self::new(name, type_byte, point);
        if public.id == id { Ok(public) } else { Err(KeyError::Id(public.name.0)) }
    }

    /// The key's name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// SHA-256(name ‖ 0x0A ‖ type ‖ key)[:4].
    #[must_use]
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The key as text: `<name>+<id>+<base64 of type and key>`.
    #[must_use]
    pub fn vkey(&self) -> &str {
        &self.vkey
    }

    /// Whether both hold the same point, whatever they are called and made for.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        self.point == other.point
    }

    /// Checks a signature over `message` (RFC 8032, refusing keys and points of small order).
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        let refuse = || KeyError::Signature(self.name.0.clone());
        let signature: &[u8; 64] = signature.try_into().map_err(|_| refuse())?;
        self.point.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| refuse())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.vkey)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! key_role {
    ($(#[$doc:meta])* $key:ident, $(#[$signer_doc:meta])* $signer:ident, $type_byte:literal, $purpose:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $key(PublicKey);

        impl $key {
            /// The named point.
            #[must_use]
            pub const fn public(&self) -> &PublicKey {
                &self.0
            }

            /// The key's name.
            #[must_use]
            pub const fn name(&self) -> &KeyName {
                self.0.name()
            }

            pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
                self.0.verify(message, signature)
            }
        }

        impl FromStr for $key {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                PublicKey::parse(text, $type_byte, $purpose).map(Self)
            }
        }

        impl fmt::Display for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        $(#[$signer_doc])*
        pub struct $signer {
            secret: SigningKey,
            key: $key,
        }

        impl $signer {
            /// The key pair that RFC 8032 derives from 32 secret random bytes. Every purpose needs bytes of its own.
            #[must_use]
            pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Self {
                let secret = SigningKey::from_bytes(seed);
                let key = $key(PublicKey::new(name, $type_byte, secret.verifying_key()));
                Self { secret, key }
            }

            /// The key that verifies what this one signs.
            #[must_use]
            pub const fn key(&self) -> &$key {
                &self.key
            }

            pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
                self.secret.sign(message).to_bytes()
            }
        }

        impl fmt::Debug for $signer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($signer)).field(&self.key).finish()
            }
        }
    };
}

key_role!(
    /// Verifies a log's checkpoints (type 0x01). Its name is the log's origin.
    LogKey,
    /// Signs a log's checkpoints; only [`crate::checkpoint::CommittedHead`]s, which only the log can make.
    LogSigner, 0x01, "a log's checkpoints"
);
key_role!(
    /// Verifies a witness's timestamped cosignatures (type 0x04, `cosignature/v1`).
    WitnessKey,
    /// Signs cosignatures, after the witness has stored what it cosigns.
    WitnessSigner, 0x04, "a witness's cosignatures"
);
key_role!(
    /// Verifies statements in DSSE envelopes. On paper it is a plain Ed25519 key (type 0x01), so that other tools read it;
    /// the envelope's prefix keeps its signatures apart from those under notes.
    AttestKey,
    /// Signs statements in DSSE envelopes.
    AttestSigner, 0x01, "statements about executions"
);

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn name(text: &str) -> KeyName {
        text.parse().unwrap()
    }

    #[test]
    fn a_vkey_survives_its_own_spelling() {
        let signer = LogSigner::from_seed(name("node1.example/audit/acme"), &SEED);
        let text = signer.key().to_string();
        assert_eq!(text.parse::<LogKey>().unwrap(), *signer.key());
    }

    #[test]
    fn the_vkey_of_the_specification_is_read() {
        let key: LogKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        assert_eq!(key.public().id(), [0x53, 0x0d, 0x90, 0x3a]);
    }

    #[test]
    fn a_witness_key_is_no_log_key_though_its_point_is_the_same() {
        let witness = WitnessSigner::from_seed(name("w.example"), &SEED);
        let log = LogSigner::from_seed(name("w.example"), &SEED);
        assert!(matches!(witness.key().to_string().parse::<LogKey>(), Err(KeyError::Type { found: 4, .. })));
        assert_ne!(witness.key().public().id(), log.key().public().id());
        assert!(witness.key().public().same_key(log.key().public()));
    }

    #[test]
    fn every_flipped_bit_of_a_vkey_is_noticed() {
        let text = LogSigner::from_seed(name("node1.example/audit/acme"), &SEED).key().to_string();
        for place in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[place / 8] ^= 1 << (place % 8);
            let flipped = String::from_utf8(bytes);
            assert!(flipped.map_or(true, |flipped| flipped.parse::<LogKey>().is_err()), "bit {place}");
        }
    }

    #[test]
    fn a_weak_point_is_no_key() {
        let mut raw = vec![1_u8, 1];
        raw.resize(33, 0);
        let id = &Digest::of(&[b"x\n", raw.as_slice()].concat()).to_hex()[..8];
        let text = format!("x+{id}+{}", STANDARD.encode(raw));
        assert_eq!(text.parse::<LogKey>(), Err(KeyError::Point("x".to_owned())));
    }

    #[test]
    fn names_with_spaces_or_plus_are_refused() {
        for bad in ["", "a b", "a+b", "a\u{a0}b", "a\n", "a\u{2003}b", "a\u{7f}"] {
            assert_eq!(bad.parse::<KeyName>(), Err(KeyError::Name), "{bad:?}");
        }
    }
}
