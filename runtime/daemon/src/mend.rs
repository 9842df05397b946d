//! After a failed write of the ledger: the next request has it opened anew and verified, and what nobody attends is closed.
//!
//! Until the verification passes nothing is recorded and so nothing starts. What runs meanwhile runs on; its end is recorded
//! if the ledger is whole again by then, and else it is closed as lost, as after a crash.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use remand_ledger::Transaction;
use remand_ledger::store::Reopened;
use remand_model::refusal::Refusal;
use remand_model::{ExecutionId, TenantId};
use tokio::time::{Instant, sleep_until};

use crate::authority::{NODE, tenant_named};
use crate::limits;
use crate::lost::{self, Why};
use crate::node::Node;
use crate::notary::chain;
use crate::registry::own_event;

/// What is to be put right.
#[derive(Default)]
pub struct Mending {
    /// Something is left to be closed or read back.
    unsettled: AtomicBool,
    /// Executions that nobody attends any more and whose end may not be recorded.
    orphans: Mutex<HashSet<(TenantId, ExecutionId)>>,
    /// Held by the one request that mends; the others wait for what comes of it.
    last: tokio::sync::Mutex<Option<Attempt>>,
}

struct Attempt {
    ended: Instant,
    is_hopeless: bool,
}

impl Node {
    /// Notes that nobody attends this execution any more, and that its start or end could not be recorded.
    pub fn abandon(&self, tenant: &TenantId, id: &ExecutionId) {
        let mut orphans = self.mending.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.insert((tenant.clone(), id.clone()));
        self.mending.unsettled.store(true, Ordering::Release);
    }

    /// Puts right what a failed write has left, where there is anything: opens the ledger anew, at most once in
    /// [`limits::REOPEN_PAUSE`], and closes what nobody attends. Whoever comes during an attempt or the pause before one waits
    /// for its outcome. Where it fails the ledger goes on refusing, and says why.
    pub async fn mend(&self) {
        let is_sound = || self.ledger.poisoned().is_none();
        if is_sound() && !self.mending.unsettled.load(Ordering::Acquire) {
            return;
        }
        let arrived = Instant::now();
        let mut last = self.mending.last.lock().await;
        if last.as_ref().is_some_and(|last| last.is_hopeless || last.ended >= arrived) {
            return;
        }
        let mut found = None;
        if !is_sound() {
            if let Some(last) = &*last {
                sleep_until(last.ended + limits::REOPEN_PAUSE).await;
            }
            let outcome = crate::threads::blocking(|| self.ledger.reopen());
            let is_hopeless = outcome.as_ref().is_err_and(|cause| cause.is_damage());
            *last = Some(Attempt { ended: Instant::now(), is_hopeless });
            match outcome {
                Ok(reopened) => found = reopened,
                Err(cause) => return tracing::error!(cause = chain(&*cause), "the ledger cannot be opened anew"),
            }
        }
        self.mending.unsettled.store(true, Ordering::Release);
        match self.settle_what_is_left(found.as_ref()).await {
            Ok(()) => self.mending.unsettled.store(false, Ordering::Release),
            Err(refusal) => tracing::error!(%refusal, "what a failed write has left is not put right yet"),
        }
    }

    /// Says in the node's chain that the ledger was opened anew, reads the registries back, and closes what is open.
    async fn settle_what_is_left(&self, reopened: Option<&Reopened>) -> Result<(), Refusal> {
        if let Some(Reopened { cause, unacknowledged }) = reopened {
            let cause = chain(&**cause);
            tracing::warn!(cause, unacknowledged, "the ledger was opened anew after a failed write, and is whole");
            let event = own_event("LEDGER_REOPENED", &format!("tenant:{NODE}"))?;
            let event = event.observe("cause", cause).observe("unacknowledged", unacknowledged.to_string());
            drop(self.append(Transaction::new(tenant_named(NODE)).event(event)).await?);
            let changing = self.registries.changing.lock().await;
            self.restore().await?;
            drop(changing);
        }
        let orphans = || self.mending.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        let abandoned = orphans().clone();
        let attended = |tenant: &TenantId, id: &ExecutionId| {
            !abandoned.contains(&(tenant.clone(), id.clone())) && self.attends(tenant, id)
        };
        lost::close_open(self, Why::Unrecorded, attended).await?;
        orphans().retain(|orphan| !abandoned.contains(orphan));
        Ok(())
    }

    fn attends(&self, tenant: &TenantId, id: &ExecutionId) -> bool {
        self.running(tenant, id).is_some() || self.steps.is_under_way(tenant, id)
    }
}
