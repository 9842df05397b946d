//! Domains: what they require, and what cannot be reached through them.

use super::*;

fn scope(text: &str) -> Scope {
    text.parse().expect("a scope")
}

fn name(text: &str) -> DomainName {
    text.parse().expect("a name")
}

fn method(role: Role, has_effect: bool, requires: &[&str]) -> Method {
    let triggers = [Trigger::Manual, Trigger::Schedule].into();
    Method { has_effect, role, triggers, requires: requires.iter().map(|text| scope(text)).collect() }
}

fn descriptor(domain: &str, version: u32, methods: &[(&str, Method)]) -> Descriptor {
    Descriptor {
        protocol_version: "1.0".into(),
        domain: name(domain),
        version,
        methods: methods.iter().map(|(name, method)| (name.parse().expect("a name"), method.clone())).collect(),
    }
}

fn registry() -> DomainRegistry {
    let mut registry = DomainRegistry::default();
    let blob =
        descriptor("blob", 1, &[("get", method(Role::Viewer, false, &[])), ("put", method(Role::Operator, true, &[]))]);
    let exec = descriptor("exec", 1, &[("run", method(Role::Operator, true, &["blob.get", "blob.put"]))]);
    let report = descriptor("report", 1, &[("make", method(Role::Operator, true, &["exec.run"]))]);
    for descriptor in [blob, exec, report] {
        assert_eq!(registry.register_domain(descriptor, Role::Admin), Ok(Registered::New));
    }
    registry
}

fn check(registry: &DomainRegistry, called: &str, held: &[&str]) -> Result<(), Code> {
    let holds = |scope: &Scope| held.contains(&scope.to_string().as_str());
    let verdict = registry.check_capability(&scope(called), Role::Operator, Trigger::Manual, holds);
    verdict.map(drop).map_err(|refusal| refusal.code)
}

fn refused(result: Result<Registered, Refusal>) -> Code {
    result.expect_err("should be refused").code
}

#[test]
fn a_caller_must_hold_everything_that_a_method_reaches() {
    let registry = registry();
    assert_eq!(check(&registry, "report.make", &["exec.run", "blob.get", "blob.put"]), Ok(()));
    assert_eq!(check(&registry, "report.make", &["exec.run", "blob.get"]), Err(Code::EscalationBlocked));
    assert_eq!(check(&registry, "report.make", &[]), Err(Code::EscalationBlocked));
    assert_eq!(check(&registry, "blob.get", &[]), Ok(()));
}

#[test]
fn what_does_not_exist_is_refused_by_name() {
    let registry = registry();
    assert_eq!(check(&registry, "nothing.here", &[]), Err(Code::DomainUnknown));
    assert_eq!(check(&registry, "blob.burn", &[]), Err(Code::MethodUnknown));
}

#[test]
fn a_revoked_domain_takes_its_dependents_with_it() {
    let mut registry = registry();
    let dependents = registry.revoke_domain(&name("blob"), Role::Admin).expect("revoked");
    assert_eq!(dependents, [name("exec"), name("report")].into());
    assert_eq!(check(&registry, "blob.get", &[]), Err(Code::DomainRevoked));
    assert_eq!(check(&registry, "report.make", &["exec.run", "blob.get", "blob.put"]), Err(Code::DependencyMissing));
}

#[test]
fn a_domain_cannot_be_registered_before_what_it_requires() {
    let mut registry = registry();
    let orphan = descriptor("orphan", 1, &[("go", method(Role::Admin, true, &["missing.thing"]))]);
    assert_eq!(refused(registry.register_domain(orphan, Role::Admin)), Code::DependencyMissing);
    let circle = descriptor("blob", 2, &[("get", method(Role::Admin, true, &["report.make"]))]);
    assert_ne!(refused(registry.register_domain(circle, Role::Admin)), Code::Internal);
    let own = descriptor("own", 1, &[("go", method(Role::Admin, true, &["own.go"]))]);
    assert_eq!(refused(registry.register_domain(own, Role::Admin)), Code::DomainInvalid);
}

#[test]
fn only_an_administrator_registers_and_revokes() {
    let mut registry = registry();
    let harmless = descriptor("new", 1, &[("look", method(Role::Viewer, false, &[]))]);
    for role in [Role::Viewer, Role::Operator] {
        assert_eq!(refused(registry.register_domain(harmless.clone(), role)), Code::RoleTooLow);
        assert_eq!(registry.revoke_domain(&name("blob"), role).expect_err("refused").code, Code::RoleTooLow);
    }
}

#[test]
fn a_method_that_is_easier_to_call_than_what_it_reaches_is_blocked() {
    let mut registry = registry();
    let low = descriptor("proxy", 1, &[("go", method(Role::Viewer, false, &["blob.put"]))]);
    assert_eq!(refused(registry.register_domain(low, Role::Admin)), Code::EscalationBlocked);
    let mut wide = method(Role::Operator, true, &["blob.put"]);
    wide.triggers.insert(Trigger::Agent);
    let wide = descriptor("proxy", 1, &[("go", wide)]);
    assert_eq!(refused(registry.register_domain(wide, Role::Admin)), Code::EscalationBlocked);
}

#[test]
fn a_later_version_may_tighten_and_not_loosen_unless_the_domain_was_revoked() {
    let mut registry = registry();
    let looser = descriptor("exec", 2, &[("run", method(Role::Operator, true, &["blob.get"]))]);
    assert_eq!(refused(registry.register_domain(looser.clone(), Role::Admin)), Code::EscalationBlocked);
    let tighter = descriptor("exec", 2, &[("run", method(Role::Admin, true, &["blob.get", "blob.put"]))]);
    assert_eq!(registry.register_domain(tighter.clone(), Role::Admin), Ok(Registered::Replaced));
    assert_eq!(registry.register_domain(tighter, Role::Admin), Ok(Registered::Same));
    registry.revoke_domain(&name("exec"), Role::Admin).expect("revoked");
    assert_eq!(refused(registry.register_domain(looser.clone(), Role::Admin)), Code::Conflict);
    assert_eq!(registry.register_domain(Descriptor { version: 3, ..looser }, Role::Admin), Ok(Registered::Replaced));
}

#[test]
fn a_descriptor_that_breaks_a_rule_is_refused() {
    let fine = descriptor("fine", 1, &[("go", method(Role::Operator, true, &[]))]);
    assert!(validate_descriptor(&fine).is_ok());
    let mut silent = method(Role::Viewer, false, &[]);
    silent.triggers.clear();
    for bad in [
        Descriptor { protocol_version: "2.0".into(), ..fine.clone() },
        Descriptor { version: 0, ..fine.clone() },
        Descriptor { methods: BTreeMap::new(), ..fine },
        descriptor("fine", 1, &[("go", silent)]),
        descriptor("fine", 1, &[("go", method(Role::Viewer, true, &[]))]),
    ] {
        assert!(validate_descriptor(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_trigger_that_the_method_does_not_name_is_refused() {
    let registry = registry();
    let verdict = registry.check_capability(&scope("blob.get"), Role::Admin, Trigger::Agent, |_| true);
    assert_eq!(verdict.expect_err("refused").code, Code::TokenTriggerDenied);
}
