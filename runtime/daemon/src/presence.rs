//! A client that waits for an execution: what it sends goes in, what is printed goes out, and its end is the execution's.

use std::sync::Arc;

use remand_model::envelope::{Command, Frame};
use remand_model::outcome::ExecutionResult;
use remand_model::refusal::{Code, Refusal};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::capture::{Piece, Which};
use crate::conversation::{Call, Reply};
use crate::execution::Input;
use crate::limits;

/// An execution in a task of its own: a client that goes away cannot leave it half done.
pub type Work = JoinHandle<Result<ExecutionResult, Refusal>>;

/// Passes on what is printed, until nothing more is or nobody listens.
pub async fn forward(mut pieces: mpsc::UnboundedReceiver<Piece>, reply: Reply) {
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

/// Passes on what the client sends until the work is done. A client that is gone cancels it; where input that nobody reads
/// hides the end of its stream, the next sign of life that cannot be written tells.
///
/// # Errors
/// The work's own.
pub async fn attend(
    call: &mut Call,
    reply: &Reply,
    mut input: Option<mpsc::Sender<Input>>,
    cancel: &Notify,
    mut work: Work,
) -> Result<ExecutionResult, Refusal> {
    let gone = Arc::clone(&call.gone);
    let mut pulse = tokio::time::interval_at(Instant::now() + limits::PULSE, limits::PULSE);
    let (mut there, mut waiting) = (true, None);
    loop {
        tokio::select! {
            outcome = &mut work => {
                return outcome.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
            }
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
