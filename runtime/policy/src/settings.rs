//! Single keys of a policy: the ones of `[limits]` and `[process]`, and `KEY=VALUE` from a command line.

use remand_model::Limits;

use crate::arch;
use crate::error::PolicyError;
use crate::profile::{Errno, Network, Process, Profile, Statement, Variable, Verdict};
use crate::quantity;
use crate::suggest::did_you_mean;
use crate::values;

/// The keys of `[limits]`.
pub(crate) const LIMITS: [&str; 12] =
    ["memory", "swap", "cpus", "cpu_time", "wall", "pids", "output", "disk", "inodes", "nofile", "files_size", "files"];
/// The keys of `[process]`.
pub(crate) const PROCESS: [&str; 8] =
    ["user", "uid", "gid", "hostname", "directory", "umask", "network", "time_namespace"];

pub(crate) fn set(profile: &mut Profile, key: &str, value: &str) -> Result<(), PolicyError> {
    let refuse = |message| PolicyError::Setting { key: key.to_owned(), message };
    match key.split_once('.') {
        None => limit(&mut profile.limits, key, value),
        Some(("limits", rest)) => limit(&mut profile.limits, rest, value),
        Some(("process", rest)) => process(&mut profile.process, rest, value),
        Some(("environment", name)) => variable(profile, name, value),
        Some(("syscalls", rest)) => syscall(profile, rest, value),
        Some((section @ ("files" | "root"), _)) => Err(format!(
            "the list [{section}] is widened by a profile that extends {:?}, where it says why",
            profile.name
        )),
        Some((section, _)) => {
            let sections = ["limits", "process", "environment", "syscalls"];
            Err(format!("unknown section {section:?}{}", did_you_mean(section, sections)))
        }
    }
    .map_err(refuse)
}

/// Below these the shim itself cannot come to its program: it needs memory, and descriptors for the Landlock rules.
const LEAST: [(&str, u64, &str); 6] = [
    ("memory", 1 << 20, "1M"),
    ("nofile", 16, "16"),
    ("cpus", 1, ""),
    ("cpu_time", 1, ""),
    ("wall", 1, ""),
    ("pids", 1, ""),
];

/// Sets one limit; also takes the long spelling of command-line flags.
pub(crate) fn limit(limits: &mut Limits, key: &str, value: &str) -> Result<(), String> {
    let key = key.replace('-', "_");
    let (place, parsed) = match key.as_str() {
        "memory" => (&mut limits.memory_bytes_max, quantity::bytes(value)),
        "swap" => (&mut limits.swap_bytes_max, quantity::bytes(value)),
        "cpus" => (&mut limits.cpu_millis_max, quantity::cpu_millis(value)),
        "cpu_time" => (&mut limits.cpu_time_ms_max, quantity::milliseconds(value)),
        "wall" => (&mut limits.wall_ms_max, quantity::milliseconds(value)),
        "pids" => (&mut limits.pids_max, quantity::count(value)),
        "output" | "output_max" => (&mut limits.output_bytes_max, quantity::bytes(value)),
        "disk" => (&mut limits.disk_bytes_max, quantity::bytes(value)),
        "inodes" => (&mut limits.inodes_max, quantity::count(value)),
        "nofile" => (&mut limits.nofile_max, quantity::count(value)),
        "files_size" => (&mut limits.files_bytes_max, quantity::bytes(value)),
        "files" => (&mut limits.files_max, quantity::count(value)),
        _ => return Err(unknown_key(&key, LIMITS)),
    };
    let value = parsed?;
    if let Some((_, least, as_written)) = LEAST.iter().find(|(limited, least, _)| *limited == key && value < *least) {
        return Err(match least {
            1 => "0 would let nothing run; give a limit above it".to_owned(),
            _ => format!("less than {as_written} would let nothing run; give that much or more"),
        });
    }
    *place = value;
    Ok(())
}

/// Sets one key of `[process]`.
pub(crate) fn process(process: &mut Process, key: &str, value: &str) -> Result<(), String> {
    match key {
        "user" => process.user = name(value)?,
        "uid" => process.uid = identity(value)?,
        "gid" => process.gid = identity(value)?,
        "hostname" => process.hostname = name(value)?,
        "directory" => process.directory = values::path(value)?,
        "umask" => process.umask = umask(value)?,
        "network" => process.network = network(value)?,
        "time_namespace" => process.time_namespace = flag(value)?,
        _ => return Err(unknown_key(key, PROCESS)),
    }
    Ok(())
}

fn unknown_key<const N: usize>(key: &str, known: [&'static str; N]) -> String {
    format!("unknown key {key:?}{}; known here are: {}", did_you_mean(key, known), known.join(", "))
}

fn name(value: &str) -> Result<String, String> {
    let wrong = || format!("{value:?} is no name; use small letters, digits, '.', '_' and '-', at most 63 bytes");
    remand_model::ids::is_name(value).then(|| value.to_owned()).ok_or_else(wrong)
}

fn identity(value: &str) -> Result<u32, String> {
    let wrong = || format!("{value:?} is no user or group id between 0 and 65534");
    value.parse().ok().filter(|id| *id <= 65_534).ok_or_else(wrong)
}

fn umask(value: &str) -> Result<u32, String> {
    let wrong = || format!("{value:?} is no umask; write three or four octal digits, like 0022");
    u32::from_str_radix(value, 8).ok().filter(|mask| *mask <= 0o777).ok_or_else(wrong)
}

fn network(value: &str) -> Result<Network, String> {
    match value {
        "none" => Ok(Network::None),
        "loopback" => Ok(Network::Loopback),
        _ => Err(format!("unknown network {value:?}; write \"none\" or \"loopback\"")),
    }
}

fn flag(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{value:?} is neither true nor false"))
}

fn variable(profile: &mut Profile, name: &str, value: &str) -> Result<(), String> {
    if value.contains('\0') {
        return Err("a variable's value cannot hold a zero byte".to_owned());
    }
    let why = "set by the caller".to_owned();
    put_variable(profile, Variable { name: values::variable(name)?, value: value.to_owned(), why });
    Ok(())
}

/// Adds a variable, in the place of one of the same name.
pub(crate) fn put_variable(profile: &mut Profile, variable: Variable) {
    profile.environment.retain(|known| known.name != variable.name);
    profile.environment.push(variable);
}

fn syscall(profile: &mut Profile, key: &str, value: &str) -> Result<(), String> {
    let verdict = match key {
        "deny" => Verdict::Deny(Errno::EPERM),
        "kill" => Verdict::Kill,
        "allow" | "dangerous_allow" => {
            return Err(format!("a call is allowed by a profile that extends {:?}, where it says why", profile.name));
        }
        _ => return Err(unknown_key(key, ["deny", "kill"])),
    };
    let names: Vec<&str> = value.split(',').map(str::trim).collect();
    names.iter().try_for_each(|name| can_be_taken_away(name))?;
    for name in names {
        let why = "set by the caller".to_owned();
        let statement = Statement { verdict, why, source: "command line".to_owned() };
        profile.syscalls.statements.insert(name.to_owned(), statement);
        profile.syscalls.arguments.retain(|rule| rule.syscall != name);
    }
    Ok(())
}

fn can_be_taken_away(name: &str) -> Result<(), String> {
    known_call(name)?;
    match crate::resolve::ESSENTIAL.contains(&name) {
        true => Err(format!("{name:?} is needed to start any program, and cannot be taken away")),
        false => Ok(()),
    }
}

/// Refuses a name that no kernel of this architecture has.
pub(crate) fn known_call(name: &str) -> Result<(), String> {
    match arch::number(name) {
        Some(_) => Ok(()),
        None => Err(format!("unknown system call {name:?}{}", did_you_mean(name, arch::names()))),
    }
}
