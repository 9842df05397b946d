//! What a contract is, and what it is not.

use std::collections::BTreeMap;

use super::*;

const TOML: &str = r#"
contract_id = "word-count"
execution_seed = 7
capability_requirements = ["exec.run"]
input_schema = { type = "object" }
output_schema = { type = "object" }

[program]
argv = ["/usr/bin/python3", "/app/main.py"]
profile = "python"
files = [{ path = "/app/main.py", source = "main.py" }]
env = { LANG = "C.UTF-8" }

[limits]
wall_ms_max = 5000
"#;

fn sealed_with(policy: &[u8], program: &[u8]) -> Contract {
    let files = BTreeMap::from([("/app/main.py".to_owned(), Digest::of(program))]);
    Draft::from_toml(TOML).expect("a draft").seal(Digest::of(policy), &files).expect("a contract")
}

fn contract() -> Contract {
    sealed_with(b"policy", b"program")
}

#[test]
fn a_contract_reads_the_same_from_its_own_json() {
    let contract = contract();
    let bytes = canonical::to_bytes(&contract.to_value().expect("a value"));
    assert_eq!(Contract::from_json(&bytes).expect("reads"), contract);
    assert_eq!(contract.limits.wall_ms_max, 5000);
    assert_eq!(contract.limits.pids_max, Limits::default().pids_max);
}

#[test]
fn the_same_contract_has_the_same_hash_from_toml_and_json() {
    let from_json = Contract::from_json(&canonical::to_bytes(&contract().to_value().expect("a value"))).expect("reads");
    assert_eq!(from_json.hash().expect("hash"), contract().hash().expect("hash"));
}

#[test]
fn a_changed_byte_in_program_or_policy_is_another_contract() {
    let hash = |contract: Contract| contract.hash().expect("hash");
    assert_ne!(hash(sealed_with(b"policy", b"program")), hash(sealed_with(b"policy", b"Program")));
    assert_ne!(hash(sealed_with(b"policy", b"program")), hash(sealed_with(b"Policy", b"program")));
}

#[test]
fn every_single_field_changes_the_hash() {
    let base = contract();
    let changes: [fn(&mut Contract); 9] = [
        |c| c.execution_seed += 1,
        |c| c.contract_id = "other".parse().expect("a name"),
        |c| c.program.argv.push("x".into()),
        |c| c.program.env.extend([("A".to_owned(), "b".to_owned())]),
        |c| c.program.files[0].executable = true,
        |c| c.limits.wall_ms_max += 1,
        |c| c.input_schema = Value::Bool(true),
        |c| c.output_schema = Value::Bool(true),
        |c| c.capability_requirements.extend(["state.get".parse::<Scope>().expect("a scope")]),
    ];
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        assert_ne!(other.hash().expect("hash"), base.hash().expect("hash"));
    }
}

#[test]
fn a_draft_that_states_another_digest_than_measured_is_forged() {
    let toml = TOML.replace("profile =", &format!("policy_hash = \"{}\"\nprofile =", Digest::of(b"other")));
    let files = BTreeMap::from([("/app/main.py".to_owned(), Digest::of(b""))]);
    let refusal = Draft::from_toml(&toml).expect("a draft").seal(Digest::of(b"policy"), &files).expect_err("forged");
    assert_eq!(refusal.code, Code::ContractForged);
}

#[test]
fn a_file_without_bytes_or_digest_is_refused() {
    let refusal =
        Draft::from_toml(TOML).expect("a draft").seal(Digest::of(b""), &BTreeMap::new()).expect_err("unsealed");
    assert_eq!(refusal.code, Code::ContractInvalid);
    assert!(refusal.detail.contains("/app/main.py"));
}

#[test]
fn what_leaves_its_bounds_is_refused() {
    let changes: [fn(&mut Contract); 14] = [
        |c| c.protocol_version = "2.0".into(),
        |c| c.execution_seed = 1 << 53,
        |c| c.program.argv.clear(),
        |c| c.program.argv[0].clear(),
        |c| c.program.argv.push("a\0b".into()),
        |c| c.program.argv = vec!["x".into(); ARGUMENTS_MAX + 1],
        |c| c.program.argv.push("x".repeat(TEXT_BYTES_MAX)),
        |c| c.program.profile = "../root".into(),
        |c| c.program.files[0].path = "/app/../etc/passwd".into(),
        |c| c.program.files[0].path = "app".into(),
        |c| c.program.files.push(c.program.files[0].clone()),
        |c| c.program.env.extend([("A=B".to_owned(), String::new())]),
        |c| c.capability_requirements.clear(),
        |c| c.limits.wall_ms_max = 0,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut contract = contract();
        change(&mut contract);
        assert!(contract.check().is_err(), "change {number} was accepted");
    }
}

#[test]
fn unknown_fields_fractions_dates_and_large_files_are_refused() {
    let text = String::from_utf8(canonical::to_bytes(&contract().to_value().expect("a value"))).expect("text");
    let unknown = text.replacen('{', r#"{"surprise":1,"#, 1);
    assert_eq!(Contract::from_json(unknown.as_bytes()).expect_err("unknown").code, Code::ContractInvalid);
    let fraction = text.replace("\"execution_seed\":7", "\"execution_seed\":7.0");
    assert_eq!(Contract::from_json(fraction.as_bytes()).expect_err("fraction").code, Code::ContractInvalid);
    assert!(Draft::from_toml("execution_seed = 1.5").is_err());
    assert_eq!(Contract::from_json(&vec![b' '; CONTRACT_BYTES_MAX + 1]).expect_err("large").code, Code::TooLarge);
}
