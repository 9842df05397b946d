//! The fast reader against the model: both accept the same entries, whole, mutated or hostile.

use proptest::prelude::*;
use remand_model::canonical::{Object, Value};
use remand_model::event::{Event, EventType, Payload, Subject};

use super::*;

fn entry(claims: Object, observations: Object, event_id: u64, causation_id: Option<u64>) -> Event {
    Event {
        tenant_id: "acme".parse().unwrap(),
        event_id,
        event_type: EventType::EXECUTION_STARTED,
        subject: "execution:exec_00".parse::<Subject>().unwrap(),
        causation_id,
        payload: Payload { claims, observations },
        timestamp: 7,
        wall_clock_us: 1_767_225_600_000_000,
        protocol_version: PROTOCOL_VERSION.to_owned(),
    }
}

fn agree(bytes: &[u8]) -> bool {
    let accepted = Event::from_entry(bytes).is_ok();
    assert_eq!(scan(bytes).is_some(), accepted, "{}", String::from_utf8_lossy(bytes));
    accepted
}

fn nested(depth: usize) -> Value {
    (1..depth).fold(Value::List(Vec::new()), |inner, _| Value::List(vec![inner]))
}

fn values() -> impl Strategy<Value = Value> {
    let integers = prop_oneof![any::<i64>().prop_map(|n| n % (INTEGER_MAX + 1)), -3_i64..3];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        integers.prop_map(|n| Value::try_from(n).unwrap()),
        texts().prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(texts(), inner, 0..4).prop_map(Value::Object),
        ]
    })
}

/// Texts around everything that the spelling treats in its own way.
fn texts() -> impl Strategy<Value = String> {
    let special =
        "[a-c\"\\\\\n\t\u{8}\u{c}\r\u{0}\u{1f} /\u{7f}\u{80}\u{e9}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}]";
    prop::collection::vec(special, 0..6).prop_map(|parts| parts.concat())
}

#[test]
fn the_fields_of_an_entry_are_found() {
    let claims = Object::from([("a".to_owned(), Value::from(1_u8))]);
    let bytes = entry(claims, Object::new(), 42, Some(41)).to_entry().unwrap();
    let scanned = scan(&bytes).unwrap();
    assert_eq!((scanned.event_id, scanned.causation_id), (42, Some(41)));
    assert_eq!((scanned.event_type, scanned.tenant_id), (&b"EXECUTION_STARTED"[..], &b"acme"[..]));
    assert_eq!((scanned.claims, scanned.observations), (&b"{\"a\":1}"[..], &b"{}"[..]));
}

#[test]
fn an_effect_before_its_cause_is_refused() {
    let bytes = entry(Object::new(), Object::new(), 42, Some(41)).to_entry().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for (cause, accepted) in [("0", true), ("41", true), ("42", false), ("43", false), ("-1", false), ("041", false)] {
        let changed = text.replacen(":41,", &format!(":{cause},"), 1);
        assert_eq!(agree(changed.as_bytes()), accepted, "{cause}");
    }
}

#[test]
fn spellings_that_only_mean_the_same_are_refused() {
    let claims =
        Object::from([("k".to_owned(), Value::from("A\u{7f}\u{10000}\n")), ("l".to_owned(), Value::from(10_u8))]);
    let text = String::from_utf8(entry(claims, Object::new(), 1, None).to_entry().unwrap()).unwrap();
    assert!(agree(text.as_bytes()));
    let changes = [
        ("A\\u", "\\u0041\\u"),
        ("\\u007f", "\u{7f}"),
        ("\\u007f", "\\u007F"),
        ("\\n", "\\u000a"),
        ("\\ud800", ""),
        ("\\udc00", ""),
        (":10", ": 10"),
        (":10", ":1e1"),
        (":10", ":10.0"),
        (":10", ":+10"),
        (":10", ":-0"),
        (":10", ":9007199254740992"),
        (":10", ":010"),
        ("\"l\"", "\"k\""),
        ("\"l\"", "\"j\""),
        ("\"1.0\"", "\"1.1\""),
        ("}", "} "),
        ("{", " {"),
        ("null", "nul"),
        ("acme", "Acme"),
        ("execution:", "execution "),
        ("A\\u", "\\/\\u"),
        ("\"timestamp\":7", "\"timestamp\":-7"),
        ("EXECUTION_STARTED", "9"),
        ("\"l\"", "\"\\ud7ff\""),
    ];
    for (from, to) in changes {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let legal = to == "\"\\ud7ff\"";
        assert_eq!(agree(changed.as_bytes()), legal, "{changed}");
    }
}

#[test]
fn nesting_ends_where_the_model_ends_it() {
    let spell = |depth| {
        let list = Value::List(Vec::new()).to_string();
        let inner = (1..depth).fold(list, |inner, _| format!("[{inner}]"));
        let plain = entry(Object::from([("a".to_owned(), nested(1))]), Object::new(), 1, None).to_entry().unwrap();
        String::from_utf8(plain).unwrap().replacen("[]", &inner, 1)
    };
    assert!(agree(spell(61).as_bytes()));
    assert!(!agree(spell(62).as_bytes()));
    assert!(!agree(spell(30_000).as_bytes()));
}

proptest! {
    #[test]
    fn every_entry_of_the_model_is_accepted(
        claims in prop::collection::btree_map(texts(), values(), 0..4),
        observations in prop::collection::btree_map(texts(), values(), 0..4),
        id in 0_u64..1 << 53,
    ) {
        let bytes = entry(claims, observations, id, id.checked_sub(1)).to_entry().unwrap();
        prop_assert!(agree(&bytes));
    }

    #[test]
    fn a_mutated_entry_is_judged_as_the_model_judges_it(
        claims in prop::collection::btree_map(texts(), values(), 0..3),
        place: prop::sample::Index,
        with in prop::sample::select(b"\"\\{}[],:-0159ufnde \x7f\xff".to_vec()),
        how in 0_u8..3,
    ) {
        let mut bytes = entry(claims, Object::new(), 9, Some(3)).to_entry().unwrap();
        let at = place.index(bytes.len());
        match how {
            0 => bytes[at] = with,
            1 => bytes.insert(at, with),
            _ => { bytes.remove(at); }
        }
        agree(&bytes);
    }
}
