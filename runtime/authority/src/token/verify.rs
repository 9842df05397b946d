//! From bytes to facts: size, revocation, signature and form, in that order. The result can be cached; revocation cannot.

use std::collections::BTreeSet;
use std::fmt;

use biscuit_auth::{Biscuit, UnverifiedBiscuit};
use remand_model::digest::hex;
use remand_model::grant::{Grant, Narrowing, Resource, Right, Scope, Trigger};
use remand_model::refusal::{Code, Refusal};

use super::{BLOCKS_MAX, RootPublic, TokenBytes, datalog, forged, text};

/// The name of one block of one token: its signature. Revoking it revokes the token and all that descend from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub(super) Vec<u8>);

impl BlockId {
    /// The block of this name, as [`BlockId::to_hex`] spells it.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        remand_model::digest::unhex(text).filter(|bytes| bytes.len() == 64).map(Self)
    }

    /// 128 hexadecimal digits. A signature is no secret: nothing can be done with it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// A short name for counters, unique as far as SHA-512's first half is.
    fn short(&self) -> String {
        hex(&self.0[..16])
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}…", self.short())
    }
}

/// What a token says, after its signatures were checked. Says nothing about revocation, time, user or use.
pub(super) struct Facts {
    pub(super) grant: Grant,
    pub(super) narrowings: Vec<Narrowing>,
    pub(super) blocks: Vec<BlockId>,
    pub(super) biscuit: Biscuit,
    /// The earliest end of time of all blocks.
    pub(super) expires_s: u64,
    /// Counter keys and bounds: the token's own, then those of narrowings that state one.
    pub(super) calls: Vec<(String, u64)>,
    pub(super) cpu_ms: Vec<(String, u64)>,
}

impl Facts {
    /// Our own verdict: the first block must allow it and no further block may take it away.
    pub(super) fn allows(&self, scope: &Scope, resource: &Resource) -> bool {
        let among = |rights: &BTreeSet<Right>| rights.iter().any(|right| right.covers(scope, resource));
        among(&self.grant.rights) && self.narrowings.iter().filter_map(|block| block.rights.as_ref()).all(among)
    }

    /// Whether this trigger may set it off.
    pub(super) fn allows_trigger(&self, trigger: Trigger) -> bool {
        let among = |set: &BTreeSet<Trigger>| set.contains(&trigger);
        among(&self.grant.triggers) && self.narrowings.iter().filter_map(|block| block.triggers.as_ref()).all(among)
    }

    /// Whether any of the rights, after all narrowing, is for this scope on some resource.
    pub(super) fn holds(&self, scope: &Scope) -> bool {
        let among = |rights: &BTreeSet<Right>| rights.iter().any(|right| right.scope == *scope);
        among(&self.grant.rights) && self.narrowings.iter().filter_map(|block| block.rights.as_ref()).all(among)
    }
}

/// Reads what is needed to look for revocations, before any signature is checked.
pub(super) fn open(token: &TokenBytes) -> Result<(UnverifiedBiscuit, Vec<BlockId>), Refusal> {
    let unverified = UnverifiedBiscuit::from(token.expose()).map_err(|_| forged())?;
    // Protocol buffers skip what they do not know, so that one token could have many spellings.
    if unverified.to_vec().map_err(|_| forged())? != token.expose() {
        return Err(forged());
    }
    if unverified.block_count() > BLOCKS_MAX {
        let detail = format!("{} blocks; {BLOCKS_MAX} at most", unverified.block_count());
        return Err(Refusal::new(Code::TokenTooLarge, detail));
    }
    let blocks = unverified.revocation_identifiers().into_iter().map(BlockId).collect();
    Ok((unverified, blocks))
}

/// Checks every signature, then that every block says exactly what this node would have written.
pub(super) fn verify(
    unverified: UnverifiedBiscuit,
    blocks: Vec<BlockId>,
    roots: &[RootPublic],
) -> Result<Facts, Refusal> {
    let root = unverified.root_key_id().and_then(|id| roots.iter().find(|root| root.id == id)).ok_or_else(forged)?;
    if unverified.external_public_keys().iter().any(Option::is_some) {
        return Err(foreign());
    }
    let biscuit = unverified.verify(root.key).map_err(|_| forged())?;
    let source = |index| biscuit.print_block_source(index).map_err(|_| forged());
    let (grant, narrowings) = read_blocks(biscuit.block_count(), source)?;
    Ok(facts(grant, narrowings, blocks, biscuit))
}

fn facts(grant: Grant, narrowings: Vec<Narrowing>, blocks: Vec<BlockId>, biscuit: Biscuit) -> Facts {
    let expires_s = narrowings.iter().filter_map(|block| block.expires_s).fold(grant.expires_s, u64::min);
    let counters = |own: u64, what: &str, field: fn(&Narrowing) -> Option<u64>| {
        let first = (format!("token/{}/{what}", grant.token_id), own);
        let further = narrowings.iter().zip(&blocks[1..]).filter_map(|(block, id)| {
            field(block).map(|max| (format!("token/{}/{}/{what}", grant.token_id, id.short()), max))
        });
        [first].into_iter().chain(further).collect()
    };
    let calls = counters(grant.calls_max, "calls", |block| block.calls_max);
    let cpu_ms = counters(grant.cpu_ms_max, "cpu_ms", |block| block.cpu_ms_max);
    Facts { grant, narrowings, blocks, biscuit, expires_s, calls, cpu_ms }
}

/// Reads every block's line and refuses the token where the rest of the block is not that line in Datalog.
pub(super) fn read_blocks(
    count: usize,
    source: impl Fn(usize) -> Result<String, Refusal>,
) -> Result<(Grant, Vec<Narrowing>), Refusal> {
    let first = source(0)?;
    let grant = line(&first, "grant").and_then(text::read_grant).ok_or_else(foreign)?;
    if datalog::authority(&grant) != first {
        return Err(foreign());
    }
    let further = (1..count).map(|index| {
        let block = source(index)?;
        let narrowing = line(&block, "narrowing").and_then(text::read_narrowing).ok_or_else(foreign)?;
        if datalog::narrowing(&narrowing) == block { Ok(narrowing) } else { Err(foreign()) }
    });
    let narrowings = further.collect::<Result<_, _>>()?;
    Ok((grant, narrowings))
}

fn line<'a>(source: &'a str, predicate: &str) -> Option<&'a str> {
    let (first, _) = source.split_once('\n')?;
    first.strip_prefix(predicate)?.strip_prefix("(\"")?.strip_suffix("\");")
}

fn foreign() -> Refusal {
    Refusal::new(Code::TokenBlockForeign, "a block says something else than this node writes")
}
