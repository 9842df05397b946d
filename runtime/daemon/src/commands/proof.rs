//! Proofs of executions, and replays.

use remand_authority::table::Action;
use remand_ledger::dsse::Envelope;
use remand_ledger::notary::NotaryError;
use remand_model::ExecutionId;
use remand_model::canonical;
use remand_model::envelope::Command;
use remand_model::refusal::{Code, Refusal};
use serde::Deserialize;

use crate::conversation::{Call, Reply};
use crate::cosign;
use crate::node::Node;
use crate::notary::refusal;
use crate::replay;

pub fn action(command: Command) -> Option<Action> {
    match command {
        Command::Proof => Some(Action::ExecutionProof),
        Command::Replay => Some(Action::ExecutionReplay),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    execution_id: ExecutionId,
    #[serde(default)]
    format: Format,
}

/// What a proof is wanted as.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Envelope, inclusion proof and event, to be verified offline.
    #[default]
    Bundle,
    /// A SLSA provenance statement in an envelope of its own.
    Slsa,
}

pub async fn carry_out(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let tenant = super::tenant(call)?;
    let named: Named = super::read(&call.payload)?;
    if call.header.command == Command::Replay {
        let found = replay::replay(node, call, reply, &named.execution_id).await?;
        reply.answer(&found).await;
        return Ok(());
    }
    let id = &named.execution_id;
    if node.running(&tenant, id).is_some() {
        return Err(Refusal::new(Code::Conflict, "it still runs: wait for its end").retry_after(500));
    }
    let unknown = || refusal(NotaryError::NotRecorded(id.clone()));
    node.ledger.head(&tenant).ok_or_else(unknown)?;
    if let Format::Slsa = named.format {
        let found = crate::threads::blocking(|| node.ledger.get_provenance(&tenant, id)).map_err(refusal)?;
        let view = found.ok_or_else(unknown)?.statement.slsa_view();
        return answer(reply, &Envelope::sign(view, node.notary.attest()).to_bytes()).await;
    }
    let checkpoint = cosign::checkpoint(node, &tenant).await?;
    let proof = crate::threads::blocking(|| node.ledger.execution_proof(&tenant, id, &checkpoint));
    answer(reply, &proof.map_err(refusal)?.to_bytes()).await
}

async fn answer(reply: &Reply, bytes: &[u8]) -> Result<(), Refusal> {
    let document = canonical::parse(bytes).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    reply.answer(&document).await;
    Ok(())
}
