//! Users other than root, through the real command: needs root, and the programs side by side.

mod kit;

use kit::people::{NOBODY, ask_as, configured, issue, remand, tenant, token_file};
use kit::{Place, place};

/// A tenant, and a token for nobody in a file of its own.
fn equipped(place: &Place, name: &str) -> String {
    tenant(place, name);
    token_file(place, &format!("{name}.token"), &issue(place, name, "uid-65534", &["exec.run=*"]), NOBODY)
}

#[test]
fn an_operator_of_the_configuration_runs_in_its_tenant_and_neither_elsewhere_nor_as_admin() {
    let Some(place) = place() else { return };
    let Some(remand) = remand(&place) else { return };
    let access = "[[access]]\nusers = [65534]\nrole = \"operator\"\ntenants = [\"acme\"]\n";
    let _daemon = place.start_with(&["--config", &configured(&place, access)]);
    let (token, other) = (equipped(&place, "acme"), equipped(&place, "globex"));
    let ask = |arguments: &[&str]| ask_as(NOBODY, &place, &remand, arguments);

    ask(&["--tenant", "acme", "--token-file", &token, "run", "--", "true"]).expect("its tenant, its token");
    let refused = ask(&["--tenant", "acme", "run", "--", "true"]).expect_err("a role is no token");
    assert!(refused.contains("token_missing"), "{refused}");
    let refused =
        ask(&["--tenant", "globex", "--token-file", &other, "run", "--", "true"]).expect_err("not its tenant");
    assert!(refused.contains("tenant_unknown"), "{refused}");
    let refused = ask(&["--tenant", "local", "run", "--", "true"]).expect_err("root's tenant");
    assert!(refused.contains("tenant_unknown"), "{refused}");
    for admins in [&["tenant", "create", "third"][..], &["tenant", "list"], &["token", "revoke", "tok_00"]] {
        let refused = ask(&[&["--tenant", "acme"], admins].concat()).expect_err("an admin's");
        assert!(refused.contains("role_too_low"), "{admins:?}: {refused}");
    }
}

#[test]
fn a_viewer_of_the_configuration_looks_and_changes_nothing() {
    let Some(place) = place() else { return };
    let Some(remand) = remand(&place) else { return };
    let access = "[[access]]\ngroups = [65534]\nrole = \"viewer\"\n";
    let _daemon = place.start_with(&["--config", &configured(&place, access)]);
    let token = equipped(&place, "acme");
    let own = ["--tenant", "acme", "--token-file", &token];
    let ask = |arguments: &[&str]| ask_as(NOBODY, &place, &remand, &[&own[..], arguments].concat());
    ask(&["ps"]).expect("a look");
    ask(&["audit", "log"]).expect("a look");
    for effect in [&["run", "--", "true"][..], &["submit", "--", "true"], &["state", "set", "a", "b"]] {
        let refused = ask(effect).expect_err("an effect");
        assert!(refused.contains("role_too_low"), "{effect:?}: {refused}");
    }
}

#[test]
fn whom_the_configuration_does_not_name_is_turned_away_before_it_is_heard() {
    let Some(place) = place() else { return };
    let Some(remand) = remand(&place) else { return };
    let access = "[[access]]\nusers = [65533]\nrole = \"admin\"\n";
    let _daemon = place.start_with(&["--config", &configured(&place, access)]);
    let refused = ask_as(NOBODY, &place, &remand, &["ps"]).expect_err("nobody named it");
    assert!(refused.contains("role_not_granted"), "{refused}");
    ask_as(65_533, &place, &remand, &["tenant", "create", "acme"]).expect("an admin who is not root");
}

#[test]
fn without_a_configuration_the_socket_is_roots_alone() {
    let Some(place) = place() else { return };
    let Some(remand) = remand(&place) else { return };
    let _daemon = place.start();
    let refused = ask_as(NOBODY, &place, &remand, &["ps"]).expect_err("the socket is root's");
    assert!(refused.to_lowercase().contains("permission"), "{refused}");
}

#[test]
fn a_configuration_with_a_mistake_is_not_served_and_says_where_it_is() {
    let Some(place) = place() else { return };
    let config = configured(&place, "[scheduler]\n\n[[acces]]\nusers = [1]\n");
    let said = place.refused_with(&["--config", &config]);
    assert!(said.contains("remandd.toml:3") && said.contains("did you mean \"access\""), "{said}");
}
