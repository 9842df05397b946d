//! What the configuration says of every cell, as the payload and the kernel see it.
#![forbid(unsafe_code)]

mod kit;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use kit::{Place, place};
use remand_client::{Captured, Client};
use remand_model::outcome::{Cause, ExecutionResult};
use remand_model::run::Volume;

fn configured(place: &Place, cells: &str) -> String {
    let path = place.path().join("remandd.toml");
    std::fs::write(&path, format!("[cells]\n{cells}")).expect("our own folder");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("our own file");
    path.display().to_string()
}

fn run(client: &mut Client, name: &str, script: &str, shown: Option<&Place>) -> (ExecutionResult, String) {
    let mut request = kit::request(name, script);
    let volume =
        |place: &Place| Volume { source: place.path().display().to_string(), target: "/shown".into(), writable: false };
    request.volumes.extend(shown.map(volume));
    let mut captured = Captured::default();
    let result = client.run(&request, None, &mut captured).expect("an answer").result;
    (result, String::from_utf8_lossy(&captured.stdout).into_owned())
}

fn found(result: &ExecutionResult, name: &str) -> Option<String> {
    result.enforced.limits.iter().find(|limit| limit.name == name).map(|limit| limit.found.clone())
}

#[test]
fn every_cell_stays_on_the_processors_that_the_configuration_names() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &configured(&place, "cpuset = \"0\"\n")]);
    let mut client = place.client("local");
    let (result, seen) = run(&mut client, "seen", "grep Cpus_allowed_list /proc/self/status; nproc", None);
    assert_eq!(seen, "Cpus_allowed_list:\t0\n1\n", "{result:?}");
    assert_eq!(found(&result, "cpuset_effective").as_deref(), Some("0"));
}

#[test]
fn processors_that_are_not_there_let_nothing_run_and_the_limit_is_named() {
    let Some(place) = place() else { return };
    let _daemon = place.start_with(&["--config", &configured(&place, "cpuset = \"4095\"\n")]);
    let (result, _) = run(&mut place.client("local"), "none", "true", None);
    let Cause::SetupFailed { reason, .. } = &result.cause else { panic!("{result:?}") };
    assert!(reason.contains("cpuset = 4095"), "{reason}");
}

#[test]
fn a_disk_is_read_no_faster_than_the_configuration_says() {
    const RATE: u64 = 1 << 20;
    let Some(place) = place() else { return };
    let file = place.path().join("large");
    std::fs::write(&file, vec![7; 4 * RATE as usize]).expect("our own folder");
    std::fs::File::open(&file).and_then(|file| file.sync_all()).expect("a disk");
    let number = std::fs::metadata(&file).expect("our own file").dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    if major == 0 {
        eprintln!("skipped: the temporary folder is on no block device");
        return;
    }
    let cells = format!("[[cells.io]]\ndevice = \"{major}:{minor}\"\nread_bytes_per_second = {RATE}\n");
    let shown = place.path().display().to_string();
    let config = configured(&place, &cells);
    let _daemon = place.start_with(&[
        "--config",
        &config,
        "--allow-root",
        "/usr",
        "--allow-root",
        "/etc",
        "--allow-root",
        &shown,
    ]);
    let mut client = place.client("local");
    let start = Instant::now();
    let (result, _) =
        run(&mut client, "read", "dd if=/shown/large of=/dev/null bs=1M count=4 iflag=direct", Some(&place));
    assert_eq!(result.cause, Cause::Exited { code: 0 });
    assert!(result.enforced.limits.iter().any(|limit| limit.name.starts_with("io")), "{result:?}");
    assert!(start.elapsed() > Duration::from_secs(2), "four times a second's bytes came within {:?}", start.elapsed());
}
