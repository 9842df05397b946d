//! Schemas that work, and schemas that were made to do harm.

use super::*;

fn compile(schema: &str) -> Result<Schema, Code> {
    Schema::compile(&canonical::parse(schema.as_bytes()).expect("canonical")).map_err(|refusal| refusal.code)
}

fn accepts(schema: &str, input: &str) -> Result<(), Code> {
    compile(schema).expect("compiles").check_input(input.as_bytes()).map(drop).map_err(|refusal| refusal.code)
}

const PERSON: &str = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["name"],
    "properties":{"name":{"$ref":"#/$defs/name"},"nick":{"$ref":"#/$defs/name"},"age":{"type":"integer","minimum":0}},
    "additionalProperties":false,"$defs":{"name":{"type":"string","pattern":"^[a-z]+$","maxLength":20}}}"##;

#[test]
fn an_input_is_accepted_exactly_where_its_schema_accepts_it() {
    assert_eq!(accepts(PERSON, r#"{"name":"ada","age":36,"nick":"a"}"#), Ok(()));
    for bad in [r"{}", r#"{"name":"Ada"}"#, r#"{"name":"ada","age":-1}"#, r#"{"name":"ada","x":1}"#, "[]", "null"] {
        assert_eq!(accepts(PERSON, bad), Err(Code::InputInvalid), "{bad}");
    }
}

#[test]
fn an_accepted_input_is_kept_in_canonical_form() {
    let checked = compile(PERSON).expect("compiles").check_input(br#" { "name" : "ada" } "#).expect("accepted");
    assert_eq!(checked.bytes(), br#"{"name":"ada"}"#);
    assert_eq!(checked.digest(), Digest::of(br#"{"name":"ada"}"#));
}

#[test]
fn a_refusal_names_the_place_and_never_the_value() {
    let refusal = compile(PERSON).expect("compiles").check_input(br#"{"name":"SECRET"}"#).expect_err("refused");
    assert!(refusal.detail.contains("/name") && !refusal.detail.contains("SECRET"), "{}", refusal.detail);
    let output = compile(PERSON).expect("compiles").check_output(b"1").expect_err("refused");
    assert_eq!(output.code, Code::OutputInvalid);
}

#[test]
fn a_reference_in_a_circle_is_refused() {
    for circle in [
        r##"{"$ref":"#"}"##,
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"}]}}}"##,
        r##"{"properties":{"child":{"$ref":"#/properties/child"}}}"##,
    ] {
        assert_eq!(compile(circle).err(), Some(Code::SchemaInvalid), "{circle}");
    }
}

#[test]
fn references_that_double_at_each_step_are_refused_before_they_are_followed() {
    let step =
        |n: u32| format!(r##""a{n}":{{"allOf":[{{"$ref":"#/$defs/a{m}"}},{{"$ref":"#/$defs/a{m}"}}]}}"##, m = n + 1);
    let steps = (0..30).map(step).collect::<Vec<_>>().join(",");
    let bomb = format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{steps},"a30":true}}}}"##);
    assert_eq!(compile(&bomb).err(), Some(Code::SchemaTooCostly));
}

#[test]
fn a_long_chain_of_references_is_refused_before_it_fills_the_stack() {
    let step = |n: u32| format!(r##""a{n}":{{"$ref":"#/$defs/a{m}"}}"##, m = n + 1);
    let chain = |steps: u32| {
        let links = (0..steps).map(step).collect::<Vec<_>>().join(",");
        format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{links},"a{steps}":true}}}}"##)
    };
    assert!(compile(&chain(80)).is_ok());
    assert_eq!(compile(&chain(2000)).err(), Some(Code::SchemaTooCostly));
}

#[test]
fn a_schema_cannot_reach_out_of_itself() {
    for reaching in [
        r##"{"$ref":"https://example.org/schema.json"}"##,
        r##"{"$ref":"file:///etc/passwd"}"##,
        r##"{"$ref":"other.json#/a"}"##,
        r##"{"$ref":"#anchor"}"##,
        r##"{"$ref":"#/nowhere"}"##,
        r##"{"$ref":"#/$defs/%61","$defs":{"a":true}}"##,
        r##"{"$id":"https://example.org/","$ref":"x"}"##,
        r##"{"$dynamicRef":"#x"}"##,
        r##"{"$schema":"http://json-schema.org/draft-07/schema#"}"##,
        r##"{"$schema":"https://example.org/own-dialect"}"##,
    ] {
        assert_eq!(compile(reaching).err(), Some(Code::SchemaInvalid), "{reaching}");
    }
}

#[test]
fn a_catastrophic_pattern_runs_in_linear_time_or_is_refused() {
    let text = format!("\"{}!\"", "a".repeat(100_000));
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^([a-z]+)*x$"] {
        let schema = format!(r#"{{"pattern":"{pattern}"}}"#);
        assert_eq!(accepts(&schema, &text), Err(Code::InputInvalid), "{pattern}");
    }
    for beyond in [r"(?=a)b", r"(a)\\1", "(?<!a)b"] {
        assert_eq!(compile(&format!(r#"{{"pattern":"{beyond}"}}"#)).err(), Some(Code::SchemaInvalid), "{beyond}");
    }
}

#[test]
fn a_pattern_that_needs_much_memory_is_refused() {
    for pattern in [".{0,404600}", "(.{1000}){1000}", r"(\\pL{100}){10}"] {
        assert!(compile(&format!(r#"{{"pattern":"^{pattern}$"}}"#)).is_err(), "{pattern}");
    }
    let long = format!(r#"{{"pattern":"{}"}}"#, "a".repeat(PATTERN_BYTES_MAX + 1));
    assert_eq!(compile(&long).err(), Some(Code::SchemaTooCostly));
    let many = (0..=PATTERNS_MAX).map(|n| format!(r#""a{n}":true"#)).collect::<Vec<_>>().join(",");
    assert_eq!(compile(&format!(r#"{{"patternProperties":{{{many}}}}}"#)).err(), Some(Code::SchemaTooCostly));
}

#[test]
fn every_pattern_that_compiles_can_be_asked_about_the_empty_text() {
    for repeat in [1, 10, 100, 1000, 3000, 10_000] {
        if let Ok(schema) = compile(&format!(r#"{{"pattern":"^.{{0,{repeat}}}$"}}"#)) {
            assert!(schema.check_input(b"\"\"").is_ok(), "{repeat}");
        }
    }
}

#[test]
fn deep_large_and_malformed_schemas_are_refused() {
    let deep = format!("{}true{}", r#"{"not":"#.repeat(40), "}".repeat(40));
    assert_eq!(compile(&deep).err(), Some(Code::SchemaTooCostly));
    let large = format!(r#"{{"const":"{}"}}"#, "x".repeat(SCHEMA_BYTES_MAX));
    assert_eq!(compile(&large).err(), Some(Code::SchemaTooCostly));
    for malformed in ["1", "[]", r#"{"type":"nothing"}"#, r#"{"properties":{"a":7}}"#, r#"{"minLength":-1}"#] {
        assert_eq!(compile(malformed).err(), Some(Code::SchemaInvalid), "{malformed}");
    }
}

#[test]
fn deep_large_and_garbage_inputs_are_refused() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for garbage in [deep.as_str(), "", "{", "1.5", "{\"a\":1,\"a\":2}", "\u{feff}{}"] {
        assert_eq!(accepts("true", garbage), Err(Code::InputInvalid));
    }
    let large = vec![b' '; 100 << 20];
    let refusal = compile("true").expect("compiles").check_input(&large).expect_err("100 MB");
    assert_eq!(refusal.code, Code::TooLarge);
}

#[test]
fn a_costly_schema_on_a_large_input_is_refused_before_it_is_tried() {
    let branches = vec![r#"{"const":1}"#; 1000].join(",");
    let schema = format!(r#"{{"items":{{"anyOf":[{branches}]}}}}"#);
    let input = format!("[{}]", vec!["2"; 400_000].join(","));
    assert_eq!(accepts(&schema, &input), Err(Code::TooLarge));
}
