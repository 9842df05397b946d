//! `run`: a request becomes an order, is recorded, executed, recorded again, and only then answered.

use std::sync::Arc;

use remand_authority::contracts::Validated;
use remand_authority::permit::Permit;
use remand_model::canonical::Object;
use remand_model::contract::Contract;
use remand_model::envelope::{Command, STREAM_BYTES_MAX};
use remand_model::outcome::{Cause, Enforced, ExecutionResult};
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::run::{RootChoice, RunRequest};
use remand_model::{ExecutionId, TenantId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::admission::{NotStarted, Place};
use crate::authority::Credential;
use crate::capture::Watcher;
use crate::commands;
use crate::conversation::{Call, Reply};
use crate::execution::{Executed, Input, Ticket};
use crate::node::{Execution, Node};
use crate::order::{Order, OrderError};
use crate::presence::{self, Work};
use crate::{contracts, images, journal, limits, lost};

/// An order that may be carried out, with the id that its claims give it.
pub struct Prepared {
    /// The order.
    pub order: Order,
    /// The request, as it is kept.
    pub request: Vec<u8>,
    /// The claims.
    pub claims: Object,
    /// The id.
    pub id: ExecutionId,
    /// The contract: the one that the request names, or the one that it amounts to.
    pub contract: Arc<Validated<Contract>>,
    /// More is more urgent.
    pub priority: u8,
    /// Whether it is recorded that it waits.
    pub is_promised: bool,
}

/// Leave to run, a place in the line, and an entry in the table of what waits or runs.
pub struct Admitted {
    permit: Permit,
    place: Place,
    execution: Arc<Execution>,
    /// Rung when the start is durable, where somebody waits for that.
    begun: Option<oneshot::Sender<()>>,
}

/// Builds the order of a request.
///
/// # Errors
/// What is wrong with the request.
pub fn prepare(node: &Node, tenant: &TenantId, request: &RunRequest) -> Result<Prepared, Refusal> {
    let named = request.contract.as_ref().map(|choice| node.contract(tenant, choice)).transpose()?;
    let priority = request.priority;
    let own = named.as_ref().map(|contract| contracts::request_of(contract, request.request_id.clone()));
    let request = own.as_ref().unwrap_or(request);
    check(request)?;
    images::unpack(node, tenant, &request.root)?;
    let order = Order::new(request, &node.ground).map_err(|error| match error {
        OrderError::Policy(error) => Refusal::new(Code::ContractInvalid, error.to_string()),
        OrderError::Request(detail) => Refusal::new(Code::ContractInvalid, detail),
    });
    let mut order = order?;
    let bytes = journal::request_bytes(request)?;
    let contract = match named {
        Some(contract) => {
            contracts::apply(node, tenant, contract.contract(), &mut order)?;
            contract
        }
        None => contracts::of_request(node, request, &bytes, &order)?,
    };
    let claims = journal::claims(tenant, &bytes, &order);
    let id = journal::execution_id(&claims);
    Ok(Prepared { order, request: bytes, claims, id, contract, priority, is_promised: false })
}

/// Bounds that the codec of the wall would refuse later, with a better word.
fn check(request: &RunRequest) -> Result<(), Refusal> {
    let invalid = |detail: &str| Err(Refusal::new(Code::ContractInvalid, detail));
    let texts = request.argv.iter().chain(request.environment.keys()).chain(request.environment.values());
    if request.argv.first().is_none_or(String::is_empty) {
        return invalid("there is no program to run");
    }
    if texts.clone().any(|text| text.contains('\0')) {
        return invalid("an argument or variable holds a NUL byte");
    }
    if request.argv.len() + request.environment.len() > 2048 || texts.map(String::len).sum::<usize>() > 512 << 10 {
        return invalid("arguments and environment are more than 2048 texts or 512 KiB together");
    }
    let plain = |path: &str| {
        path.len() <= remand_model::contract::PATH_BYTES_MAX && remand_spec::vet::is_plain(path.as_bytes())
    };
    if matches!(&request.root, RootChoice::Folder { path } if !plain(path)) {
        return invalid("the root is not an absolute path of at most 4095 bytes without . and ..");
    }
    if !request.folder.as_deref().is_none_or(plain) {
        return invalid("the working folder is not an absolute path of at most 4095 bytes without . and ..");
    }
    let mut volumes = request.volumes.iter();
    if !volumes.all(|volume| plain(&volume.source) && plain(&volume.target) && volume.target != "/") {
        return invalid("a volume's paths are not absolute paths of at most 4095 bytes without . and ..");
    }
    match request.volumes.iter().find_map(|volume| misplaced(&volume.target)) {
        Some(why) => invalid(&why),
        None => Ok(()),
    }
}

/// Why nothing of the caller's can be shown at this place, or nothing.
fn misplaced(target: &str) -> Option<String> {
    const OWN: [&str; 6] = ["/proc", "/dev", "/out", "/.scratch", "/sys", "/etc"];
    const SCRATCH: [&str; 3] = ["/tmp", "/work", "/home/user"];
    let below = |place: &str| target.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
    let etc = |place: &str| place == "/etc" && below(place);
    if OWN.iter().any(|place| (target == *place || below(place)) && !etc(place)) {
        return Some(format!("a volume at {target}: that place is the box's own; choose another one, as /src"));
    }
    SCRATCH.iter().find(|place| below(place)).map(|place| {
        format!(
            "a volume at {target}: {place} is a fresh writable place; show the volume at {place} itself or elsewhere"
        )
    })
}

/// Runs a program for a client that watches.
///
/// # Errors
/// The refusal; nothing was started.
pub async fn run(node: &Node, call: &mut Call, reply: &Reply) -> Result<(), Refusal> {
    let tenant = call.tenant.clone().ok_or_else(|| Refusal::new(Code::AttachRequired, "run"))?;
    let request: RunRequest = commands::read(&call.payload)?;
    let prepared = prepare(node, &tenant, &request)?;
    if request.dry_run {
        let limits = node.workshop.cells.limits(&prepared.order.limits);
        let groups =
            node.workshop.tree.plan(&limits).map_err(|error| Refusal::new(Code::ContractInvalid, error.to_string()))?;
        reply.answer(&prepared.order.plan(groups)).await;
        return Ok(());
    }
    if let Some(kept) = journal::final_result(node, &tenant, &prepared.id)? {
        return answer_from_record(node, &tenant, &kept, &request, reply).await;
    }
    let admitted = admit(node, &*call.credential()?, &prepared)?;
    if call.header.command == Command::Submit {
        return submit(node, &tenant, prepared, admitted, reply).await;
    }
    reply.send(Command::Event, accepted(&prepared.id)).await;
    let (pieces, watcher) = Watcher::pair(limits::OUTPUT_PIECES);
    let (input_in, input) = mpsc::channel(limits::INPUT_PIECES);
    let cancel = Arc::clone(&admitted.execution.cancel);
    let work = launch(&Handle::current(), node, prepared, admitted, input, Some(pieces));
    let forwarding = tokio::spawn(presence::forward(watcher, reply.clone()));
    let outcome = presence::attend(call, reply, request.stdin.then_some(input_in), &cancel, work).await;
    let shown = forwarding.await;
    let result = outcome?;
    shown.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    conclude(node, &tenant, &result, request.want_files, reply).await
}

/// Lets an execution in: permitted, entered into the table, and lined up; or nothing of it.
///
/// # Errors
/// Those of the permit; `conflict` where it is there already; `queue_full` with a hint.
pub fn admit(node: &Node, who: &Credential, prepared: &Prepared) -> Result<Admitted, Refusal> {
    let permit = node.permit(who, prepared)?;
    let entered = node.enter(&permit, &prepared.id);
    let placed = entered.and_then(|execution| match node.line_up(&permit, &prepared.id, prepared.priority) {
        Ok(place) => Ok((place, execution)),
        Err(refusal) => {
            node.leave(&who.tenant, &prepared.id, None);
            Err(refusal)
        }
    });
    match placed {
        Ok((place, execution)) => Ok(Admitted { permit, place, execution, begun: None }),
        Err(refusal) => {
            drop(node.settle(permit, &Usage::default()));
            Err(refusal)
        }
    }
}

/// Starts the task that carries an admitted execution out and takes it out of the table again: on the thread of the
/// connection that waits for it, or on the common ones.
pub fn launch(
    on: &Handle,
    node: &Node,
    prepared: Prepared,
    admitted: Admitted,
    input: mpsc::Receiver<Input>,
    watcher: Option<Watcher>,
) -> Work {
    let Admitted { permit, place, execution, begun } = admitted;
    let (id, tenant) = (prepared.id.clone(), permit.tenant_id().clone());
    let cancel = Arc::clone(&execution.cancel);
    let ticket = Ticket { execution_id: id.clone(), tenant: tenant.clone(), input, cancel, watcher };
    let node = node.clone();
    on.spawn(async move {
        let result = execute(&node, prepared, ticket, permit, place, begun).await;
        node.leave(&tenant, &id, result.as_ref().ok().map(|result| Arc::new(result.clone())));
        if result.as_ref().is_err_and(|refusal| is_unrecorded(refusal.code)) {
            node.abandon(&tenant, &id);
        }
        result
    })
}

/// Whether something that is refused so may have an event in the chain without the one that ends it.
const fn is_unrecorded(code: Code) -> bool {
    matches!(code, Code::AuditUnavailable | Code::QueueFull | Code::Internal)
}

/// Executes for a client that waits, with an input that is there already.
///
/// # Errors
/// As [`admit`] and [`execute`].
pub async fn attended(
    node: &Node,
    call: &mut Call,
    reply: &Reply,
    prepared: Prepared,
    bytes: Vec<u8>,
) -> Result<ExecutionResult, Refusal> {
    let admitted = admit(node, &*call.credential()?, &prepared)?;
    let (sender, input) = mpsc::channel(limits::INPUT_PIECES);
    let cancel = Arc::clone(&admitted.execution.cancel);
    let work = launch(&Handle::current(), node, prepared, admitted, input, None);
    let feeding = tokio::spawn(feed(sender, bytes));
    let result = presence::attend(call, reply, None, &cancel, work).await;
    feeding.abort();
    result
}

async fn feed(sender: mpsc::Sender<Input>, bytes: Vec<u8>) {
    for piece in bytes.chunks(STREAM_BYTES_MAX) {
        if sender.send(Input::Bytes(piece.to_vec())).await.is_err() {
            return;
        }
    }
}

/// Starts a program that nobody watches; its end is recorded all the same. Its id is an acknowledgement: that it waits, or
/// that it has started, is durable before the id is given.
async fn submit(
    node: &Node,
    tenant: &TenantId,
    mut prepared: Prepared,
    admitted: Admitted,
    reply: &Reply,
) -> Result<(), Refusal> {
    let (_closed, input) = mpsc::channel(1);
    let id = prepared.id.clone();
    prepared.is_promised = admitted.place.waits();
    if prepared.is_promised
        && let Err(refusal) = node.record_queued(tenant, &prepared).await
    {
        node.leave(tenant, &id, None);
        node.abandon(tenant, &id);
        drop(node.settle(admitted.permit, &Usage::default()));
        return Err(refusal);
    }
    let state = if prepared.is_promised { "queued" } else { "running" };
    let (begun, durable) = oneshot::channel();
    let is_promised = prepared.is_promised;
    let common = node.workshop.common.clone();
    let work = launch(&common, node, prepared, Admitted { begun: Some(begun), ..admitted }, input, None);
    if !is_promised && durable.await.is_err() {
        // It did not start; what kept it from that, or how it ended before, is in the work's own result.
        work.await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))??;
        reply.answer(&serde_json::json!({"execution_id": id, "state": "ended"})).await;
        return Ok(());
    }
    let own = id.clone();
    common.spawn(async move {
        if let Ok(Err(refusal)) = work.await {
            tracing::warn!(%refusal, execution = %own, "a submitted execution was not carried out");
        }
    });
    reply.answer(&serde_json::json!({"execution_id": id, "state": state})).await;
    Ok(())
}

async fn conclude(
    node: &Node,
    tenant: &TenantId,
    result: &ExecutionResult,
    want_files: bool,
    reply: &Reply,
) -> Result<(), Refusal> {
    reply.answer(result).await;
    if want_files && let Some(pack) = &result.outputs.pack_sha256 {
        let pack = pack.parse().map_err(|_| Refusal::new(Code::Internal, "the pack's digest"))?;
        let bytes = journal::blob(node, tenant, &pack)?;
        let mut rest = bytes.as_slice();
        for file in &result.outputs.files {
            let size = usize::try_from(file.bytes).unwrap_or(usize::MAX);
            let Some((own, next)) = rest.split_at_checked(size) else {
                return Err(Refusal::new(Code::Internal, "the pack of output files is too short"));
            };
            if !reply.stream(Command::Data, own).await {
                return Ok(());
            }
            rest = next;
        }
    }
    Ok(())
}

/// The same request again is the same execution: its record answers, and nothing runs.
async fn answer_from_record(
    node: &Node,
    tenant: &TenantId,
    kept: &ExecutionResult,
    request: &RunRequest,
    reply: &Reply,
) -> Result<(), Refusal> {
    reply.send(Command::Event, accepted(&kept.execution_id)).await;
    for (command, stream) in [(Command::Stdout, &kept.outputs.stdout), (Command::Stderr, &kept.outputs.stderr)] {
        if stream.bytes > 0 {
            reply.stream(command, &journal::blob(node, tenant, &stream.sha256)?).await;
        }
    }
    conclude(node, tenant, kept, request.want_files, reply).await
}

fn accepted(id: &ExecutionId) -> Vec<u8> {
    format!("{{\"event\":\"accepted\",\"execution_id\":\"{id}\"}}").into_bytes()
}

/// Waits for the turn, records, executes, records.
///
/// # Errors
/// A refusal: nothing was started, or its end could not be recorded.
async fn execute(
    node: &Node,
    prepared: Prepared,
    ticket: Ticket,
    permit: Permit,
    place: Place,
    begun: Option<oneshot::Sender<()>>,
) -> Result<ExecutionResult, Refusal> {
    let turn = place.turn(&ticket.cancel).await;
    let turn = turn.and_then(|turn| node.still_permitted(&permit).map(|()| turn).map_err(NotStarted::Refused));
    let turn = match turn {
        Ok(turn) => turn,
        Err(why) => {
            drop(node.settle(permit, &Usage::default()));
            return not_started(node, &ticket, why).await;
        }
    };
    let placed = turn.placed();
    let executed = match node.record_start(&ticket.tenant, &prepared, &permit, &placed) {
        Ok(start) => {
            let start = async {
                let started = start.await?;
                if begun.is_some_and(|begun| begun.send(()).is_err()) {
                    tracing::debug!("nobody waits to hear of the start any more");
                }
                Ok(started)
            };
            node.workshop.execute(&prepared.order, ticket, start, &permit).await
        }
        Err(refusal) => Err(refusal),
    };
    let Executed { mut result, stored, started } = match executed {
        Ok(executed) => executed,
        Err(refusal) => {
            drop(node.settle(permit, &Usage::default()));
            return Err(refusal);
        }
    };
    drop(turn);
    let settlement = node.settle(permit, &contracts::used(&result, &prepared.order.limits));
    node.mend().await;
    node.record_end(started, &mut result, stored, &settlement)?;
    Ok(result)
}

/// Records an end before the start: a cancelled execution has a result, one that was refused may be asked for again.
async fn not_started(node: &Node, ticket: &Ticket, why: NotStarted) -> Result<ExecutionResult, Refusal> {
    let (cause, code) = match &why {
        NotStarted::Cancelled => (Cause::Cancelled, Code::ExecutionCancelled),
        NotStarted::Refused(refusal) => (Cause::Refused { reason: refusal.to_string() }, refusal.code),
    };
    let result = lost::bare(ticket.execution_id.clone(), ticket.tenant.clone(), cause, Enforced::default());
    node.record_denied(&result, code).await?;
    match why {
        NotStarted::Cancelled => Ok(result),
        NotStarted::Refused(refusal) => Err(refusal),
    }
}
