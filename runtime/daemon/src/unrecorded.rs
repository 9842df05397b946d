//! What a client hears where something could not be recorded: the only place that knows.

use remand_ledger::{AppendError, Refusal as LedgerRefusal};
use remand_model::refusal::{Code, Refusal};

use crate::notary::chain;

/// How long a client should wait that met a full queue, in milliseconds.
const QUEUE_WAIT_MS: u64 = 100;

/// The refusal that a failed append is.
#[must_use]
pub fn refusal(error: &AppendError) -> Refusal {
    let code = match error {
        AppendError::Busy => return Refusal::new(Code::QueueFull, error.to_string()).retry_after(QUEUE_WAIT_MS),
        AppendError::Refused(LedgerRefusal::Quota { .. }) => Code::QuotaTooSmall,
        AppendError::Refused(_) => Code::Conflict,
        AppendError::Event(_) => Code::TooLarge,
        AppendError::Poisoned(_) | AppendError::Closed => Code::AuditUnavailable,
    };
    Refusal::new(code, chain(error))
}
