//! `remand policy`: works on files and on what is built in, without the daemon.

use remand_model::Limits;
use remand_policy::{Library, Profile, Severity};
use serde_json::json;

use crate::failure::Failure;
use crate::output;
use crate::text::printable;
use crate::verbs::{Format, LibraryArguments, PolicyVerb};

pub(crate) fn policy(format: Format, verb: &PolicyVerb) -> Result<u8, Failure> {
    match verb {
        PolicyVerb::Check { policies, library } => check(format, policies, &of(library)),
        PolicyVerb::Explain { policy, landlock_abi, library } => explain(format, policy, *landlock_abi, &of(library)),
        PolicyVerb::List { library } => list(format, &of(library)),
    }
}

fn of(arguments: &LibraryArguments) -> Library {
    arguments.policies_dir.as_ref().map_or_else(Library::built_in, Library::with_folder)
}

/// 0 where every policy can be used, 1 where one cannot.
fn check(format: Format, policies: &[String], library: &Library) -> Result<u8, Failure> {
    let found: Vec<_> = policies.iter().flat_map(|policy| remand_policy::check(policy, library)).collect();
    let is_bad = found.iter().any(|finding| finding.severity == Severity::Error);
    if format == Format::Table {
        let name = |severity| if severity == Severity::Error { "error" } else { "warning" };
        let line = |text: &str| text.lines().map(|line| format!("{}\n", printable(line))).collect::<String>();
        output::put(&found.iter().map(|f| line(&format!("{}: {f}", name(f.severity)))).collect::<String>())?;
    } else {
        output::print(&json!({"findings": found}), format)?;
    }
    Ok(u8::from(is_bad))
}

fn explain(format: Format, policy: &str, landlock_abi: i32, library: &Library) -> Result<u8, Failure> {
    let refused = |error: remand_policy::PolicyError| Failure::asked(error.to_string());
    let profile = Profile::load(policy, library).map_err(refused)?;
    if format == Format::Table {
        let text = remand_policy::explain(&profile, landlock_abi).map_err(refused)?;
        output::put(&text.lines().map(|line| format!("{}\n", printable(line))).collect::<String>())?;
    } else {
        output::put_json(&remand_policy::explanation(&profile, landlock_abi).map_err(refused)?)?;
    }
    Ok(0)
}

fn list(format: Format, library: &Library) -> Result<u8, Failure> {
    let row = |name: &String| match Profile::load(name, library) {
        Ok(profile) => json!({"description": profile.description, "policy": name}),
        Err(error) => json!({"description": format!("cannot be used: {error}"), "policy": name}),
    };
    let policies: Vec<_> = library.names().iter().map(row).collect();
    output::print(&json!({"policies": policies}), format).map(|()| 0)
}

/// Refuses settings that no policy takes, before anything is asked of the daemon, and returns the limits that follow. A
/// policy that only the daemon knows is tried on the default one, as far as limits go; nothing is known of its limits.
pub(crate) fn try_settings(
    policy: &str,
    text: Option<&str>,
    settings: &[(String, String)],
) -> Result<Option<Limits>, Failure> {
    let refused = |error: remand_policy::PolicyError| Failure::asked(error.to_string());
    let library = text.map_or_else(Library::built_in, |text| Library::built_in().with_text(policy, text));
    let loaded = Profile::load(policy, &library);
    let is_foreign = loaded.is_err();
    let mut profile = match loaded {
        Ok(profile) => profile,
        Err(_) => Profile::load("batch", &Library::built_in()).map_err(refused)?,
    };
    let is_limit = |key: &str| !key.contains('.') || key.starts_with("limits.");
    let mut tried = settings.iter().filter(|(key, _)| !is_foreign || is_limit(key));
    tried.try_for_each(|(key, value)| profile.set(key, value)).map_err(refused)?;
    Ok((!is_foreign).then_some(profile.limits))
}
