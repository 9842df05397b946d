//! Values as people read them: times, durations and sizes by the unit that their key names, digests shortened in lists.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::text::printable;

/// The largest integer of a canonical document: what has it as its limit has none.
const UNLIMITED: u64 = (1 << 53) - 1;
/// Counts of seconds from here on are points in time: 2001. Of microseconds, a million times as many.
const FIRST_TIME_S: u64 = 1_000_000_000;
/// Columns that come first, in this order; the others follow by name.
const FIRST: [&str; 16] = [
    "execution_id",
    "event_id",
    "tenant_id",
    "token_id",
    "contract_id",
    "plan_id",
    "node_id",
    "domain",
    "key",
    "wall_clock_us",
    "event_type",
    "state",
    "cause",
    "exit_code",
    "subject",
    "ended_us",
];

/// The keys of a table, those first that a reader looks for first.
pub(crate) fn ordered<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut keys: Vec<_> = keys.collect();
    let place = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    keys.sort_by_key(|key| (place(key), *key));
    keys.dedup();
    keys
}

/// A column's name: the key without its unit, which the values carry.
pub(crate) fn heading(key: &str) -> String {
    let plain = ["_us", "_ms", "_s", "_bytes"].iter().find_map(|unit| key.strip_suffix(unit)).unwrap_or(key);
    printable(plain).replace('_', " ").to_uppercase()
}

/// One cell of a list.
pub(crate) fn cell(key: &str, value: &Value) -> String {
    const DIGEST: usize = 64;
    match value {
        Value::String(text) if text.len() == DIGEST && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{}…", &text[..12])
        }
        Value::Object(members) => {
            let words = members.iter().map(|(name, value)| format!("{}={}", printable(name), cell(name, value)));
            words.collect::<Vec<_>>().join(" ")
        }
        other => whole(key, other),
    }
}

/// Every value of a document with the path that leads to it.
pub(crate) fn facts(members: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for key in ordered(members.keys()) {
        walk(&printable(key), key, &members[key], &mut found);
    }
    found
}

fn walk(path: &str, key: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(name, value)| {
                walk(&format!("{path}.{}", printable(name)), unit(key, name), value, into);
            });
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(at, item)| match named(item) {
                Some((name, rest)) => into.push((format!("{path}.{name}"), rest)),
                None => walk(&format!("{path}.{at}"), key, item, into),
            });
        }
        other => into.push((path.to_owned(), whole(key, other))),
    }
}

/// An item that says what it is called stands on one line.
fn named(item: &Value) -> Option<(String, String)> {
    let mut members = item.as_object()?.clone();
    let name = members.remove("name")?;
    let words = members.iter().map(|(key, value)| format!("{}={}", printable(key), whole(key, value)));
    Some((printable(name.as_str()?), words.collect::<Vec<_>>().join(" ")))
}

/// A member has the unit of its own name, else that of the object which it is in: `timing_us.exec`.
fn unit<'a>(outer: &'a str, name: &'a str) -> &'a str {
    if outer.ends_with("_us") && !name.contains('_') { outer } else { name }
}

fn whole(key: &str, value: &Value) -> String {
    match (value, value.as_u64()) {
        (Value::Null, _) => "-".into(),
        (Value::String(text), _) => printable(text),
        (Value::Array(items), _) if items.is_empty() => "-".into(),
        (Value::Array(items), _) => items.iter().map(|item| whole(key, item)).collect::<Vec<_>>().join(", "),
        (Value::Object(members), _) if members.is_empty() => "-".into(),
        (_, Some(number)) => counted(key, number),
        (other, _) => printable(&other.to_string()),
    }
}

fn counted(key: &str, number: u64) -> String {
    if number >= UNLIMITED {
        return "unlimited".into();
    }
    let units = ["us", "ms", "s", "seconds", "bytes", "mb"];
    match key.rsplit('_').find(|word| units.contains(word)) {
        Some("us") if number >= FIRST_TIME_S * 1_000_000 => time(number),
        Some("us") => duration(number),
        Some("ms") => number.checked_mul(1000).map_or_else(|| number.to_string(), duration),
        Some("s") if number >= FIRST_TIME_S => number.checked_mul(1_000_000).map_or("never".into(), time),
        Some("s" | "seconds") => format!("{number} s"),
        Some("bytes") => size(number),
        Some("mb") => number.checked_mul(1 << 20).map_or_else(|| number.to_string(), size),
        _ => number.to_string(),
    }
}

/// RFC 3339, in UTC. What lies behind the last year of that calendar never comes.
fn time(us: u64) -> String {
    const LAST_US: u64 = 253_402_207_200_000_000;
    let within = i64::try_from(us).ok().filter(|_| us < LAST_US);
    let stamp = within.and_then(|us| Timestamp::from_microsecond(us).ok());
    stamp.map_or_else(|| "never".into(), |stamp| format!("{stamp:.3}"))
}

fn duration(us: u64) -> String {
    match us {
        0 => "0 s".into(),
        1..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{} ms", tenths(us, 1000)),
        _ => format!("{} s", tenths(us, 1_000_000)),
    }
}

fn size(bytes: u64) -> String {
    let unit = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| bytes >> shift > 0);
    unit.map_or_else(|| format!("{bytes} B"), |(shift, name)| format!("{} {name}", tenths(bytes, 1 << shift)))
}

/// `count` in `unit`s with one digit behind the point, and none where it is zero.
fn tenths(count: u64, unit: u64) -> String {
    let (whole, tenth) = (count / unit, count % unit * 10 / unit);
    let mut text = whole.to_string();
    if tenth > 0 {
        write!(text, ".{tenth}").unwrap_or(());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_number_is_read_by_the_unit_that_its_key_names() {
        for (key, number, expected) in [
            ("wall_clock_us", 1_795_276_574_193_008_u64, "2026-11-21T15:56:14.193Z"),
            ("wall_us", 68_006, "68 ms"),
            ("cpu_us", 999, "999 µs"),
            ("cpu_time_ms", 1500, "1.5 s"),
            ("expires_s", 253_402_300_799, "never"),
            ("window_seconds", 86_400, "86400 s"),
            ("max_cpu_seconds", 1 << 40, "1099511627776 s"),
            ("scratch_bytes_free", 1 << 20, "1 MiB"),
            ("memory_peak_bytes", 917_504, "896 KiB"),
            ("bytes", 3, "3 B"),
            ("max_memory_mb", 1536, "1.5 GiB"),
            ("calls_max", UNLIMITED, "unlimited"),
            ("event_id", 7, "7"),
            ("expires_s", u64::MAX, "unlimited"),
            ("cpu_ms", u64::MAX >> 12, "4503599627370.4 s"),
        ] {
            assert_eq!(counted(key, number), expected, "{key} {number}");
        }
    }

    #[test]
    fn what_readers_look_for_comes_first_and_its_unit_is_no_part_of_a_heading() {
        let row = json!({"cause": 1, "wall_clock_us": 2, "a": 3, "event_id": 4});
        let keys = ordered(row.as_object().expect("an object").keys());
        assert_eq!(keys, ["event_id", "wall_clock_us", "cause", "a"]);
        assert_eq!(heading("wall_clock_us"), "WALL CLOCK");
    }

    #[test]
    fn every_value_of_a_document_has_its_path() {
        let document = json!({"usage": {"wall_us": 1200, "none": {}}, "list": [{"n": 1}], "words": ["a", "b"],
            "timing_us": {"exec": 5}, "limits": [{"name": "pids", "found": 1}], "empty": []});
        let found = facts(document.as_object().expect("an object"));
        let found: Vec<_> = found.iter().map(|(path, value)| format!("{path} {value}")).collect();
        let expected = [
            "empty -",
            "limits.pids found=1",
            "list.0.n 1",
            "timing_us.exec 5 µs",
            "usage.none -",
            "usage.wall_us 1.2 ms",
            "words a, b",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_digest_is_short_in_a_list_and_whole_by_itself() {
        let digest = json!("0123456789abcdef".repeat(4));
        assert_eq!(cell("root_hash", &digest), "0123456789ab…");
        assert_eq!(whole("root_hash", &digest).len(), 64);
    }
}
