//! Real `remand` processes within a load: some end by themselves, some are killed at any moment.

use super::{Count, Dice, Tenant};
use crate::kit::Place;
use remand_model::outcome::ExecutionResult;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A victim has been up to this long when it is killed: before, while and after its program starts.
const LIFE_MAX: Duration = Duration::from_millis(80);

/// Writes a tenant's token where only root can read it.
pub fn token_file(place: &Place, tenant: &Tenant) -> PathBuf {
    let path = place.path().join(format!("{}.token", tenant.name));
    if !path.exists() {
        fs::write(&path, &tenant.token).expect("our own folder");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("our own file");
    }
    path
}

/// Starts one after the other until it is over; every second one is killed. Returns what the others were told, and how
/// many were killed.
pub fn start_and_kill(place: &Place, tenant: &Tenant, seed: u64, over: &AtomicBool) -> (Count, u64) {
    let (mut dice, mut count, mut killed) = (Dice::new(seed), Count::default(), 0);
    let token = token_file(place, tenant);
    let common =
        ["--tenant", tenant.name.as_str(), "--token-file", token.to_str().expect("a plain path"), "run", "--json"];
    while !over.load(Ordering::Relaxed) {
        let is_victim = dice.below(2) == 0;
        // What a killed client ran would go on for ever.
        let script = if is_victim { "(setsid sleep 1000 &); echo ready; exec sleep 1000" } else { "echo done" };
        let mut command = place.command(&[&common[..], &["--", "/bin/sh", "-c", script]].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("remand starts");
        if is_victim {
            std::thread::sleep(dice.pause(LIFE_MAX));
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            killed += 1;
            continue;
        }
        let output = child.wait_with_output().expect("our own child");
        match serde_json::from_slice::<ExecutionResult>(&output.stdout) {
            Ok(result) => count.ended(&tenant.name, &result),
            // Refused, or its daemon was killed.
            Err(_) => count.cut += 1,
        }
    }
    (count, killed)
}
