//! How an execution ended, in a line for people: what ended it, and which flag would have let it go on.

use remand_model::Limits;
use remand_model::outcome::{Cause, ExecutionResult};

/// The highest exit code that is surely the program's own.
const OWN_CODE_MAX: u8 = 123;

/// Lines for standard error; none after a plain end that met no limit. `limits` are those that were asked for, where they
/// are known.
pub(crate) fn lines(result: &ExecutionResult, limits: Option<&Limits>) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(ending(result, limits));
    let met = result.limits_hit.iter().filter(|name| !is_about(&result.cause, name));
    let met: Vec<String> =
        met.map(|name| flag(name).map_or_else(|| name.clone(), |flag| format!("{name} ({flag})"))).collect();
    if !met.is_empty() {
        lines.push(format!("limits met on the way: {}", met.join(", ")));
    }
    if result.exit_code != 0 {
        lines.extend(denials(result));
    }
    let omitted = result.outputs.omitted.iter().map(|(reason, count)| format!("{count} ({reason})"));
    let omitted: Vec<String> = omitted.collect();
    if !omitted.is_empty() {
        lines.push(format!("output files left out: {}", omitted.join(", ")));
    }
    lines
}

/// What was refused before a failure may be its reason; a program that came to a good end did without. What merely does not
/// exist is seldom missed: those are named on one line.
fn denials(result: &ExecutionResult) -> impl Iterator<Item = String> {
    const SHOWN: usize = 5;
    let (absent, refused): (Vec<_>, Vec<_>) = result.denials.iter().partition(|denial| denial.errno == "ENOSYS");
    let more = refused.len().saturating_sub(SHOWN);
    let told = refused
        .into_iter()
        .take(SHOWN)
        .map(|denial| format!("refused {} with {}: {}; {}", denial.syscall, denial.errno, denial.why, denial.next));
    let names: Vec<_> = absent.iter().take(SHOWN).map(|denial| denial.syscall.as_str()).collect();
    let others = match absent.len().saturating_sub(SHOWN) {
        0 => String::new(),
        count => format!(" and {count} others"),
    };
    let absent = format!(
        "system calls that its policy does not have: {}{others}; --json says what allows them",
        names.join(", ")
    );
    told.collect::<Vec<_>>()
        .into_iter()
        .chain((more > 0).then(|| format!("refused {more} more system calls; --json lists all")))
        .chain((!names.is_empty()).then_some(absent))
}

fn ending(result: &ExecutionResult, limits: Option<&Limits>) -> Option<String> {
    let what = match &result.cause {
        Cause::Exited { code } if *code <= OWN_CODE_MAX => return None,
        Cause::Exited { code } => format!("exited: the program's own exit code is {code}"),
        Cause::Signaled { signal } => format!("signaled: signal {signal} ended the program"),
        Cause::WallTimeout => limit(limits, "wall_timeout: the wall time was over", "wall"),
        Cause::CpuTimeout => limit(limits, "cpu_timeout: the processor time was used up", "cpu_time"),
        Cause::Oom => limit(limits, "oom: the memory was used up", "memory"),
        Cause::OutputLimit => limit(limits, "output_limit: it printed more than allowed", "output"),
        Cause::PidsLimit => limit(limits, "pids_limit: it wanted more processes than allowed", "pids"),
        Cause::DiskQuota if result.limits_hit.iter().any(|name| name == "disk") => {
            limit(limits, "disk_quota: its writable places were full", "disk")
        }
        Cause::DiskQuota => limit(limits, "disk_quota: its writable places could take no more files", "inodes"),
        Cause::Seccomp { syscall } => {
            return Some(hinted(
                result,
                &format!("seccomp: the policy ends executions that call {syscall}"),
                "choose a policy that allows it with --policy",
            ));
        }
        Cause::Cancelled => "cancelled: it was ended from outside".into(),
        Cause::Refused { reason } => return Some(hinted(result, &format!("refused: {reason}"), "")),
        Cause::SetupFailed { stage, reason, .. } => {
            let what = format!("setup_failed at {stage}: {reason}");
            return Some(hinted(result, &what, "see that the program exists inside, and run remand doctor"));
        }
        Cause::Lost { reason } => return Some(hinted(result, &format!("lost: {reason}"), "run it again")),
    };
    Some(what)
}

fn hinted(result: &ExecutionResult, what: &str, otherwise: &str) -> String {
    let next = result.hint.as_deref().unwrap_or(otherwise);
    if next.is_empty() { what.to_owned() } else { format!("{what}; {next}") }
}

/// What ended it, how large the limit was, and the flag that raises it.
fn limit(limits: Option<&Limits>, what: &str, name: &str) -> String {
    let size = limits.and_then(|limits| size(limits, name)).map(|size| format!(" (limit {size})")).unwrap_or_default();
    let next = flag(name).map(|flag| format!("; raise it with {flag}")).unwrap_or_default();
    format!("{what}{size}{next}")
}

/// The limit as a person would write it on the command line.
fn size(limits: &Limits, name: &str) -> Option<String> {
    Some(match name {
        "memory" => bytes(limits.memory_bytes_max),
        "output" => bytes(limits.output_bytes_max),
        "disk" => bytes(limits.disk_bytes_max),
        "wall" => time(limits.wall_ms_max),
        "cpu_time" => time(limits.cpu_time_ms_max),
        "pids" => limits.pids_max.to_string(),
        "inodes" => limits.inodes_max.to_string(),
        _ => return None,
    })
}

fn bytes(count: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let fits = units.iter().find(|(shift, _)| count > 0 && count.trailing_zeros() >= *shift);
    fits.map_or_else(|| count.to_string(), |(shift, unit)| format!("{}{unit}", count >> shift))
}

fn time(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// The flag that raises the limit of this name, in any of its spellings.
fn flag(name: &str) -> Option<&'static str> {
    const FLAGS: [(&str, &str); 12] = [
        ("memory", "--memory"),
        ("swap", "-p limits.swap=SIZE"),
        ("cpu_time", "--cpu-time"),
        ("cpu", "--cpus"),
        ("wall", "--wall"),
        ("pids", "--pids"),
        ("output", "--output-max"),
        ("disk", "--disk"),
        ("inodes", "--inodes"),
        ("nofile", "--nofile"),
        ("files_bytes", "-p limits.files_size=SIZE"),
        ("files", "-p limits.files=N"),
    ];
    FLAGS.iter().find(|(stem, _)| name.starts_with(stem)).map(|(_, flag)| *flag)
}

fn is_about(cause: &Cause, limit: &str) -> bool {
    let stem = match cause {
        Cause::WallTimeout => "wall",
        Cause::CpuTimeout => "cpu_time",
        Cause::Oom => "memory",
        Cause::OutputLimit => "output",
        Cause::PidsLimit => "pids",
        Cause::DiskQuota => return ["disk", "inodes", "disk_quota"].contains(&limit),
        _ => return false,
    };
    limit.starts_with(stem) || limit == cause.name()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
