//! Takes an export: beside the folder that was named, which is replaced in one step when everything is there.
//!
//! An older export at the place leaves nothing behind, and an export that was cut short leaves the older one as it was.

use std::io;
use std::path::{Component, Path};

use remand_client::FileSink;
use remand_ledger::export::TOP_NAMES;
use remand_ledger::folder::{NewFolder, PublishError};
use remand_model::outcome::OutputFile;

use crate::failure::Failure;

/// The longest file of an export: a bundle of 256 entries of 64 KiB.
const FILE_BYTES_MAX: usize = 17 << 20;

pub(crate) struct ExportFolder {
    folder: NewFolder,
    current: Option<(String, Vec<u8>)>,
}

fn failed(error: &PublishError) -> Failure {
    let why = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Failure::asked(format!("{error}{why}"))
}

impl ExportFolder {
    /// Begins an export for this place, which must be free, empty or an older export.
    pub(crate) fn begin(place: &Path) -> Result<Self, Failure> {
        let folder = NewFolder::begin(place, &TOP_NAMES).map_err(|error| failed(&error))?;
        Ok(Self { folder, current: None })
    }

    /// Puts the export in its place where `taken` says that it is whole; else what came of it is removed.
    pub(crate) fn finish<T>(self, taken: Result<T, Failure>) -> Result<T, Failure> {
        let ended = if taken.is_ok() { self.folder.publish() } else { self.folder.abandon() };
        match (taken, ended) {
            (Ok(_), Err(error)) => Err(failed(&error)),
            (taken, _) => taken,
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} in an export; see the daemon's log"))
}

impl FileSink for ExportFolder {
    fn begin(&mut self, file: &OutputFile) -> io::Result<()> {
        let is_plain = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        if file.path.is_empty() || !is_plain {
            return Err(broken("a path that leads out"));
        }
        self.current = Some((file.path.clone(), Vec::new()));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (_, file) = self.current.as_mut().ok_or_else(|| broken("bytes of no file"))?;
        if file.len() + bytes.len() > FILE_BYTES_MAX {
            return Err(broken("a file without end"));
        }
        file.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let (path, bytes) = self.current.take().ok_or_else(|| broken("an end of no file"))?;
        self.folder.put(&path, &bytes).map_err(|error| match error {
            PublishError::Io { source, .. } => source,
            other => io::Error::other(other.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(export: &mut ExportFolder, path: &str) -> io::Result<()> {
        let file = OutputFile { path: path.into(), bytes: 1, mode: 0o644, sha256: remand_model::Digest::of(b"x") };
        export.begin(&file)?;
        export.bytes(b"x")?;
        export.end()
    }

    #[test]
    fn an_export_over_an_older_one_leaves_no_stale_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("export");
        for path in ["provenance/old", "provenance/new"] {
            let mut export = ExportFolder::begin(&place).expect("begun");
            put(&mut export, "checkpoint").and_then(|()| put(&mut export, path)).expect("put");
            export.finish(Ok(())).expect("in its place");
        }
        let names: Vec<_> = fs::read_dir(place.join("provenance")).expect("a folder").map(Result::unwrap).collect();
        assert_eq!(names.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(), ["new"]);
        assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 1, "nothing lies beside it");
    }

    #[test]
    fn an_export_that_was_cut_short_leaves_the_older_one_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("export");
        let mut export = ExportFolder::begin(&place).expect("begun");
        put(&mut export, "checkpoint").expect("put");
        export.finish(Ok(())).expect("in its place");
        let mut export = ExportFolder::begin(&place).expect("begun");
        put(&mut export, "attest").expect("put");
        assert!(export.finish::<()>(Err(Failure::asked("cut short"))).is_err());
        assert!(place.join("checkpoint").is_file() && !place.join("attest").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("ours").count(), 1);
    }

    #[test]
    fn what_is_no_export_is_not_replaced_and_no_path_leads_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("mine");
        fs::create_dir(&place).and_then(|()| fs::write(place.join("thesis"), "x")).expect("ours");
        assert!(ExportFolder::begin(&place).is_err());
        let mut export = ExportFolder::begin(&folder.path().join("export")).expect("begun");
        for path in ["../thesis", "/etc/x", "", "a/../../b"] {
            assert!(put(&mut export, path).is_err(), "{path}");
        }
        assert!(export.finish::<()>(Err(Failure::asked("done"))).is_err());
    }
}
