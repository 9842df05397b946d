//! Capability tokens: made here, narrowed by their holders, checked before every plan and again before every call.
//!
//! A token is a Biscuit (version 3) of at most [`BLOCKS_MAX`] blocks. Its first block is signed by this node's root key and
//! holds all of its rights; each further block, which a holder adds without asking anybody, only takes away. Every block
//! says what it means in one line of text and repeats it as Datalog; a block that says anything else is refused. So two
//! evaluators decide each call, ours over the text and the library's over the Datalog, and both must agree.
//!
//! Token bytes are a secret: [`TokenBytes`] can be neither printed nor compared by accident, and no error carries them.

mod datalog;
mod registry;
mod text;
mod verify;

pub use registry::{Allowed, Presented, Revocation, TOKENS_MAX, TokenRecord, TokenRegistry, VerifiedToken, refund};
pub use verify::BlockId;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use biscuit_auth::builder::Algorithm;
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::{BiscuitBuilder, BlockBuilder, KeyPair, PublicKey, UnverifiedBiscuit};
use remand_model::grant::{Grant, Narrowing};
use remand_model::refusal::{Code, Refusal};

/// Bytes of a token.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Blocks of a token, the first one included.
pub const BLOCKS_MAX: usize = 8;

/// The bytes of a token, as sent. Holding one says nothing: it may be anything.
///
/// ```compile_fail
/// fn log(token: &remand_authority::token::TokenBytes) { eprintln!("{token:?}") }
/// ```
/// ```compile_fail
/// fn print(token: &remand_authority::token::TokenBytes) { eprintln!("{token}") }
/// ```
#[derive(Clone)]
pub struct TokenBytes(Vec<u8>);

impl TokenBytes {
    /// Takes bytes that claim to be a token.
    ///
    /// # Errors
    /// `token_missing` for no bytes, `token_too_large` above [`TOKEN_BYTES_MAX`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, Refusal> {
        match bytes.len() {
            0 => Err(Refusal::new(Code::TokenMissing, "no token came with the request")),
            1..=TOKEN_BYTES_MAX => Ok(Self(bytes)),
            len => Err(Refusal::new(Code::TokenTooLarge, format!("{len} bytes; {TOKEN_BYTES_MAX} at most"))),
        }
    }

    /// A token from its text: base64 for URLs, without padding.
    ///
    /// # Errors
    /// `token_forged` where it is no such text, and those of [`TokenBytes::new`].
    pub fn from_text(text: &str) -> Result<Self, Refusal> {
        Self::new(URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| forged())?)
    }

    /// The token as text, to hand it to its holder. Never to a log, an event or an error.
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// The bytes, to hand them to their holder. Never to a log, an event or an error.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// The node's root key: whoever holds it can issue tokens. It belongs to the administrator's side of the daemon; an
/// executor never gets one.
///
/// ```compile_fail
/// fn log(key: &remand_authority::token::RootKey) { eprintln!("{key:?}") }
/// ```
pub struct RootKey {
    pair: KeyPair,
    id: u32,
}

/// The public half of a root key, with its number.
#[derive(Clone)]
pub struct RootPublic {
    pub(crate) key: PublicKey,
    pub(crate) id: u32,
}

impl RootKey {
    /// The root key with this number made of these 32 secret random bytes (an Ed25519 seed, RFC 8032).
    ///
    /// # Panics
    /// Never: any 32 bytes are a seed.
    #[must_use]
    pub fn from_seed(id: u32, seed: &[u8; 32]) -> Self {
        Self { pair: pair_of(seed), id }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> RootPublic {
        RootPublic { key: self.pair.public(), id: self.id }
    }

    /// Issues a token for a checked grant. `entropy` must be fresh random bytes: the first holder narrows with them.
    ///
    /// # Errors
    /// `grant_invalid`, `token_too_large`, `internal`.
    pub fn mint(&self, grant: &Grant, entropy: &[u8; 32]) -> Result<TokenBytes, Refusal> {
        grant.check()?;
        let source = datalog::authority(grant);
        let builder = BiscuitBuilder::new().root_key_id(self.id).code(&source).map_err(defect)?;
        let token =
            builder.build_with_key_pair(&self.pair, SymbolTable::default(), &pair_of(entropy)).map_err(defect)?;
        let bytes = TokenBytes::new(token.to_vec().map_err(defect)?)?;
        if token.print_block_source(0).map_err(defect)? != source {
            return Err(Refusal::new(Code::Internal, "the library spells a block otherwise than this crate"));
        }
        Ok(bytes)
    }
}

impl RootPublic {
    /// The key's number, which tokens carry.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }
}

/// Narrows a token, as its holder does without asking anybody. `entropy` must be fresh random bytes.
///
/// # Errors
/// `delegation_widens` where the narrowing names anything that the token does not hold, `grant_invalid` where it narrows
/// nothing, `token_too_large`, `token_forged`, `token_block_foreign`.
pub fn delegate(token: &TokenBytes, narrowing: &Narrowing, entropy: &[u8; 32]) -> Result<TokenBytes, Refusal> {
    let (grant, narrowings) = describe(token)?;
    narrows(&grant, &narrowings, narrowing)?;
    let parent = UnverifiedBiscuit::from(token.expose()).map_err(|_| forged())?;
    if parent.block_count() >= BLOCKS_MAX {
        return Err(Refusal::new(Code::TokenTooLarge, format!("{BLOCKS_MAX} blocks at most")));
    }
    let block = BlockBuilder::new().code(datalog::narrowing(narrowing)).map_err(defect)?;
    let child = parent.append_with_keypair(&pair_of(entropy), block).map_err(|_| forged())?;
    TokenBytes::new(child.to_vec().map_err(defect)?)
}

/// What a token says of itself, for its holder. Nothing here is verified: only a [`VerifiedToken`] is.
///
/// # Errors
/// `token_forged` where it is no token, `token_block_foreign` where a block says something else than this node writes.
pub fn describe(token: &TokenBytes) -> Result<(Grant, Vec<Narrowing>), Refusal> {
    let biscuit = UnverifiedBiscuit::from(token.expose()).map_err(|_| forged())?;
    verify::read_blocks(biscuit.block_count(), |index| biscuit.print_block_source(index).map_err(|_| forged()))
}

/// Refuses a narrowing that states more than the token holds by now.
fn narrows(grant: &Grant, earlier: &[Narrowing], new: &Narrowing) -> Result<(), Refusal> {
    if *new == Narrowing::default() {
        return Err(Refusal::new(Code::GrantInvalid, "a delegation takes at least one thing away"));
    }
    let widens = |what: String| Err(Refusal::new(Code::DelegationWidens, what));
    let held = |right: &_| {
        let among = |rights: &std::collections::BTreeSet<remand_model::grant::Right>| {
            rights.iter().any(|held| held.includes(right))
        };
        among(&grant.rights) && earlier.iter().filter_map(|block| block.rights.as_ref()).all(among)
    };
    if let Some(right) = new.rights.iter().flatten().find(|right| !held(right)) {
        return widens(right.to_string());
    }
    let triggers = |trigger: &_| {
        grant.triggers.contains(trigger)
            && earlier.iter().filter_map(|block| block.triggers.as_ref()).all(|set| set.contains(trigger))
    };
    if let Some(trigger) = new.triggers.iter().flatten().find(|trigger| !triggers(trigger)) {
        return widens(trigger.name().to_owned());
    }
    let least = |own: u64, field: fn(&Narrowing) -> Option<u64>| earlier.iter().filter_map(field).fold(own, u64::min);
    let numbers = [
        ("expires_s", new.expires_s, least(grant.expires_s, |block| block.expires_s)),
        ("calls_max", new.calls_max, least(grant.calls_max, |block| block.calls_max)),
        ("cpu_ms_max", new.cpu_ms_max, least(grant.cpu_ms_max, |block| block.cpu_ms_max)),
    ];
    match numbers.iter().find(|(_, asked, held)| asked.is_some_and(|asked| asked > *held)) {
        Some((name, ..)) => widens((*name).to_owned()),
        None => text::check_narrowing(new),
    }
}

fn pair_of(seed: &[u8; 32]) -> KeyPair {
    let private = biscuit_auth::PrivateKey::from_bytes(seed, Algorithm::Ed25519).expect("any 32 bytes are a seed");
    KeyPair::from(&private)
}

/// One answer for every way in which bytes can fail to be a token, so that nobody learns how far a forgery came.
fn forged() -> Refusal {
    Refusal::new(Code::TokenForged, "the bytes are not a token of this node")
}

fn defect(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("token library: {error}"))
}

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;
