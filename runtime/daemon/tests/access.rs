//! Users other than root, through the real command: needs root, and the programs side by side.

mod kit;

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit::{Place, place, text};
use remand_client::Client;
use remand_model::envelope::Command as Request;
use serde_json::{Value, json};

const NOBODY: u32 = 65_534;

/// The command `remand`, where everybody can run it; nothing where it is not built.
fn remand(place: &Place) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_remandd")).with_file_name("remand");
    if !built.is_file() {
        eprintln!("skipped: remand is not built: cargo build -p remand-cli");
        return None;
    }
    let own = place.path().join("remand");
    std::fs::copy(&built, &own).expect("our own folder");
    Some(own)
}

fn configured(place: &Place, access: &str) -> String {
    let path = place.path().join("remandd.toml");
    std::fs::write(&path, access).expect("our own folder");
    path.display().to_string()
}

/// What the command prints as this user, or what it says where it fails.
fn ask_as(uid: u32, place: &Place, remand: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(remand);
    command.args(["-o", "json"]).args(arguments).uid(uid).gid(uid).current_dir("/").env_clear();
    command.env("REMAND_SOCKET", place.path().join("run/root.sock")).stdin(Stdio::null());
    let output = command.output().expect("remand starts");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A tenant with a quota, and a token of this user's in a file of its own.
fn equipped(place: &Place, tenant: &str, uid: u32) -> String {
    drop(place.client(tenant));
    let mut root: Client = place.client("local");
    let quota = json!({"max_cpu_seconds": 1000, "max_memory_mb": 1024, "max_disk_mb": 1000, "max_network_kb": 0,
        "max_concurrent_tasks": 2, "max_pids": 200, "max_output_bytes": 1_u64 << 30, "window_seconds": 3600, "weight": 1});
    drop(root.ask(Request::Quota, &json!({"what": "register", "tenant_id": tenant, "quota": quota})).expect("a quota"));
    let grant = json!({"tenant_id": tenant, "user_id": format!("uid-{uid}"), "rights": ["exec.run=*"],
        "triggers": ["manual"], "expires_s": 4_000_000_000_u64, "calls_max": 20, "cpu_ms_max": 900_000});
    let issued = root.ask(Request::Token, &json!({"what": "issue", "grant": grant})).expect("issued");
    let path = place.path().join(format!("{tenant}.token"));
    std::fs::write(&path, text(&issued, "token")).expect("our own folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
    chown(&path, Some(uid), Some(uid)).expect("root gives files away");
    path.display().to_string()
}

#[test]
fn an_operator_of_the_configuration_runs_in_its_tenant_and_neither_elsewhere_nor_as_admin() {
    let Some(place) = place() else { return };
    let Some(remand) = remand(&place) else { return };
    let access = "[[access]]\nusers = [65534]\nrole = \"operator\"\ntenants = [\"acme\"]\n";
    let _daemon = place.start_with(&["--config", &configured(&place, access)]);
    let (token, other) = (equipped(&place, "acme", NOBODY), equipped(&place, "globex", NOBODY));
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
    let token = equipped(&place, "acme", NOBODY);
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
