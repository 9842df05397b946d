//! Tenants with quotas, tokens, and users other than root.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use remand_client::Client;
use remand_model::envelope::Command as Request;
use serde_json::{Value, json};

use super::{Place, text};

/// A user without any right.
pub const NOBODY: u32 = 65_534;

/// The command `remand`, where everybody can run it; nothing where it is not built.
pub fn remand(place: &Place) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_BIN_EXE_remandd")).with_file_name("remand");
    if !built.is_file() {
        eprintln!("skipped: remand is not built: cargo build -p remand-cli");
        return None;
    }
    let own = place.path().join("remand");
    std::fs::copy(&built, &own).expect("our own folder");
    Some(own)
}

/// Writes the daemon's configuration and returns its path.
pub fn configured(place: &Place, text: &str) -> String {
    let path = place.path().join("remandd.toml");
    std::fs::write(&path, text).expect("our own folder");
    path.display().to_string()
}

/// What the command prints as this user, or what it says where it fails.
pub fn ask_as(uid: u32, place: &Place, remand: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(remand);
    command.args(["-o", "json"]).args(arguments).uid(uid).gid(uid).current_dir("/").env_clear();
    command.env("REMAND_SOCKET", place.path().join("run/root.sock")).stdin(Stdio::null());
    let output = command.output().expect("remand starts");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A tenant with a quota in which nothing here runs out.
pub fn tenant(place: &Place, tenant: &str) {
    drop(place.client(tenant));
    let quota = json!({"max_cpu_seconds": 100_000, "max_memory_mb": 100_000, "max_disk_mb": 100_000, "max_network_kb": 0,
        "max_concurrent_tasks": 100, "max_pids": 10_000, "max_output_bytes": 1_u64 << 40, "window_seconds": 3600,
        "weight": 100});
    let quota = json!({"what": "register", "tenant_id": tenant, "quota": quota});
    drop(place.client("local").ask(Request::Quota, &quota).expect("root sets quotas"));
}

/// A token for this user in this tenant, as the daemon answers to its issue.
pub fn issue(place: &Place, tenant: &str, user: &str, rights: &[&str]) -> Value {
    let grant = json!({"tenant_id": tenant, "user_id": user, "rights": rights, "triggers": ["manual"],
        "expires_s": 4_000_000_000_u64, "calls_max": 1000, "cpu_ms_max": 100_000_000});
    let issue = json!({"what": "issue", "grant": grant});
    place.client("local").ask(Request::Token, &issue).expect("root issues tokens")
}

/// The token in a file that only this user can read.
pub fn token_file(place: &Place, name: &str, token: &Value, uid: u32) -> String {
    let path = place.path().join(name);
    std::fs::write(&path, text(token, "token")).expect("our own folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
    chown(&path, Some(uid), Some(uid)).expect("root gives files away");
    path.display().to_string()
}

/// A client that is attached with a token.
pub fn attached(place: &Place, tenant: &str, token: &Value) -> Client {
    let mut client = Client::connect(&place.path().join("run/root.sock")).expect("it listens");
    client.hello().expect("it greets");
    client.attach(&tenant.parse().expect("a name"), Some(&text(token, "token"))).expect("the token is good");
    client
}
