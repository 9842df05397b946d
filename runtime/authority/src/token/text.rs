//! What a block says, in one line: `key=value;…` in fixed order. No value can hold `;`, `,`, a quote or a backslash.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use remand_model::PROTOCOL_VERSION;
use remand_model::grant::{EXPIRY_MAX_S, Grant, Narrowing, RIGHTS_MAX};
use remand_model::quota::VALUE_MAX;
use remand_model::refusal::{Code, Refusal};

/// The line of the first block.
pub(super) fn grant(grant: &Grant) -> String {
    format!(
        "v={PROTOCOL_VERSION};token={};tenant={};user={};epoch={};{}",
        grant.token_id,
        grant.tenant_id,
        grant.user_id,
        grant.epoch,
        narrowing(&Narrowing {
            rights: Some(grant.rights.clone()),
            triggers: Some(grant.triggers.clone()),
            expires_s: Some(grant.expires_s),
            calls_max: Some(grant.calls_max),
            cpu_ms_max: Some(grant.cpu_ms_max),
        })
    )
}

/// The line of a further block.
pub(super) fn narrowing(narrowing: &Narrowing) -> String {
    let fields = [
        ("rights", narrowing.rights.as_ref().map(join)),
        ("triggers", narrowing.triggers.as_ref().map(|set| join(set.iter().map(|trigger| trigger.name())))),
        ("expires", narrowing.expires_s.as_ref().map(u64::to_string)),
        ("calls", narrowing.calls_max.as_ref().map(u64::to_string)),
        ("cpu_ms", narrowing.cpu_ms_max.as_ref().map(u64::to_string)),
    ];
    let stated = fields.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}")));
    stated.collect::<Vec<_>>().join(";")
}

fn join<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// Reads the line of the first block.
pub(super) fn read_grant(line: &str) -> Option<Grant> {
    let mut fields = line.splitn(6, ';');
    let mut take = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix('=');
    let protocol_version = take("v")?.to_owned();
    let token_id = take("token")?.parse().ok()?;
    let tenant_id = take("tenant")?.parse().ok()?;
    let user_id = take("user")?.parse().ok()?;
    let epoch = number(take("epoch")?)?;
    let rest = read_narrowing(fields.next()?)?;
    let grant = Grant {
        protocol_version,
        token_id,
        tenant_id,
        user_id,
        rights: rest.rights?,
        triggers: rest.triggers?,
        expires_s: rest.expires_s?,
        calls_max: rest.calls_max?,
        cpu_ms_max: rest.cpu_ms_max?,
        epoch,
    };
    grant.check().is_ok().then_some(grant)
}

/// Reads the line of a further block.
pub(super) fn read_narrowing(line: &str) -> Option<Narrowing> {
    let mut narrowing = Narrowing::default();
    for field in line.split(';') {
        match field.split_once('=')? {
            ("rights", value) => narrowing.rights = Some(set(value)?),
            ("triggers", value) => narrowing.triggers = Some(set(value)?),
            ("expires", value) => narrowing.expires_s = Some(number(value)?),
            ("calls", value) => narrowing.calls_max = Some(number(value)?),
            ("cpu_ms", value) => narrowing.cpu_ms_max = Some(number(value)?),
            _ => return None,
        }
    }
    check_narrowing(&narrowing).is_ok().then_some(narrowing)
}

/// Refuses what a block could not carry, or what would say nothing.
pub(super) fn check_narrowing(narrowing: &Narrowing) -> Result<(), Refusal> {
    let wrong = |what: &str| Err(Refusal::new(Code::GrantInvalid, what));
    if narrowing.rights.as_ref().is_some_and(|rights| !(1..=RIGHTS_MAX).contains(&rights.len())) {
        return wrong("a delegation that names rights names 1 to 32");
    }
    if narrowing.triggers.as_ref().is_some_and(BTreeSet::is_empty) {
        return wrong("a delegation that names triggers names at least one");
    }
    let numbers = [narrowing.calls_max, narrowing.cpu_ms_max];
    if numbers.iter().flatten().any(|number| *number > VALUE_MAX)
        || narrowing.expires_s.is_some_and(|at| at > EXPIRY_MAX_S)
    {
        return wrong("a number of the delegation is too large");
    }
    Ok(())
}

fn set<T: FromStr + Ord>(text: &str) -> Option<BTreeSet<T>> {
    text.split(',').map(|item| item.parse().ok()).collect()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= VALUE_MAX)
}
