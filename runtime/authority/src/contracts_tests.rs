//! Contracts: what is registered, what is forged, and whose they are.

use std::collections::BTreeMap;

use remand_model::contract::Draft;
use remand_model::role::Role;

use super::*;

/// A registry with the domains that these tests name.
pub fn domains() -> DomainRegistry {
    let mut registry = DomainRegistry::default();
    for (domain, method) in [("exec", "run"), ("state", "get")] {
        let text = format!(
            r#"{{"protocol_version":"1.0","domain":"{domain}","version":1,"methods":{{
                "{method}":{{"has_effect":true,"role":"operator","triggers":["manual"]}}}}}}"#
        );
        let descriptor = serde_json::from_str(&text).expect("a descriptor");
        registry.register_domain(descriptor, Role::Admin).expect("registered");
    }
    registry
}

pub fn contract(seed: u64) -> Contract {
    let toml = format!(
        r#"
        contract_id = "count"
        execution_seed = {seed}
        capability_requirements = ["exec.run"]
        input_schema = {{ type = "object", required = ["text"] }}
        output_schema = {{ type = "integer" }}
        [program]
        argv = ["/bin/true"]
        profile = "batch"
        [limits]
        cpu_time_ms_max = 1000
        "#
    );
    Draft::from_toml(&toml).expect("a draft").seal(Digest::of(b"policy"), &BTreeMap::new()).expect("a contract")
}

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}

fn code<T>(result: Result<T, Refusal>) -> Code {
    result.map(drop).expect_err("should be refused").code
}

#[test]
fn a_registered_contract_checks_its_input_before_and_its_output_after() {
    let mut registry = ContractRegistry::default();
    let (validated, registered) =
        registry.register_contract(&tenant("acme"), contract(1), None, &domains()).expect("registered");
    assert_eq!(registered, Registered::New);
    assert!(validated.check_input(br#"{"text":"x"}"#).is_ok() && validated.check_output(b"7").is_ok());
    assert_eq!(code(validated.check_input(b"{}")), Code::InputInvalid);
    assert_eq!(code(validated.check_output(br#""7""#)), Code::OutputInvalid);
}

#[test]
fn a_changed_contract_is_a_new_version_and_the_old_one_stays_under_its_hash() {
    let mut registry = ContractRegistry::default();
    let id = contract(1).contract_id;
    let mut register =
        |contract| registry.register_contract(&tenant("acme"), contract, None, &domains()).expect("registered");
    let (first, _) = register(contract(1));
    assert_eq!(register(contract(1)).1, Registered::Same);
    let (second, registered) = register(contract(2));
    assert_eq!(registered, Registered::Replaced);
    assert_ne!(first.hash(), second.hash());
    assert_eq!(registry.get_contract_hash(&tenant("acme"), &id).expect("known"), second.hash());
    let old = registry.get(&tenant("acme"), &id, Some(first.hash())).expect("still there");
    assert_eq!(old.contract(), &contract(1));
}

#[test]
fn a_hash_that_was_never_registered_is_a_forgery() {
    let mut registry = ContractRegistry::default();
    let wrong = Some(Digest::of(b"wrong"));
    let refused = registry.register_contract(&tenant("acme"), contract(1), wrong, &domains());
    assert_eq!(code(refused), Code::ContractForged);
    registry.register_contract(&tenant("acme"), contract(1), None, &domains()).map(drop).expect("registered");
    assert_eq!(code(registry.get(&tenant("acme"), &contract(1).contract_id, wrong)), Code::ContractForged);
}

#[test]
fn a_stored_contract_with_one_changed_byte_does_not_come_back() {
    let bytes = canonical::to_bytes(&contract(1).to_value().expect("a value"));
    let hash = contract(1).hash().expect("a hash");
    let mut registry = ContractRegistry::default();
    let changed = String::from_utf8(bytes.clone()).expect("text").replace("/bin/true", "/bin/bash");
    let refused = registry.restore(&tenant("acme"), changed.as_bytes(), hash, &domains());
    assert_eq!(code(refused), Code::ContractForged);
    registry.restore(&tenant("acme"), &bytes, hash, &domains()).expect("restored");
}

#[test]
fn no_tenant_sees_anothers_contract() {
    let mut registry = ContractRegistry::default();
    registry.register_contract(&tenant("acme"), contract(1), None, &domains()).map(drop).expect("registered");
    let refused = registry.get(&tenant("other"), &contract(1).contract_id, None);
    assert_eq!(code(refused), Code::ContractUnknown);
    assert_eq!(registry.list(&tenant("other")).count(), 0);
    assert_eq!(registry.list(&tenant("acme")).count(), 1);
}

#[test]
fn a_contract_that_requires_what_does_not_exist_is_refused() {
    let mut asking = contract(1);
    asking.capability_requirements.extend(["nothing.here".parse::<remand_model::grant::Scope>().expect("a scope")]);
    assert_eq!(code(validate_contract(asking, &domains())), Code::DomainUnknown);
}

#[test]
fn a_contract_whose_schema_does_not_end_is_refused_by_the_name_of_the_schema() {
    let mut circling = contract(1);
    circling.output_schema = canonical::parse(br##"{"$ref":"#"}"##).expect("canonical");
    let refusal = validate_contract(circling, &domains()).expect_err("refused");
    assert_eq!(refusal.code, Code::SchemaInvalid);
    assert!(refusal.detail.starts_with("output_schema"));
}
