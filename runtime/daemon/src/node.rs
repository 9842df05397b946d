//! What all connections share: the workshop, the ledger, the tenants, the executions that run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use remand_authority::permit::Permit;
use remand_authority::session::Tenancy;
use remand_engine::scheduler::Task;
use remand_ledger::{Ack, AppendError, Ledger, Transaction};
use remand_model::grant::TokenId;
use remand_model::outcome::ExecutionResult;
use remand_model::quota::Charge;
use remand_model::refusal::{Code, Refusal};
use remand_model::{ExecutionId, TenantId};
use tokio::sync::{Notify, watch};

use crate::admission::{Admission, Place};
use crate::authority::Registries;
use crate::config::Config;
use crate::execution::Workshop;
use crate::membership::Membership;
use crate::mend::Mending;
use crate::notary::Notary;
use crate::order::Ground;
use crate::plans::{StepTable, refusal_of};

/// The node. Clones share it.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

/// What the clones share.
pub struct Inner {
    /// The configuration.
    pub config: Config,
    /// Where executions are made.
    pub workshop: Workshop,
    /// What orders are built on.
    pub ground: Ground,
    /// The record.
    pub ledger: Ledger,
    /// Who signs it.
    pub notary: Notary,
    /// Who may do what.
    pub registries: Registries,
    /// The cluster.
    pub membership: Membership,
    /// Who runs next.
    pub admission: Admission,
    /// What the steps of plans hand from one to the other: receipts of starts, results that wait for their record.
    pub steps: StepTable,
    /// What a failed write has left.
    pub mending: Mending,
    /// Connections that are open.
    pub connections: AtomicUsize,
    /// Rung when a connection ends.
    pub left: Notify,
    /// Whether the daemon ends: nothing is let in any more, and conversations end with the request that they carry out.
    pub ending: watch::Sender<bool>,
    /// Rung when the daemon is to end.
    pub end: Notify,
    leases: AtomicU64,
    running: Mutex<HashMap<(TenantId, ExecutionId), Arc<Execution>>>,
}

/// An execution of this life of the daemon.
pub struct Execution {
    /// Rung to end it.
    pub cancel: Arc<Notify>,
    /// The token that it was started with.
    pub token_id: TokenId,
    /// Its result, once it has one.
    pub result: watch::Sender<Option<Arc<ExecutionResult>>>,
}

impl std::ops::Deref for Node {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Node {
    /// A node that nobody is connected to yet.
    #[must_use]
    pub fn new(
        config: Config,
        workshop: Workshop,
        ground: Ground,
        ledger: Ledger,
        notary: Notary,
        registries: Registries,
    ) -> Self {
        let admission = Admission::new(config.site.scheduler.strategy().make(), config.bounds);
        let membership = Membership::of_one(&config, &notary);
        Self(Arc::new(Inner {
            membership,
            admission,
            config,
            workshop,
            ground,
            ledger,
            notary,
            registries,
            steps: StepTable::default(),
            mending: Mending::default(),
            connections: AtomicUsize::new(0),
            left: Notify::new(),
            ending: watch::Sender::new(false),
            end: Notify::new(),
            leases: AtomicU64::new(1),
            running: Mutex::new(HashMap::new()),
        }))
    }

    /// How a tenant stands.
    #[must_use]
    pub fn tenancy(&self, tenant: &TenantId) -> Tenancy {
        self.registries.tenancy(tenant)
    }

    /// The number of the next lease.
    #[must_use]
    pub fn next_epoch(&self) -> u64 {
        self.leases.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a transaction durable.
    ///
    /// # Errors
    /// A refusal: nothing was written.
    pub async fn append(&self, transaction: Transaction) -> Result<Ack, Refusal> {
        self.append_charged(transaction, &[]).await
    }

    /// Makes a transaction durable in which counters move: at once, whether or not anybody waits for what this gives.
    ///
    /// # Errors
    /// A charge's own refusal where its counter cannot move; nothing was written.
    pub fn append_charged(
        &self,
        transaction: Transaction,
        charges: &[Charge],
    ) -> impl Future<Output = Result<Ack, Refusal>> + use<> {
        let charges = charges.to_vec();
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.ledger.try_submit(
            transaction,
            Box::new(move |result| {
                if done.send(result).is_err() {
                    tracing::warn!("nobody waited for an event that is durable now");
                }
            }),
        );
        async move {
            let result = outcome.await.unwrap_or(Err(AppendError::Closed));
            result.map_err(|error| refusal_of(error, &charges))
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<(TenantId, ExecutionId), Arc<Execution>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a permitted execution into the table of those that wait or run.
    ///
    /// # Errors
    /// `conflict` where it is there already, `draining`.
    pub fn enter(&self, permit: &Permit, id: &ExecutionId) -> Result<Arc<Execution>, Refusal> {
        let mut table = self.table();
        if *self.ending.borrow() {
            return Err(Refusal::new(Code::Draining, "the daemon ends").retry_after(1000));
        }
        let key = (permit.tenant_id().clone(), id.clone());
        if table.contains_key(&key) {
            return Err(Refusal::new(Code::Conflict, format!("{id} runs already")));
        }
        let (cancel, result) = (Arc::new(Notify::new()), watch::Sender::new(None));
        let execution = Arc::new(Execution { cancel, token_id: permit.token_id().clone(), result });
        table.insert(key, Arc::clone(&execution));
        Ok(execution)
    }

    /// Lines an execution up that was permitted.
    ///
    /// # Errors
    /// `queue_full` with a hint.
    pub fn line_up(&self, permit: &Permit, id: &ExecutionId, priority: u8) -> Result<Place, Refusal> {
        let task = Task {
            task_id: id.clone(),
            tenant_id: permit.tenant_id().clone(),
            cost_ms: permit.reserved().cpu_ms,
            priority,
            demand: *permit.reserved(),
        };
        self.admission.line_up(task, &self.registries.authority().quotas)
    }

    /// The execution, where it waits or runs.
    #[must_use]
    pub fn running(&self, tenant: &TenantId, id: &ExecutionId) -> Option<Arc<Execution>> {
        self.table().get(&(tenant.clone(), id.clone())).cloned()
    }

    /// Ids of the tenant's executions that wait or run.
    #[must_use]
    pub fn running_of(&self, tenant: &TenantId) -> Vec<ExecutionId> {
        let mut ids: Vec<_> = self.table().keys().filter(|(of, _)| of == tenant).map(|(_, id)| id.clone()).collect();
        ids.sort();
        ids
    }

    /// How many executions wait or run.
    #[must_use]
    pub fn running_count(&self) -> usize {
        self.table().len()
    }

    /// Beginnings of the names of the cells of executions that run.
    #[must_use]
    pub fn claimed(&self) -> Vec<String> {
        self.table().keys().map(|(_, id)| id.as_str()[5..21].to_owned()).collect()
    }

    /// Lets nothing in any more and ends every execution.
    pub fn end_all(&self) {
        self.ending.send_replace(true);
        self.table().values().for_each(|execution| execution.cancel.notify_one());
    }

    /// Ends every execution of a tenant.
    pub fn cancel_of(&self, tenant: &TenantId) {
        self.table()
            .iter()
            .filter(|((of, _), _)| of == tenant)
            .for_each(|(_, execution)| execution.cancel.notify_one());
    }

    /// The tenant's executions that wait or run under this token.
    #[must_use]
    pub fn running_under(&self, tenant: &TenantId, token: &TokenId) -> Vec<(ExecutionId, Arc<Execution>)> {
        let table = self.table();
        let under = table.iter().filter(|((of, _), execution)| of == tenant && execution.token_id == *token);
        under.map(|((_, id), execution)| (id.clone(), Arc::clone(execution))).collect()
    }

    /// That what was permitted may still start: its tenant works, its token was not revoked while it waited.
    ///
    /// # Errors
    /// `tenant_suspended`, `tenant_unknown`, `token_revoked`.
    pub fn still_permitted(&self, permit: &Permit) -> Result<(), Refusal> {
        self.active(permit.tenant_id())?;
        match self.registries.authority().tokens.is_revoked(permit.token_id()) {
            true => Err(Refusal::new(Code::TokenRevoked, permit.token_id().as_str())),
            false => Ok(()),
        }
    }

    /// Takes an execution out of the table and tells whoever waits for it.
    pub fn leave(&self, tenant: &TenantId, id: &ExecutionId, result: Option<Arc<ExecutionResult>>) {
        if let Some(execution) = self.table().remove(&(tenant.clone(), id.clone())) {
            execution.result.send_replace(result);
        }
        self.left.notify_one();
    }
}
