//! Who speaks, and whether they mean it: the role of a connection and the arming of one request.

use serde::{Deserialize, Serialize};

/// What a connection may do at most, in rising order. A role is given by the daemon, never believed from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks, changes nothing.
    Viewer,
    /// Runs executions and plans of the tenant that it attached to.
    Operator,
    /// Makes tenants, quotas, tokens, domains and contracts.
    Admin,
}

/// Whether a request says that it means its effect. An effectful command that is not armed is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arming {
    /// Nothing may change.
    #[default]
    Safe,
    /// The sender means the effect.
    Armed,
}

impl Role {
    /// All roles, in rising order.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The role's number on the wire; zero is no role.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Viewer => 1,
            Self::Operator => 2,
            Self::Admin => 3,
        }
    }

    /// The role with this number, or nothing where there is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Viewer),
            2 => Some(Self::Operator),
            3 => Some(Self::Admin),
            _ => None,
        }
    }

    /// The role's name in files, answers and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Arming {
    /// Both values, the harmless one first.
    pub const ALL: [Self; 2] = [Self::Safe, Self::Armed];

    /// The number on the wire: 0 safe, 1 armed.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Safe => 0,
            Self::Armed => 1,
        }
    }

    /// The arming with this number, or nothing where there is none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Safe),
            1 => Some(Self::Armed),
            _ => None,
        }
    }

    /// The name in answers and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Armed => "armed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_and_arming_survives_its_wire_number_and_others_are_refused() {
        for role in Role::ALL {
            assert_eq!(Role::from_code(role.code()), Some(role));
        }
        for arming in Arming::ALL {
            assert_eq!(Arming::from_code(arming.code()), Some(arming));
        }
        assert!((4..=255).chain([0]).all(|code| Role::from_code(code).is_none()));
        assert!((2..=255).all(|code| Arming::from_code(code).is_none()));
    }

    #[test]
    fn admin_is_above_operator_and_operator_above_viewer() {
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::Viewer);
    }
}
