//! A policy told to people: each permission with its reason, each limit, the sizes of the filters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use remand_model::Limits;
use serde::Serialize;

use crate::compile::{Compiled, compile};
use crate::error::PolicyError;
use crate::profile::{ArgumentRule, GeneratedContent, Mode, Network, Profile, Test, Verdict};

/// A profile beside what it compiles to: the form for programs.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// The compiled filters' sizes and digests, and the Landlock masks.
    pub compiled: Compiled,
}

/// The form for programs, for a kernel whose Landlock has this ABI.
///
/// # Errors
/// As [`compile`].
pub fn explanation(profile: &Profile, landlock_abi: i32) -> Result<Explanation<'_>, PolicyError> {
    Ok(Explanation { profile, compiled: compile(profile, landlock_abi)? })
}

/// The form for people, for a kernel whose Landlock has this ABI.
///
/// # Errors
/// As [`compile`].
pub fn explain(profile: &Profile, landlock_abi: i32) -> Result<String, PolicyError> {
    let compiled = compile(profile, landlock_abi)?;
    let mut out = String::new();
    write_all(&mut out, profile, &compiled).expect("a string takes all that is written");
    Ok(out)
}

fn write_all(out: &mut String, profile: &Profile, compiled: &Compiled) -> std::fmt::Result {
    writeln!(out, "policy {}: {}", profile.lineage.join(" extends "), profile.description)?;
    writeln!(out, "  digest {}", compiled.policy_hash)?;
    syscalls(out, profile)?;
    filters(out, compiled)?;
    root(out, profile)?;
    files(out, profile, compiled)?;
    limits(out, &profile.limits)?;
    process(out, profile)
}

fn syscalls(out: &mut String, profile: &Profile) -> std::fmt::Result {
    let mut groups: BTreeMap<(String, &str), Vec<&str>> = BTreeMap::new();
    for (name, statement) in &profile.syscalls.statements {
        let verdict = match statement.verdict {
            Verdict::Allow => "1 allowed".to_owned(),
            Verdict::Deny(errno) => format!("2 refused with {errno}"),
            Verdict::Kill => "3 ends the execution".to_owned(),
        };
        groups.entry((verdict, &statement.why)).or_default().push(name);
    }
    writeln!(
        out,
        "\nsystem calls ({} allowed; one that is not named here does not exist: ENOSYS)",
        profile.syscalls.allowed().count()
    )?;
    for ((verdict, why), names) in groups {
        writeln!(out, "  {}: {}\n      {}", &verdict[2..], why, names.join(" "))?;
    }
    profile.syscalls.arguments.iter().try_for_each(|rule| argument(out, rule))
}

fn argument(out: &mut String, rule: &ArgumentRule) -> std::fmt::Result {
    let names: Vec<_> = rule.test.constants().iter().map(|constant| constant.name.as_str()).collect();
    let test = match rule.test {
        Test::OneOf(_) => "must be one of",
        Test::NotOneOf(_) => "must be none of",
        Test::ForbidBits(_) => "must have none of the bits",
    };
    let ArgumentRule { syscall, argument, why, errno, .. } = rule;
    writeln!(out, "  {syscall}, argument {argument} {test} (else {errno}): {why}\n      {}", names.join(" "))
}

fn filters(out: &mut String, compiled: &Compiled) -> std::fmt::Result {
    writeln!(out, "\nfilters, in the order of loading ({} instructions)", compiled.instructions())?;
    compiled.filters.iter().try_for_each(|filter| {
        let purpose = format!("{:?}", filter.purpose).to_lowercase();
        writeln!(out, "  {purpose:10} {:4} instructions  sha256 {}", filter.instructions, filter.sha256)
    })
}

fn root(out: &mut String, profile: &Profile) -> std::fmt::Result {
    writeln!(out, "\nroot")?;
    for bind in &profile.root.binds {
        let mode = if bind.mode == Mode::ReadOnly { "read-only" } else { "WRITABLE" };
        let optional = if bind.optional { ", if the host has it" } else { "" };
        writeln!(
            out,
            "  {} from the host's {}, {mode}{optional}: {}",
            bind.target.display(),
            bind.source.display(),
            bind.why
        )?;
    }
    profile.root.generated.iter().try_for_each(|file| match &file.content {
        GeneratedContent::Text(_) => writeln!(out, "  {} generated: {}", file.path.display(), file.why),
        GeneratedContent::Link(to) => writeln!(out, "  {} links to {to}: {}", file.path.display(), file.why),
    })
}

fn files(out: &mut String, profile: &Profile, compiled: &Compiled) -> std::fmt::Result {
    let landlock = &compiled.landlock;
    writeln!(out, "\nfiles (Landlock ABI {}; refused unless allowed here)", landlock.abi)?;
    writeln!(
        out,
        "  handled: files {:#x}, network {:#x}, scopes {:#x}",
        landlock.handled_access_fs, landlock.handled_access_net, landlock.scoped
    )?;
    profile.files.iter().try_for_each(|rule| {
        let words: Vec<_> = rule.access.iter().map(|access| access.word()).collect();
        writeln!(out, "  {} {}: {}", rule.path.display(), words.join("+"), rule.why)
    })
}

fn limits(out: &mut String, limits: &Limits) -> std::fmt::Result {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let seconds = |ms: u64| format!("{} s", ms as f64 / 1000.0);
    writeln!(out, "\nlimits, each for the job as a whole")?;
    for (name, value) in [
        ("memory", mib(limits.memory_bytes_max)),
        ("swap", mib(limits.swap_bytes_max)),
        ("cpus", format!("{}", limits.cpu_millis_max as f64 / 1000.0)),
        ("cpu_time", seconds(limits.cpu_time_ms_max)),
        ("wall", seconds(limits.wall_ms_max)),
        ("pids", limits.pids_max.to_string()),
        ("output", mib(limits.output_bytes_max)),
        ("disk", mib(limits.disk_bytes_max)),
        ("inodes", limits.inodes_max.to_string()),
        ("nofile", format!("{} in each process", limits.nofile_max)),
        ("files_size", mib(limits.files_bytes_max)),
        ("files", limits.files_max.to_string()),
    ] {
        writeln!(out, "  {name:10} {value}")?;
    }
    Ok(())
}

fn process(out: &mut String, profile: &Profile) -> std::fmt::Result {
    let process = &profile.process;
    let network = match process.network {
        Network::None => "none",
        Network::Loopback => "loopback of its own",
    };
    writeln!(out, "\nprocess")?;
    writeln!(out, "  user {} ({}:{}), host name {}", process.user, process.uid, process.gid, process.hostname)?;
    writeln!(out, "  starts in {}, umask {:04o}", process.directory.display(), process.umask)?;
    writeln!(out, "  network {network}; /proc shows its processes only; devices null zero full random urandom tty")?;
    profile.environment.iter().try_for_each(|v| writeln!(out, "  {}={:?}: {}", v.name, v.value, v.why))
}
