//! Where things are and who serves: from the command line, with defaults that need no configuration.

use std::path::{Path, PathBuf};

use clap::Parser;
use remand_model::Digest;

use crate::access::Access;
use crate::admission::Bounds;
use crate::cells::Cells;
use crate::pools::POOLS;
use crate::site::{Site, SiteError};

/// Ids for cells start here: far above what hosts give to people, and outside of what systemd gives to containers.
const IDS_FIRST: u32 = 0x7000_0000;
/// Ranges of the default instance's pool.
const IDS_CELLS: u32 = 4096;
/// Ranges of every other instance's pool (test daemons beside the real one).
const IDS_CELLS_OTHER: u32 = 256;
/// The daemon's own user and group where the host has no user `remand`.
const FALLBACK_ID: u32 = IDS_FIRST - 1;
const DEFAULT_RUN: &str = "/run/remand";

const DEFAULT_NODE: &str = "localhost";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The daemon does not find itself.
    #[error("find this program's own folder: {0}; name it in REMAND_BIN_DIR")]
    Program(std::io::Error),
    /// The configuration file.
    #[error(transparent)]
    Site(#[from] SiteError),
}

/// The runtime daemon: the only way to boot remand on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "remandd", version)]
pub struct Arguments {
    /// Where state lasts: chains, blobs, keys.
    #[arg(long, default_value = "/var/lib/remand")]
    pub state: PathBuf,
    /// Where things are that do not survive a boot: lock, estate, socket.
    #[arg(long, default_value = DEFAULT_RUN)]
    pub run: PathBuf,
    /// The root socket; RUN/root.sock where it is not given.
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// The configuration file of this site; /etc/remand/remandd.toml where there is one and --run is the usual folder.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node's name, the first part of its logs' origins; the configuration's, or localhost.
    #[arg(long, overrides_with = "node_id")]
    pub node_id: Option<String>,
    /// End when nobody is connected any more.
    #[arg(long)]
    pub until_idle: bool,
    /// A folder with profiles of this site.
    #[arg(long)]
    pub policies: Option<PathBuf>,
    /// Host paths that executions may be shown read-only; everything where none is given and the daemon was started for the
    /// length of one command.
    #[arg(long = "allow-root")]
    pub roots: Vec<PathBuf>,
    /// Host paths that executions may be given to write in.
    #[arg(long = "allow-writable-root")]
    pub writable_roots: Vec<PathBuf>,
    /// Act as a witness for other nodes' logs here, on loopback.
    #[arg(long, value_name = "ADDRESS")]
    pub witness_listen: Option<std::net::SocketAddr>,
    /// Key of a log that this node witnesses; may be repeated.
    #[arg(long, value_name = "VKEY")]
    pub witness_for: Vec<String>,
    /// A witness that cosigns this node's logs; may be repeated.
    #[arg(long = "witness", value_name = "ADDRESS,VKEY")]
    pub witnesses: Vec<crate::cosign::Peer>,
    /// The estate file, written by root; made from the other arguments where it is not given.
    #[arg(long)]
    pub estate: Option<PathBuf>,
}

/// The arguments with everything filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// As given.
    pub arguments: Arguments,
    /// The node's name.
    pub node_id: String,
    /// What the configuration file says.
    pub site: Site,
    /// How much may run and wait.
    pub bounds: Bounds,
    /// What holds for every cell.
    pub cells: Cells,
    /// Who may do what.
    pub access: Access,
    /// Mode of the root socket and the group that it belongs to.
    pub socket_for: (u32, u32),
    /// The root socket.
    pub socket: PathBuf,
    /// Name of the control group of this instance.
    pub group: String,
    /// Which pool of ids this instance would like to have; the usual instance has its own.
    pub pool: Option<u32>,
    /// First host id of the pool.
    pub ids_first: u32,
    /// Ranges of the pool.
    pub ids_cells: u32,
    /// Folder with `remand-spawner` and `remand-shim`.
    pub programs: PathBuf,
    /// The user and group that the daemon serves as.
    pub user: (u32, u32),
}

/// The first id of a pool; of the usual instance's where none is named.
const fn ids_first(pool: Option<u32>) -> u32 {
    match pool {
        None => IDS_FIRST,
        Some(pool) => IDS_FIRST + (IDS_CELLS + pool * IDS_CELLS_OTHER) * remand_spec::estate::IDS_OF_A_CELL,
    }
}

impl Config {
    /// Takes another pool of ids.
    pub const fn use_pool(&mut self, pool: u32) {
        (self.pool, self.ids_first) = (Some(pool), ids_first(Some(pool)));
    }

    /// Fills everything in.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(arguments: Arguments) -> Result<Self, ConfigError> {
        let programs = match std::env::var_os("REMAND_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let own = std::env::current_exe().map_err(ConfigError::Program)?;
                own.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
            }
        };
        let digest = Digest::of(arguments.run.as_os_str().as_encoded_bytes());
        let usual = arguments.run == Path::new(DEFAULT_RUN);
        let pool = (!usual).then(|| u32::from(digest.as_bytes()[0]) % POOLS);
        let group = if usual { "remand".into() } else { format!("remand-{}", &digest.to_hex()[..8]) };
        let (ids_first, ids_cells) = (ids_first(pool), if usual { IDS_CELLS } else { IDS_CELLS_OTHER });
        let socket = arguments.socket.clone().unwrap_or_else(|| arguments.run.join("root.sock"));
        let user = user_remand().unwrap_or((FALLBACK_ID, FALLBACK_ID));
        let site = Site::read(arguments.config.as_deref(), usual)?;
        let bounds = site.scheduler.bounds(ids_cells)?;
        let cells = site.cells.on_this_host()?;
        let access = Access::of_host(&site.access)?;
        let socket_for = match &site.socket_group {
            Some(group) => (0o660, group.group_of_host()?),
            None => (if access.is_empty() { 0o600 } else { 0o666 }, 0),
        };
        let node_id = arguments.node_id.clone().or_else(|| site.node_id.clone());
        let node_id = node_id.unwrap_or_else(|| DEFAULT_NODE.into());
        Ok(Self {
            cells,
            socket,
            group,
            pool,
            ids_first,
            ids_cells,
            programs,
            user,
            arguments,
            node_id,
            site,
            bounds,
            access,
            socket_for,
        })
    }

    /// A folder of the lasting state.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.arguments.state.join(name)
    }
}

/// The user `remand`, read from passwd(5): a static program cannot ask the name service.
fn user_remand() -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with("remand:"))?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    Some((ids.next()?.ok()?, ids.next()?.ok()?))
}
