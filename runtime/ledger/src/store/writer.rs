//! The one writer: gives places, decides conditions, commits a group with one sync, and only then acknowledges.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use remand_model::event::{Cause, EventType, Phase, Place, Prepared, Subject};
use remand_model::{ExecutionId, TenantId};

use super::ledger::{Clock, Completion, Shared};
use super::{
    Ack, AppendError, AuditStore, Chain, Condition, EVENTS_MAX, EventRow, Receipt, Refusal, Started, StateKey, StateOp,
    StateQuota, StoreError, TENANTS_MAX, Transaction,
};
use crate::merkle::leaf_hash;

/// The namespace of executions that have started and not ended: subject to the start's event id.
pub(crate) const OPEN_NAMESPACE: &str = "ledger.open";

/// The namespace of what metered namespaces hold.
const USAGE_NAMESPACE: &str = "ledger.usage";

/// A transaction whose events are spelled but for their places.
pub(super) struct Job {
    pub tenant: TenantId,
    pub events: Vec<Draft>,
    pub ops: Vec<StateOp>,
    pub done: Completion,
}

pub(super) struct Draft {
    prepared: Prepared,
    kind: EventType,
    subject: Subject,
    cause: Option<Cause>,
}

impl Job {
    pub(super) fn new(tx: Transaction, done: Completion) -> Result<Self, (AppendError, Completion)> {
        if let Err(refusal) = tx.check_alone() {
            return Err((refusal.into(), done));
        }
        let mut events = Vec::with_capacity(tx.events.len());
        for event in tx.events {
            match Prepared::new(&event) {
                Ok(prepared) => {
                    events.push(Draft { prepared, kind: event.event_type, subject: event.subject, cause: event.cause })
                }
                Err(error) => return Err((AppendError::Event(Arc::new(error)), done)),
            }
        }
        Ok(Self { tenant: tx.tenant, events, ops: tx.ops, done })
    }
}

/// What one job came to, to be said after the commit.
enum Verdict {
    Written(Vec<Receipt>, Vec<(ExecutionId, Receipt)>),
    Refused(Refusal),
}

pub(super) struct Writer {
    store: Box<dyn AuditStore>,
    chains: HashMap<TenantId, Chain>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(
        store: Box<dyn AuditStore>,
        chains: HashMap<TenantId, Chain>,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { store, chains, clock, shared }
    }

    /// Serves a batch; where that fails the ledger is poisoned, the writer gone from its desk and the queue closed.
    pub(super) fn serve_at(desk: &mut Option<Self>, batch: Vec<Job>) {
        let Some(writer) = desk else {
            return batch.into_iter().for_each(|job| (job.done)(Err(AppendError::Closed)));
        };
        if let Err(error) = writer.serve(batch) {
            writer.shared.poison(error);
            writer.shared.queue.close();
            *desk = None;
        }
    }

    fn serve(&mut self, batch: Vec<Job>) -> Result<(), StoreError> {
        let (mut verdicts, mut done) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let jobs: Vec<_> = batch
            .into_iter()
            .map(|job| {
                done.push((job.tenant.clone(), job.done));
                (job.tenant, job.events, job.ops)
            })
            .collect();
        if let Err(error) = self.write(jobs, &mut verdicts) {
            // The cause must be known before the first appender hears of it.
            let poison = self.shared.poison(error);
            done.into_iter().for_each(|(_, done)| done(Err(AppendError::Poisoned(poison.clone()))));
            return Err(StoreError::damaged("the ledger is poisoned"));
        }
        for ((tenant, done), verdict) in done.into_iter().zip(verdicts) {
            done(self.answer(tenant, verdict));
        }
        self.store.tidy()
    }

    fn answer(&self, tenant: TenantId, verdict: Verdict) -> Result<Ack, AppendError> {
        let (events, starts) = match verdict {
            Verdict::Refused(refusal) => return Err(refusal.into()),
            Verdict::Written(events, starts) => (events, starts),
        };
        let head = &self.chains[&tenant].head;
        let started = starts
            .into_iter()
            .map(|(execution, receipt)| Started::after_commit(tenant.clone(), execution, &receipt))
            .collect();
        Ok(Ack { tree_size: head.size, root: head.root, tenant, events, started })
    }

    fn write(
        &mut self,
        jobs: Vec<(TenantId, Vec<Draft>, Vec<StateOp>)>,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), StoreError> {
        let mut touched = BTreeSet::new();
        let mut written = 0;
        self.store.begin()?;
        for (tenant, events, ops) in jobs {
            let verdict = self.apply(&tenant, &events, &ops)?;
            if let Verdict::Written(receipts, _) = &verdict
                && !receipts.is_empty()
            {
                written += receipts.len() as u64;
                touched.insert(tenant);
            }
            verdicts.push(verdict);
        }
        for tenant in &touched {
            let chain = self.chains.get_mut(tenant).expect("a written tenant has a chain");
            chain.settle();
            chain.take_tiles(|key, tile| self.store.put_tile(key, tile))?;
            self.store.put_head(&chain.head)?;
        }
        self.store.commit()?;
        self.shared.count(written);
        self.shared.publish(touched.iter().map(|tenant| self.chains[tenant].view()));
        Ok(())
    }

    fn apply(&mut self, tenant: &TenantId, events: &[Draft], ops: &[StateOp]) -> Result<Verdict, StoreError> {
        let known = self.chains.len() as u32;
        let (number, size) = self.chains.get(tenant).map_or((known, 0), |chain| (chain.head.number, chain.head.size));
        if events.is_empty() && number == known {
            return Ok(Verdict::Refused(Refusal::NoEvent));
        }
        if number >= TENANTS_MAX || size + events.len() as u64 > EVENTS_MAX {
            return Ok(Verdict::Refused(Refusal::Full));
        }
        let mut state = Overlay { store: self.store.as_mut(), tenant: number, writes: Vec::new() };
        let decided = decide(&mut state, size, events, ops)?;
        let writes = state.writes;
        if let Err(refusal) = decided {
            return Ok(Verdict::Refused(refusal));
        }
        for (key, value) in &writes {
            self.store.put_state(number, key, value.as_deref())?;
        }
        self.record(tenant, number, events)
    }

    fn record(&mut self, tenant: &TenantId, number: u32, events: &[Draft]) -> Result<Verdict, StoreError> {
        if events.is_empty() {
            return Ok(Verdict::Written(Vec::new(), Vec::new()));
        }
        let chain = self.chains.entry(tenant.clone()).or_insert_with(|| Chain::new(tenant.clone(), number));
        let wall_clock_us = self.clock.wall_clock_us();
        let first = chain.head.size;
        let (mut receipts, mut starts) = (Vec::with_capacity(events.len()), Vec::new());
        for draft in events {
            let event_id = chain.head.size;
            let timestamp = chain.head.timestamp + 1;
            let causation_id = draft.cause.map(|cause| cause_id(cause, first));
            let place = Place { tenant_id: tenant, event_id, causation_id, timestamp, wall_clock_us };
            let entry = draft.prepared.at(&place);
            let leaf = leaf_hash(&entry);
            let (kind, subject) = (&draft.kind, &draft.subject);
            let row = EventRow { tenant: number, event_id, kind, subject, wall_clock_us, entry: &entry };
            self.store.put_event(&row)?;
            chain.append(leaf);
            (chain.head.timestamp, chain.head.wall_clock_us) = (timestamp, wall_clock_us);
            let receipt = Receipt { event_id, leaf };
            if let (Phase::Starts, Some(execution)) = (kind.phase(), subject.execution()) {
                starts.push((execution, receipt.clone()));
            }
            receipts.push(receipt);
        }
        Ok(Verdict::Written(receipts, starts))
    }
}

const fn cause_id(cause: Cause, first: u64) -> u64 {
    match cause {
        Cause::Event(id) => id,
        Cause::Within(place) => first + place as u64,
    }
}

/// State as a transaction sees it: the store's, under the transaction's own writes.
struct Overlay<'a> {
    store: &'a mut dyn AuditStore,
    tenant: u32,
    writes: Vec<(StateKey, Option<Vec<u8>>)>,
}

impl Overlay<'_> {
    fn get(&mut self, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.iter().rev().find(|(written, _)| written == key) {
            Some((_, value)) => Ok(value.clone()),
            None => self.store.state(self.tenant, key),
        }
    }

    fn put(&mut self, key: &StateKey, value: Option<Vec<u8>>) {
        self.writes.push((key.clone(), value));
    }
}

type Decision = Result<Result<(), Refusal>, StoreError>;

/// Decides whether a transaction may happen, and collects its writes; nothing is written here.
fn decide(state: &mut Overlay<'_>, first: u64, events: &[Draft], ops: &[StateOp]) -> Decision {
    for (place, draft) in events.iter().enumerate() {
        let own = first + place as u64;
        if draft.cause.is_some_and(|cause| cause_id(cause, first) >= own) {
            return Ok(Err(Refusal::Cause { place }));
        }
        if let Err(refusal) = decide_phase(state, own, draft)? {
            return Ok(Err(refusal));
        }
    }
    for op in ops {
        if let Err(refusal) = decide_op(state, op)? {
            return Ok(Err(refusal));
        }
    }
    Ok(Ok(()))
}

fn decide_phase(state: &mut Overlay<'_>, event_id: u64, draft: &Draft) -> Decision {
    if draft.kind.phase() == Phase::Within || draft.subject.execution().is_none() {
        return Ok(Ok(()));
    }
    let subject = draft.subject.as_str();
    let key = StateKey::reserved(OPEN_NAMESPACE, subject).expect("a subject is a state key");
    let open = state.get(&key)?.map(|value| number(&value)).transpose()?;
    match (draft.kind.phase(), open) {
        (Phase::Starts, Some(event_id)) => {
            return Ok(Err(Refusal::AlreadyStarted { subject: subject.to_owned(), event_id }));
        }
        (Phase::Starts, None) => state.put(&key, Some(event_id.to_be_bytes().to_vec())),
        (_, Some(_)) => state.put(&key, None),
        (_, None) if [EventType::EXECUTION_COMPLETED, EventType::EXECUTION_LOST].contains(&draft.kind) => {
            return Ok(Err(Refusal::NotStarted { subject: subject.to_owned() }));
        }
        (_, None) => {}
    }
    Ok(Ok(()))
}

pub(crate) fn number(value: &[u8]) -> Result<u64, StoreError> {
    let bytes = value.try_into().map_err(|_| StoreError::damaged("a counter has not eight bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn decide_op(state: &mut Overlay<'_>, op: &StateOp) -> Decision {
    match op {
        StateOp::Require { key, condition } => return decide_condition(state, key, condition),
        StateOp::Set { key, value } => state.put(key, Some(value.clone())),
        StateOp::Delete { key } => state.put(key, None),
        StateOp::SetMetered { key, value, quota } => return decide_metered(state, key, Some(value), *quota),
        StateOp::DeleteMetered { key } => {
            let quota = StateQuota { bytes_max: u64::MAX, keys_max: u64::MAX };
            return decide_metered(state, key, None, quota);
        }
        StateOp::Count { key, add, max } => return decide_count(state, key, *add, *max),
    }
    Ok(Ok(()))
}

fn decide_condition(state: &mut Overlay<'_>, key: &StateKey, condition: &Condition) -> Decision {
    let holds = condition.holds(state.get(key)?.as_deref());
    Ok(if holds { Ok(()) } else { Err(Refusal::Condition { key: key.clone() }) })
}

fn decide_count(state: &mut Overlay<'_>, key: &StateKey, add: i64, max: u64) -> Decision {
    let used = state.get(key)?.map_or(Ok(0), |value| number(&value))?;
    // Giving back is always possible: a limit that was lowered meanwhile must not keep what it forbids in use.
    let next = used.checked_add_signed(add).filter(|next| add <= 0 || *next <= max);
    match next {
        None => Ok(Err(Refusal::Counter { key: key.clone(), used, add, max })),
        Some(next) => {
            state.put(key, Some(next.to_be_bytes().to_vec()));
            Ok(Ok(()))
        }
    }
}

fn decide_metered(state: &mut Overlay<'_>, key: &StateKey, value: Option<&Vec<u8>>, quota: StateQuota) -> Decision {
    let meter = StateKey::reserved(USAGE_NAMESPACE, key.namespace()).expect("a namespace is a state key");
    let (bytes, keys) = usage(state.get(&meter)?.as_deref())?;
    let weigh = |value: &[u8]| (key.key().len() + value.len()) as u64;
    let old = state.get(key)?;
    let (old_bytes, old_keys) = old.as_deref().map_or((0, 0), |old| (weigh(old), 1));
    let (new_bytes, new_keys) = value.map_or((0, 0), |new| (weigh(new), 1));
    let short = || StoreError::damaged(format!("the meter of {key} counts less than there is"));
    let bytes = bytes.checked_sub(old_bytes).ok_or_else(short)? + new_bytes;
    let keys = keys.checked_sub(old_keys).ok_or_else(short)? + new_keys;
    if (bytes > quota.bytes_max && new_bytes > old_bytes) || (keys > quota.keys_max && new_keys > old_keys) {
        let (bytes_max, keys_max) = (quota.bytes_max, quota.keys_max);
        return Ok(Err(Refusal::Quota { key: key.clone(), bytes, bytes_max, keys, keys_max }));
    }
    state.put(&meter, Some([bytes.to_be_bytes(), keys.to_be_bytes()].concat()));
    state.put(key, value.cloned());
    Ok(Ok(()))
}

fn usage(value: Option<&[u8]>) -> Result<(u64, u64), StoreError> {
    let Some(value) = value else { return Ok((0, 0)) };
    let (bytes, keys) = value.split_at_checked(8).ok_or_else(|| StoreError::damaged("a meter is cut short"))?;
    Ok((number(bytes)?, number(keys)?))
}

/// Where the writer is found, by its own thread or by a lone appender that works in its place: one at a time.
pub(super) type Desk = Mutex<Option<Writer>>;

/// The writer's own thread: works until the queue is closed and empty, or a write fails.
pub(super) fn work(desk: &Desk, shared: &Arc<Shared>) {
    let closing = CloseOnExit(shared.clone());
    while shared.queue.wait_for_work() {
        let Ok(mut desk) = desk.lock() else { return };
        if desk.is_none() {
            return;
        }
        let Some(batch) = shared.queue.take() else { break };
        Writer::serve_at(&mut desk, batch);
    }
    drop(closing);
    if let Some(Err(error)) = desk.lock().ok().and_then(|mut desk| desk.take()).map(|writer| writer.store.close()) {
        shared.poison(error);
    }
}

/// Whatever ends the writer, nobody may wait for it afterwards.
struct CloseOnExit(Arc<Shared>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        self.0.queue.close();
        let cause = self.0.refusal();
        self.0.queue.drain().into_iter().for_each(|job| (job.done)(Err(cause.clone())));
    }
}
