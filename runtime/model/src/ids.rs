//! Identifiers, checked once where they enter: a value of one of these types can go into a path, a group name or a record.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;
use crate::digest::{hex, unhex};

/// Why a text is not the identifier that it was offered as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must match {pattern}")]
pub struct IdError {
    /// Which kind of identifier was asked for.
    pub what: &'static str,
    /// The pattern that it must match, as a regular expression.
    pub pattern: &'static str,
}

/// The longest name of a tenant, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// Whether `text` matches `[a-z0-9][a-z0-9._-]{0,62}`: no separator, no dot in front, nothing that a shell, a terminal or
/// a path would read as more than a name.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && (bytes[0].is_ascii_lowercase() || bytes[0].is_ascii_digit())
        && bytes.iter().all(inner)
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::ids::IdError;

            fn from_str(text: &str) -> Result<Self, $crate::ids::IdError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::ids::IdError { what: $what, pattern: $pattern })
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as ::serde::Deserialize>::deserialize(deserializer)?.parse().map_err(::serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use text_id;

text_id!(
    /// A tenant's name: the last part of its log's origin, its folder and its control group.
    TenantId, "a tenant's name", "[a-z0-9][a-z0-9._-]{0,62}", is_name
);
text_id!(
    /// The client's own name for a request; the same request twice is the same execution.
    RequestId, "a request's id", "[a-z0-9][a-z0-9._-]{0,62}", is_name
);
text_id!(
    /// `exec_` and 32 hexadecimal digits: the first half of the digest over the claims of the request.
    ExecutionId, "an execution's id", "exec_[0-9a-f]{32}",
    |text| text.strip_prefix("exec_").is_some_and(|rest| rest.len() == 32 && unhex(rest).is_some())
);

impl ExecutionId {
    /// The id of the execution whose request's claims have this digest.
    #[must_use]
    pub fn from_claims(claims: &Digest) -> Self {
        Self(format!("exec_{}", hex(&claims.as_bytes()[..16])))
    }
}

/// 16 bytes chosen by the client that tie a request, its events and its errors together (W3C trace context).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(IdError { what: "a trace id", pattern: "[0-9a-f]{32}" })
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", ".", "..", "../x", "a/b", "A", "é", "a\0", "-a", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad:?}");
        }
        for good in ["a", "0", "acme.eu-west_1", &"a".repeat(63)] {
            assert!(good.parse::<TenantId>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn an_execution_id_is_half_of_its_claims_digest() {
        let id = ExecutionId::from_claims(&Digest::of(b""));
        assert_eq!(id.as_str(), "exec_e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(id.as_str().parse(), Ok(id));
    }
}
