//! Canonical JSON: what is accepted comes out in one spelling, everything else is refused with its place.

use serde::{Deserialize, Serialize};

use super::*;

fn canon(text: &str) -> String {
    String::from_utf8(to_bytes(&parse(text.as_bytes()).unwrap())).unwrap()
}

fn refusal(text: impl AsRef<[u8]>) -> (Reason, usize, usize) {
    match parse(text.as_ref()) {
        Err(CanonError::Refused { reason, byte, line }) => (reason, byte, line),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_sorted_by_code_point_and_space_is_dropped() {
    assert_eq!(canon("{\"b\" : 1 ,\n\"a\":[ true , false,null ],\"B\":{}}"), r#"{"B":{},"a":[true,false,null],"b":1}"#);
    assert_eq!(canon("{\"\u{10000}\":1,\"\u{ff5e}\":2}"), r#"{"\uff5e":2,"\ud800\udc00":1}"#);
}

#[test]
fn everything_but_printable_ascii_is_escaped_as_cpython_does() {
    assert_eq!(canon("\"\u{7f}é€😀/~\""), r#""\u007f\u00e9\u20ac\ud83d\ude00/~""#);
    assert_eq!(canon(r#""\u0000\b\t\n\f\r\u001f\"\\\/\u0041""#), r#""\u0000\b\t\n\f\r\u001f\"\\/A""#);
    assert_eq!(canon(r#""\uD83D\ude00 \ud7ff \uffff""#), r#""\ud83d\ude00 \ud7ff \uffff""#);
}

#[test]
fn integers_keep_every_digit_up_to_53_bits() {
    for number in ["0", "-1", "10", "9007199254740991", "-9007199254740991"] {
        assert_eq!(canon(number), number);
    }
    assert_eq!(refusal("9007199254740992").0, Reason::TooLarge);
    assert_eq!(refusal("-9007199254740992").0, Reason::TooLarge);
    assert_eq!(refusal("99999999999999999999999999").0, Reason::TooLarge);
}

#[test]
fn numbers_that_readers_disagree_on_are_refused() {
    for fraction in ["1.0", "1e3", "1E3", "-1.5", "0.1", "01.5", "0e0"] {
        assert_eq!(refusal(fraction).0, Reason::Fraction, "{fraction}");
    }
    assert_eq!(refusal("-0").0, Reason::MinusZero);
    assert_eq!(refusal("01").0, Reason::LeadingZero);
    for foreign in ["NaN", "Infinity", "-Infinity", "+1", "-", ".5", "0x10", "1_0"] {
        assert!(parse(foreign.as_bytes()).is_err(), "{foreign}");
    }
}

#[test]
fn a_refusal_names_its_byte_and_line() {
    assert_eq!(refusal("[1,\n2,\n 1.5]"), (Reason::Fraction, 8, 3));
    assert_eq!(refusal("{\"a\":1,\"\\u0061\":2}"), (Reason::DuplicateKey("a".into()), 7, 1));
    assert_eq!(refusal("{} x"), (Reason::Trailing, 3, 1));
    assert_eq!(refusal("[1,"), (Reason::End("a value"), 3, 1));
    assert_eq!(refusal("\u{feff}{}"), (Reason::ByteOrderMark, 0, 1));
    assert_eq!(refusal(""), (Reason::End("a value"), 0, 1));
    assert_eq!(refusal("[é]"), (Reason::Unexpected { found: 'é', expected: "a value" }, 1, 1));
}

#[test]
fn lone_surrogates_and_broken_utf8_are_refused() {
    for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x""#, r#""\udc00\ud800""#] {
        assert_eq!(refusal(lone).0, Reason::LoneSurrogate, "{lone}");
    }
    assert_eq!(refusal(b"\"\xed\xa0\x80\""), (Reason::LoneSurrogate, 1, 1));
    for broken in [&b"\"a\xff\""[..], b"\"\xc0\x80\"", b"\"\xf5\x80\x80\x80\"", b"\"\xe2\x82\"", b"\xff"] {
        assert_eq!(refusal(broken).0, Reason::NotUtf8, "{broken:?}");
    }
}

#[test]
fn texts_with_raw_controls_or_unknown_escapes_are_refused() {
    assert_eq!(refusal("\"a\nb\"").0, Reason::ControlCharacter);
    for escape in [r#""\x41""#, r#""\u12""#, r#""\u12g4""#, r#""\"#, r#""\U0041""#, r#""\u+041""#] {
        assert_eq!(refusal(escape).0, Reason::BadEscape, "{escape}");
    }
}

#[test]
fn commas_and_colons_have_their_places() {
    for broken in
        ["[1,]", "[,1]", "{,}", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "{1:1}", "[1 2]", "[", "{", "]", "{\"a\":", "tru"]
    {
        assert!(parse(broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn the_sixty_fifth_level_is_refused() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(nested(64).as_bytes()).is_ok());
    assert_eq!(refusal(nested(65)), (Reason::TooDeep, 64, 1));
    assert_eq!(refusal("[".repeat(1_000_000)).0, Reason::TooDeep);
    let by_hand = (0..65).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert!(by_hand.check_depth().is_err());
    assert!(from_serialize(&by_hand).is_err());
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum Shape {
    Unit,
    New(u8),
    Pair(u8, i8),
    Named { side: u16 },
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Sample {
    z: Vec<Shape>,
    a: Option<String>,
    digest: Digest,
    any: Value,
}

#[test]
fn a_value_of_the_program_survives_the_way_there_and_back() {
    let any = parse(br#"{"k":[null,true,-5,"x"]}"#).unwrap();
    let z = vec![Shape::Unit, Shape::New(1), Shape::Pair(1, -1), Shape::Named { side: 4 }];
    let sample = Sample { z, a: None, digest: Digest::of(b""), any };
    let value = from_serialize(&sample).unwrap();
    assert_eq!(value.get("z").unwrap().to_string(), r#"["Unit",{"New":1},{"Pair":[1,-1]},{"Named":{"side":4}}]"#);
    assert_eq!(to_bytes(&value), to_bytes(&parse(&serde_json::to_vec(&sample).unwrap()).unwrap()));
    assert_eq!(value.decode::<Sample>().unwrap(), sample);
    assert_eq!(decode::<Sample>(&to_bytes(&value)).unwrap(), sample);
}

#[test]
fn a_value_that_serde_would_round_is_refused() {
    assert!(from_serialize(&1.0_f64).is_err());
    assert!(from_serialize(&f64::NAN).is_err());
    assert!(from_serialize(&(1_u64 << 53)).is_err());
    assert!(from_serialize(&[(1_u8, 2_u8)].into_iter().collect::<BTreeMap<_, _>>()).is_err());
    assert!(serde_json::from_str::<Value>(r#"{"a":1,"a":2}"#).is_err());
    assert!(serde_json::from_str::<Value>("1.0").is_err());
}

#[test]
fn canonical_bytes_are_recognised_and_others_are_not() {
    assert!(is_canonical(br#"{"a":1,"b":2}"#));
    for other in [r#"{"b":2,"a":1}"#, r#"{"a": 1}"#, "\"é\"", r#""\u0041""#, r#""\u00E9""#, "1.0"] {
        assert!(!is_canonical(other.as_bytes()), "{other}");
    }
}
