//! Who on this machine may do what: root administers, others are what the configuration says, and nobody else is heard.
//!
//! The kernel says who is on the other side of a socket (`SO_PEERCRED`); names are read from passwd(5) and group(5) once, by
//! root, because a static program cannot ask the name service. A role still meets the policy table, and an execution its token.

use std::collections::BTreeSet;
use std::sync::Arc;

use remand_model::TenantId;
use remand_model::role::Role;
use serde::Deserialize;

use crate::conversation::Peer;
use crate::site::SiteError;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// What the configuration says of some users.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessPart {
    /// Users, by name or number.
    #[serde(default)]
    users: Vec<Id>,
    /// Groups, by name or number: those whose own group it is, and those whom group(5) lists.
    #[serde(default)]
    groups: Vec<Id>,
    role: Role,
    /// The tenants that they may attach to; all where it is missing.
    tenants: Option<BTreeSet<TenantId>>,
}

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// Its number.
    Number(u32),
    /// Its name.
    Name(String),
}

/// What a peer may do at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The role.
    pub role: Role,
    tenants: Option<Arc<BTreeSet<TenantId>>>,
}

#[derive(Debug, Clone)]
struct Entry {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
    granted: Granted,
}

/// The configuration with names resolved. Of several entries that name a peer, the first one decides.
#[derive(Debug, Clone, Default)]
pub struct Access(Vec<Entry>);

/// The lines of passwd(5) or group(5), field by field.
struct Names(Vec<Vec<String>>);

impl Names {
    fn of(text: &str) -> Self {
        Self(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|fields| fields[0] == name)?.get(2)?.parse().ok()
    }

    /// Names of the members that a line of group(5) lists.
    fn members(&self, gid: u32) -> impl Iterator<Item = &str> {
        let own = self.0.iter().filter(move |fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(gid));
        own.filter_map(|fields| fields.get(3)).flat_map(|members| members.split(',')).filter(|name| !name.is_empty())
    }
}

impl Id {
    fn number(&self, names: &Names, what: &str) -> Result<u32, SiteError> {
        let unknown = |name: &str| {
            let next = "correct the name, or write its number";
            SiteError::Wrong(format!("there is no {what} {name:?} in passwd(5) and group(5); {next}"))
        };
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => names.number(name).ok_or_else(|| unknown(name)),
        }
    }

    /// The number of a group of this host.
    ///
    /// # Errors
    /// [`SiteError`] where there is none of this name.
    pub fn group_of_host(&self) -> Result<u32, SiteError> {
        self.number(&Names::of(&read(GROUPS)?), "group")
    }
}

fn read(path: &str) -> Result<String, SiteError> {
    std::fs::read_to_string(path).map_err(|source| SiteError::Read { path: path.into(), source })
}

impl Granted {
    const ROOT: Self = Self { role: Role::Admin, tenants: None };

    /// Whether the peer may attach to this tenant.
    #[must_use]
    pub fn allows(&self, tenant: &TenantId) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }
}

impl Access {
    /// Resolves the configuration with the host's passwd(5) and group(5).
    ///
    /// # Errors
    /// [`SiteError`] names what cannot be resolved or makes no sense.
    pub fn of_host(parts: &[AccessPart]) -> Result<Self, SiteError> {
        if parts.is_empty() {
            return Ok(Self::default());
        }
        Self::resolve(parts, &read(USERS)?, &read(GROUPS)?)
    }

    fn resolve(parts: &[AccessPart], passwd: &str, group: &str) -> Result<Self, SiteError> {
        let (users, groups) = (Names::of(passwd), Names::of(group));
        parts.iter().map(|part| entry(part, &users, &groups)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether anybody but root is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a peer may do; nothing where nobody named it.
    #[must_use]
    pub fn granted(&self, peer: Peer) -> Option<Granted> {
        if peer.uid == 0 {
            return Some(Granted::ROOT);
        }
        let names = |entry: &&Entry| entry.uids.contains(&peer.uid) || entry.gids.contains(&peer.gid);
        self.0.iter().find(names).map(|entry| entry.granted.clone())
    }
}

fn entry(part: &AccessPart, users: &Names, groups: &Names) -> Result<Entry, SiteError> {
    let wrong = |text: String| SiteError::Wrong(format!("access: {text}"));
    if part.users.is_empty() && part.groups.is_empty() {
        return Err(wrong("an entry names neither users nor groups".into()));
    }
    if part.role == Role::Admin && part.tenants.is_some() {
        return Err(wrong("an admin acts on the whole node, so its entry names no tenants".into()));
    }
    let ids = |given: &[Id], names: &Names, what| -> Result<BTreeSet<u32>, SiteError> {
        given.iter().map(|id| id.number(names, what)).collect()
    };
    let mut uids = ids(&part.users, users, "user")?;
    let gids = ids(&part.groups, groups, "group")?;
    uids.extend(gids.iter().flat_map(|gid| groups.members(*gid)).filter_map(|name| users.number(name)));
    let granted = Granted { role: part.role, tenants: part.tenants.clone().map(Arc::new) };
    Ok(Entry { uids, gids, granted })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/:/bin/sh\nann:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nci:x:2000:ann,nobody-any-more\nann:x:1001:\n";

    fn resolved(text: &str) -> Result<Access, SiteError> {
        #[derive(Deserialize)]
        struct Only {
            access: Vec<AccessPart>,
        }
        let source = remand_policy::Source { name: String::new(), file: "x".into(), text: text.into() };
        let only: Only = remand_policy::parse_document(&source).map_err(|bad| SiteError::Wrong(bad.to_string()))?;
        Access::resolve(&only.access, PASSWD, GROUP)
    }

    fn role(access: &Access, uid: u32, gid: u32) -> Option<Role> {
        access.granted(Peer { pid: 1, uid, gid }).map(|granted| granted.role)
    }

    #[test]
    fn root_is_admin_and_whom_nobody_named_is_nothing() {
        let access = resolved("[[access]]\nusers = [\"ann\"]\nrole = \"operator\"\n").expect("resolved");
        assert_eq!(role(&access, 0, 0), Some(Role::Admin));
        assert_eq!(role(&access, 1001, 1001), Some(Role::Operator));
        assert_eq!(role(&access, 1002, 1002), None);
        assert_eq!(role(&Access::default(), 1001, 1001), None);
    }

    #[test]
    fn a_group_counts_for_whose_own_it_is_and_for_whom_it_lists() {
        let access = resolved("[[access]]\ngroups = [\"ci\"]\nrole = \"viewer\"\n").expect("resolved");
        assert_eq!(role(&access, 5000, 2000), Some(Role::Viewer));
        assert_eq!(role(&access, 1001, 1001), Some(Role::Viewer));
        assert_eq!(role(&access, 1002, 1002), None);
    }

    #[test]
    fn the_first_entry_that_names_a_peer_decides_and_bounds_its_tenants() {
        let text = "[[access]]\nusers = [1002]\nrole = \"operator\"\ntenants = [\"acme\"]\n\
            [[access]]\nusers = [\"bob\"]\nrole = \"admin\"\n";
        let granted = resolved(text).expect("resolved").granted(Peer { pid: 1, uid: 1002, gid: 1002 });
        let granted = granted.expect("it is named");
        assert_eq!(granted.role, Role::Operator);
        assert!(
            granted.allows(&"acme".parse().expect("a name")) && !granted.allows(&"globex".parse().expect("a name"))
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_do() {
        let said = |text: &str| resolved(text).expect_err("refused").to_string();
        assert!(said("[[access]]\nusers = [\"eve\"]\nrole = \"viewer\"\n").contains("no user \"eve\""));
        assert!(said("[[access]]\nrole = \"viewer\"\n").contains("neither users nor groups"));
        assert!(said("[[access]]\nusers = [1]\nrole = \"admin\"\ntenants = [\"acme\"]\n").contains("whole node"));
        assert!(said("[[access]]\nusers = [1]\nrole = \"operater\"\n").contains("operator"));
        assert!(said("[[access]]\nuser = [1]\nrole = \"viewer\"\n").contains("did you mean \"users\""));
        assert!(said("[[access]]\nusers = [1]\nrole = \"viewer\"\ntenants = [\"../x\"]\n").contains("tenant"));
    }
}
