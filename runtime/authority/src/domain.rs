//! The registry of capability domains: what can be called, by whom, and what calling it presupposes.
//!
//! A method may require other methods. A caller must hold those too, all the way down: nobody reaches through a domain what
//! he could not call himself. A domain is registered after those that it requires, so that there are no cycles.

use std::collections::{BTreeMap, BTreeSet};

use remand_model::PROTOCOL_VERSION;
use remand_model::grant::{DomainName, MethodName, Scope, Trigger};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;
use serde::{Deserialize, Serialize};

/// Domains of one node.
pub const DOMAINS_MAX: usize = 256;
/// Methods of one domain.
pub const METHODS_MAX: usize = 64;
/// Methods that one method may require directly.
pub const REQUIRES_MAX: usize = 16;

/// What a domain offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The version of this form.
    pub protocol_version: String,
    /// The domain's name.
    pub domain: DomainName,
    /// Rises with every change.
    pub version: u32,
    /// Its methods.
    pub methods: BTreeMap<MethodName, Method>,
}

/// What a method is, and presupposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Whether it changes anything.
    pub has_effect: bool,
    /// The least role that may call it.
    pub role: Role,
    /// What may set it off.
    pub triggers: BTreeSet<Trigger>,
    /// What a caller must be able to call beside it.
    #[serde(default)]
    pub requires: BTreeSet<Scope>,
}

struct Entry {
    descriptor: Descriptor,
    revoked: bool,
}

/// What registering did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It was not there before.
    New,
    /// It was there, equal to the last byte.
    Same,
    /// It takes the place of an earlier version.
    Replaced,
}

/// The registry.
#[derive(Default)]
pub struct DomainRegistry {
    entries: BTreeMap<DomainName, Entry>,
}

/// Checks what can be said of a descriptor by itself.
///
/// # Errors
/// `version_unsupported`; `domain_invalid` with what is wrong.
pub fn validate_descriptor(descriptor: &Descriptor) -> Result<(), Refusal> {
    let wrong = |what: String| Err(Refusal::new(Code::DomainInvalid, format!("{}: {what}", descriptor.domain)));
    if descriptor.protocol_version != PROTOCOL_VERSION {
        return Err(Refusal::new(Code::VersionUnsupported, &descriptor.protocol_version));
    }
    if descriptor.version == 0 || !(1..=METHODS_MAX).contains(&descriptor.methods.len()) {
        return wrong(format!("version is at least 1, and there are 1 to {METHODS_MAX} methods"));
    }
    for (name, method) in &descriptor.methods {
        if method.triggers.is_empty() || method.requires.len() > REQUIRES_MAX {
            return wrong(format!("{name} names no trigger, or requires more than {REQUIRES_MAX} methods"));
        }
        if method.has_effect && method.role < Role::Operator {
            return wrong(format!("{name} has an effect, so its role is at least operator"));
        }
        // Within one domain a requirement could close a circle; only earlier domains can be required.
        if method.requires.iter().any(|scope| scope.domain == descriptor.domain) {
            return wrong(format!("{name} requires a method of its own domain"));
        }
    }
    Ok(())
}

impl DomainRegistry {
    /// Registers a domain, or a later version of it, on behalf of a peer of this role.
    ///
    /// A later version may not be easier to call than the one in force: to loosen a domain, revoke it first.
    ///
    /// # Errors
    /// `role_too_low`, those of [`validate_descriptor`], `too_large`, `dependency_missing`, `conflict`,
    /// `escalation_blocked`.
    pub fn register_domain(&mut self, descriptor: Descriptor, role: Role) -> Result<Registered, Refusal> {
        if role < Role::Admin {
            return Err(Refusal::new(Code::RoleTooLow, "register_domain needs admin"));
        }
        validate_descriptor(&descriptor)?;
        self.check_requirements(&descriptor)?;
        let registered = self.compare(&descriptor)?;
        if registered == Registered::New && self.entries.len() >= DOMAINS_MAX {
            return Err(Refusal::new(Code::TooLarge, format!("{DOMAINS_MAX} domains at most")));
        }
        if registered != Registered::Same {
            self.entries.insert(descriptor.domain.clone(), Entry { descriptor, revoked: false });
        }
        Ok(registered)
    }

    /// The descriptor in force.
    ///
    /// # Errors
    /// `domain_unknown`, `domain_revoked`.
    pub fn get_domain(&self, name: &DomainName) -> Result<&Descriptor, Refusal> {
        let unknown = || Refusal::new(Code::DomainUnknown, name.as_str());
        let entry = self.entries.get(name).ok_or_else(unknown)?;
        if entry.revoked { Err(Refusal::new(Code::DomainRevoked, name.as_str())) } else { Ok(&entry.descriptor) }
    }

    /// Every domain with its state, by name.
    pub fn list(&self) -> impl Iterator<Item = (&Descriptor, bool)> {
        self.entries.values().map(|entry| (&entry.descriptor, entry.revoked))
    }

    /// Takes a domain out of force; what requires it is blocked with it. Nothing is forgotten: its version stays used.
    ///
    /// # Errors
    /// `role_too_low`, `domain_unknown`.
    pub fn revoke_domain(&mut self, name: &DomainName, role: Role) -> Result<BTreeSet<DomainName>, Refusal> {
        if role < Role::Admin {
            return Err(Refusal::new(Code::RoleTooLow, "revoke_domain needs admin"));
        }
        let unknown = || Refusal::new(Code::DomainUnknown, name.as_str());
        self.entries.get_mut(name).ok_or_else(unknown)?.revoked = true;
        Ok(self.dependents(name))
    }

    /// The domains that require this one, directly or through others.
    #[must_use]
    pub fn dependents(&self, name: &DomainName) -> BTreeSet<DomainName> {
        let mut found = BTreeSet::new();
        let mut queue = vec![name.clone()];
        while let Some(next) = queue.pop() {
            for entry in self.entries.values().filter(|entry| requires(&entry.descriptor, &next)) {
                if found.insert(entry.descriptor.domain.clone()) {
                    queue.push(entry.descriptor.domain.clone());
                }
            }
        }
        found
    }

    /// Whether a caller of this role, set off so, who holds what `holds` says, may call `scope`.
    ///
    /// # Errors
    /// `domain_unknown`, `domain_revoked`, `method_unknown`, `role_too_low`, `token_trigger_denied`; `dependency_missing`
    /// where something required is not in force; `escalation_blocked` where it is not held.
    pub fn check_capability(
        &self,
        scope: &Scope,
        role: Role,
        trigger: Trigger,
        holds: impl Fn(&Scope) -> bool,
    ) -> Result<&Method, Refusal> {
        let method = self.method(scope)?;
        if role < method.role {
            return Err(Refusal::new(Code::RoleTooLow, format!("{scope} needs {}", method.role.name())));
        }
        if !method.triggers.contains(&trigger) {
            return Err(Refusal::new(Code::TokenTriggerDenied, format!("{scope} from {}", trigger.name())));
        }
        for required in self.closure(method)? {
            if !holds(&required) {
                return Err(Refusal::new(Code::EscalationBlocked, format!("{scope} requires {required}")));
            }
        }
        Ok(method)
    }

    fn method(&self, scope: &Scope) -> Result<&Method, Refusal> {
        let descriptor = self.get_domain(&scope.domain)?;
        descriptor.methods.get(&scope.method).ok_or_else(|| Refusal::new(Code::MethodUnknown, scope.to_string()))
    }

    /// All that a method requires, directly or through others.
    fn closure(&self, method: &Method) -> Result<BTreeSet<Scope>, Refusal> {
        let mut found = BTreeSet::new();
        let mut queue: Vec<&Scope> = method.requires.iter().collect();
        while let Some(scope) = queue.pop() {
            if found.insert(scope.clone()) {
                let required = self.method(scope).map_err(|refusal| missing(scope, &refusal))?;
                queue.extend(&required.requires);
            }
        }
        Ok(found)
    }

    /// What is required must be in force, and no method may be easier to call than what it reaches.
    fn check_requirements(&self, descriptor: &Descriptor) -> Result<(), Refusal> {
        for (name, method) in &descriptor.methods {
            for scope in self.closure(method)? {
                let required = self.method(&scope)?;
                let easier = method.role < required.role
                    || required.has_effect && !method.has_effect
                    || !method.triggers.is_subset(&required.triggers);
                if easier {
                    let detail = format!("{}.{name} would be easier to call than {scope}", descriptor.domain);
                    return Err(Refusal::new(Code::EscalationBlocked, detail));
                }
                if scope.domain == descriptor.domain {
                    let detail = format!("{}.{name} requires its own domain through {scope}", descriptor.domain);
                    return Err(Refusal::new(Code::DomainInvalid, detail));
                }
            }
        }
        Ok(())
    }

    fn compare(&self, new: &Descriptor) -> Result<Registered, Refusal> {
        let Some(entry) = self.entries.get(&new.domain) else { return Ok(Registered::New) };
        let old = &entry.descriptor;
        if new == old && !entry.revoked {
            return Ok(Registered::Same);
        }
        if new.version <= old.version {
            let detail = format!("{} version {} exists; state a higher one", old.domain, old.version);
            return Err(Refusal::new(Code::Conflict, detail));
        }
        if entry.revoked {
            return Ok(Registered::Replaced);
        }
        for (name, method) in &new.methods {
            if old.methods.get(name).is_some_and(|before| is_looser(before, method)) {
                let detail = format!("{}.{name} would be easier to call; revoke the domain first", new.domain);
                return Err(Refusal::new(Code::EscalationBlocked, detail));
            }
        }
        Ok(Registered::Replaced)
    }
}

fn is_looser(before: &Method, after: &Method) -> bool {
    after.role < before.role
        || before.has_effect && !after.has_effect
        || !after.triggers.is_subset(&before.triggers)
        || !before.requires.is_subset(&after.requires)
}

fn requires(descriptor: &Descriptor, name: &DomainName) -> bool {
    descriptor.methods.values().any(|method| method.requires.iter().any(|scope| scope.domain == *name))
}

fn missing(scope: &Scope, refusal: &Refusal) -> Refusal {
    Refusal::new(Code::DependencyMissing, format!("{scope}: {}", refusal.code.name()))
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
