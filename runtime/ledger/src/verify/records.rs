//! What stands beside the entries: envelopes, proof files, and the checkpoints that the verifier remembers.

use std::collections::BTreeSet;
use std::error::Error;

use crate::checkpoint::{AllegedCheckpoint, Checkpoint};
use crate::dsse::{ENVELOPE_BYTES_MAX, Envelope};
use crate::export::{consistency_path, envelope_path, proof_path};
use crate::keys::AttestKey;
use crate::merkle;
use crate::policy_file::AcceptError;
use crate::proof::{ConsistencyProof, PROOF_BYTES_MAX, TlogProof};
use crate::record::Recorded;

use super::tree::VerifiedTree;
use super::{Export, Fault, Pace, Reason, parallel, read};

/// Checks the envelope of every recorded execution.
pub(super) fn verify_executions(
    export: &Export<'_>,
    tree: &VerifiedTree<'_>,
    recorded: &[Recorded],
    attest: &[AttestKey],
    pace: &Pace<'_>,
) -> Result<(), Fault> {
    let check =
        |tree: &mut VerifiedTree<'_>, piece: u64| check_execution(export, tree, &recorded[piece as usize], attest);
    parallel::run(pace, "executions", recorded.len() as u64, || tree.clone(), check).map(|_: Vec<()>| ())
}

fn check_execution(
    export: &Export<'_>,
    tree: &mut VerifiedTree<'_>,
    recorded: &Recorded,
    attest: &[AttestKey],
) -> Result<(), Fault> {
    let path = envelope_path(&recorded.execution_id);
    let event = Some(recorded.event_id);
    let bytes = read(export.folder, &path, ENVELOPE_BYTES_MAX as u64, event)?;
    let envelope = Envelope::parse(&bytes).map_err(|why| Fault::new(&path, event, why))?;
    let payload = envelope.verify(Some(attest)).map_err(|why| Fault::new(&path, event, why))?;
    let statement = recorded.bind(payload, &export.origin).map_err(|why| Fault::new(&path, event, why))?;
    let audit = &statement.observations.audit;
    if merkle::root(tree, audit.tree_size)? == audit.root_hash {
        return Ok(());
    }
    Err(Fault::new(&path, event, Reason::StatementRoot(audit.tree_size)))
}

/// Checks every inclusion proof.
pub(super) fn verify_proofs(
    export: &Export<'_>,
    tree: &VerifiedTree<'_>,
    proofs: &BTreeSet<u64>,
    pace: &Pace<'_>,
) -> Result<(), Fault> {
    let proofs: Vec<u64> = proofs.iter().copied().collect();
    let check = |tree: &mut VerifiedTree<'_>, piece: u64| check_proof(export, tree, proofs[piece as usize]);
    parallel::run(pace, "inclusion proofs", proofs.len() as u64, || tree.clone(), check).map(|_: Vec<()>| ())
}

fn check_proof(export: &Export<'_>, tree: &mut VerifiedTree<'_>, index: u64) -> Result<(), Fault> {
    let path = proof_path(index);
    let bytes = read(export.folder, &path, PROOF_BYTES_MAX as u64, Some(index))?;
    let fault = |why: Box<dyn Error + Send + Sync>| Fault::new(&path, Some(index), why);
    let proof = TlogProof::parse(&bytes).map_err(|why| fault(why.into()))?;
    if proof.index() != index {
        return Err(fault(Reason::Name.into()));
    }
    check_checkpoint(export, tree, proof.checkpoint(), &path)?;
    let leaf = tree.leaf(index)?;
    proof.verify_path(&leaf).map_err(|why| fault(why.into()))
}

/// Checks every consistency proof.
pub(super) fn verify_consistency(
    export: &Export<'_>,
    tree: &VerifiedTree<'_>,
    pairs: &BTreeSet<(u64, u64)>,
    pace: &Pace<'_>,
) -> Result<(), Fault> {
    let pairs: Vec<(u64, u64)> = pairs.iter().copied().collect();
    let check = |tree: &mut VerifiedTree<'_>, piece: u64| check_consistency(export, tree, pairs[piece as usize]);
    parallel::run(pace, "consistency proofs", pairs.len() as u64, || tree.clone(), check).map(|_: Vec<()>| ())
}

fn check_consistency(export: &Export<'_>, tree: &mut VerifiedTree<'_>, (old, new): (u64, u64)) -> Result<(), Fault> {
    let path = consistency_path(old, new);
    let bytes = read(export.folder, &path, PROOF_BYTES_MAX as u64, None)?;
    let proof = ConsistencyProof::parse(&bytes).map_err(|why| Fault::new(&path, None, why))?;
    if (proof.old(), proof.checkpoint().alleged().size) != (old, new) {
        return Err(Fault::new(&path, None, Reason::Name));
    }
    check_checkpoint(export, tree, proof.checkpoint(), &path)?;
    let old_root = merkle::root(tree, old)?;
    proof.verify_path(&old_root).map_err(|why| Fault::new(&path, None, why))
}

/// Checks a checkpoint inside of a proof: the export's own, or another that the policy accepts too.
fn check_checkpoint(
    export: &Export<'_>,
    tree: &mut VerifiedTree<'_>,
    alleged: &AllegedCheckpoint,
    path: &str,
) -> Result<(), Fault> {
    if alleged.to_string().as_bytes() == export.checkpoint {
        return Ok(());
    }
    let accepted = export.trust.policy.accept(alleged.clone());
    let accepted = accepted.map_err(|why: AcceptError| Fault::new(path, None, why))?;
    check_history(export, tree, accepted.signed().checkpoint(), path)
}

/// Checks a checkpoint that the verifier remembers: the log's key must have signed it, and this log must extend it.
pub(super) fn verify_earlier(
    export: &Export<'_>,
    tree: &mut VerifiedTree<'_>,
    number: usize,
    bytes: &[u8],
) -> Result<(), Fault> {
    let path = format!("earlier checkpoint {number}");
    let alleged = AllegedCheckpoint::parse(bytes).map_err(|why| Fault::new(&path, None, why))?;
    let signed = export.trust.policy.accept_unwitnessed(alleged).map_err(|why| Fault::new(&path, None, why))?;
    check_history(export, tree, signed.checkpoint(), &path)
}

fn check_history(
    export: &Export<'_>,
    tree: &mut VerifiedTree<'_>,
    earlier: &Checkpoint,
    path: &str,
) -> Result<(), Fault> {
    let size = export.head.size;
    if earlier.origin != export.head.origin {
        return Err(Fault::new(path, None, Reason::Name));
    }
    if earlier.size > size {
        return Err(Fault::new(path, None, Reason::RolledBack { earlier: earlier.size, size }));
    }
    let found = merkle::root(tree, earlier.size)?;
    if found != earlier.root {
        let reason = Reason::Rewritten { size: earlier.size, signed: earlier.root, found };
        return Err(Fault::new(path, None, reason));
    }
    Ok(())
}
