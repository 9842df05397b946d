//! Every decoder of the product as one function over hostile bytes, for a coverage-guided fuzzer and for ordinary tests.
//!
//! A target panics where a promise does not hold: no panic, one spelling, what was read is what is written. What it is
//! given first are the product's own bytes, made by the product itself.

mod authority;
mod export;
mod image;
mod ledger;
mod model;
mod policy;
mod wall;

/// One decoder under attack.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Takes bytes of anybody's and panics where a promise does not hold.
    pub attack: fn(&[u8]),
    /// Bytes that the decoder takes, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: &[Target] = &[
    Target { name: "canonical", attack: model::canonical, seeds: model::canonical_seeds },
    Target { name: "envelope", attack: model::envelope, seeds: model::envelope_seeds },
    Target { name: "event", attack: model::event, seeds: model::event_seeds },
    Target { name: "contract", attack: model::contract, seeds: model::contract_seeds },
    Target { name: "plan", attack: model::plan, seeds: model::plan_seeds },
    Target { name: "documents", attack: model::documents, seeds: model::documents_seeds },
    Target { name: "schema", attack: authority::schema, seeds: authority::schema_seeds },
    Target { name: "token", attack: authority::token, seeds: authority::token_seeds },
    Target { name: "profile", attack: policy::profile, seeds: policy::profile_seeds },
    Target { name: "wall", attack: wall::wall, seeds: wall::wall_seeds },
    Target { name: "record", attack: wall::record, seeds: wall::record_seeds },
    Target { name: "note", attack: ledger::note, seeds: ledger::note_seeds },
    Target { name: "tile", attack: ledger::tile, seeds: ledger::tile_seeds },
    Target { name: "proof", attack: ledger::proof, seeds: ledger::proof_seeds },
    Target { name: "dsse", attack: ledger::dsse, seeds: ledger::dsse_seeds },
    Target { name: "witness", attack: ledger::witness, seeds: ledger::witness_seeds },
    Target { name: "trust", attack: ledger::trust, seeds: ledger::trust_seeds },
    Target { name: "entry", attack: export::entry, seeds: export::entry_seeds },
    Target { name: "export", attack: export::export, seeds: export::export_seeds },
    Target { name: "image", attack: image::image, seeds: image::image_seeds },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    ALL.iter().copied().find(|target| target.name == name)
}
