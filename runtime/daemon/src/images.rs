//! Root images and programs: a tenant's blob becomes a folder, or a file that can be executed, once, at the first execution
//! that asks for it.
//!
//! Both are named by the digest of the blob's bytes and shared; who may use them is decided by who has the blob.

use std::fs::{File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use remand_image::Bounds;
use remand_ledger::blob::BlobError;
use remand_model::refusal::{Code, Refusal};
use remand_model::run::RootChoice;
use remand_model::{Digest, TenantId};

use crate::node::Node;
use crate::notary::chain;

/// One at a time: unpacking takes memory for its window, and the same image must not be unpacked twice at once.
static UNPACKING: Mutex<()> = Mutex::new(());

/// Makes sure that the image which a request names is unpacked. Blocks for as long as that takes.
///
/// # Errors
/// A refusal: the tenant has no such blob, or it is no image.
pub fn unpack(node: &Node, tenant: &TenantId, root: &RootChoice) -> Result<(), Refusal> {
    let RootChoice::Image { sha256 } = root else { return Ok(()) };
    let invalid = |detail: String| Refusal::new(Code::ContractInvalid, format!("image {sha256}: {detail}"));
    let digest: Digest = sha256.parse().map_err(|error| invalid(format!("{error}")))?;
    let blob = node.workshop.blobs.hold(tenant, &digest).map_err(unusable)?;
    let place = node.ground.images.join(digest.to_hex());
    if place.is_dir() {
        return touch(&place);
    }
    crate::threads::blocking(|| {
        let alone = UNPACKING.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_dir() {
            return Ok(());
        }
        let file = node.workshop.blobs.open_blob(tenant, &digest).map_err(unusable)?;
        let unpacked =
            remand_image::unpack(file, &place, &Bounds::default()).map_err(|error| invalid(chain(&error)))?;
        tracing::info!(%digest, ?unpacked, "an image is unpacked");
        drop((blob, alone));
        Ok(())
    })
}

/// The file that can be shown in boxes as a program with these bytes. Blocks while it is copied, the first time.
///
/// # Errors
/// A refusal: the tenant has no such blob, or there is no room for it.
pub fn program(node: &Node, tenant: &TenantId, digest: &Digest) -> Result<PathBuf, Refusal> {
    // Boxes read and execute it as others; nobody writes it.
    const MODE: u32 = 0o555;
    let blob = node.workshop.blobs.hold(tenant, digest).map_err(unusable)?;
    let place = node.ground.images.join(format!("program-{}", digest.to_hex()));
    crate::threads::blocking(|| {
        let alone = UNPACKING.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_file() {
            return touch(&place).map(|()| place);
        }
        let mut bytes = node.workshop.blobs.open_blob(tenant, digest).map_err(unusable)?;
        let fresh = place.with_extension("new");
        let mut copy = || {
            let mut file = File::create(&fresh)?;
            std::io::copy(&mut bytes, &mut file)?;
            file.set_permissions(Permissions::from_mode(MODE))?;
            file.sync_all()?;
            std::fs::rename(&fresh, &place)
        };
        let copied = copy();
        drop((blob, alone));
        let failed = |error| Refusal::new(Code::Internal, format!("program {digest}: {error}"));
        copied.map(|()| place).map_err(failed)
    })
}

/// Removes what was unpacked here and not used for a day, as long as nothing runs or waits; it is unpacked again when asked for.
/// Returns how many there were.
///
/// # Errors
/// A refusal: the folder cannot be read, or one of them not be removed.
pub fn collect(node: &Node, dry_run: bool) -> Result<u64, Refusal> {
    const UNUSED: Duration = Duration::from_secs(24 * 3600);
    let alone = UNPACKING.lock().unwrap_or_else(PoisonError::into_inner);
    if node.running_count() > 0 {
        return Ok(0);
    }
    let failed = |error: &dyn std::fmt::Display| Refusal::new(Code::Internal, format!("unpacked images: {error}"));
    let mut count = 0;
    for entry in std::fs::read_dir(&node.ground.images).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let facts = entry.metadata().map_err(|error| failed(&error))?;
        let used = facts.accessed().and_then(|time| time.elapsed().map_err(std::io::Error::other));
        if used.is_ok_and(|used| used < UNUSED) {
            continue;
        }
        count += 1;
        if dry_run {
            continue;
        }
        if facts.is_dir() {
            // What is no image any more was removed by somebody else.
            remand_image::remove(&entry.path()).map(|_| ()).map_err(|error| failed(&chain(&error)))?;
        } else {
            std::fs::remove_file(entry.path()).map_err(|error| failed(&error))?;
        }
    }
    drop(alone);
    Ok(count)
}

/// Notes that it is used now: what is not used for long is collected.
fn touch(place: &Path) -> Result<(), Refusal> {
    let times = FileTimes::new().set_accessed(SystemTime::now());
    let touched = File::open(place).and_then(|file| file.set_times(times));
    touched.map_err(|error| Refusal::new(Code::Internal, format!("{}: {error}", place.display())))
}

/// What a client hears of a blob that cannot be used.
#[must_use]
pub fn unusable(error: BlobError) -> Refusal {
    let code = match error {
        BlobError::Missing { .. } => Code::NotFound,
        BlobError::TooLong { .. } => Code::TooLarge,
        _ => Code::Internal,
    };
    Refusal::new(code, chain(&error))
}
