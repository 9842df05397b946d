//! The serving stage: no privilege, tokio, one thread for each connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remand_ledger::Ledger;
use remand_ledger::blob::BlobStore;
use remand_policy::Library;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::authority::Registries;
use crate::boot::Booted;
use crate::conversation::converse;
use crate::execution::Workshop;
use crate::limits;
use crate::node::Node;
use crate::notary::Notary;
use crate::order::Ground;
use crate::shelf::Shelf;
use crate::slots::Slots;
use crate::spawner::Spawners;

/// Why serving ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The ledger.
    #[error("the ledger cannot be opened: {}", crate::notary::chain(.0))]
    Ledger(#[from] remand_ledger::store::OpenError),
    /// The blobs.
    #[error("the blobs cannot be opened: {0}")]
    Blobs(#[from] remand_ledger::store::StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] crate::notary::KeysError),
    /// What an earlier life left open.
    #[error("what was running when the runtime went down cannot be closed: {0}")]
    Lost(remand_model::refusal::Refusal),
    /// The registries.
    #[error("the registries of tenants, tokens, domains and contracts cannot be read back: {0:?}")]
    Registries(remand_model::refusal::Refusal),
    /// The witness.
    #[error(transparent)]
    Witness(#[from] crate::witness::WitnessError),
    /// A log is shorter than a witness remembers it.
    #[error("{0}")]
    RolledBack(remand_model::refusal::Refusal),
    /// The runtime's own descriptors.
    #[error("cannot serve: {0}")]
    Io(#[from] std::io::Error),
}

/// Serves until it is told to end.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(booted: Booted, ready: impl FnOnce()) -> Result<(), ServeError> {
    let Booted { config, lock, listener, spawners, tree, backend, swept, landlock_abi, admin_token } = booted;
    for leftover in &swept {
        tracing::warn!(?leftover, "an earlier life had left this; it is gone now");
    }
    let ledger = Ledger::open(&config.state("ledger"), remand_ledger::store::Options::default())?;
    let notary = Notary::open(&config.state("keys"), &config.node_id, ledger.heads().is_empty())?;
    crate::export::clear(&config)?;
    if let Err(error) = remand_image::sweep(&config.state("images")) {
        tracing::warn!(%error, "what an unpacking had left is still there");
    }
    let workshop = Workshop {
        spawners: Arc::new(Spawners::new(spawners)),
        common: tokio::runtime::Handle::current(),
        tree,
        slots: Slots::new(config.ids_first, config.ids_cells),
        blobs: BlobStore::open(&config.state("blobs"), ledger.clone())?,
        backend,
        housed: Arc::default(),
        walls: Arc::default(),
        cells: config.cells.clone(),
        counter: Arc::new(AtomicU64::new(0)),
    };
    let library = config.arguments.policies.as_ref().map_or_else(Library::built_in, Library::with_folder);
    let ground = Ground { library, landlock_abi, images: config.state("images"), shelf: Shelf::default() };
    let registries = Registries::new(notary.token_seed()).map_err(ServeError::Registries)?;
    let node = Node::new(config, workshop, ground, ledger, notary, registries);
    crate::witness::listen(&node).await?;
    // Before anything is appended: a log that was rolled back is not to grow.
    crate::cosign::compare_all(&node).await.map_err(ServeError::RolledBack)?;
    crate::lost::close_open(&node, crate::lost::Why::Restarted, |_, _| false).await.map_err(ServeError::Lost)?;
    node.restore().await.map_err(ServeError::Registries)?;
    if let Some(file) = admin_token {
        node.write_admin_token(file)?;
    }
    let listener = UnixListener::from_std(listener)?;
    // Before anybody hears that it is ready, and may want it to end.
    let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    ready();
    tell(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog());
    let reaper = tokio::spawn(crate::reaper::reap_the_unclaimed());
    let served = accept_all(&node, &listener, signals).await;
    tell(&[NotifyState::Stopping]);
    drain(&node).await;
    watchdog.abort();
    reaper.abort();
    drop(lock);
    Ok(served?)
}

/// Tells systemd, where it started this.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Says that the runtime still turns, twice as often as systemd asks.
async fn feed_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    loop {
        tell(&[NotifyState::Watchdog]);
        sleep(period / 2).await;
    }
}

async fn accept_all(node: &Node, listener: &UnixListener, signals: [Signal; 2]) -> std::io::Result<()> {
    let [mut term, mut int] = signals;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if node.connections.load(Ordering::Relaxed) < limits::CONNECTIONS_MAX => {
                    if let Err(error) = greet(node, socket) {
                        tracing::error!(%error, "a connection has no thread");
                    }
                }
                Ok(_) => tracing::warn!("a connection above the limit was closed"),
                Err(error) => {
                    // Out of descriptors, most likely: closing any connection helps, spinning does not.
                    tracing::error!(%error, "cannot accept");
                    sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            () = node.end.notified() => return Ok(()),
            () = node.workshop.spawners.lost() => return Err(std::io::Error::other("all spawners are gone")),
            () = idle(node), if node.config.arguments.until_idle => return Ok(()),
        }
    }
}

fn greet(node: &Node, socket: tokio::net::UnixStream) -> std::io::Result<()> {
    let socket = socket.into_std()?;
    let (own, parting) = (node.clone(), node.clone());
    let over = move || {
        parting.connections.fetch_sub(1, Ordering::Relaxed);
        parting.left.notify_one();
    };
    node.connections.fetch_add(1, Ordering::Relaxed);
    let talk = move || async move {
        match tokio::net::UnixStream::from_std(socket) {
            Ok(socket) => converse(own, socket).await,
            Err(error) => tracing::error!(%error, "a connection cannot be waited for"),
        }
    };
    crate::threads::alone(talk, over).inspect_err(|_| {
        node.connections.fetch_sub(1, Ordering::Relaxed);
    })
}

/// Returns when nobody is connected and nothing runs, after somebody was, or when nobody came at all.
async fn idle(node: &Node) {
    let busy = || node.connections.load(Ordering::Relaxed) > 0 || node.running_count() > 0;
    let mut wait = limits::FIRST_WAIT;
    loop {
        if timeout(wait, node.left.notified()).await.is_err() && !busy() {
            return;
        }
        wait = limits::IDLE_WAIT;
    }
}

/// Ends what waits and runs, waits until it is recorded, told and cleared away, closes the ledger.
async fn drain(node: &Node) {
    node.end_all();
    let until = async |is_left: &dyn Fn() -> bool| {
        while is_left() {
            node.left.notified().await;
        }
    };
    if timeout(limits::COLLECT_WAIT, until(&|| node.running_count() > 0)).await.is_err() {
        tracing::error!("executions did not end in time; they are closed as lost at the next start");
    }
    if timeout(limits::FAREWELL_WAIT, until(&|| node.connections.load(Ordering::Relaxed) > 0)).await.is_err() {
        tracing::warn!("a client does not take its answer in time");
    }
    // Without spawners nobody else would clear these away.
    if timeout(limits::FAREWELL_WAIT, node.workshop.slots.all_back()).await.is_err() {
        tracing::error!("not every cell could be cleared away; the next start does the rest");
    }
    if let Err(error) = node.ledger.close() {
        tracing::error!(%error, "the ledger did not close cleanly");
    }
}
