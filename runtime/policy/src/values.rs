//! The words inside a profile's values: errors, constants, access rights, paths.

use std::path::{Component, Path, PathBuf};

use crate::constants;
use crate::document::Word;
use crate::profile::{Access, Constant, Errno, Mode};
use crate::suggest::did_you_mean;

pub(crate) fn errno(word: &str) -> Result<Errno, String> {
    let unknown = || format!("unknown error {word:?}{}", did_you_mean(word, Errno::names()));
    Errno::named(word).ok_or_else(unknown)
}

pub(crate) fn mode(word: &str) -> Result<Mode, String> {
    match word {
        "ro" => Ok(Mode::ReadOnly),
        "rw" => Ok(Mode::ReadWrite),
        _ => Err(format!("unknown mode {word:?}; write \"ro\" or \"rw\"")),
    }
}

pub(crate) fn access(word: &str) -> Result<Access, String> {
    let words = || Access::ALL.iter().map(|access| access.word());
    let unknown = || format!("unknown access {word:?}{}", did_you_mean(word, words()));
    Access::ALL.into_iter().find(|access| access.word() == word).ok_or_else(unknown)
}

/// A constant's name, or a number that is not negative.
pub(crate) fn constant(word: &Word) -> Result<Constant, String> {
    let name = word.text();
    let value = match word {
        Word::Whole(number) => u64::try_from(*number).ok(),
        Word::Text(name) => constants::value(name),
        _ => None,
    };
    let guess = || did_you_mean(&name, constants::names());
    value
        .map(|value| Constant { name: name.clone(), value })
        .ok_or_else(|| format!("unknown constant {name:?}{}", guess()))
}

/// An absolute path without `..`, empty or odd parts: what may become a mount's target.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.contains('\0') || text.len() > libc::PATH_MAX as usize {
        return Err(format!("{text:?} is no absolute path without \"..\""));
    }
    Ok(path.components().collect())
}

/// A variable's name as POSIX has it.
pub(crate) fn variable(name: &str) -> Result<String, String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| first(c) || c.is_ascii_digit();
    if name.starts_with(first) && name.chars().all(rest) {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is no variable's name; use letters, digits and _, no digit first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in ["", "usr", "/usr/../etc", "../x", "./x", "/a\0b"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(path("/usr//bin/").unwrap(), PathBuf::from("/usr/bin"));
    }

    #[test]
    fn an_unknown_constant_is_answered_with_the_nearest() {
        let message = constant(&Word::Text("AF_UNXI".into())).unwrap_err();
        assert!(message.contains("did you mean \"AF_UNIX\""), "{message}");
        assert!(constant(&Word::Whole(-1)).is_err());
    }
}
