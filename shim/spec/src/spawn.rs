//! One cell to be made, in the order in which the shim makes it.

use crate::{DecodeError, Reader, Writer};

/// The first number of an encoded spec; another number is another version.
pub const VERSION: u32 = 2;

/// A host path shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path on the host.
    pub source: Vec<u8>,
    /// Absolute path inside.
    pub target: Vec<u8>,
    /// Whether the payload may write there.
    pub writable: bool,
    /// Whether the owner of `source` appears as the payload's user.
    pub owned: bool,
}

/// A symbolic link of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Absolute path inside.
    pub path: Vec<u8>,
    /// What the link says.
    pub target: Vec<u8>,
}

/// A small file made for the root, readable by all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Absolute path inside.
    pub path: Vec<u8>,
    /// What the file holds.
    pub bytes: Vec<u8>,
}

/// What the root is assembled from: an empty file system, then these. Specs with equal roots share a template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Root {
    /// Host paths.
    pub mounts: Vec<Mount>,
    /// Links.
    pub links: Vec<Link>,
    /// Files.
    pub texts: Vec<Text>,
    /// Empty folders to be there.
    pub folders: Vec<Vec<u8>>,
}

/// One Landlock rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandlockRule {
    /// Absolute path inside; a path that is not there gets no rule.
    pub path: Vec<u8>,
    /// `LANDLOCK_ACCESS_FS_*`.
    pub access: u64,
}

/// The Landlock ruleset, see landlock(7).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Landlock {
    /// The lowest ABI that has all the bits below.
    pub abi: u32,
    /// `handled_access_fs`.
    pub fs: u64,
    /// `handled_access_net`.
    pub net: u64,
    /// `scoped`.
    pub scoped: u64,
    /// What is allowed.
    pub rules: Vec<LandlockRule>,
}

/// One seccomp program, see seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Whether it asks the keeper (`SECCOMP_RET_USER_NOTIF`); at most one does.
    pub notify: bool,
    /// Eight-byte `sock_filter` instructions.
    pub program: Vec<u8>,
}

/// A cell: everything that the spawner and the shim need to know, and nothing that they must decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpawnSpec {
    /// Path of the cell's group below the delegated groups, `tree/tenant/cell`.
    pub cgroup: Vec<u8>,
    /// First host id of the cell's own range; user and group ids alike.
    pub ids_first: u32,
    /// The payload's user inside.
    pub user: u32,
    /// The payload's group inside.
    pub group: u32,
    /// Host name inside.
    pub hostname: Vec<u8>,
    /// The root.
    pub root: Root,
    /// Bytes of all writable places together.
    pub scratch_bytes: u64,
    /// Inodes of all writable places together.
    pub scratch_inodes: u64,
    /// Whether the loopback interface is up.
    pub loopback: bool,
    /// Whether monotonic time starts at zero inside (`CLONE_NEWTIME`).
    pub own_time: bool,
    /// Whether the payload gets a terminal of its own.
    pub terminal: bool,
    /// `RLIMIT_*` numbers and values, soft and hard alike.
    pub rlimits: Vec<(u32, u64)>,
    /// `umask`.
    pub umask: u32,
    /// Landlock rules.
    pub landlock: Landlock,
    /// Filters in the order in which they are loaded.
    pub filters: Vec<Filter>,
    /// What the keeper answers where a filter asks: numbers of calls and error numbers, 0 to end the job; else `ENOSYS`.
    pub answers: Vec<(u32, u32)>,
    /// Program and arguments; a program without `/` is looked up in the environment's `PATH`.
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Working folder.
    pub folder: Vec<u8>,
    /// Bytes of all collected output files together.
    pub files_bytes_max: u64,
    /// Number of collected output files.
    pub files_max: u64,
}

impl Root {
    /// The bytes that tell two roots apart.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish()
    }

    fn write(&self, writer: &mut Writer) {
        writer.list(&self.mounts, |w, mount| {
            w.bytes(&mount.source);
            w.bytes(&mount.target);
            w.u8(mount.writable.into());
            w.u8(mount.owned.into());
        });
        writer.list(&self.links, |w, link| {
            w.bytes(&link.path);
            w.bytes(&link.target);
        });
        writer.list(&self.texts, |w, text| {
            w.bytes(&text.path);
            w.bytes(&text.bytes);
        });
        writer.list(&self.folders, |w, folder| w.bytes(folder));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mounts = |r: &mut Reader<'_>| {
            Ok(Mount { source: r.owned()?, target: r.owned()?, writable: r.flag()?, owned: r.flag()? })
        };
        Ok(Self {
            mounts: r.list(mounts)?,
            links: r.list(|r| Ok(Link { path: r.owned()?, target: r.owned()? }))?,
            texts: r.list(|r| Ok(Text { path: r.owned()?, bytes: r.owned()? }))?,
            folders: r.list(Reader::owned)?,
        })
    }
}

impl Landlock {
    fn write(&self, writer: &mut Writer) {
        writer.u32(self.abi);
        writer.u64(self.fs);
        writer.u64(self.net);
        writer.u64(self.scoped);
        writer.list(&self.rules, |w, rule| {
            w.bytes(&rule.path);
            w.u64(rule.access);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            abi: r.u32()?,
            fs: r.u64()?,
            net: r.u64()?,
            scoped: r.u64()?,
            rules: r.list(|r| Ok(LandlockRule { path: r.owned()?, access: r.u64()? }))?,
        })
    }
}

impl SpawnSpec {
    /// The spec as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u32(VERSION);
        w.bytes(&self.cgroup);
        [self.ids_first, self.user, self.group].into_iter().for_each(|id| w.u32(id));
        w.bytes(&self.hostname);
        self.root.write(&mut w);
        [self.scratch_bytes, self.scratch_inodes].into_iter().for_each(|limit| w.u64(limit));
        [self.loopback, self.own_time, self.terminal].into_iter().for_each(|flag| w.u8(flag.into()));
        w.list(&self.rlimits, |w, (resource, value)| {
            w.u32(*resource);
            w.u64(*value);
        });
        w.u32(self.umask);
        self.landlock.write(&mut w);
        w.list(&self.filters, |w, filter| {
            w.u8(filter.notify.into());
            w.bytes(&filter.program);
        });
        w.list(&self.answers, |w, (call, errno)| [*call, *errno].into_iter().for_each(|number| w.u32(number)));
        w.list(&self.argv, |w, text| w.bytes(text));
        w.list(&self.environment, |w, text| w.bytes(text));
        w.bytes(&self.folder);
        [self.files_bytes_max, self.files_max].into_iter().for_each(|limit| w.u64(limit));
        w.finish()
    }

    /// The spec that `bytes` allege.
    ///
    /// # Errors
    /// [`DecodeError`] where they are no spec of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes)?;
        if r.u32()? != VERSION {
            return Err(DecodeError::Unknown);
        }
        let spec = Self {
            cgroup: r.owned()?,
            ids_first: r.u32()?,
            user: r.u32()?,
            group: r.u32()?,
            hostname: r.owned()?,
            root: Root::read(&mut r)?,
            scratch_bytes: r.u64()?,
            scratch_inodes: r.u64()?,
            loopback: r.flag()?,
            own_time: r.flag()?,
            terminal: r.flag()?,
            rlimits: r.list(|r| Ok((r.u32()?, r.u64()?)))?,
            umask: r.u32()?,
            landlock: Landlock::read(&mut r)?,
            filters: r.list(|r| Ok(Filter { notify: r.flag()?, program: r.owned()? }))?,
            answers: r.list(|r| Ok((r.u32()?, r.u32()?)))?,
            argv: r.list(Reader::owned)?,
            environment: r.list(Reader::owned)?,
            folder: r.owned()?,
            files_bytes_max: r.u64()?,
            files_max: r.u64()?,
        };
        r.finish()?;
        Ok(spec)
    }
}
