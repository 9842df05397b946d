//! What flags become, and which are refused before anything starts.

use clap::Parser;
use remand_model::run::RunRequest;

use super::*;
use crate::arguments::Arguments;
use crate::run::Prepared;
use crate::verbs::Verb;

fn try_run(flags: &[&str]) -> Result<RunRequest, String> {
    let line = [&["remand", "run"], flags, &["--", "prog", "--json", "-v"]].concat();
    let parsed = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
    let Verb::Run(arguments) = parsed.verb else { return Err("another command".into()) };
    Prepared::of(&arguments.what).map(|prepared| prepared.request).map_err(|failure| failure.line())
}

fn refused(flags: &[&str]) -> String {
    try_run(flags).expect_err("refused")
}

#[test]
fn what_follows_the_dashes_is_the_programs() {
    assert_eq!(try_run(&[]).expect("a request").argv, ["prog", "--json", "-v"]);
}

#[test]
fn limits_become_settings_behind_those_that_were_given() {
    let flags = ["-m", "64M", "--cpu-time", "2s", "-p", "limits.pids=9", "--pids", "8", "--output-max=1M"];
    let settings = try_run(&flags).expect("a request").settings;
    let expected = [("limits.pids", "9"), ("pids", "8"), ("cpu_time", "2s"), ("memory", "64M"), ("output", "1M")];
    let mut found: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(found.remove(0), expected[0]);
    found.sort_unstable();
    let mut rest = expected[1..].to_vec();
    rest.sort_unstable();
    assert_eq!(found, rest);
}

#[test]
fn impossible_limits_are_refused_with_the_way_to_write_them() {
    for flags in [
        ["--memory", "0"],
        ["--memory", "lots"],
        ["--memory", "99999999T"],
        ["--cpus", "-1"],
        ["--cpus", "0"],
        ["--pids", "1.5"],
        ["--wall", "soon"],
        ["--wall", "0s"],
        ["--disk", "1X"],
        ["--nofile", "0"],
        ["-p", "limits.memroy=1M"],
        ["-p", "no equals sign"],
        ["--seed", "9007199254740992"],
    ] {
        let line = refused(&flags);
        assert!(line.len() > 20, "{flags:?}: {line}");
    }
}

#[test]
fn a_mistyped_key_is_answered_with_the_key_that_was_meant() {
    let line = refused(&["-p", "limits.memroy=1M"]);
    assert!(line.contains("memory"), "{line}");
}

#[test]
fn a_volume_is_read_only_unless_it_says_otherwise_and_its_source_is_resolved() {
    let dir = tempfile::tempdir().expect("a folder");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/usr", &link).expect("linked");
    let flag = |end: &str| format!("{}:/data/.//x{end}", link.display());
    for (end, writable) in [("", false), (":ro", false), (":rw", true)] {
        let volumes = try_run(&["-v", &flag(end)]).expect("a request").volumes;
        let expected = Volume { source: "/usr".into(), target: "/data/x".into(), writable };
        assert_eq!(volumes, [expected]);
    }
}

#[test]
fn bad_volumes_are_refused() {
    for bad in
        ["", "/usr", ":/x", "/usr:", "/usr:x", "/usr:/x:rx", "/usr:/x:ro:ro", "/usr:/../x", "/usr:/", "/no/such:/x"]
    {
        assert!(try_run(&["-v", bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn bad_variables_and_folders_are_refused() {
    for flags in [["-e", "=x"], ["-e", "1A=x"], ["-e", "A B=x"], ["-e", "NOT_SET_ANYWHERE_HERE"], ["-w", "relative"]] {
        assert!(try_run(&flags).is_err(), "{flags:?}");
    }
    let request = try_run(&["-e", "A=b=c", "-w", "/data/./x/"]).expect("a request");
    assert_eq!(request.environment.get("A").map(String::as_str), Some("b=c"));
    assert_eq!(request.folder.as_deref(), Some("/data/x"));
}

#[test]
fn a_policy_file_is_read_and_its_text_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("mine.toml");
    let text = "extends = [\"batch\"]\ndescription = \"a test\"\n";
    std::fs::write(&path, text).expect("written");
    let request = try_run(&["--policy", &path.display().to_string()]).expect("a request");
    assert_eq!((request.policy.as_str(), request.policy_text.as_deref()), ("mine", Some(text)));
    assert!(refused(&["--policy", "/no/such.toml"]).contains("/no/such.toml"));
}

#[test]
fn roots_that_are_none_are_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let file = file.path().display().to_string();
    assert!(refused(&["--rootfs", "/no/such"]).contains("/no/such"));
    assert!(refused(&["--rootfs", &file]).contains("--image"));
    assert!(refused(&["--image", "/usr"]).contains("--rootfs"));
    assert!(refused(&["--rootfs", "/usr", "--image", &file]).contains("cannot be used with"));
}

#[test]
fn two_requests_have_two_names_unless_one_is_given() {
    assert_ne!(try_run(&[]).expect("one").request_id, try_run(&[]).expect("two").request_id);
    assert_eq!(try_run(&["--request-id", "mine"]).expect("one").request_id.as_str(), "mine");
    assert!(try_run(&["--request-id", "../x"]).is_err());
}
