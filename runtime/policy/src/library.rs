//! Where profiles come from: a folder of files, and the ones that are part of the program.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::PolicyError;
use crate::suggest;

/// The profiles that are part of the program: name and text.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("batch", include_str!("../../../policies/profiles/batch.toml")),
    ("python", include_str!("../../../policies/profiles/python.toml")),
    ("build", include_str!("../../../policies/profiles/build.toml")),
    ("node", include_str!("../../../policies/profiles/node.toml")),
    ("java", include_str!("../../../policies/profiles/java.toml")),
];

/// Bytes of the longest profile that is read.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// A profile's text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The profile's name.
    pub name: String,
    /// The file, as errors name it.
    pub file: String,
    /// The text.
    pub text: String,
}

/// Finds profiles by name. A folder's profile hides a built-in one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Library {
    folder: Option<PathBuf>,
    given: Option<Source>,
}

impl Library {
    /// Only the profiles that are part of the program.
    #[must_use]
    pub const fn built_in() -> Self {
        Self { folder: None, given: None }
    }

    /// The profiles in `folder` (`NAME.toml`), then the built-in ones.
    #[must_use]
    pub fn with_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), given: None }
    }

    /// The same library with one more profile, whose text the caller has in hand; it is found by `name` before all others.
    ///
    /// A text may come from somebody with fewer rights than the reader: from then on no file is opened by its path.
    #[must_use]
    pub fn with_text(mut self, name: &str, text: &str) -> Self {
        let stem = Path::new(name).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        self.given = Some(Source { name: stem, file: name.to_owned(), text: text.to_owned() });
        self
    }

    /// The names of all profiles, in their order. A folder that cannot be read adds none.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
        let entries = self.folder.as_deref().and_then(|folder| folder.read_dir().ok());
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned));
        }
        names.into_iter().collect()
    }

    /// The text of `name_or_path`.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`], [`PolicyError::Read`], and for texts [`PolicyError::PathFromText`] and
    /// [`PolicyError::TooLong`].
    pub fn source(&self, name_or_path: &str) -> Result<Source, PolicyError> {
        if let Some(given) = self.given.as_ref().filter(|given| given.file == name_or_path) {
            return bounded(given);
        }
        match is_path(name_or_path) {
            true if self.given.is_some() => return Err(PolicyError::PathFromText { path: name_or_path.to_owned() }),
            true => return read(Path::new(name_or_path)),
            false => {}
        }
        let file = self.folder.as_ref().map(|folder| folder.join(format!("{name_or_path}.toml")));
        match file.filter(|file| file.exists()) {
            Some(file) => read(&file),
            None => built_in(name_or_path).ok_or_else(|| self.unknown(name_or_path)),
        }
    }

    fn unknown(&self, name: &str) -> PolicyError {
        let names = self.names();
        let hint = suggest::did_you_mean(name, names.iter().map(String::as_str));
        PolicyError::Unknown { name: name.to_owned(), hint, known: names.join(", ") }
    }
}

/// Whether a text names a file and not a profile of the library.
pub(crate) fn is_path(name_or_path: &str) -> bool {
    name_or_path.contains('/') || name_or_path.ends_with(".toml")
}

fn bounded(given: &Source) -> Result<Source, PolicyError> {
    let (name, bytes) = (given.file.clone(), given.text.len());
    if bytes as u64 > PROFILE_BYTES_MAX {
        return Err(PolicyError::TooLong { name, bytes, bytes_max: PROFILE_BYTES_MAX });
    }
    Ok(given.clone())
}

fn built_in(name: &str) -> Option<Source> {
    let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(Source { name: (*name).to_owned(), file: format!("policies/profiles/{name}.toml"), text: (*text).to_owned() })
}

fn read(path: &Path) -> Result<Source, PolicyError> {
    let error = |source| PolicyError::Read { path: path.to_owned(), source };
    // Asked before the opening, which would wait for ever on a named pipe.
    if !path.metadata().map_err(error)?.is_file() {
        return Err(error(std::io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(error)?;
    let mut text = String::new();
    file.take(PROFILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > PROFILE_BYTES_MAX {
        return Err(error(std::io::Error::other("it is longer than 1 MiB")));
    }
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    Ok(Source { name, file: path.display().to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = Library::built_in().source("pyton").unwrap_err().to_string();
        assert!(error.contains("did you mean \"python\"") && error.contains("batch"), "{error}");
    }

    #[test]
    fn a_folders_profile_hides_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("batch.toml"), "x").unwrap();
        let library = Library::with_folder(folder.path());
        assert_eq!(library.source("batch").unwrap().text, "x");
        assert_eq!(library.source("python").unwrap().file, "policies/profiles/python.toml");
    }

    #[test]
    fn a_device_or_folder_is_no_profile() {
        for path in ["/dev/zero", "/"] {
            assert!(matches!(Library::built_in().source(path), Err(PolicyError::Read { .. })), "{path}");
        }
    }
}
