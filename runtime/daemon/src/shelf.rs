//! Policies made ready and kept: to read and compile one takes longer than to start a program.
//!
//! What is kept is only used again where every file that it was made from still says the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use remand_model::run::{RunRequest, Volume};
use remand_policy::{Compiled, Files, Library, PolicyError, Profile};

use crate::limits;

/// A policy as a request wants it, and what the kernel takes of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    /// The policy with the request's settings and volumes.
    pub profile: Profile,
    /// The same, compiled for this kernel.
    pub compiled: Compiled,
}

/// All of a request that its policy depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    policy: String,
    text: Option<String>,
    settings: Vec<(String, String)>,
    volumes: Vec<Volume>,
    own_root: bool,
}

impl Asked {
    /// What `request` asks for; `own_root` says whether it brings a root.
    #[must_use]
    pub fn of(request: &RunRequest, own_root: bool) -> Self {
        let RunRequest { policy, policy_text, settings, volumes, .. } = request;
        let (policy, text) = (policy.clone(), policy_text.clone());
        Self { policy, text, settings: settings.clone(), volumes: volumes.clone(), own_root }
    }

    fn is_small(&self) -> bool {
        let texts = self.settings.iter().map(|(key, value)| key.len() + value.len());
        let paths = self.volumes.iter().map(|volume| volume.source.len() + volume.target.len());
        let text = self.text.as_ref().map_or(0, String::len);
        self.policy.len() + text + texts.chain(paths).sum::<usize>() <= limits::POLICY_BYTES_KEPT
    }
}

/// The policies that were asked for last.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<VecDeque<(Asked, Files, Arc<Ready>)>>);

impl Shelf {
    /// What was made ready for the same request before, or what `make` makes ready now.
    ///
    /// # Errors
    /// `make`'s.
    pub fn get(
        &self,
        asked: &Asked,
        library: &Library,
        make: impl FnOnce() -> Result<(Ready, Files), PolicyError>,
    ) -> Result<Arc<Ready>, PolicyError> {
        if let Some(ready) = self.find(asked, library) {
            return Ok(ready);
        }
        let (ready, files) = make()?;
        let ready = Arc::new(ready);
        if asked.is_small() {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|(known, ..)| known != asked);
            kept.push_front((asked.clone(), files, Arc::clone(&ready)));
            kept.truncate(limits::POLICIES_KEPT);
        }
        Ok(ready)
    }

    fn find(&self, asked: &Asked, library: &Library) -> Option<Arc<Ready>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|(known, ..)| known == asked)?;
        let found = kept.remove(place).filter(|(_, files, _)| files.are_current(library))?;
        let ready = Arc::clone(&found.2);
        kept.push_front(found);
        Some(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(library: &Library) -> Result<(Ready, Files), PolicyError> {
        let (profile, files) = Profile::load_with_files("own", library)?;
        let compiled = remand_policy::compile(&profile, remand_policy::ABI_LEAST)?;
        Ok((Ready { profile, compiled }, files))
    }

    fn asked(argument: &str) -> Asked {
        let mut request = RunRequest::new("one".parse().expect("an id"), vec![argument.into()]);
        request.policy = "own".into();
        Asked::of(&request, false)
    }

    #[test]
    fn a_policy_is_made_ready_once_until_one_of_its_files_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |text: &str| std::fs::write(folder.path().join("own.toml"), text).expect("our own file");
        let library = Library::with_folder(folder.path());
        let shelf = Shelf::default();
        write("extends = \"batch\"\n");
        let first = shelf.get(&asked("a"), &library, || make(&library)).expect("made");
        let again = shelf.get(&asked("b"), &library, || panic!("it is there")).expect("kept");
        assert!(Arc::ptr_eq(&first, &again));
        write("extends = \"batch\"\n[limits]\npids = 7\n");
        let changed = shelf.get(&asked("a"), &library, || make(&library)).expect("made anew");
        assert_eq!(changed.profile.limits.pids_max, 7);
    }

    #[test]
    fn a_parent_that_a_nearer_file_hides_is_a_change_too() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("our own file");
        let library = Library::with_folder(folder.path());
        let shelf = Shelf::default();
        write("own.toml", "extends = \"python\"\n");
        let first = shelf.get(&asked("a"), &library, || make(&library)).expect("made");
        write("python.toml", "extends = \"batch\"\n");
        let changed = shelf.get(&asked("a"), &library, || make(&library)).expect("made anew");
        assert_ne!(first.compiled.policy_hash, changed.compiled.policy_hash);
    }
}
