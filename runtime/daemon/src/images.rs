//! Root images and programs: a tenant's blob becomes a folder, or a file that can be executed, once, at the first execution
//! that asks for it.
//!
//! Both are named by the digest of the blob's bytes and shared; who may use them is decided by who has the blob.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

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
        return Ok(());
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
            return Ok(place);
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
