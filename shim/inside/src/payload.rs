//! The payload's process, from the split to exec: a chain in which each step takes something away for good.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use remand_spec::{Fact, Landlock, Record, SpawnSpec, Stage};
use remand_sys::process::Texts;
use remand_sys::{Errno, Result, c_string, confine, file, mount, process, socket};

use crate::keeper::KEPT_CAPABILITIES;
use crate::prepare::Prepared;
use crate::report::Report;

/// Landlock rights that a rule on a file may have: execute, write, read, truncate, ioctl; see landlock(7).
const FILE_ACCESS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;
const NAMESPACES: [(Fact, &str); 8] = [
    (Fact::UserNamespace, "user"),
    (Fact::PidNamespace, "pid"),
    (Fact::MountNamespace, "mnt"),
    (Fact::NetNamespace, "net"),
    (Fact::IpcNamespace, "ipc"),
    (Fact::UtsNamespace, "uts"),
    (Fact::CgroupNamespace, "cgroup"),
    (Fact::TimeNamespace, "time"),
];

/// Becomes the payload. A failure is one record on `status`; success closes it, because it is close-on-exec.
pub fn become_payload(mut cell: Prepared, status: &OwnedFd) -> ! {
    let (stage, error) = match run(&mut cell, status) {
        Ok(never) => match never {},
        Err(fault) => fault,
    };
    let record = Record::Fault(stage, error.0 as u32).encode();
    process::exit(if file::write_all(status.as_fd(), &record).is_ok() { 1 } else { 2 })
}

fn run(cell: &mut Prepared, status: &OwnedFd) -> std::result::Result<std::convert::Infallible, (Stage, Errno)> {
    let (spec, report) = (&cell.spec, &mut cell.report);
    report.set_behind(cell.behind_ns);
    let at = |stage| move |error| (stage, error);
    let (argv, environment) = texts(spec).map_err(at(Stage::Exec))?;
    streams(spec, cell.terminal.as_ref()).map_err(at(Stage::Streams))?;
    report.done(Stage::Streams);
    limits(spec).map_err(at(Stage::Limits))?;
    facts(report).map_err(at(Stage::Limits))?;
    report.done(Stage::Limits);
    privileges(spec, report).map_err(at(Stage::Privileges))?;
    report.done(Stage::Privileges);
    folder(spec).map_err(at(Stage::Streams))?;
    landlock(&spec.landlock, report).map_err(at(Stage::Landlock))?;
    report.done(Stage::Landlock);
    // From here on the filters allow what they allow: writing this last report and exec are in every profile.
    seccomp(spec, report, status).map_err(at(Stage::Seccomp))?;
    report.done(Stage::Seccomp);
    report.note(Record::Ready);
    report.flush().map_err(at(Stage::Exec))?;
    Err((Stage::Exec, execute(spec, &argv, &environment)))
}

fn texts(spec: &SpawnSpec) -> Result<(Texts, Texts)> {
    Ok((Texts::new(&spec.argv)?, Texts::new(&spec.environment)?))
}

/// A session of its own, default signals, its terminal if it has one, and no descriptor but the three streams after exec.
fn streams(spec: &SpawnSpec, terminal: Option<&OwnedFd>) -> Result<()> {
    process::new_session()?;
    process::reset_signals()?;
    process::set_umask(spec.umask);
    if let Some(terminal) = terminal {
        process::take_terminal(terminal.as_fd())?;
        (0..3).try_for_each(|number| file::duplicate_to(terminal.as_fd(), number, true))?;
    }
    file::cloexec_from(3)
}

fn folder(spec: &SpawnSpec) -> Result<()> {
    mount::change_folder(&c_string(spec.folder.as_slice())?)
}

fn limits(spec: &SpawnSpec) -> Result<()> {
    // The kernel's choice under memory pressure is the payload, never the keeper, which must live to tell.
    let score = file::open(c"/proc/self/oom_score_adj", libc::O_WRONLY, 0)?;
    file::write_all(score.as_fd(), b"1000")?;
    spec.rlimits.iter().try_for_each(|(resource, value)| process::set_limit(*resource, *value))
}

fn facts(report: &mut Report) -> Result<()> {
    for (fact, name) in NAMESPACES {
        match std::fs::metadata(format!("/proc/self/ns/{name}")) {
            Ok(found) => report.fact(fact, found.ino()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && fact == Fact::TimeNamespace => {}
            Err(error) => return Err(error.into()),
        }
    }
    report.fact(Fact::LimitNofile, process::limit(libc::RLIMIT_NOFILE)?);
    report.fact(Fact::LimitCore, process::limit(libc::RLIMIT_CORE)?);
    Ok(())
}

/// Everything that root inside could still do, gone; then asked again.
fn privileges(spec: &SpawnSpec, report: &mut Report) -> Result<()> {
    confine::new_keyring()?;
    confine::unbound_capabilities(KEPT_CAPABILITIES)?;
    confine::lock_securebits()?;
    confine::become_user(spec.user, spec.group)?;
    confine::set_capabilities(0)?;
    confine::no_new_privileges()?;
    let left = confine::capabilities()? | confine::bounding_set()?;
    report.fact(Fact::Capabilities, left);
    report.fact(Fact::Securebits, confine::securebits()?);
    if left == 0 { Ok(()) } else { Err(Errno(libc::EPERM)) }
}

/// Every right that the ruleset handles is denied but where a rule gives it.
fn landlock(wanted: &Landlock, report: &mut Report) -> Result<()> {
    let abi = confine::landlock_abi()?;
    report.fact(Fact::LandlockAbi, u64::from(abi));
    if abi < wanted.abi {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    let ruleset = confine::ruleset(wanted.fs, wanted.net, wanted.scoped)?;
    let mut count = 0;
    for rule in &wanted.rules {
        let path = match file::open(&c_string(rule.path.as_slice())?, libc::O_PATH, 0) {
            Err(Errno(libc::ENOENT)) => continue,
            other => other?,
        };
        let folder = file::stat(path.as_fd())?.mode & libc::S_IFMT == libc::S_IFDIR;
        let access = if folder { rule.access } else { rule.access & FILE_ACCESS };
        confine::allow_beneath(ruleset.as_fd(), path.as_fd(), access)?;
        count += 1;
    }
    report.fact(Fact::LandlockRules, count);
    confine::restrict_self(ruleset.as_fd())
}

/// In the order of the spec; the descriptor of the filter that asks goes to the keeper, who is to be asked.
fn seccomp(spec: &SpawnSpec, report: &mut Report, status: &OwnedFd) -> Result<()> {
    report.fact(Fact::SeccompFilters, spec.filters.len() as u64);
    for filter in &spec.filters {
        if let Some(listener) = confine::load_filter(&filter.program, filter.notify)? {
            socket::send(status.as_fd(), &Record::Listener.encode(), &[listener.as_fd()])?;
        }
    }
    Ok(())
}

/// execve(2), with the search of execvp(3) in the payload's own `PATH`.
fn execute(spec: &SpawnSpec, argv: &Texts, environment: &Texts) -> Errno {
    let program = spec.argv[0].as_slice();
    let attempt = |path: &CStr| process::execute(path, argv, environment);
    if program.contains(&b'/') {
        return c_string(program).map_or_else(|error| error, |path| attempt(&path));
    }
    let path = spec.environment.iter().find_map(|text| text.strip_prefix(b"PATH=")).unwrap_or(b"/usr/bin:/bin");
    let mut found = Errno(libc::ENOENT);
    for folder in path.split(|byte| *byte == b':') {
        let error = c_string([folder, b"/", program].concat()).map_or_else(|error| error, |path| attempt(&path));
        if !matches!(error, Errno(libc::ENOENT | libc::ENOTDIR)) && found.0 == libc::ENOENT {
            found = error;
        }
    }
    found
}
