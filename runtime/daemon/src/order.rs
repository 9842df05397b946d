//! From a request and its policy to a spec: everything that can be decided before a cell is made.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remand_model::run::{RootChoice, RunPlan, RunRequest};
use remand_model::{Limits, PROTOCOL_VERSION};
use remand_policy::{
    Bind, Compiled, Files, GeneratedContent, Library, Mode, Network, PolicyError, Profile, Syscalls, compile,
};
use remand_spec::{Filter, Landlock, LandlockRule, Link, Mount, Root, SpawnSpec, Text};

use crate::shelf::{Asked, Ready, Shelf};

/// What the daemon knows about the host when it builds specs.
#[derive(Debug)]
pub struct Ground {
    /// Profiles by name.
    pub library: Library,
    /// The kernel's Landlock ABI.
    pub landlock_abi: i32,
    /// Where unpacked images are.
    pub images: PathBuf,
    /// Policies that are ready.
    pub shelf: Shelf,
}

/// Why a request cannot become an order; the text says whose move it is.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The policy.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    /// Something else in the request.
    #[error("{0}")]
    Request(String),
}

/// A request that was made complete: what would be enforced is all here.
#[derive(Debug, Clone)]
pub struct Order {
    /// The cell, but for its ids and group, which are given at the start.
    pub spec: SpawnSpec,
    /// The limits.
    pub limits: Limits,
    /// The policy.
    policy: Arc<Ready>,
}

impl Order {
    /// Completes a request.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn new(request: &RunRequest, ground: &Ground) -> Result<Self, OrderError> {
        refuse_path(request)?;
        let own_root = own_root(request, ground)?;
        let library = match &request.policy_text {
            Some(text) => &ground.library.clone().with_text(&request.policy, text),
            None => &ground.library,
        };
        let asked = Asked::of(request, own_root.is_some());
        let policy = ground.shelf.get(&asked, library, || make_ready(request, own_root.is_some(), library, ground))?;
        let Ready { profile, compiled } = &*policy;
        let asked_from = profile.root.binds.len().saturating_sub(request.volumes.len());
        let root = match own_root {
            Some(folder) => with_volumes(root_of_folder(&folder)?, profile, asked_from),
            None => root_of_policy(profile, asked_from),
        };
        let spec = spec(request, profile, compiled, root);
        Ok(Self { spec, limits: profile.limits, policy })
    }

    /// The compiled policy.
    #[must_use]
    pub fn compiled(&self) -> &Compiled {
        &self.policy.compiled
    }

    /// The policy's name.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        &self.policy.profile.name
    }

    /// What the policy says about system calls, for those that are refused.
    #[must_use]
    pub fn syscalls(&self) -> &Syscalls {
        &self.policy.profile.syscalls
    }

    /// Puts other limits in the place of the policy's.
    pub fn limit(&mut self, limits: &Limits) {
        let spec = &mut self.spec;
        (spec.scratch_bytes, spec.scratch_inodes) = (limits.disk_bytes_max, limits.inodes_max);
        (spec.files_bytes_max, spec.files_max) = (limits.files_bytes_max, limits.files_max);
        spec.rlimits = rlimits(limits);
        self.limits = *limits;
    }

    /// Shows these bytes as a file at `path`, which the program may read.
    pub fn show_file(&mut self, path: &str, bytes: Vec<u8>) {
        const READ_FILE: u64 = 1 << 2;
        let path = path.as_bytes().to_vec();
        self.spec.landlock.rules.push(LandlockRule { path: path.clone(), access: READ_FILE });
        self.spec.root.texts.push(Text { path, bytes });
    }

    /// Shows a file of the host at `path`, which the program may read and execute.
    pub fn show_program(&mut self, path: &str, file: &Path) {
        const EXECUTE_AND_READ: u64 = 1 | 1 << 2;
        let (target, source) = (path.as_bytes().to_vec(), file.as_os_str().as_bytes().to_vec());
        self.spec.landlock.rules.push(LandlockRule { path: target.clone(), access: EXECUTE_AND_READ });
        self.spec.root.mounts.push(Mount { source, target, writable: false, owned: false });
    }

    /// The order as people read it before it is carried out.
    #[must_use]
    pub fn plan(&self, groups: Vec<(&'static str, String)>) -> RunPlan {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let root = &self.spec.root;
        let mounts = root.mounts.iter().map(|mount| {
            let how = if mount.writable { "rw" } else { "ro" };
            format!("{} -> {} {how},nosuid,nodev", text(&mount.source), text(&mount.target))
        });
        let links = root.links.iter().map(|link| format!("{} = link to {}", text(&link.path), text(&link.target)));
        let texts = root.texts.iter().map(|file| format!("{} = {} bytes made", text(&file.path), file.bytes.len()));
        let scratch = format!(
            "tmpfs -> /tmp /out /work /dev/shm /home/user size={} nr_inodes={}",
            self.spec.scratch_bytes, self.spec.scratch_inodes
        );
        let rule = |r: &LandlockRule| format!("{} {}", text(&r.path), remand_policy::access_words(r.access).join(","));
        RunPlan {
            protocol_version: PROTOCOL_VERSION.into(),
            mounts: mounts.chain(links).chain(texts).chain([scratch, "proc -> /proc subset=pid".into()]).collect(),
            cgroup: groups.into_iter().map(|(file, text)| format!("{file} = {text}")).collect(),
            landlock: self.spec.landlock.rules.iter().map(rule).collect(),
            filters: self.compiled().filters.iter().map(|filter| filter.instructions as u64).collect(),
            limits: self.limits,
            environment: self.spec.environment.iter().map(|variable| text(variable)).collect(),
            policy_sha256: self.compiled().policy_hash.to_hex(),
        }
    }
}

fn refuse_path(request: &RunRequest) -> Result<(), OrderError> {
    match &request.policy_text {
        None if request.policy.contains('/') || request.policy.ends_with(".toml") => Err(OrderError::Request(format!(
            "policy {}: a policy file's text must come with the request",
            request.policy
        ))),
        _ => Ok(()),
    }
}

/// The request's policy with its settings and volumes, compiled.
fn make_ready(
    request: &RunRequest,
    own_root: bool,
    library: &Library,
    ground: &Ground,
) -> Result<(Ready, Files), PolicyError> {
    let (mut profile, files) = Profile::load_with_files(&request.policy, library)?;
    for (key, value) in &request.settings {
        profile.set(key, value)?;
    }
    if own_root {
        profile.use_own_root();
    }
    for volume in &request.volumes {
        let mode = if volume.writable { Mode::ReadWrite } else { Mode::ReadOnly };
        profile.bind(Path::new(&volume.source), Path::new(&volume.target), mode)?;
    }
    let compiled = compile(&profile, ground.landlock_abi)?;
    Ok((Ready { profile, compiled }, files))
}

fn own_root(request: &RunRequest, ground: &Ground) -> Result<Option<PathBuf>, OrderError> {
    match &request.root {
        RootChoice::Policy => Ok(None),
        RootChoice::Folder { path } => Ok(Some(PathBuf::from(path))),
        RootChoice::Image { sha256 } => {
            let digest: remand_model::Digest =
                sha256.parse().map_err(|error| OrderError::Request(format!("image: {error}")))?;
            let folder = ground.images.join(digest.to_hex());
            if folder.is_dir() {
                Ok(Some(folder))
            } else {
                Err(OrderError::Request(format!("image {digest}: not unpacked here; upload it first")))
            }
        }
    }
}

/// Names in a root that the shim makes itself, whatever the folder holds there.
const OWN: [&str; 6] = ["proc", "dev", "tmp", "out", "work", "sys"];

/// The top of a folder, entry by entry: so the root itself is always one that the spawner made.
fn root_of_folder(folder: &Path) -> Result<Root, OrderError> {
    let unreadable = |error: std::io::Error| {
        OrderError::Request(format!("root {}: {error}; the daemon must be able to list it", folder.display()))
    };
    let mut root = Root::default();
    let mut entries =
        std::fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) || name == "home" {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        let target = [b"/", name.as_bytes()].concat();
        if kind.is_symlink() {
            let to = std::fs::read_link(entry.path()).map_err(unreadable)?;
            root.links.push(Link { path: target, target: to.as_os_str().as_bytes().to_vec() });
        } else if kind.is_dir() || kind.is_file() {
            let source = entry.path().as_os_str().as_bytes().to_vec();
            root.mounts.push(Mount { source, target, writable: false, owned: false });
        }
    }
    if root.mounts.is_empty() {
        return Err(OrderError::Request(format!("root {}: it is empty", folder.display())));
    }
    Ok(root)
}

fn with_volumes(mut root: Root, profile: &Profile, asked_from: usize) -> Root {
    root.mounts.extend(binds(profile, asked_from).0);
    root
}

fn root_of_policy(profile: &Profile, asked_from: usize) -> Root {
    let (mounts, links) = binds(profile, asked_from);
    let mut root = Root { mounts, links, ..Root::default() };
    for (path, content) in profile.generated_files() {
        let path = path.as_os_str().as_bytes().to_vec();
        match content {
            GeneratedContent::Text(text) => root.texts.push(Text { path, bytes: text.into_bytes() }),
            GeneratedContent::Link(target) => root.links.push(Link { path, target: target.into_bytes() }),
        }
    }
    root
}

/// The binds as mounts; a source that is a link on the host becomes the same link, and optional ones may be missing. From
/// `asked_from` on they are the caller's own, whose owner is shown as the payload's user.
fn binds(profile: &Profile, asked_from: usize) -> (Vec<Mount>, Vec<Link>) {
    let (mut mounts, mut links) = (Vec::new(), Vec::new());
    for (at, bind) in profile.root.binds.iter().enumerate() {
        let owned = at >= asked_from;
        let target = bind.target.as_os_str().as_bytes().to_vec();
        match std::fs::symlink_metadata(&bind.source) {
            Err(_) if bind.optional => {}
            Ok(found) if found.is_symlink() => match std::fs::read_link(&bind.source) {
                Ok(to) => links.push(Link { path: target, target: to.as_os_str().as_bytes().to_vec() }),
                Err(_) => mounts.push(mount(bind, target, owned)),
            },
            _ => mounts.push(mount(bind, target, owned)),
        }
    }
    (mounts, links)
}

fn mount(bind: &Bind, target: Vec<u8>, owned: bool) -> Mount {
    let source = bind.source.as_os_str().as_bytes().to_vec();
    Mount { source, target, writable: bind.mode == Mode::ReadWrite, owned }
}

fn spec(request: &RunRequest, profile: &Profile, compiled: &Compiled, root: Root) -> SpawnSpec {
    let limits = &profile.limits;
    let landlock = &compiled.landlock;
    let rule = |rule: &remand_policy::LandlockRule| LandlockRule {
        path: rule.path.as_os_str().as_bytes().to_vec(),
        access: rule.access,
    };
    let filters = compiled.filters.iter().map(|f| Filter { notify: f.notify, program: f.bytes.clone() }).collect();
    let answers = compiled.answers.iter();
    let answers = answers.map(|(call, errno)| (*call, errno.map_or(0, |errno| u32::from(errno.0)))).collect();
    let folder = request.folder.clone().map_or_else(|| profile.process.directory.clone(), PathBuf::from);
    SpawnSpec {
        user: profile.process.uid,
        group: profile.process.gid,
        hostname: profile.process.hostname.clone().into_bytes(),
        root,
        scratch_bytes: limits.disk_bytes_max,
        scratch_inodes: limits.inodes_max,
        loopback: profile.process.network == Network::Loopback,
        own_time: profile.process.time_namespace,
        terminal: request.terminal,
        rlimits: rlimits(limits),
        umask: profile.process.umask,
        landlock: Landlock {
            abi: u32::try_from(landlock.abi).unwrap_or(0),
            fs: landlock.handled_access_fs,
            net: landlock.handled_access_net,
            scoped: landlock.scoped,
            rules: landlock.rules.iter().map(rule).collect(),
        },
        filters,
        answers,
        argv: request.argv.iter().map(|text| text.clone().into_bytes()).collect(),
        environment: environment(request, profile),
        folder: folder.as_os_str().as_bytes().to_vec(),
        files_bytes_max: limits.files_bytes_max,
        files_max: limits.files_max,
        ..SpawnSpec::default()
    }
}

/// The policy's variables, then the request's; the same name once, the request's value.
fn environment(request: &RunRequest, profile: &Profile) -> Vec<Vec<u8>> {
    let own = profile.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone()));
    let mut all: std::collections::BTreeMap<String, String> = own.collect();
    all.extend(request.environment.clone());
    all.into_iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect()
}

/// Per-process limits beside the job's: descriptors, no core, no file larger than the disk, no locked memory or message
/// queue that the job's limits would not see. Numbers from getrlimit(2) on x86-64.
fn rlimits(limits: &Limits) -> Vec<(u32, u64)> {
    const CORE: u32 = 4;
    const NOFILE: u32 = 7;
    const MEMLOCK: u32 = 8;
    const SIGPENDING: u32 = 11;
    const MSGQUEUE: u32 = 12;
    vec![(CORE, 0), (NOFILE, limits.nofile_max), (MEMLOCK, 64 << 10), (SIGPENDING, 1024), (MSGQUEUE, 0)]
}
