//! Sizes (`512M`), durations (`30s`), processors (`1.5`) and counts, as people write them.

/// The largest number that every reader of a record reads as it is: the domain of canonical documents.
const MOST: u64 = (1 << 53) - 1;

fn too_large(text: &str) -> String {
    format!("{text:?} is larger than anything that can be asked for")
}

/// Bytes: a whole number, with `K`, `M`, `G` or `T` (powers of 1024) and an optional `B` or `iB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write a whole number of bytes, or one with K, M, G or T, like 512M");
    let lower = text.trim().to_ascii_lowercase();
    let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &lower[..lower.len() - unit.len()];
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if digits.is_empty() {
        return Err(wrong());
    }
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes <= MOST).ok_or_else(|| too_large(text))
}

/// Milliseconds: a number with `ms`, `s`, `m` or `h`; without a unit, seconds.
pub(crate) fn milliseconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration; write a number with ms, s, m or h, like 30s");
    let lower = text.trim().to_ascii_lowercase();
    let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let scale = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    thousandths(&lower[..lower.len() - unit.len()], scale).ok_or_else(wrong)
}

/// Thousandths of a processor: `1.5` is 1500.
pub(crate) fn cpu_millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of processors; write one like 1.5");
    thousandths(text.trim(), 1000).filter(|millis| *millis <= 1_000_000).ok_or_else(wrong)
}

/// A whole number.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let count: u64 = text.trim().parse().map_err(|_| format!("{text:?} is no whole number"))?;
    if count <= MOST { Ok(count) } else { Err(too_large(text)) }
}

/// A decimal number of at most three decimals times `scale`, in integers only; nothing where it is malformed or overflows.
fn thousandths(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let thousandth: u64 = format!("{fraction:0<3}").parse().ok()?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    whole.checked_add(thousandth.checked_mul(scale)? / 1000).filter(|value| *value <= MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("0"), Ok(0));
    }

    #[test]
    fn durations_default_to_seconds() {
        assert_eq!(milliseconds("30"), Ok(30_000));
        assert_eq!(milliseconds("1.5s"), Ok(1500));
        assert_eq!(milliseconds("250ms"), Ok(250));
        assert_eq!(milliseconds("2m"), Ok(120_000));
    }

    #[test]
    fn processors_are_thousandths() {
        assert_eq!(cpu_millis("1.5"), Ok(1500));
        assert_eq!(cpu_millis("2"), Ok(2000));
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for bad in ["", "M", "-1", "1.5M", "9999999999G", "1X", "18446744073709551615T"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "s", "-1s", "1d", "1.2345s", "9223372036854775807h"] {
            assert!(milliseconds(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "nan", "-1", "inf", "1e3", "5000000"] {
            assert!(cpu_millis(bad).is_err(), "{bad:?}");
        }
    }
}
