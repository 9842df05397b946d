//! Adds one file to the profile that its ancestors made, and collects every mistake in it.

use std::collections::BTreeSet;

use toml::Spanned;

use super::{check_allow, line};
use crate::arch;
use crate::document::{ArgumentPart, BindPart, Document, FilePart, GeneratedPart, SyscallsPart, VariablePart, Word};
use crate::error::Finding;
use crate::library::Source;
use crate::profile::{
    ArgumentRule, Bind, Constant, Errno, FileRule, Generated, GeneratedContent, Mode, Profile, Statement, Test,
    Variable, Verdict, Width,
};
use crate::settings;
use crate::values;

/// One file's mistakes, with the place that is being read.
struct Reading<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Reading<'_> {
    fn error<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        let line = line(self.source, at);
        self.findings.push(Finding::error(&self.source.file, Some(line), message));
    }

    /// The value, or nothing and a finding.
    fn take<T, U>(&mut self, at: &Spanned<U>, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.error(at, message)).ok()
    }

    fn why(&mut self, why: &Spanned<String>) -> String {
        if why.get_ref().trim().is_empty() {
            self.error(why, "the reason is empty; say why in one sentence");
        }
        why.get_ref().trim().to_owned()
    }
}

pub(super) fn apply(profile: &mut Profile, source: &Source, document: Document) -> Vec<Finding> {
    let mut reading = Reading { source, findings: Vec::new() };
    if let Some(description) = document.description {
        profile.description = description;
    }
    syscalls(profile, &mut reading, document.syscalls);
    document.root.binds.into_iter().for_each(|part| bind(profile, &mut reading, part));
    document.root.generated.into_iter().for_each(|part| generated(profile, &mut reading, part));
    document.files.into_iter().for_each(|part| file(profile, &mut reading, part));
    document.environment.into_iter().for_each(|part| variable(profile, &mut reading, part));
    for (key, value) in &document.limits {
        let done = settings::limit(&mut profile.limits, key.get_ref(), &value.get_ref().text());
        reading.take(key, done);
    }
    for (key, value) in &document.process {
        let done = settings::process(&mut profile.process, key.get_ref(), &value.get_ref().text());
        reading.take(key, done);
    }
    reading.findings
}

fn syscalls(profile: &mut Profile, reading: &mut Reading, part: SyscallsPart) {
    let mut seen = BTreeSet::new();
    for (parts, dangerous) in [(part.allow, false), (part.dangerous_allow, true)] {
        for part in parts {
            let why = reading.why(&part.why);
            for name in &part.names {
                reading.take(name, check_allow(name.get_ref(), dangerous));
                state(profile, reading, &mut seen, name, Verdict::Allow, &why);
            }
        }
    }
    for part in part.deny {
        let errno =
            part.errno.as_ref().map_or(Some(Errno::EPERM), |word| reading.take(word, values::errno(word.get_ref())));
        let why = reading.why(&part.why);
        for name in &part.names {
            state(profile, reading, &mut seen, name, Verdict::Deny(errno.unwrap_or(Errno::EPERM)), &why);
        }
    }
    for part in part.kill {
        let why = reading.why(&part.why);
        for name in &part.names {
            state(profile, reading, &mut seen, name, Verdict::Kill, &why);
        }
    }
    part.arguments.into_iter().for_each(|part| argument(profile, reading, part));
}

fn state(
    profile: &mut Profile,
    reading: &mut Reading,
    seen: &mut BTreeSet<String>,
    name: &Spanned<String>,
    verdict: Verdict,
    why: &str,
) {
    if reading.take(name, settings::known_call(name.get_ref())).is_none() {
        return;
    }
    if !seen.insert(name.get_ref().clone()) {
        reading.error(name, format!("{:?} is stated twice in this file; keep one", name.get_ref()));
        return;
    }
    let statement = Statement { verdict, why: why.to_owned(), source: reading.source.name.clone() };
    profile.syscalls.statements.insert(name.get_ref().clone(), statement);
}

fn argument(profile: &mut Profile, reading: &mut Reading, part: ArgumentPart) {
    let name = part.name.get_ref().clone();
    let why = reading.why(&part.why);
    if reading.take(&part.name, settings::known_call(&name)).is_none() {
        return;
    }
    if !profile.syscalls.allowed().any(|allowed| allowed == name) {
        reading.error(&part.name, format!("{name:?} is not allowed, so that its arguments need no rule"));
    }
    let errno =
        part.errno.as_ref().map_or(Some(Errno::EPERM), |word| reading.take(word, values::errno(word.get_ref())));
    let (width, test) = (width(reading, &part), test(reading, &part));
    let (Some(errno), Some(width), Some(test)) = (errno, width, test) else { return };
    if width == Width::Half && test.constants().iter().any(|c| c.value > u64::from(u32::MAX)) {
        reading.error(&part.name, "a value is wider than the 32 bits that the kernel reads");
    }
    let rule = ArgumentRule { syscall: name, argument: *part.arg.get_ref(), width, test, errno, why };
    add_rule(&mut profile.syscalls.arguments, rule);
}

fn width(reading: &mut Reading, part: &ArgumentPart) -> Option<Width> {
    if *part.arg.get_ref() > 5 {
        reading.error(&part.arg, "a system call has the arguments 0 to 5");
        return None;
    }
    let known = arch::argument_bits(part.name.get_ref(), *part.arg.get_ref());
    let said = part.width.as_ref().map(|width| *width.get_ref());
    match (known, said) {
        (Some(known), Some(said)) if known != said => {
            reading.error(&part.name, format!("the kernel reads {known} bits of this argument; leave `width` out"));
            None
        }
        (Some(32), _) | (None, Some(32)) => Some(Width::Half),
        (Some(64), _) | (None, Some(64)) => Some(Width::Full),
        _ => {
            reading
                .error(&part.name, "say `width = 32` or `width = 64`: how many bits the kernel reads of this argument");
            None
        }
    }
}

fn test(reading: &mut Reading, part: &ArgumentPart) -> Option<Test> {
    let (make, list): (fn(Vec<Constant>) -> Test, _) = match (&part.one_of, &part.not_one_of, &part.forbid_bits) {
        (Some(list), None, None) => (Test::OneOf, list),
        (None, Some(list), None) => (Test::NotOneOf, list),
        (None, None, Some(list)) => (Test::ForbidBits, list),
        _ => {
            reading.error(&part.name, "give exactly one of `one_of`, `not_one_of` and `forbid_bits`");
            return None;
        }
    };
    if list.is_empty() {
        reading.error(&part.name, "the list is empty");
    }
    let read = |word: &Spanned<Word>| reading.take(word, values::constant(word.get_ref()));
    let constants: Vec<Constant> = list.iter().filter_map(read).collect();
    (constants.len() == list.len() && !list.is_empty()).then(|| make(constants))
}

/// A rule of the same call, argument and kind gets the values added; any other stands beside the ones before.
fn add_rule(rules: &mut Vec<ArgumentRule>, rule: ArgumentRule) {
    let same = |known: &&mut ArgumentRule| (&known.syscall, known.argument) == (&rule.syscall, rule.argument);
    for known in rules.iter_mut().filter(same) {
        let (into, from) = match (&mut known.test, &rule.test) {
            (Test::OneOf(into), Test::OneOf(from))
            | (Test::NotOneOf(into), Test::NotOneOf(from))
            | (Test::ForbidBits(into), Test::ForbidBits(from)) => (into, from),
            _ => continue,
        };
        let new: Vec<_> = from.iter().filter(|c| !into.contains(c)).cloned().collect();
        into.extend(new);
        known.why = format!("{}; {}", known.why, rule.why);
        known.errno = rule.errno;
        return;
    }
    rules.push(rule);
}

fn bind(profile: &mut Profile, reading: &mut Reading, part: BindPart) {
    let why = reading.why(&part.why);
    let target = part.target.as_ref().unwrap_or(&part.source);
    let mode = part.mode.as_ref().map_or(Some(Mode::ReadOnly), |word| reading.take(word, values::mode(word.get_ref())));
    let source = reading.take(&part.source, values::path(part.source.get_ref()));
    let target = reading.take(target, values::path(target.get_ref()));
    let (Some(mode), Some(source), Some(target)) = (mode, source, target) else { return };
    profile.root.binds.retain(|known| known.target != target);
    profile.root.binds.push(Bind { source, target, mode, optional: part.optional, why });
}

fn generated(profile: &mut Profile, reading: &mut Reading, part: GeneratedPart) {
    let why = reading.why(&part.why);
    let path = reading.take(&part.path, values::path(part.path.get_ref()));
    let content = match (part.content, part.link) {
        (Some(text), None) => GeneratedContent::Text(text),
        (None, Some(target)) => GeneratedContent::Link(target),
        _ => return reading.error(&part.path, "give exactly one of `content` and `link`"),
    };
    let Some(path) = path else { return };
    profile.root.generated.retain(|known| known.path != path);
    profile.root.generated.push(Generated { path, content, why });
}

fn file(profile: &mut Profile, reading: &mut Reading, part: FilePart) {
    let why = reading.why(&part.why);
    let path = reading.take(&part.path, values::path(part.path.get_ref()));
    let access: Vec<_> =
        part.access.iter().filter_map(|word| reading.take(word, values::access(word.get_ref()))).collect();
    let Some(path) = path else { return };
    match profile.files.iter_mut().find(|known| known.path == path) {
        Some(known) => {
            known.access.extend(access.into_iter().filter(|word| !known.access.contains(word)).collect::<Vec<_>>());
            known.optional &= part.optional;
            known.why = format!("{}; {why}", known.why);
        }
        None => profile.files.push(FileRule { path, access, optional: part.optional, why }),
    }
}

fn variable(profile: &mut Profile, reading: &mut Reading, part: VariablePart) {
    let why = reading.why(&part.why);
    let name = reading.take(&part.name, values::variable(part.name.get_ref()));
    if part.value.contains('\0') {
        reading.error(&part.name, "a variable's value cannot hold a zero byte");
    }
    let Some(name) = name else { return };
    settings::put_variable(profile, Variable { name, value: part.value, why });
}
