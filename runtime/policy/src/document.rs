//! One profile's file as it is written: its keys, with the places where they stand.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::error::Finding;
use crate::library::Source;
use crate::suggest;

/// A value that people write in more than one way: `4`, `1.5`, `true` or `"512M"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Word {
    Flag(bool),
    Whole(i64),
    Fraction(f64),
    Text(String),
    List(Vec<String>),
}

impl Word {
    /// As it would stand after `KEY=` on a command line; lists are joined with commas.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(list) => list.join(","),
        }
    }
}

pub(crate) type Section = BTreeMap<Spanned<String>, Spanned<Word>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Document {
    pub description: Option<String>,
    pub extends: Option<Spanned<String>>,
    pub syscalls: SyscallsPart,
    pub root: RootPart,
    pub files: Vec<FilePart>,
    pub limits: Section,
    pub environment: Vec<VariablePart>,
    pub process: Section,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SyscallsPart {
    pub allow: Vec<NamesPart>,
    pub dangerous_allow: Vec<NamesPart>,
    pub deny: Vec<DenyPart>,
    pub kill: Vec<NamesPart>,
    pub arguments: Vec<ArgumentPart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamesPart {
    pub names: Vec<Spanned<String>>,
    pub why: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenyPart {
    pub names: Vec<Spanned<String>>,
    pub errno: Option<Spanned<String>>,
    pub why: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArgumentPart {
    pub name: Spanned<String>,
    pub arg: Spanned<u8>,
    pub width: Option<Spanned<u8>>,
    pub one_of: Option<Vec<Spanned<Word>>>,
    pub not_one_of: Option<Vec<Spanned<Word>>>,
    pub forbid_bits: Option<Vec<Spanned<Word>>>,
    pub errno: Option<Spanned<String>>,
    pub why: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RootPart {
    pub binds: Vec<BindPart>,
    pub generated: Vec<GeneratedPart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindPart {
    pub source: Spanned<String>,
    pub target: Option<Spanned<String>>,
    pub mode: Option<Spanned<String>>,
    #[serde(default)]
    pub optional: bool,
    pub why: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GeneratedPart {
    pub path: Spanned<String>,
    pub content: Option<String>,
    pub link: Option<String>,
    pub why: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilePart {
    pub path: Spanned<String>,
    pub access: Vec<Spanned<String>>,
    #[serde(default)]
    pub optional: bool,
    pub why: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariablePart {
    pub name: Spanned<String>,
    pub value: String,
    pub why: Spanned<String>,
}

/// Reads one TOML file's text.
///
/// # Errors
/// A finding that names the line, and for an unknown key the nearest known one.
pub fn parse_document<T: DeserializeOwned>(source: &Source) -> Result<T, Finding> {
    toml::from_str(&source.text).map_err(|error| {
        let line = error.span().map(|span| line_of(&source.text, span.start));
        Finding::error(&source.file, line, with_suggestion(error.message()))
    })
}

/// The line, counted from 1, in which the byte at `offset` stands.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// The parser's "unknown field `x`, expected one of `y`, `z`" with the nearest of them.
fn with_suggestion(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match words.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            let guess = suggest::did_you_mean(unknown, known.iter().copied());
            format!("unknown key {unknown:?}{guess}; known here are: {}", known.join(", "))
        }
        _ => message.replace('\n', "; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let source = Source { name: "x".into(), file: "x.toml".into(), text: text.into() };
        parse_document::<Document>(&source).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        let message = refused("description = \"\"\n\n[[files]]\npath = \"/\"\nacess = [\"read\"]\nwhy = \"x\"\n");
        assert!(message.starts_with("x.toml:5: unknown key \"acess\" (did you mean \"access\"?)"), "{message}");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert!(refused("description = \"\"\nlimits = [").starts_with("x.toml:2: "), "{}", refused("a = ["));
    }

    #[test]
    fn an_allow_without_a_why_is_refused() {
        let message = refused("[[syscalls.allow]]\nnames = [\"read\"]\n");
        assert!(message.contains("missing field `why`"), "{message}");
    }
}
