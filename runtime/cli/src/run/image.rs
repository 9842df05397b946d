//! Brings an image to the daemon: a tarball as it is, an OCI image layout as a tarball that is the same every time.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use remand_client::Client;
use remand_model::run::RootChoice;

use crate::failure::Failure;

const NEXT: &str = "name a tarball or the folder of an OCI image layout with --image";
/// Files of a layout: its two documents and one for each blob.
const LAYOUT_FILES_MAX: usize = 4096;

/// An image that was looked at and not sent yet.
#[derive(Debug)]
pub(crate) enum Image {
    Tarball { path: PathBuf, file: File },
    Layout { folder: PathBuf, files: Vec<PathBuf> },
}

impl Image {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let facts = fs::metadata(path).map_err(Failure::file("find the image", path, NEXT))?;
        if facts.is_dir() {
            return Self::layout(path);
        }
        let file = File::open(path).map_err(Failure::file("open the image", path, NEXT))?;
        Ok(Self::Tarball { path: path.to_owned(), file })
    }

    fn layout(folder: &Path) -> Result<Self, Failure> {
        if !folder.join("oci-layout").is_file() || !folder.join("index.json").is_file() {
            let place = folder.display();
            let text = format!(
                "{place} is no OCI image layout (no oci-layout or index.json); for a plain folder use --rootfs"
            );
            return Err(Failure::asked(text));
        }
        let mut files = vec![PathBuf::from("index.json"), PathBuf::from("oci-layout")];
        blobs(folder, &mut files).map_err(Failure::file("read the image", folder, NEXT))?;
        files.sort();
        Ok(Self::Layout { folder: folder.to_owned(), files })
    }

    /// Sends it and returns the root that the daemon makes of it.
    pub(crate) fn upload(self, client: &mut Client) -> Result<RootChoice, Failure> {
        let mut upload = client.upload()?;
        let (path, sent) = match self {
            Self::Tarball { path, mut file } => {
                let sent = io::copy(&mut file, &mut upload).map(drop);
                (path, sent)
            }
            Self::Layout { folder, files } => {
                let sent = pack(&folder, &files, &mut upload);
                (folder, sent)
            }
        };
        if let Err(source) = sent {
            let error = upload.into_error();
            return Err(error.map_or_else(|| Failure::file("read the image", path, NEXT)(source), Failure::from));
        }
        let stored = upload.finish()?;
        Ok(RootChoice::Image { sha256: stored.sha256.to_hex() })
    }
}

/// `blobs/<algorithm>/<digest>`, two levels and nothing else.
fn blobs(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for algorithm in fs::read_dir(folder.join("blobs"))? {
        let algorithm = algorithm?;
        for blob in fs::read_dir(algorithm.path())? {
            files.push(Path::new("blobs").join(algorithm.file_name()).join(blob?.file_name()));
            if files.len() > LAYOUT_FILES_MAX {
                return Err(io::Error::other(format!("more than {LAYOUT_FILES_MAX} files")));
            }
        }
    }
    Ok(())
}

/// Sorted, without times and owners: the same layout is the same blob wherever it is packed.
fn pack(folder: &Path, files: &[PathBuf], out: &mut impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    for name in files {
        let file = File::open(folder.join(name))?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Err(io::Error::other(format!("{} is no plain file", name.display())));
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(facts.len());
        tar.append_data(&mut header, name, file.take(facts.len()))?;
    }
    tar.finish()
}
