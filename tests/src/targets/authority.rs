//! What decides: schemas on inputs, and tokens.

use remand_authority::Clock;
use remand_authority::schema::Schema;
use remand_authority::token::{Presented, TokenRegistry};
use remand_authority::token::{RootKey, TokenBytes, delegate, describe};
use remand_model::canonical;
use remand_model::grant::{Grant, Narrowing, Trigger};
use serde_json::json;
use std::time::{Duration, Instant};

/// A schema and an input of the sizes that a fuzzer tries are decided on within this, whatever they say.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);

/// A line with a schema, then a document: either is decided on in time, without a panic.
pub fn schema(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (schema, document) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let Ok(schema) = canonical::parse(schema) else { return };
    let began = Instant::now();
    if let Ok(schema) = Schema::compile(&schema) {
        drop(schema.check_input(document));
        drop(schema.check_output(document));
    }
    assert!(began.elapsed() < DECIDED_WITHIN, "it took {:?}", began.elapsed());
}

pub fn schema_seeds() -> Vec<Vec<u8>> {
    let pairs = [
        (
            json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 0}}}),
            json!({"n": 5}),
        ),
        (json!({"type": "string", "pattern": "^(a+)+$"}), json!("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), json!(1)),
        (
            json!({"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}),
            json!([[[], []]]),
        ),
        (json!({"$ref": "http://example.com/x"}), json!(1)),
        (json!({"oneOf": [{"enum": [1, 2]}, {"const": 3}], "not": {"multipleOf": 2}}), json!(3)),
        (json!({"unevaluatedProperties": false, "allOf": [{"properties": {"a": true}}]}), json!({"a": 1})),
        (json!({"$dynamicRef": "#a", "$defs": {"x": {"$dynamicAnchor": "a", "type": "integer"}}}), json!(1)),
    ];
    pairs.iter().map(|(schema, document)| format!("{schema}\n{document}").into_bytes()).collect()
}

fn root() -> RootKey {
    RootKey::from_seed(1, &[7; 32])
}

fn grant() -> Grant {
    let grant = json!({
        "protocol_version": "1.0", "token_id": format!("tok_{}", "0".repeat(32)), "tenant_id": "acme", "user_id": "root",
        "rights": ["exec.run=*", "state.get=a/*"], "triggers": ["manual"], "expires_s": 4_000_000_000_u64,
        "calls_max": 20, "cpu_ms_max": 900_000, "epoch": 0,
    });
    serde_json::from_value(grant).expect("a good grant")
}

/// Bytes are a token of this root only where the root made them: anything else is refused, and a delegation of bytes that
/// nobody made says no more than they do.
pub fn token(input: &[u8]) {
    let Ok(token) = TokenBytes::new(input.to_vec()) else { return };
    drop(describe(&token));
    let narrowing = Narrowing { calls_max: Some(1), ..Narrowing::default() };
    drop(delegate(&token, &narrowing, &[3; 32]));
    let mut registry = TokenRegistry::new(vec![root().public()], 0).expect("one root");
    let (tenant, user) = ("acme".parse().expect("a name"), "root".parse().expect("a name"));
    let clock = Clock { wall_s: 1, last_event_s: 0, mono_ms: 0 };
    let presented = Presented { tenant_id: &tenant, user_id: &user, trigger: Trigger::Manual, clock };
    assert!(registry.validate(&token, &presented).is_err(), "the registry knows no token");
    if registry.record(&token).is_ok() {
        let known = made();
        assert!(known.iter().any(|made| input == made), "a token that the root has not made is on record");
    }
}

fn made() -> Vec<Vec<u8>> {
    let token = root().mint(&grant(), &[9; 32]).expect("a good grant");
    let narrowing = Narrowing { calls_max: Some(2), ..Narrowing::default() };
    let narrowed = delegate(&token, &narrowing, &[5; 32]).expect("it narrows");
    vec![token.expose().to_vec(), narrowed.expose().to_vec()]
}

pub fn token_seeds() -> Vec<Vec<u8>> {
    made()
}
