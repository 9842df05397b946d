//! What profiles may say, how they add up, and how mistakes in them are told.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use remand_policy::{Access, Library, Mode, Network, PolicyError, Profile, Severity, Verdict, check, compile};

const HEAD: &str = "description = \"x\"\nextends = \"batch\"\n";

fn with_text<T>(text: &str, use_it: impl FnOnce(&str, &Library) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.toml"), text).unwrap();
    use_it("mine", &Library::with_folder(folder.path()))
}

fn profile(text: &str) -> Profile {
    with_text(&format!("{HEAD}{text}"), Profile::load).unwrap()
}

fn refused(text: &str) -> String {
    with_text(&format!("{HEAD}{text}"), Profile::load).unwrap_err().to_string()
}

fn batch() -> Profile {
    Profile::load("batch", &Library::built_in()).unwrap()
}

#[test]
fn an_unknown_system_call_names_file_line_and_the_nearest_name() {
    let message = refused("[[syscalls.allow]]\nnames = [\n  \"accept\",\n  \"splcie\"]\nwhy = \"x\"\n");
    assert!(message.contains("mine.toml:6: unknown system call \"splcie\" (did you mean \"splice\"?)"), "{message}");
}

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    let message = refused("[limits]\nmemroy = \"1G\"\nwall = \"soon\"\n[process]\nnetwork = \"all\"\n");
    for part in
        ["mine.toml:4: unknown key \"memroy\" (did you mean \"memory\"?)", ":5: \"soon\"", ":7: unknown network"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_empty_reason_is_refused() {
    assert!(refused("[[syscalls.allow]]\nnames = [\"splice\"]\nwhy = \" \"\n").contains("the reason is empty"));
}

#[test]
fn a_call_stated_twice_in_one_file_is_refused() {
    let twice =
        "[[syscalls.allow]]\nnames = [\"splice\"]\nwhy = \"x\"\n[[syscalls.kill]]\nnames = [\"splice\"]\nwhy = \"x\"\n";
    assert!(refused(twice).contains("stated twice"));
}

#[test]
fn what_weakens_the_box_needs_the_word_dangerous_and_is_found_by_check() {
    let part = "names = [\"ptrace\"]\nwhy = \"a debugger\"\n";
    assert!(refused(&format!("[[syscalls.allow]]\n{part}")).contains("dangerous_allow"));
    let text = format!("{HEAD}[[syscalls.dangerous_allow]]\n{part}");
    let findings = with_text(&text, check);
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.message.contains("ptrace is allowed"), "{finding}");
}

#[test]
fn lists_append_and_the_nearer_file_decides_about_a_call() {
    let mine = profile(
        "[[syscalls.allow]]\nnames = [\"splice\"]\nwhy = \"x\"\n[[syscalls.deny]]\nnames = [\"poll\"]\nwhy = \"x\"\n",
    );
    assert_eq!(mine.syscalls.statements["splice"].verdict, Verdict::Allow);
    assert_eq!(mine.syscalls.statements["read"].verdict, Verdict::Allow);
    assert!(matches!(mine.syscalls.statements["poll"].verdict, Verdict::Deny(_)));
    assert_eq!(mine.lineage, ["mine", "batch"]);
}

#[test]
fn values_of_an_argument_rule_are_added_to_those_of_the_ancestor() {
    let rule = "[[syscalls.arguments]]\nname = \"socket\"\narg = 0\none_of = [\"AF_NETLINK\"]\nwhy = \"routes\"\n";
    let mine = profile(rule);
    let families = |p: &Profile| {
        let rule = p.syscalls.arguments.iter().find(|r| r.syscall == "socket" && r.argument == 0).unwrap();
        rule.test.constants().iter().map(|c| c.value).collect::<Vec<_>>()
    };
    assert_eq!(families(&mine), [1, 2, 10, 16]);
    assert_eq!(families(&batch()), [1, 2, 10]);
}

#[test]
fn a_rule_on_an_argument_of_unknown_width_must_say_it() {
    let rule = "[[syscalls.arguments]]\nname = \"lseek\"\narg = 1\none_of = [0]\nwhy = \"x\"\n";
    assert!(refused(rule).contains("width = 32"));
    profile(&format!("{rule}width = 64\n"));
    let rule = "[[syscalls.arguments]]\nname = \"ioctl\"\narg = 1\nnot_one_of = [1]\nwidth = 64\nwhy = \"x\"\n";
    assert!(refused(rule).contains("the kernel reads 32 bits"));
}

#[test]
fn malformed_argument_rules_are_refused() {
    let rule = |rest: &str| refused(&format!("[[syscalls.arguments]]\nname = \"socket\"\nwhy = \"x\"\n{rest}"));
    assert!(rule("arg = 0\n").contains("exactly one of"));
    assert!(rule("arg = 0\none_of = [1]\nforbid_bits = [1]\n").contains("exactly one of"));
    assert!(rule("arg = 0\none_of = []\n").contains("the list is empty"));
    assert!(rule("arg = 6\none_of = [1]\n").contains("arguments 0 to 5"));
    assert!(rule("arg = 0\none_of = [\"AF_UNXI\"]\n").contains("did you mean \"AF_UNIX\""));
    assert!(rule("arg = 0\none_of = [4294967296]\n").contains("wider than the 32 bits"));
}

#[test]
fn a_profile_that_extends_itself_is_refused() {
    let text = "extends = \"mine\"\n";
    let error = with_text(text, Profile::load).unwrap_err();
    assert!(error.to_string().contains("mine.toml:1: the profile extends itself"), "{error}");
}

#[test]
fn a_profile_without_what_every_program_needs_is_refused() {
    let error = with_text("description = \"empty\"\n", Profile::load).unwrap_err();
    assert!(error.to_string().contains("execve must be allowed"), "{error}");
}

#[test]
fn a_parent_given_as_a_path_is_meant_from_its_childs_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base.toml"), format!("{HEAD}[limits]\npids = 7\n")).unwrap();
    let child = folder.path().join("child.toml");
    fs::write(&child, "extends = \"base.toml\"\n").unwrap();
    let profile = Profile::load(child.to_str().unwrap(), &Library::built_in()).unwrap();
    assert_eq!((profile.limits.pids_max, &profile.lineage[..]), (7, &["child", "base", "batch"].map(String::from)[..]));
}

#[test]
fn a_profile_sent_as_a_text_extends_the_library_and_opens_no_file() {
    let load = |text: &str| Profile::load("/x/mine.toml", &Library::built_in().with_text("/x/mine.toml", text));
    assert_eq!(load("extends = \"python\"\n").unwrap().lineage, ["mine", "python", "batch"]);
    for path in ["/etc/hostname", "other.toml", "../other.toml"] {
        let error = load(&format!("extends = \"{path}\"\n")).unwrap_err();
        assert!(matches!(error, PolicyError::PathFromText { .. }), "{error}");
    }
    assert!(matches!(load(&" ".repeat((1 << 20) + 1)), Err(PolicyError::TooLong { .. })));
}

#[test]
fn a_missing_file_is_told_with_its_cause() {
    let error = Profile::load("/nowhere/x.toml", &Library::built_in()).unwrap_err();
    assert!(matches!(&error, PolicyError::Read { path, .. } if path == Path::new("/nowhere/x.toml")));
    let findings = check("/nowhere/x.toml", &Library::built_in());
    assert!(findings[0].message.contains("No such file"), "{findings:?}");
}

#[test]
fn settings_take_the_keys_of_a_policy_file_and_the_short_ones_of_limits() {
    let mut profile = batch();
    for (key, value) in [
        ("limits.memory", "256M"),
        ("wall", "5s"),
        ("cpu-time", "1.5s"),
        ("cpus", "0.5"),
        ("process.network", "loopback"),
        ("environment.GREETING", "hello"),
        ("syscalls.kill", "getrandom"),
    ] {
        profile.set(key, value).unwrap();
    }
    assert_eq!(profile.limits.memory_bytes_max, 256 << 20);
    assert_eq!((profile.limits.wall_ms_max, profile.limits.cpu_time_ms_max), (5000, 1500));
    assert_eq!((profile.limits.cpu_millis_max, profile.process.network), (500, Network::Loopback));
    assert!(profile.environment.iter().any(|v| v.name == "GREETING" && v.value == "hello"));
    assert_eq!(profile.syscalls.statements["getrandom"].verdict, Verdict::Kill);
}

#[test]
fn wrong_settings_are_refused_with_the_nearest_key_and_change_nothing() {
    let before = batch();
    for (key, value, part) in [
        ("memroy", "1G", "did you mean \"memory\""),
        ("limits.memory", "much", "no size"),
        ("limits.memory", "0", "nothing run"),
        ("proces.uid", "1", "did you mean \"process\""),
        ("process.uid", "65535", "65534"),
        ("process.directory", "../x", "absolute"),
        ("process.hostname", "a\nb", "no name"),
        ("environment.A=B", "x", "no variable's name"),
        ("syscalls.allow", "ptrace", "extends \"batch\""),
        ("syscalls.deny", "poll,execve", "cannot be taken away"),
        ("syscalls.kill", "opne", "did you mean \"open\""),
        ("files.x", "y", "says why"),
    ] {
        let mut profile = before.clone();
        let error = profile.set(key, value).unwrap_err().to_string();
        assert!(error.contains(part), "{key}: {error}");
        assert!(profile == before, "{key} changed something");
    }
}

#[test]
fn a_bind_of_the_callers_brings_its_landlock_rule() {
    let mut profile = batch();
    profile.bind(Path::new("/srv/data"), Path::new("/data"), Mode::ReadOnly).unwrap();
    let rule = profile.files.iter().find(|rule| rule.path == Path::new("/data")).unwrap();
    assert_eq!(rule.access, [Access::Read, Access::Execute]);
    assert!(profile.bind(Path::new("/srv"), Path::new("/a/../etc"), Mode::ReadOnly).is_err());
}

#[test]
fn generated_files_carry_the_ids_of_the_process() {
    let mut profile = batch();
    profile.set("process.uid", "1234").unwrap();
    let files = profile.generated_files();
    let (_, passwd) = files.iter().find(|(path, _)| path == Path::new("/etc/passwd")).unwrap();
    assert!(format!("{passwd:?}").contains("user:x:1234:1000:user:/home/user:/bin/sh"), "{passwd:?}");
    assert!(!format!("{files:?}").contains("{hostname}"));
}

#[test]
fn landlock_handles_everything_that_each_kernel_can_refuse() {
    // include/uapi/linux/landlock.h: refer from ABI 2, truncate 3, TCP 4, ioctl 5, scopes 6.
    for (abi, files, net, scoped, bytes) in [
        (2, 0x3fff, 0, 0, 8),
        (3, 0x7fff, 0, 0, 8),
        (4, 0x7fff, 3, 0, 16),
        (5, 0xffff, 3, 0, 16),
        (6, 0xffff, 3, 3, 24),
        (7, 0xffff, 3, 3, 24),
    ] {
        let landlock = compile(&batch(), abi).unwrap().landlock;
        let found = (landlock.handled_access_fs, landlock.handled_access_net, landlock.scoped);
        assert_eq!(found, (files, net, scoped), "ABI {abi}");
        assert_eq!(landlock.attribute_bytes(), bytes);
        assert!(landlock.rules.iter().all(|rule| rule.access & !files == 0 && rule.access != 0));
    }
}

#[test]
fn no_rule_lets_devices_be_made_or_system_folders_be_written() {
    const MAKE_CHAR_OR_BLOCK: u64 = 1 << 6 | 1 << 11;
    const CHANGES: u64 = 1 << 1 | 0x3ff0 | 1 << 14;
    for rule in compile(&batch(), 7).unwrap().landlock.rules {
        assert_eq!(rule.access & MAKE_CHAR_OR_BLOCK, 0, "{}", rule.path.display());
        if ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc"].iter().any(|p| rule.path.starts_with(p)) {
            assert_eq!(rule.access & CHANGES, 0, "{}", rule.path.display());
        }
    }
}

#[test]
fn a_kernel_without_the_landlock_that_is_needed_is_refused() {
    for abi in [-38, 0, 1] {
        assert!(matches!(compile(&batch(), abi), Err(PolicyError::LandlockAbi { found, least: 2 }) if found == abi));
    }
}

#[test]
fn the_policys_digest_changes_with_everything_that_it_says() {
    let first = compile(&batch(), 7).unwrap();
    assert_eq!(first, compile(&batch(), 7).unwrap());
    let mut smaller = batch();
    smaller.set("memory", "256M").unwrap();
    let smaller = compile(&smaller, 7).unwrap();
    assert_ne!(first.policy_hash, smaller.policy_hash);
    assert_eq!(first.confinement_hash, smaller.confinement_hash);
    let mut stricter = batch();
    stricter.set("syscalls.deny", "getrandom").unwrap();
    assert_ne!(first.confinement_hash, compile(&stricter, 7).unwrap().confinement_hash);
}

#[test]
fn a_resolved_profile_survives_its_json_form() {
    let text = serde_json::to_string(&batch()).unwrap();
    assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), batch());
}
