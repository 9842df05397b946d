//! Which pool of host ids an instance has: no two instances of this machine share one.
//!
//! The usual instance has the first pool. Any other takes one of the rest: a file of each says which instance has it, by its
//! run folder, whose lock says whether that instance, or a spawner of it that still clears up, is there.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::boot::LOCK_NAME;

/// Pools beside the usual instance's.
pub const POOLS: u32 = 64;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Every pool has its instance.
    #[error("{POOLS} instances run beside the usual one, and there are ids for no more; stop one of them")]
    None,
    /// A file.
    #[error("{path}: {source}; remove the folder, or correct its owner, while no instance runs")]
    Path {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The pool that the instance with the run folder `run` has from now on, its usual one if it is free. `run` is locked by it.
///
/// # Errors
/// [`PoolError`].
pub fn reserve(folder: &Path, run: &Path, usual: u32) -> Result<u32, PoolError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| PoolError::Path { path, source }
    };
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let guard = folder.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&guard).map_err(at(&guard))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| at(&guard)(errno.into()))?;
    for number in (0..POOLS).map(|step| (usual + step) % POOLS) {
        let path = folder.join(number.to_string());
        let holder = match std::fs::read(&path) {
            Ok(bytes) => PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => PathBuf::new(),
            Err(error) => return Err(at(&path)(error)),
        };
        if holder == run || !lives(&holder) {
            let written = File::create(&path).and_then(|mut file| file.write_all(run.as_os_str().as_bytes()));
            return written.map(|()| number).map_err(at(&path));
        }
    }
    Err(PoolError::None)
}

/// Whether anybody holds the lock of the instance in `run`.
fn lives(run: &Path) -> bool {
    let Ok(lock) = File::open(run.join(LOCK_NAME)) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(folder: &Path, name: &str) -> (PathBuf, File) {
        let run = folder.join(name);
        std::fs::create_dir_all(&run).expect("our own folder");
        let lock = File::create(run.join(LOCK_NAME)).expect("our own folder");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else has it");
        (run, lock)
    }

    #[test]
    fn two_instances_never_have_the_same_pool_and_what_ended_leaves_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let pools = folder.path().join("pools");
        let (first, lock) = instance(folder.path(), "first");
        let (second, _held) = instance(folder.path(), "second");
        assert_eq!(reserve(&pools, &first, 7).expect("free"), 7);
        assert_eq!(reserve(&pools, &first, 7).expect("its own"), 7);
        assert_eq!(reserve(&pools, &second, 7).expect("the next one"), 8);
        drop(lock);
        let (third, _held) = instance(folder.path(), "third");
        assert_eq!(reserve(&pools, &third, 7).expect("free again"), 7);
    }

    #[test]
    fn where_all_pools_are_taken_nothing_starts() {
        let folder = tempfile::tempdir().expect("a folder");
        let pools = folder.path().join("pools");
        let held: Vec<_> = (0..POOLS).map(|n| instance(folder.path(), &n.to_string())).collect();
        let all: std::collections::BTreeSet<u32> =
            held.iter().map(|(run, _)| reserve(&pools, run, 63).expect("one is left")).collect();
        assert_eq!(all.len(), POOLS as usize);
        let (late, _held) = instance(folder.path(), "late");
        assert!(matches!(reserve(&pools, &late, 0), Err(PoolError::None)));
    }
}
