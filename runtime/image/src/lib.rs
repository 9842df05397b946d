//! Unpacks root images that nobody trusts, without any privilege, into folders that boxes are shown read-only.
//!
//! An image is a tar of a root file system, plain or packed with gzip or zstd, or a tar of an OCI image layout. Its bytes
//! are hostile: names lead up, links lead out, streams grow without end, documents lie. What comes out is a tree of plain
//! folders (0755), files (0755 where anybody could execute them, else 0644) and symbolic links, all owned by the caller.
//! Owners, set-id and sticky bits, attributes, devices and pipes are dropped and counted. Symbolic links are made with
//! the target that they say and never followed here: whoever looks into the tree later must not follow them either,
//! except from inside a root of which the tree is the top.
//!
//! All work in the tree goes by descriptor, `openat2(2)` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//! `RESOLVE_NO_MAGICLINKS`. A tree grows as `<into>.new-<pid>` beside its place and takes its name when it is whole and on
//! disk; [`sweep`] removes what an interruption left.
//!
//! File times are those of the image, in whole seconds; folders all have the time 0, so that the tree is the same on
//! every node.
#![forbid(unsafe_code)]

mod bounds;
mod documents;
mod entries;
mod error;
mod layer;
mod layout;
mod name;
mod remove;
mod staging;
mod stream;
mod tree;

use std::io::{self, Read, Seek};
use std::path::Path;

use serde::Serialize;

pub use bounds::Bounds;
pub use error::{ImageError, Result};
pub use layer::{Dropped, Written};

use bounds::Meter;
use layer::{Names, Writer};
use layout::Layout;
use staging::Staging;
use stream::{Packing, unpacked};
use tree::Tree;

/// What an image was and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// Its form.
    pub form: Form,
    /// How many layers it had; 1 for a plain tar.
    pub layers: usize,
    /// What was written.
    pub written: Written,
    /// What was left away.
    pub dropped: Dropped,
}

/// How an image came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A tar of a root file system.
    Tar,
    /// A tar of an OCI image layout.
    OciLayout,
}

/// Unpacks an image into the folder `into`, which must not exist while its parent must.
///
/// Blocks for as long as reading, decompressing and writing takes. At most twice `bounds.bytes` lie on the disk (a packed
/// OCI archive and its tree), and memory stays below some 150 MiB, most of it a zstd window.
///
/// # Errors
/// See [`ImageError`]. After an error nothing is at `into`, and nothing beside it save with [`ImageError::Leftover`].
///
/// ```
/// let state = tempfile::tempdir()?;
/// let mut tar = tar::Builder::new(Vec::new());
/// let mut header = tar::Header::new_ustar();
/// header.set_size(3);
/// header.set_mode(0o4755);
/// tar.append_data(&mut header, "bin/tool", &b"run"[..])?;
///
/// let into = state.path().join("image");
/// let source = std::io::Cursor::new(tar.into_inner()?);
/// let unpacked = remand_image::unpack(source, &into, &remand_image::Bounds::default())?;
/// assert_eq!((unpacked.written.files, unpacked.dropped.special_bits), (1, 1));
/// assert_eq!(std::fs::read(into.join("bin/tool"))?, b"run");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unpack(mut source: impl Read + Seek, into: &Path, bounds: &Bounds) -> Result<Unpacked> {
    let staging = Staging::begin(into)?;
    fill(&mut source, &staging, bounds.clamped())
        .and_then(|unpacked| staging.publish().map(|()| unpacked))
        .map_err(|cause| staging.discard(cause))
}

/// Removes what interrupted unpackings left in the folder `parent`, and returns how many there were.
///
/// Unpackings that are under way are left alone, those of other processes too. Call it at start.
///
/// # Errors
/// [`ImageError::Place`] where the folder cannot be listed or something in it cannot be removed.
pub fn sweep(parent: &Path) -> Result<u64> {
    staging::sweep(parent)
}

/// Removes an unpacked image; `false` where there was none. Interrupted, it leaves nothing that counts as an image.
///
/// # Errors
/// [`ImageError::Place`] where the kernel refuses, [`ImageError::Busy`] while the same image is being unpacked.
pub fn remove(image: &Path) -> Result<bool> {
    staging::remove_image(image)
}

fn fill<S: Read + Seek>(source: &mut S, staging: &Staging, bounds: Bounds) -> Result<Unpacked> {
    source.rewind().map_err(ImageError::Source)?;
    let (packing, _) = stream::look(&mut *source).map_err(ImageError::Source)?;
    if packing == Packing::Plain {
        return fill_plain(source, staging, bounds);
    }
    if begins_like_layout(source, bounds)? {
        return fill_plain(&mut spool(source, staging, bounds)?, staging, bounds);
    }
    fill_tar(source, staging, bounds)
}

/// From an uncompressed tar, of which any place can be read at once.
fn fill_plain<S: Read + Seek>(source: &mut S, staging: &Staging, bounds: Bounds) -> Result<Unpacked> {
    let contents = layout::look(source, bounds)?;
    if contents.is_layout()? {
        return fill_layers(Layout::new(source, contents), staging, bounds);
    }
    fill_tar(source, staging, bounds)
}

fn fill_tar<S: Read + Seek>(source: &mut S, staging: &Staging, bounds: Bounds) -> Result<Unpacked> {
    source.rewind().map_err(ImageError::Source)?;
    let meter = Meter::new(bounds);
    let mut writer = Writer::new(Tree::new(staging.folder()?, &meter), &meter);
    writer.write(unpacked(source)?, Names::Verbatim)?;
    finish(&writer, Form::Tar, 1)
}

fn fill_layers<S: Read + Seek>(mut layout: Layout<'_, S>, staging: &Staging, bounds: Bounds) -> Result<Unpacked> {
    let layers = layout.layers(&bounds)?;
    let (meter, hiding) = (Meter::new(bounds), Meter::new(bounds));
    let mut writer = Writer::new(Tree::new(staging.folder()?, &meter), &meter);
    for (at, layer) in layers.iter().enumerate() {
        if at > 0 {
            writer.hide(unpacked(layout.layer(layer)?)?, &hiding)?;
        }
        writer.write(unpacked(layout.layer(layer)?)?, Names::Layered)?;
    }
    finish(&writer, Form::OciLayout, layers.len())
}

fn finish(writer: &Writer<'_>, form: Form, layers: usize) -> Result<Unpacked> {
    let Written { files, folders, symlinks, .. } = writer.written;
    if files + folders + symlinks == 0 {
        return Err(ImageError::broken(b"", io::Error::new(io::ErrorKind::InvalidData, "it holds nothing")));
    }
    writer.tree.settle()?;
    Ok(Unpacked { form, layers, written: writer.written, dropped: writer.dropped })
}

/// Whether the first file in a packed tar has a name that layouts begin with.
fn begins_like_layout<S: Read + Seek>(source: &mut S, bounds: Bounds) -> Result<bool> {
    source.rewind().map_err(ImageError::Source)?;
    let meter = Meter::new(bounds);
    let mut archive = tar::Archive::new(meter.reader(unpacked(source)?));
    let entries = archive.entries().map_err(|source| meter.failure(b"", source))?;
    for entry in entries.raw(true) {
        let entry = entry.map_err(|source| meter.failure(b"", source))?;
        meter.entry(b"")?;
        let name = entry.path_bytes();
        if !entries::is_extension(entry.header()) && name.iter().any(|byte| !b"./".contains(byte)) {
            return Ok(layout::may_begin(&name));
        }
    }
    Ok(false)
}

/// The content of a packed source as a file without a name.
fn spool<S: Read + Seek>(source: &mut S, staging: &Staging, bounds: Bounds) -> Result<std::fs::File> {
    source.rewind().map_err(ImageError::Source)?;
    let meter = Meter::new(bounds);
    let mut file = staging.scratch()?;
    io::copy(&mut meter.reader(unpacked(source)?), &mut file).map_err(|source| meter.failure(b"", source))?;
    Ok(file)
}
