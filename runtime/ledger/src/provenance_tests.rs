//! Statements: what is claimed decides the proof hash, what is observed does not, and there is one spelling.

use proptest::prelude::*;

use super::*;

pub(crate) fn statement() -> Statement {
    let claims = Claims {
        execution_id: ExecutionId::from_claims(&Digest::of(b"request")),
        tenant_id: "acme".parse().unwrap(),
        contract_hash: Digest::of(b"contract"),
        input_hash: Digest::of(b"input"),
        output_hash: Digest::of(b"output"),
        execution_seed: 7,
        isolation_profile_hash: Digest::of(b"profile"),
        artifacts: vec![Artifact { name: "report.txt".to_owned(), sha256: Digest::of(b"report") }],
    };
    let audit = AuditPosition {
        origin: "node1.example/audit/acme".parse().unwrap(),
        tree_size: 41,
        root_hash: Digest::of(b"root"),
    };
    let seen = Seen {
        node_id: "node1.example".to_owned(),
        cluster_schedule_hash: None,
        membership_hash: None,
        token_id: Some("tok".to_owned()),
        resource_usage: BTreeMap::from([("cpu_user_us".to_owned(), 1500)]),
    };
    Statement { claims, observations: Observations { seen, audit } }
}

#[test]
fn a_statement_is_read_back() {
    for seed in [7, (1 << 53) - 1, 1 << 53, u64::MAX] {
        let mut statement = statement();
        statement.claims.execution_seed = seed;
        assert_eq!(Statement::parse(&statement.to_bytes().unwrap()).unwrap(), statement);
    }
}

#[test]
fn an_execution_without_files_has_its_output_as_subject() {
    let mut statement = statement();
    statement.claims.artifacts.clear();
    let bytes = statement.to_bytes().unwrap();
    let value = canonical::parse(&bytes).unwrap();
    let subject = value.get("subject").unwrap().as_list().unwrap();
    assert_eq!(subject[0].get("name").and_then(Value::as_text), Some("output"));
    assert_eq!(Statement::parse(&bytes).unwrap(), statement);
}

#[test]
fn a_large_seed_travels_as_text_and_a_small_one_does_not() {
    let mut statement = statement();
    statement.claims.execution_seed = 1 << 53;
    let text = String::from_utf8(statement.to_bytes().unwrap()).unwrap();
    assert!(text.contains("\"execution_seed\":\"9007199254740992\""));
    let small = text.replace("\"9007199254740992\"", "\"7\"");
    assert!(Statement::parse(small.as_bytes()).is_err());
}

#[test]
fn the_proof_hash_covers_every_claim_and_no_observation() {
    let base = statement();
    let mut seen = base.clone();
    seen.observations.seen.node_id = "node2.example".to_owned();
    seen.observations.seen.token_id = None;
    seen.observations.seen.membership_hash = Some(Digest::of(b"members"));
    seen.observations.seen.resource_usage.clear();
    seen.observations.audit.tree_size = 1000;
    assert_eq!(seen.claims.proof_hash(), base.claims.proof_hash());
    let changes: [fn(&mut Claims); 8] = [
        |claims| claims.execution_id = ExecutionId::from_claims(&Digest::of(b"other")),
        |claims| claims.tenant_id = "other".parse().unwrap(),
        |claims| claims.contract_hash = Digest::of(b""),
        |claims| claims.input_hash = Digest::of(b""),
        |claims| claims.output_hash = Digest::of(b""),
        |claims| claims.execution_seed += 1,
        |claims| claims.isolation_profile_hash = Digest::of(b""),
        |claims| claims.artifacts[0].sha256 = Digest::of(b""),
    ];
    for change in changes {
        let mut other = base.clone();
        change(&mut other.claims);
        assert_ne!(other.claims.proof_hash(), base.claims.proof_hash());
    }
}

#[test]
fn statements_with_more_or_other_members_are_refused() {
    let text = String::from_utf8(statement().to_bytes().unwrap()).unwrap();
    let changes = [
        ("{\"_type\"", "{\"a\":1,\"_type\""),
        ("Statement/v1", "Statement/v2"),
        ("execution/v1", "execution/v2"),
        ("\"protocol_version\":\"1.0\"", "\"protocol_version\":\"2.0\""),
        ("\"tree_size\":41", "\"tree_size\":\"41\""),
        (",\"token_id\":\"tok\"", ""),
        ("audit/acme", "audit/ACME"),
        ("\"node_id\"", "\"extra\":null,\"node_id\""),
    ];
    for (from, to) in changes {
        let changed = text.replacen(from, to, 1);
        assert!(changed != text && Statement::parse(changed.as_bytes()).is_err(), "{from} to {to}");
    }
}

#[test]
fn usage_beyond_53_bits_is_not_written() {
    let mut statement = statement();
    statement.observations.seen.resource_usage.insert("bytes".to_owned(), 1 << 53);
    assert!(matches!(statement.to_bytes(), Err(StatementError::TooLarge(name)) if name == "bytes"));
}

#[test]
fn the_slsa_view_names_builder_invocation_and_subject() {
    let view = canonical::parse(&statement().slsa_view()).unwrap();
    assert_eq!(view.get("predicateType").and_then(Value::as_text), Some(SLSA_TYPE));
    let run = view.get("predicate").and_then(|p| p.get("runDetails")).unwrap();
    let builder = run.get("builder").and_then(|b| b.get("id")).and_then(Value::as_text);
    assert_eq!(builder, Some(format!("{BUILDER_ID}node1.example").as_str()));
    let build = view.get("predicate").and_then(|p| p.get("buildDefinition")).unwrap();
    let build_type = build.get("buildType").and_then(Value::as_text);
    assert_eq!(build_type, Some(format!("{BUILD_TYPE}{}", statement().claims.contract_hash).as_str()));
    assert!(Statement::parse(&statement().slsa_view()).is_err(), "a view was taken for a record");
    let invocation = run.get("metadata").and_then(|m| m.get("invocationId")).and_then(Value::as_text);
    assert_eq!(invocation, Some(statement().claims.execution_id.as_str()));
    assert_eq!(view.get("subject"), canonical::parse(&statement().to_bytes().unwrap()).unwrap().get("subject"));
}

#[test]
fn the_event_binds_the_execution_to_the_statement() {
    let bytes = statement().to_bytes().unwrap();
    let event = Statement::recorded_event(&statement().claims.execution_id, Digest::of(&bytes));
    assert_eq!(event.payload.observations[STATEMENT_MEMBER], Value::from(Digest::of(&bytes)));
    assert_eq!(event.subject.execution(), Some(statement().claims.execution_id));
}

proptest! {
    #[test]
    fn a_flipped_bit_gives_another_statement_or_none(place: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = statement().to_bytes().unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Statement::parse(&bytes).map_or(true, |read| read != statement()));
    }
}
