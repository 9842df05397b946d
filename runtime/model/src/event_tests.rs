//! Events: one entry has one spelling, and nothing else is read as one.

use super::*;

fn sample() -> Event {
    let new = NewEvent::new(EventType::EXECUTION_STARTED, &ExecutionId::from_claims(&crate::Digest::of(b"")))
        .claim("verdict", "allowed")
        .observe("pid", 7_u32);
    Event {
        tenant_id: "acme".parse().unwrap(),
        event_id: 42,
        event_type: new.event_type,
        subject: new.subject,
        causation_id: Some(41),
        payload: new.payload,
        timestamp: 1042,
        wall_clock_us: 1_767_225_600_000_000,
        protocol_version: PROTOCOL_VERSION.into(),
    }
}

#[test]
fn an_entry_is_the_canonical_spelling_of_its_event() {
    let entry = sample().to_entry().unwrap();
    assert_eq!(
        String::from_utf8(entry.clone()).unwrap(),
        "{\"causation_id\":41,\"event_id\":42,\"event_type\":\"EXECUTION_STARTED\",\"payload\":{\"claims\":{\"verdict\":\"allowed\"},\
         \"observations\":{\"pid\":7}},\"protocol_version\":\"1.0\",\"subject\":\"execution:exec_e3b0c44298fc1c149afbf4c8996fb924\",\
         \"tenant_id\":\"acme\",\"timestamp\":1042,\"wall_clock_us\":1767225600000000}"
    );
    assert_eq!(entry, canonical::to_bytes(&canonical::from_serialize(&sample()).unwrap()));
    assert_eq!(Event::from_entry(&entry).unwrap(), sample());
}

#[test]
fn another_spelling_of_the_same_event_is_refused() {
    let entry = String::from_utf8(sample().to_entry().unwrap()).unwrap();
    for (from, to) in [(":41,", ": 41,"), ("acme", "\\u0061cme"), (",\"event_id\":42", ""), ("1042", "1042.0")] {
        assert!(Event::from_entry(entry.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    assert!(Event::from_entry(entry.replace("}}", "},\"more\":{}}").as_bytes()).is_err());
}

#[test]
fn a_cause_must_come_before() {
    let event = Event { causation_id: Some(42), ..sample() };
    assert!(matches!(event.to_entry(), Err(EventError::Causation { event_id: 42, causation_id: 42 })));
}

#[test]
fn an_entry_over_the_limit_is_refused() {
    let mut event = sample();
    event.payload.observations.insert("text".into(), "x".repeat(ENTRY_BYTES_MAX).into());
    assert!(matches!(event.to_entry(), Err(EventError::TooLong { .. })));
}

#[test]
fn an_event_that_would_nest_too_deep_as_an_entry_is_refused() {
    let nested = |depth: usize| (1..depth).fold(Value::List(vec![]), |inner, _| Value::List(vec![inner]));
    let mut event = sample();
    event.payload.claims.insert("deep".into(), nested(61));
    assert_eq!(Event::from_entry(&event.to_entry().unwrap()).unwrap(), event);
    event.payload.claims.insert("deep".into(), nested(62));
    assert!(event.to_entry().is_err());
}

#[test]
fn numbers_beyond_53_bits_and_other_versions_are_refused() {
    assert!(Event { timestamp: 1 << 53, ..sample() }.to_entry().is_err());
    assert!(Event { protocol_version: "2.0".into(), ..sample() }.to_entry().is_err());
}

#[test]
fn names_of_kinds_and_subjects_are_checked() {
    for bad in ["", "1a", "a-b", "a b", &"a".repeat(65)] {
        assert!(bad.parse::<EventType>().is_err(), "{bad:?}");
    }
    for bad in ["", "a b", "é", "a\n", &"a".repeat(256)] {
        assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
    }
}
