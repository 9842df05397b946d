//! Landlock masks of a profile for one ABI of the kernel: everything that the ABI can refuse is refused unless allowed.

use std::path::PathBuf;

use landlock::{ABI, Access as _, AccessFs, AccessNet, BitFlags, Scope};
use serde::Serialize;

use crate::error::PolicyError;
use crate::profile::{Access, Network, Profile};

/// The oldest Landlock ABI on which a policy can be enforced (Linux 5.19; with the first one, renames between folders
/// would be impossible).
pub const ABI_LEAST: i32 = 2;

/// What `landlock_create_ruleset(2)` and `landlock_add_rule(2)` get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Landlock {
    /// The kernel's ABI that this was made for.
    pub abi: i32,
    /// `handled_access_fs`: refused unless a rule allows it.
    pub handled_access_fs: u64,
    /// `handled_access_net`: no rule allows any of it.
    pub handled_access_net: u64,
    /// `scoped`: what cannot reach out of the domain. Zero below ABI 6, whose structure has no such field.
    pub scoped: u64,
    /// The rights that a rule for something that is no folder may have; mask with it after `fstat`, or get `EINVAL`.
    pub file_access: u64,
    /// What is allowed.
    pub rules: Vec<LandlockRule>,
}

/// One `LANDLOCK_RULE_PATH_BENEATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LandlockRule {
    /// The path in the box.
    pub path: PathBuf,
    /// `allowed_access` for a folder.
    pub access: u64,
    /// Whether a box without the path is fine.
    pub optional: bool,
}

impl Landlock {
    /// The bytes of `struct landlock_ruleset_attr` that this ABI's kernel knows.
    #[must_use]
    pub const fn attribute_bytes(&self) -> usize {
        match self.abi {
            ..=3 => 8,
            4..=5 => 16,
            6.. => 24,
        }
    }
}

/// The masks of `profile` on a kernel whose Landlock has this ABI. Of a newer ABI than this program knows, what it knows.
pub(crate) fn compile(profile: &Profile, abi: i32) -> Result<Landlock, PolicyError> {
    if abi < ABI_LEAST {
        return Err(PolicyError::LandlockAbi { found: abi, least: ABI_LEAST });
    }
    let known = ABI::from(abi);
    let handled = AccessFs::from_all(known);
    let net = match profile.process.network {
        Network::None => AccessNet::from_all(known).bits(),
        // A port rule names one port, and a loopback needs all of them: the namespace is the boundary there.
        Network::Loopback => 0,
    };
    let rules = profile.files.iter().map(|rule| LandlockRule {
        path: rule.path.clone(),
        access: (rights(&rule.access) & handled).bits(),
        optional: rule.optional,
    });
    Ok(Landlock {
        abi,
        handled_access_fs: handled.bits(),
        handled_access_net: net,
        scoped: Scope::from_all(known).bits(),
        file_access: AccessFs::from_file(known).bits(),
        rules: rules.filter(|rule| rule.access != 0).collect(),
    })
}

/// The words of a profile that these rights of a compiled rule come from.
#[must_use]
pub fn access_words(access: u64) -> Vec<&'static str> {
    let has = |word: &Access| access & rights_of(*word).bits() != 0;
    // What may be read may be listed.
    let reads = access & BitFlags::from(AccessFs::ReadFile).bits() != 0;
    let words = Access::ALL.into_iter().filter(has).filter(|word| match word {
        Access::Read => reads,
        Access::List => !reads,
        _ => true,
    });
    words.map(Access::word).collect()
}

fn rights(words: &[Access]) -> BitFlags<AccessFs> {
    words.iter().fold(BitFlags::EMPTY, |rights, word| rights | rights_of(*word))
}

fn rights_of(word: Access) -> BitFlags<AccessFs> {
    match word {
        Access::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        Access::List => AccessFs::ReadDir.into(),
        Access::Execute => AccessFs::Execute.into(),
        Access::Write => AccessFs::WriteFile | AccessFs::Truncate,
        Access::Create => {
            AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::MakeSym | AccessFs::MakeSock | AccessFs::MakeFifo
        }
        Access::Remove => AccessFs::RemoveFile | AccessFs::RemoveDir,
        Access::Refer => AccessFs::Refer.into(),
        Access::Ioctl => AccessFs::IoctlDev.into(),
        Access::Connect => AccessFs::ResolveUnix.into(),
    }
}
