//! What a token says: which methods of which domains on which resources, for whom, when, and how often.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{hex, unhex};
use crate::ids::{IdError, is_name, text_id};
use crate::refusal::{Code, Refusal};
use crate::{PROTOCOL_VERSION, TenantId};

/// Rights in one grant or narrowing.
pub const RIGHTS_MAX: usize = 32;
/// Bytes of one resource pattern.
pub const RESOURCE_BYTES_MAX: usize = 128;
/// The latest expiry in seconds since the Unix epoch (the year 9999).
pub const EXPIRY_MAX_S: u64 = 253_402_300_799;

fn is_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=31).contains(&text.len()) && text.as_bytes()[0].is_ascii_lowercase() && text.bytes().all(inner)
}

fn is_resource(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    text.len() <= RESOURCE_BYTES_MAX && text.bytes().all(allowed)
}

text_id!(
    /// The name of a capability domain, such as `exec`.
    DomainName, "a domain's name", "[a-z][a-z0-9_]{0,30}", is_word
);
text_id!(
    /// The name of a method within its domain, such as `run`.
    MethodName, "a method's name", "[a-z][a-z0-9_]{0,30}", is_word
);
text_id!(
    /// Who holds a token: an agent, a service or a person, as this node names them.
    UserId, "a user's name", "[a-z0-9][a-z0-9._-]{0,62}", is_name
);
text_id!(
    /// What a call acts on: a contract's id, a state key, a blob's digest. Empty where the method has no object.
    Resource, "a resource", "[A-Za-z0-9._/:@-]{0,128}", is_resource
);
text_id!(
    /// `tok_` and 32 hexadecimal digits.
    TokenId, "a token's id", "tok_[0-9a-f]{32}",
    |text| text.strip_prefix("tok_").is_some_and(|rest| rest.len() == 32 && unhex(rest).is_some())
);

impl Resource {
    /// The resource of a method that acts on nothing in particular.
    #[must_use]
    pub const fn none() -> Self {
        Self(String::new())
    }
}

impl TokenId {
    /// The id that these 16 random bytes spell. The bytes come from the rim; they must never be used twice.
    #[must_use]
    pub fn from_entropy(entropy: [u8; 16]) -> Self {
        Self(format!("tok_{}", hex(&entropy)))
    }
}

/// One method of one domain, written `domain.method`. There are no wildcards: a scope is named or not held.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// The domain.
    pub domain: DomainName,
    /// The method.
    pub method: MethodName,
}

impl FromStr for Scope {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = IdError { what: "a scope", pattern: "domain.method" };
        let (domain, method) = text.split_once('.').ok_or_else(|| wrong.clone())?;
        let parts = domain.parse().ok().zip(method.parse().ok());
        parts.map(|(domain, method)| Self { domain, method }).ok_or(wrong)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.method)
    }
}

/// Which resources a right covers: one by its full name, or all whose name starts so (`users/*`, `*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// This one.
    Exact(Resource),
    /// All that start with this.
    Prefix(Resource),
}

impl Pattern {
    /// Every resource: `*`.
    #[must_use]
    pub const fn any() -> Self {
        Self::Prefix(Resource::none())
    }

    /// Whether the pattern covers this resource.
    #[must_use]
    pub fn covers(&self, resource: &Resource) -> bool {
        match self {
            Self::Exact(exact) => exact == resource,
            Self::Prefix(prefix) => resource.0.starts_with(&prefix.0),
        }
    }

    /// Whether every resource that the other pattern covers is covered by this one.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(a), Self::Exact(b) | Self::Prefix(b)) => b.0.starts_with(&a.0),
        }
    }
}

impl FromStr for Pattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.strip_suffix('*') {
            Some(prefix) => prefix.parse().map(Self::Prefix),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(&exact.0),
            Self::Prefix(prefix) => write!(f, "{}*", prefix.0),
        }
    }
}

/// A scope on some resources, written `domain.method=pattern`; `exec.run=*` is every contract.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// The method.
    pub scope: Scope,
    /// What it may act on.
    pub resources: Pattern,
}

impl Right {
    /// Whether the right covers this call.
    #[must_use]
    pub fn covers(&self, scope: &Scope, resource: &Resource) -> bool {
        self.scope == *scope && self.resources.covers(resource)
    }

    /// Whether everything that the other right covers is covered by this one.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.scope == other.scope && self.resources.includes(&other.resources)
    }
}

impl FromStr for Right {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (scope, resources) = text.split_once('=').unwrap_or((text, "*"));
        Ok(Self { scope: scope.parse()?, resources: resources.parse()? })
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.scope, self.resources)
    }
}

macro_rules! as_text {
    ($($name:ident)+) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+ };
}

as_text!(Scope Pattern Right);

/// What set a request off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// A person.
    Manual,
    /// A clock.
    Schedule,
    /// An event of the tenant's chain.
    Event,
    /// A tenant's agent, through an approved proposal.
    Agent,
    /// A service of the tenant.
    Service,
}

impl Trigger {
    /// All triggers.
    pub const ALL: [Self; 5] = [Self::Manual, Self::Schedule, Self::Event, Self::Agent, Self::Service];

    /// The name in grants and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::Event => "event",
            Self::Agent => "agent",
            Self::Service => "service",
        }
    }
}

/// What a token was issued for. A value says what was asked; only a verified token says that it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The version of this form.
    pub protocol_version: String,
    /// The token's id.
    pub token_id: TokenId,
    /// The only tenant that it works in.
    pub tenant_id: TenantId,
    /// The only user that it works for.
    pub user_id: UserId,
    /// What it may call, and on what.
    pub rights: BTreeSet<Right>,
    /// What may set it off.
    pub triggers: BTreeSet<Trigger>,
    /// The end of its time, in seconds since the Unix epoch; at that second it is over.
    pub expires_s: u64,
    /// How many calls it allows in all.
    pub calls_max: u64,
    /// How much processor time it allows in all, in milliseconds.
    pub cpu_ms_max: u64,
    /// The issuer's epoch; a registry that moved on refuses tokens of earlier ones.
    pub epoch: u64,
}

impl Grant {
    /// A grant of this protocol version, checked.
    ///
    /// # Errors
    /// `grant_invalid` where it holds nothing or exceeds a bound of this module.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |what: &str| Err(Refusal::new(Code::GrantInvalid, what));
        if self.protocol_version != PROTOCOL_VERSION {
            return Err(Refusal::new(Code::VersionUnsupported, &self.protocol_version));
        }
        if !(1..=RIGHTS_MAX).contains(&self.rights.len()) {
            return wrong("a grant holds 1 to 32 rights");
        }
        if self.triggers.is_empty() {
            return wrong("a grant names at least one trigger");
        }
        if self.expires_s > EXPIRY_MAX_S {
            return wrong("expires_s is later than the year 9999");
        }
        let numbers = [self.calls_max, self.cpu_ms_max, self.epoch];
        if numbers.iter().any(|number| *number > crate::quota::VALUE_MAX) || self.calls_max == 0 {
            return wrong("calls_max is 1 to 2^53-1; cpu_ms_max and epoch are at most 2^53-1");
        }
        Ok(())
    }
}

/// What a holder takes away before handing a token on. What is absent stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrowing {
    /// Only these rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<BTreeSet<Right>>,
    /// Only these triggers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<BTreeSet<Trigger>>,
    /// Over at this second at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// At most so many calls through this delegation and all below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_max: Option<u64>,
    /// At most so much processor time through this delegation and all below it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms_max: Option<u64>,
}

impl FromStr for Trigger {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = IdError { what: "a trigger", pattern: "manual|schedule|event|agent|service" };
        Self::ALL.into_iter().find(|trigger| trigger.name() == text).ok_or(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(text: &str) -> Right {
        text.parse().expect("a right")
    }

    #[test]
    fn a_scope_is_named_in_full_and_wildcards_are_refused() {
        assert_eq!(right("exec.run").to_string(), "exec.run=*");
        for bad in
            ["exec", "exec.", ".run", "*.run", "exec.*", "Exec.run", "a.b.c", "exec.run\0", "exec.run=a b", "a.b=**"]
        {
            assert!(bad.parse::<Right>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_covers_what_starts_so_and_an_exact_name_only_itself() {
        let resource = |text: &str| text.parse::<Resource>().expect("a resource");
        let scope = right("state.get").scope;
        assert!(right("state.get=users/*").covers(&scope, &resource("users/7")));
        assert!(!right("state.get=users/*").covers(&scope, &resource("user")));
        assert!(!right("state.get=users/7").covers(&scope, &resource("users/70")));
        assert!(!right("state.set=*").covers(&scope, &resource("users/7")));
    }

    #[test]
    fn only_a_pattern_at_least_as_wide_includes_another() {
        assert!(right("a.b=*").includes(&right("a.b=x/*")) && right("a.b=x*").includes(&right("a.b=x")));
        assert!(!right("a.b=x/*").includes(&right("a.b=*")) && !right("a.b=x").includes(&right("a.b=x*")));
    }

    #[test]
    fn a_grant_of_nothing_is_refused() {
        let grant = Grant {
            protocol_version: PROTOCOL_VERSION.to_owned(),
            token_id: TokenId::from_entropy([1; 16]),
            tenant_id: "acme".parse().expect("a tenant"),
            user_id: "ada".parse().expect("a user"),
            rights: [right("exec.run")].into(),
            triggers: [Trigger::Manual].into(),
            expires_s: 1,
            calls_max: 1,
            cpu_ms_max: 0,
            epoch: 0,
        };
        assert!(grant.check().is_ok());
        assert!(Grant { rights: BTreeSet::new(), ..grant.clone() }.check().is_err());
        assert!(Grant { triggers: BTreeSet::new(), ..grant.clone() }.check().is_err());
        assert!(Grant { calls_max: 0, ..grant.clone() }.check().is_err());
        assert!(Grant { expires_s: u64::MAX, ..grant.clone() }.check().is_err());
        assert!(Grant { protocol_version: "2.0".into(), ..grant }.check().is_err());
    }
}
