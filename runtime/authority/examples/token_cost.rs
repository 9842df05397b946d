//! What checking a token costs: `cargo run --release -p remand-authority --example token_cost`.
//!
//! Prints the median and the 99th percentile in microseconds. "Cold" is validation plus the first call of a token that the
//! registry has not seen; "cached" is the same again; revocation and time are checked each time.

use std::io::Write as _;
use std::time::Instant;

use remand_authority::Clock;
use remand_authority::token::{Presented, RootKey, TokenBytes, TokenRegistry, delegate};
use remand_model::grant::{Grant, Narrowing, Resource, Scope, TokenId, Trigger};

const TRIALS: u32 = 2000;
const CLOCK: Clock = Clock { wall_s: 1000, last_event_s: 1000, mono_ms: 0 };

fn entropy(number: u32, salt: u8) -> [u8; 32] {
    let mut seed = [salt; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    seed
}

fn grant(number: u32) -> Grant {
    Grant {
        protocol_version: "1.0".into(),
        token_id: TokenId::from_entropy(entropy(number, 1)[..16].try_into().expect("16 bytes")),
        tenant_id: "acme".parse().expect("a tenant"),
        user_id: "ada".parse().expect("a user"),
        rights: ["exec.run=word-count".parse().expect("a right"), "state.get=users/*".parse().expect("a right")].into(),
        triggers: [Trigger::Manual].into(),
        expires_s: 2000,
        calls_max: 1000,
        cpu_ms_max: 60_000,
        epoch: 0,
    }
}

fn use_once(registry: &mut TokenRegistry, token: &TokenBytes, grant: &Grant, scope: &Scope, on: &Resource) {
    let (tenant_id, user_id) = (&grant.tenant_id, &grant.user_id);
    let presented = Presented { tenant_id, user_id, trigger: Trigger::Manual, clock: CLOCK };
    let verified = registry.validate(token, &presented).expect("valid");
    let allowed = registry.check_call(&verified, scope, on, 100, &CLOCK).expect("allowed");
    assert!(allowed.charges().len() >= 2);
}

fn report(name: &str, mut nanos: Vec<u128>) {
    nanos.sort_unstable();
    let at = |part: usize| nanos[nanos.len() * part / 100] as f64 / 1000.0;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name:<28} p50 {:>8.2} us   p99 {:>8.2} us", at(50), at(99)).expect("standard output takes text");
}

fn main() {
    let root = RootKey::from_seed(1, &[9; 32]);
    let (scope, on): (Scope, Resource) = ("exec.run".parse().expect("scope"), "word-count".parse().expect("resource"));
    for blocks in [1_u64, 2, 4, 8] {
        let mut registry = TokenRegistry::new(vec![root.public()], 0).expect("a registry");
        let (mut mint, mut cold, mut cached) = (Vec::new(), Vec::new(), Vec::new());
        let mut size = 0;
        for number in 0..TRIALS {
            let grant = grant(number);
            let start = Instant::now();
            let mut token = root.mint(&grant, &entropy(number, 2)).expect("a token");
            mint.push(start.elapsed().as_nanos());
            registry.admit(registry.record(&token).expect("a record")).expect("admitted");
            for block in 1..blocks {
                let narrowing = Narrowing { calls_max: Some(100 - block), ..Narrowing::default() };
                token = delegate(&token, &narrowing, &entropy(number, 3 + block as u8)).expect("a child");
            }
            size = token.expose().len();
            for samples in [&mut cold, &mut cached] {
                let start = Instant::now();
                use_once(&mut registry, &token, &grant, &scope, &on);
                samples.push(start.elapsed().as_nanos());
            }
        }
        if blocks == 1 {
            report("mint", mint);
        }
        report(&format!("cold, {blocks} blocks, {size} B"), cold);
        report(&format!("cached, {blocks} blocks"), cached);
    }
}
