//! `run`: a request becomes an order, is recorded, executed, recorded again, and only then answered.

use std::sync::Arc;

use remand_authority::contracts::Validated;
use remand_authority::permit::Permit;
use remand_model::canonical::Object;
use remand_model::contract::Contract;
use remand_model::envelope::{Command, Frame};
use remand_model::outcome::ExecutionResult;
use remand_model::quota::Usage;
use remand_model::refusal::{Code, Refusal};
use remand_model::run::RunRequest;
use remand_model::{ExecutionId, TenantId};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};

use crate::capture::{Piece, Watcher, Which};
use crate::commands;
use crate::conversation::{Call, Reply};
use crate::execution::{Input, Ticket};
use crate::node::{Execution, Node};
use crate::order::{Order, OrderError};
use crate::{contracts, images, journal, limits};

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
}

/// Builds the order of a request.
///
/// # Errors
/// What is wrong with the request.
pub fn prepare(node: &Node, tenant: &TenantId, request: &RunRequest) -> Result<Prepared, Refusal> {
    let named = request.contract.as_ref().map(|choice| node.contract(tenant, choice)).transpose()?;
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
    Ok(Prepared { order, request: bytes, claims, id, contract })
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
    let plain = |path: &str| remand_spec::vet::is_plain(path.as_bytes());
    if !request.folder.as_deref().is_none_or(plain) {
        return invalid("the working folder is not an absolute path without . and ..");
    }
    let mut volumes = request.volumes.iter();
    if !volumes.all(|volume| plain(&volume.source) && plain(&volume.target) && volume.target != "/") {
        return invalid("a volume's paths are not absolute paths without . and ..");
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
        reply.answer(&prepared.order.plan()).await;
        return Ok(());
    }
    if node.running_count() >= limits::EXECUTIONS_MAX {
        let detail = format!("{} executions run; that is the most", limits::EXECUTIONS_MAX);
        return Err(Refusal::new(Code::QueueFull, detail).retry_after(1000));
    }
    if let Some(kept) = journal::kept_result(node, &tenant, &prepared.id)? {
        return answer_from_record(node, &tenant, &kept, &request, reply).await;
    }
    let who = call.credential()?;
    let permit = node.permit(&who, &prepared)?;
    let execution = match node.enter(&tenant, &prepared.id) {
        Ok(execution) => execution,
        Err(_running) => {
            drop(node.settle(permit, &Usage::default()));
            return Err(Refusal::new(Code::Conflict, format!("{} runs already", prepared.id)));
        }
    };
    if call.header.command == Command::Submit {
        return submit(node, &tenant, prepared, permit, &execution, reply).await;
    }
    reply.send(Command::Event, accepted(&prepared.id)).await;
    let (pieces, watcher) = Watcher::pair(limits::OUTPUT_PIECES);
    let (input_in, input) = mpsc::channel(limits::INPUT_PIECES);
    let id = prepared.id.clone();
    let ticket = Ticket {
        execution_id: id.clone(),
        tenant: tenant.clone(),
        input,
        cancel: Arc::clone(&execution.cancel),
        watcher: Some(pieces),
    };
    let work = tokio::spawn(execute(node.clone(), prepared, ticket, permit));
    let forwarding = tokio::spawn(forward(watcher, reply.clone()));
    let outcome = attend_client(call, reply, request.stdin.then_some(input_in), &execution.cancel, work).await;
    let shown = forwarding.await;
    let outcome = outcome.map_err(|error| Refusal::new(Code::Internal, error.to_string()));
    let result = outcome.and_then(|outcome| outcome).inspect_err(|_| node.leave(&tenant, &id, None))?;
    shown.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    node.leave(&tenant, &id, Some(Arc::new(result.clone())));
    conclude(node, &tenant, &result, request.want_files, reply).await
}

/// Starts a program that nobody watches; its end is recorded all the same.
async fn submit(
    node: &Node,
    tenant: &TenantId,
    prepared: Prepared,
    permit: Permit,
    execution: &Execution,
    reply: &Reply,
) -> Result<(), Refusal> {
    let (_closed, input) = mpsc::channel(1);
    let (id, cancel) = (prepared.id.clone(), Arc::clone(&execution.cancel));
    let ticket = Ticket { execution_id: id.clone(), tenant: tenant.clone(), input, cancel, watcher: None };
    let (node, owner, own) = (node.clone(), tenant.clone(), id.clone());
    tokio::spawn(async move {
        let result = execute(node.clone(), prepared, ticket, permit).await;
        if let Err(refusal) = &result {
            tracing::error!(%refusal, execution = %own, "a submitted execution could not be recorded");
        }
        node.leave(&owner, &own, result.ok().map(Arc::new));
    });
    reply.answer(&serde_json::json!({"execution_id": id})).await;
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

/// Records, executes, records. A task of its own: a client that goes away cannot leave it half done.
///
/// # Errors
/// A refusal: nothing was started, or its end could not be recorded.
pub async fn execute(
    node: Node,
    prepared: Prepared,
    ticket: Ticket,
    permit: Permit,
) -> Result<ExecutionResult, Refusal> {
    let started = match node.record_start(&ticket.tenant, &prepared, &permit).await {
        Ok(started) => started,
        Err(refusal) => {
            drop(node.settle(permit, &Usage::default()));
            return Err(refusal);
        }
    };
    let (mut result, stored) = node.workshop.execute(&prepared.order, ticket, &started, &permit).await;
    let settlement = node.settle(permit, &contracts::used(&result, &prepared.order.limits));
    node.record_end(started, &mut result, stored, &settlement).await?;
    Ok(result)
}

/// Executes in a task of its own, entered into the table of what runs, and waits for the end.
///
/// # Errors
/// As [`execute`]; `conflict` where it runs already.
pub async fn attended(
    node: &Node,
    prepared: Prepared,
    mut ticket: Ticket,
    permit: Permit,
) -> Result<ExecutionResult, Refusal> {
    let (tenant, id) = (ticket.tenant.clone(), prepared.id.clone());
    let Ok(execution) = node.enter(&tenant, &id) else {
        drop(node.settle(permit, &Usage::default()));
        return Err(Refusal::new(Code::Conflict, format!("{id} runs already")));
    };
    ticket.cancel = Arc::clone(&execution.cancel);
    let own = node.clone();
    let work = tokio::spawn(async move {
        let result = execute(own.clone(), prepared, ticket, permit).await;
        own.leave(&tenant, &id, result.as_ref().ok().map(|result| Arc::new(result.clone())));
        result
    });
    work.await.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?
}

async fn forward(mut pieces: mpsc::UnboundedReceiver<Piece>, reply: Reply) {
    while let Some(piece) = pieces.recv().await {
        let command = match piece.which {
            Which::Stdout => Command::Stdout,
            Which::Stderr => Command::Stderr,
        };
        if !reply.stream(command, &piece.bytes).await {
            return;
        }
    }
}

type Work = tokio::task::JoinHandle<Result<ExecutionResult, Refusal>>;

/// Passes on what the client sends until the work is done. A client that is gone cancels it; where input that nobody reads
/// hides the end of its stream, the next sign of life that cannot be written tells.
async fn attend_client(
    call: &mut Call,
    reply: &Reply,
    mut input: Option<mpsc::Sender<Input>>,
    cancel: &Arc<Notify>,
    mut work: Work,
) -> Result<Result<ExecutionResult, Refusal>, tokio::task::JoinError> {
    let gone = Arc::clone(&call.gone);
    let mut pulse = tokio::time::interval(limits::PULSE);
    let (mut there, mut waiting) = (true, None);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            () = gone.notified(), if there => {
                there = false;
                // Rung again for the conversation's own end.
                gone.notify_one();
            }
            _ = pulse.tick(), if there => there = reply.send(Command::Event, b"{\"event\":\"alive\"}".to_vec()).await,
            sent = hand_over(&input, &mut waiting), if waiting.is_some() => if !sent { input = None },
            frame = call.stream.recv(), if there && waiting.is_none() => match frame {
                Some(frame) if frame.header.sequence == call.header.sequence => waiting = sort(frame, cancel),
                // A frame of an earlier request that came late.
                Some(_) => {}
                None => there = false,
            },
        }
        if !there {
            input = None;
            waiting = None;
            cancel.notify_one();
        }
    }
}

/// Gives the waiting piece to the program's feeder as soon as there is room; whether anybody takes input.
async fn hand_over(input: &Option<mpsc::Sender<Input>>, waiting: &mut Option<Input>) -> bool {
    let Some(sender) = input else {
        *waiting = None;
        return false;
    };
    match sender.reserve().await {
        Ok(place) => {
            if let Some(piece) = waiting.take() {
                place.send(piece);
            }
            true
        }
        Err(_closed) => {
            *waiting = None;
            false
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientOrder {
    #[serde(default)]
    cancel: bool,
    rows: Option<u16>,
    columns: Option<u16>,
}

/// A frame of the client's: an order is carried out, input waits to be handed over.
fn sort(frame: Frame, cancel: &Notify) -> Option<Input> {
    match frame.header.command {
        Command::Stdin if frame.payload.is_empty() => Some(Input::End),
        Command::Stdin => Some(Input::Bytes(frame.payload)),
        Command::Control => match serde_json::from_slice::<ClientOrder>(&frame.payload) {
            Ok(ClientOrder { cancel: true, .. }) => {
                cancel.notify_one();
                None
            }
            Ok(ClientOrder { rows: Some(rows), columns: Some(columns), .. }) => Some(Input::Window(rows, columns)),
            _ => None,
        },
        _ => None,
    }
}
