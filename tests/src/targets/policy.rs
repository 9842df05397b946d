//! Profiles, as a client may send their text.

use remand_policy::{Library, Profile};

/// A text becomes a profile whose filters can be built and explained, or mistakes that are named; it opens no file.
pub fn profile(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let library = Library::built_in().with_text("sent.toml", text);
    let Ok(profile) = Profile::load("sent.toml", &library) else { return };
    for abi in [1, 4, 6] {
        match remand_policy::compile(&profile, abi) {
            Ok(compiled) => assert!(compiled.instructions() > 0),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    drop(remand_policy::explain(&profile, 6));
}

pub fn profile_seeds() -> Vec<Vec<u8>> {
    let library = Library::built_in();
    let texts = library.names().into_iter().filter_map(|name| library.source(&name).ok());
    texts.map(|source| source.text.into_bytes()).collect()
}
