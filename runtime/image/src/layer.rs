//! Writes the entries of one tar into a tree: a plain root file system, or one layer of an OCI image.
//!
//! A layer is read twice: first for its whiteouts, while the tree holds nothing but the layers below, then for its
//! files. So a whiteout hides what lies below and never what its own layer brings, in whichever order they come.

use std::io::Read;

use serde::Serialize;

use crate::bounds::Meter;
use crate::entries::{self, Entry, Kind};
use crate::error::Result;
use crate::name::{Name, Whiteout};
use crate::tree::{Facts, Tree};

/// What was written, over all layers: a file that a later layer replaces counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Regular files.
    pub files: u64,
    /// Folders that had entries of their own.
    pub folders: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Hard links.
    pub hard_links: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Symbolic links that gave way to a folder, because a later entry lies below their name. Where this is not 0, the
    /// image may miss a link that it needs.
    pub links_replaced: u64,
    /// Names that whiteouts took away.
    pub hidden: u64,
}

/// What images may hold and unpacked ones do not: how many entries had it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes.
    pub pipes: u64,
    /// Files and folders with set-user-id, set-group-id or sticky bits: they are there, without those bits.
    pub special_bits: u64,
    /// Entries of an owner or a group other than root: they are there, owned by the daemon.
    pub owners: u64,
    /// Extended attributes, file capabilities among them.
    pub attributes: u64,
    /// Bookkeeping entries of layers.
    pub metadata: u64,
}

/// A tree and the count of what goes into it.
pub(crate) struct Writer<'t> {
    pub tree: Tree<'t>,
    pub written: Written,
    pub dropped: Dropped,
    meter: &'t Meter,
}

/// How names with the prefix of whiteouts are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// As names of files.
    Verbatim,
    /// As whiteouts.
    Layered,
}

impl<'t> Writer<'t> {
    pub(crate) fn new(tree: Tree<'t>, meter: &'t Meter) -> Self {
        Self { tree, written: Written::default(), dropped: Dropped::default(), meter }
    }

    /// Writes all entries of a tar stream.
    pub(crate) fn write(&mut self, stream: impl Read, names: Names) -> Result<()> {
        let meter = self.meter;
        let mut archive = tar::Archive::new(meter.reader(stream));
        entries::each(archive.entries(), meter, &mut |entry, content| self.entry(entry, content, names))?;
        self.written.links_replaced = self.tree.links_replaced();
        Ok(())
    }

    /// Applies the whiteouts of a layer to what the tree holds.
    pub(crate) fn hide(&mut self, stream: impl Read, meter: &Meter) -> Result<()> {
        let mut archive = tar::Archive::new(meter.reader(stream));
        entries::each(archive.entries(), meter, &mut |entry, _| {
            let hidden = match Name::parse(&entry.path, meter.bounds())?.whiteout()? {
                Some(Whiteout::Hides(name)) => self.tree.hide(&name)?,
                Some(Whiteout::Opaque(folder)) => self.tree.hide_children(&folder)?,
                Some(Whiteout::Metadata) | None => false,
            };
            self.written.hidden += u64::from(hidden);
            Ok(())
        })
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read, names: Names) -> Result<()> {
        let name = Name::parse(&entry.path, self.meter.bounds())?;
        if names == Names::Layered {
            match name.whiteout()? {
                None => {}
                Some(whiteout) => {
                    self.dropped.metadata += u64::from(whiteout == Whiteout::Metadata);
                    return Ok(());
                }
            }
        }
        self.make(&name, entry, content)?;
        self.dropped.owners += u64::from(entry.owned);
        self.dropped.attributes += entry.attributes;
        let has_bits = matches!(entry.kind, Kind::File | Kind::Folder) && entry.mode & 0o7000 != 0;
        self.dropped.special_bits += u64::from(has_bits);
        Ok(())
    }

    fn make(&mut self, name: &Name, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        match &entry.kind {
            Kind::Folder => {
                self.tree.folder(name)?;
                self.written.folders += 1;
            }
            Kind::File => {
                let facts = Facts { size: entry.size, mode: entry.mode, modified: entry.modified };
                self.written.bytes += self.tree.file(name, &facts, content)?;
                self.written.files += 1;
            }
            Kind::Symlink(target) => {
                self.tree.symlink(name, target, entry.modified)?;
                self.written.symlinks += 1;
            }
            Kind::HardLink(target) => {
                self.tree.hard_link(name, &Name::parse(target, self.meter.bounds())?)?;
                self.written.hard_links += 1;
            }
            Kind::Device => self.dropped.devices += 1,
            Kind::Pipe => self.dropped.pipes += 1,
        }
        Ok(())
    }
}
