//! Where dependencies come from and under which terms: permissive licences only, one registry, no git.

use serde_json::Value;

/// The licences that a dependency may be under; the same list as in `deny.toml`.
pub const PERMISSIVE: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
];

/// The one source that dependencies may come from.
pub const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Dependencies under other terms or from elsewhere.
#[must_use]
pub fn refusals(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().flat_map(|package| [licence_refusal(package), source_refusal(package)]).flatten().collect()
}

fn licence_refusal(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or_default();
    match package["license"].as_str() {
        None => Some(format!("`{name}` names no licence")),
        Some(licence) if !is_permissive(licence) => Some(format!("`{name}` is under `{licence}`")),
        Some(_) => None,
    }
}

fn source_refusal(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or_default();
    match package["source"].as_str() {
        None | Some(REGISTRY) => None,
        Some(source) => Some(format!("`{name}` comes from `{source}`")),
    }
}

/// Whether an SPDX expression can be met with permissive licences alone.
///
/// `OR` (and the old `/`) needs one side, `AND` needs both and binds tighter (SPDX 2.3, annex D).
#[must_use]
pub fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
    any_of(&mut tokens) == Some(true) && tokens.is_empty()
}

/// Whether the alternatives at the end of `tokens` can be met; nothing where they are malformed.
fn any_of(tokens: &mut Vec<&str>) -> Option<bool> {
    let mut met = all_of(tokens)?;
    while tokens.last().is_some_and(|token| token.eq_ignore_ascii_case("or")) {
        tokens.pop();
        met |= all_of(tokens)?;
    }
    Some(met)
}

fn all_of(tokens: &mut Vec<&str>) -> Option<bool> {
    let mut met = one(tokens)?;
    while tokens.last().is_some_and(|token| token.eq_ignore_ascii_case("and")) {
        tokens.pop();
        met &= one(tokens)?;
    }
    Some(met)
}

fn one(tokens: &mut Vec<&str>) -> Option<bool> {
    let licence = tokens.pop()?;
    if licence == "(" {
        let met = any_of(tokens)?;
        return (tokens.pop() == Some(")")).then_some(met);
    }
    if tokens.last() == Some(&"WITH") {
        tokens.pop();
        return Some(PERMISSIVE.contains(&format!("{licence} WITH {}", tokens.pop()?).as_str()));
    }
    Some(PERMISSIVE.contains(&licence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_permissive_side_of_an_or_is_enough() {
        for expression in ["MIT", "MIT OR GPL-3.0", "Apache-2.0/GPL-2.0", "GPL-2.0 OR (MIT AND ISC)"] {
            assert!(is_permissive(expression), "{expression}");
        }
    }

    #[test]
    fn every_side_of_an_and_must_be_permissive() {
        for expression in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND LGPL-2.1", "MIT OR", "(MIT", "", "MIT MIT"] {
            assert!(!is_permissive(expression), "{expression}");
        }
    }

    #[test]
    fn an_exception_is_part_of_the_licence() {
        assert!(is_permissive("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        assert!(!is_permissive("MIT WITH Some-exception"));
    }

    #[test]
    fn a_git_source_and_a_missing_licence_are_refused() {
        let metadata = json!({"packages": [
            {"name": "own", "license": "MIT", "source": null},
            {"name": "gitted", "license": "MIT", "source": "git+https://example.org/x"},
            {"name": "bare", "license": null, "source": REGISTRY},
        ]});
        assert_eq!(refusals(&metadata), ["`gitted` comes from `git+https://example.org/x`", "`bare` names no licence"]);
    }
}
