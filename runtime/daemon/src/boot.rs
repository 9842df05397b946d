//! The root stage: one thread, no client yet. Everything that needs root is done here, then root is given away for good.
//!
//! In order: the lock (one daemon per machine), the folders, the control groups, the sweep of an earlier life, the estate,
//! the spawners, the socket, and the drop, which is checked by trying to undo it.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use remand_cgroup::{Kind, Layout, Leftover, Tree, Version};
use remand_spec::Estate;
use rustix::fs::FlockOperation;

use crate::config::Config;
use crate::pools::{self, PoolError};
use crate::spawner;

/// How long the clearing up after an earlier daemon may take.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(4);
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// The lock's file in the run folder.
pub(crate) const LOCK_NAME: &str = "remandd.lock";
/// Says which instance has which pool of ids.
const POOLS: &str = "/run/remand-ids";

/// The first token's file in the state.
const ADMIN_TOKEN: &str = "admin.token";

/// Why the daemon does not serve. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Not root.
    #[error("remandd boots as root: start it with sudo or from its systemd unit")]
    NotRoot,
    /// Another one runs.
    #[error("another remandd holds {0}: use that one, or stop it first")]
    Running(String),
    /// A file or folder.
    #[error("{what} {path}: {source}")]
    Path {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A folder that somebody else can write.
    #[error("{0} can be written by others: chown and chmod it, then look at what is in it")]
    Folder(String),
    /// Control groups.
    #[error("control groups: {0}; run `remand doctor`")]
    Cgroup(#[from] remand_cgroup::CgroupError),
    /// The pool of ids.
    #[error("ids for executions: {0}")]
    Pool(#[from] PoolError),
    /// Landlock.
    #[error("Landlock does not hold on this kernel ({0}); nothing runs without it; run `remand doctor`")]
    Landlock(String),
    /// Root could not be given away.
    #[error("root could not be given away ({0}); nothing is served with it")]
    Drop(String),
}

/// What root leaves behind for the serving stage.
#[derive(Debug)]
pub struct Booted {
    /// The configuration.
    pub config: Config,
    /// The lock, held as long as the daemon lives.
    pub lock: File,
    /// The root socket.
    pub listener: UnixListener,
    /// The daemon's ends of the spawners' sockets.
    pub spawners: Vec<OwnedFd>,
    /// The delegated control groups.
    pub tree: Tree,
    /// How they are driven, as results name it.
    pub backend: String,
    /// What an earlier life had left.
    pub swept: Vec<Leftover>,
    /// The kernel's Landlock ABI.
    pub landlock_abi: i32,
    /// Root's file for the first token, open once, where nothing is in it yet.
    pub admin_token: Option<File>,
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BootError {
    let path = path.display().to_string();
    move |source| BootError::Path { what, path, source }
}

/// Goes through the root stage.
///
/// # Errors
/// [`BootError`]; nothing serves then, and nothing is left but folders.
pub fn boot(mut config: Config) -> Result<Booted, BootError> {
    if !rustix::process::geteuid().is_root() {
        return Err(BootError::NotRoot);
    }
    rustix::process::umask(rustix::fs::Mode::from_bits_retain(0o077));
    let run = config.arguments.run.clone();
    folder(&run, 0o755, (0, 0))?;
    let lock = lock(&run)?;
    if let Some(usual) = config.pool {
        config.use_pool(pools::reserve(Path::new(POOLS), &run, usual)?);
    }
    state_folders(&config)?;
    let layout = Layout::detect()?;
    let tree = Tree::prepare(&layout, &config.group, config.user.0, config.user.1)?;
    let name = config.group.clone();
    root_stage(config, &layout, tree, lock).inspect_err(|_| {
        // Nothing serves, so nothing is left; what cannot be removed now is the next start's.
        if let Err(error) = Tree::discard(&layout, &name) {
            tracing::warn!(%error, "the control groups of a failed start stay");
        }
    })
}

/// From the delegated groups on: what fails here takes them with it.
fn root_stage(config: Config, layout: &Layout, tree: Tree, lock: File) -> Result<Booted, BootError> {
    let swept = tree.sweep(&|_| false, false)?;
    let estate_file = match &config.arguments.estate {
        Some(file) => file.clone(),
        None => write_estate(&config, &tree)?,
    };
    let spawners = start_spawners(&config, &estate_file, &lock)?;
    let listener = listen(&config)?;
    let landlock_abi = landlock_abi().map_err(BootError::Landlock)?;
    let admin_token = admin_token(&config)?;
    let backend = backend_name(layout.kind()).to_owned();
    drop_root(&config)?;
    Ok(Booted { config, lock, listener, spawners, tree, backend, swept, landlock_abi, admin_token })
}

/// The kernel's Landlock ABI, found by restricting a thread that ends at once.
fn landlock_abi() -> Result<i32, String> {
    use landlock::{ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr};
    let probe = || {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create);
        ruleset.and_then(landlock::RulesetCreated::restrict_self).map_err(|error| error.to_string())
    };
    let status = std::thread::spawn(probe).join().map_err(|_| "the probe panicked".to_owned())??;
    match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => Ok(kernel_abi.unwrap_or(effective_abi as i32)),
        other => Err(format!("{other:?}")),
    }
}

/// How control groups are driven, as results name it.
fn backend_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unified => "v2",
        Kind::Hybrid => "hybrid",
        Kind::Legacy => "v1",
        Kind::Absent => "none",
    }
}

/// A folder with this mode and owner; an existing one must not be writable by anybody else.
fn folder(path: &Path, mode: u32, owner: (u32, u32)) -> Result<(), BootError> {
    above(path)?;
    std::fs::create_dir_all(path).map_err(at("make", path))?;
    let found = std::fs::symlink_metadata(path).map_err(at("look at", path))?;
    let ours = found.uid() == 0 || found.uid() == owner.0;
    if !found.is_dir() || !ours || found.mode() & 0o022 != 0 {
        return Err(BootError::Folder(path.display().to_string()));
    }
    std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).map_err(at("give away", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at("set the mode of", path))
}

/// The folders above one of ours, where the host has none yet: everybody may pass through them, whatever the umask says.
fn above(path: &Path) -> Result<(), BootError> {
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir(folder).map_err(at("make", folder))?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(at("set the mode of", folder))?;
    }
    Ok(())
}

/// What lies in the state is the daemon's; the state itself is root's, so that the daemon cannot put another file in the
/// place of root's.
fn state_folders(config: &Config) -> Result<(), BootError> {
    let state = &config.arguments.state;
    folder(state, 0o711, config.user)?;
    std::os::unix::fs::chown(state, Some(0), Some(0)).map_err(at("give away", state))?;
    for name in ["ledger", "blobs", "images", "keys", "exports"] {
        // The images are shown inside boxes, whose users are others than the daemon.
        folder(&config.state(name), if name == "images" { 0o711 } else { 0o700 }, config.user)?;
    }
    Ok(())
}

/// The file for the node's first token: root's, read by root alone. The serving stage writes it through this descriptor,
/// once, and cannot open it again.
fn admin_token(config: &Config) -> Result<Option<File>, BootError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = config.state(ADMIN_TOKEN);
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let file = options.open(&path).map_err(at("open", &path))?;
    let found = file.metadata().map_err(at("look at", &path))?;
    if !found.is_file() || found.uid() != 0 || found.mode() & 0o077 != 0 {
        return Err(BootError::Folder(path.display().to_string()));
    }
    Ok((found.len() == 0).then_some(file))
}

/// The kernel releases this lock when its holders end, however they end, so it is never stale. The spawners hold it too,
/// until they have cleared up after a daemon that is gone: so long a new one waits.
fn lock(run: &Path) -> Result<File, BootError> {
    let path = run.join(LOCK_NAME);
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(at("open", &path))?;
    let deadline = std::time::Instant::now() + LOCK_WAIT;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if std::time::Instant::now() > deadline {
            return Err(BootError::Running(path.display().to_string()));
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(at("write", &path))?;
    Ok(file)
}

fn write_estate(config: &Config, tree: &Tree) -> Result<std::path::PathBuf, BootError> {
    let arguments = &config.arguments;
    let bytes = |path: &std::path::PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
    let everything = || vec![b"/".to_vec()];
    let given = |roots: &[std::path::PathBuf], default: Vec<Vec<u8>>| {
        if roots.is_empty() { default } else { roots.iter().map(bytes).collect() }
    };
    let usual = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt"].map(|p| p.as_bytes().to_vec());
    let mut default = if arguments.until_idle { everything() } else { usual.to_vec() };
    default.push(bytes(&config.state("images")));
    let (mut groups_v1, mut groups_idle, mut group_v2) = (Vec::new(), Vec::new(), None);
    let entered = tree.hierarchies(config.cells.has_processors());
    for hierarchy in tree.hierarchies(true) {
        match hierarchy.version {
            Version::V1 if !entered.contains(&hierarchy) => groups_idle.push(bytes(&hierarchy.root)),
            Version::V1 => groups_v1.push(bytes(&hierarchy.root)),
            Version::V2 => group_v2 = Some(bytes(&hierarchy.root)),
        }
    }
    let estate = Estate {
        ids_first: config.ids_first,
        ids_cells: config.ids_cells,
        roots: given(&arguments.roots, default),
        writable_roots: given(&arguments.writable_roots, if arguments.until_idle { everything() } else { Vec::new() }),
        group: config.group.clone().into_bytes(),
        groups_v1,
        groups_idle,
        group_v2,
    };
    let path = arguments.run.join("estate");
    std::fs::write(&path, estate.to_text()).map_err(at("write", &path))?;
    Ok(path)
}

fn start_spawners(config: &Config, estate: &Path, lock: &File) -> Result<Vec<OwnedFd>, BootError> {
    let (program, shim) = (config.programs.join("remand-spawner"), config.programs.join("remand-shim"));
    for path in [&program, &shim] {
        File::open(path).map_err(at("open the program", path))?;
    }
    (0..spawner::SPAWNERS)
        .map(|_| {
            let (ours, theirs) = spawner::pair()?;
            let mut command = Command::new(&program);
            command.arg(estate).arg(&shim).env_clear().stdin(Stdio::from(theirs));
            command.stdout(Stdio::from(lock.try_clone()?));
            command.current_dir("/").spawn()?;
            Ok(ours)
        })
        .collect::<std::io::Result<_>>()
        .map_err(at("start", &program))
}

/// The one public entry point: the one that systemd has bound already, or one made here. Only root can open it, unless the
/// configuration names others; whom it does not name is turned away by name.
fn listen(config: &Config) -> Result<UnixListener, BootError> {
    let path = &config.socket;
    let given = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(at("take over", path))?;
    let is_given = given.is_some();
    let listener = match given {
        Some(listener) => listener,
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(at("remove the old", path)(error));
            }
            _ => UnixListener::bind(path).map_err(at("bind", path))?,
        },
    };
    if !is_given || !config.access.is_empty() {
        let (mode, group) = config.socket_for;
        std::os::unix::fs::chown(path, Some(0), Some(group)).map_err(at("give away", path))?;
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at("set the mode of", path))?;
    }
    listener.set_nonblocking(true).map_err(at("set up", path))?;
    Ok(listener)
}

/// Groups, user, every capability: gone, and checked by asking for them back.
fn drop_root(config: &Config) -> Result<(), BootError> {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let failed = |error: &dyn std::fmt::Display| BootError::Drop(error.to_string());
    let (uid, gid) = (Uid::from_raw(config.user.0), Gid::from_raw(config.user.1));
    for capability in caps::all() {
        if caps::has_cap(None, caps::CapSet::Bounding, capability).map_err(|error| failed(&error))? {
            caps::drop(None, caps::CapSet::Bounding, capability).map_err(|error| failed(&error))?;
        }
    }
    setgroups(&[]).map_err(|error| failed(&error))?;
    setresgid(gid, gid, gid).map_err(|error| failed(&error))?;
    setresuid(uid, uid, uid).map_err(|error| failed(&error))?;
    for set in [caps::CapSet::Ambient, caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| failed(&error))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(|error| failed(&error))?;
    let left = caps::read(None, caps::CapSet::Permitted).map_err(|error| failed(&error))?;
    if !left.is_empty() || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(BootError::Drop("it came back when asked for".into()));
    }
    Ok(())
}
