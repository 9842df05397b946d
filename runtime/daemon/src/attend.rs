//! What the daemon does while a box lives: passes streams on, watches limits, reads the shim's records, ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remand_cgroup::{Cell, Signal, Watch};
use remand_ledger::blob::{BlobError, Stored};
use remand_model::outcome::{Cause, Denial, ExecutionResult, InputRecord, OutputFile, printable_path};
use remand_model::{Digest, TenantId};
use remand_policy::{Explained, explain_denial, syscall_name};
use remand_spec::{Record, Stage};
use sha2::Digest as _;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::breach;
use crate::capture::{Allowance, Intake, Taken, Watcher, Which, capture};
use crate::control::Control;
use crate::execution::{Ends, Input, Ticket, Workshop, failed, hard_kill, now_ns};
use crate::limits;
use crate::order::Order;
use crate::terminal::Terminal;

/// What was learnt while the box lived.
#[derive(Default)]
struct Learnt {
    facts: BTreeMap<String, u64>,
    done_ns: BTreeMap<&'static str, u64>,
    denied: Vec<(u32, u32)>,
    ended: Option<u32>,
    fault: Option<(Stage, u32)>,
    files: Vec<OutputFile>,
    pack: Option<Intake>,
    omitted: BTreeMap<String, u64>,
    finished: bool,
}

/// One box and everything around it.
pub struct Attendant<'a> {
    workshop: &'a Workshop,
    order: &'a Order,
    cell: &'a Cell,
    control: Control,
    watch: AsyncFd<Watch>,
    learnt: Learnt,
    verdict: Option<Cause>,
    limits_hit: Vec<String>,
    stored: Vec<Stored>,
    tenant: TenantId,
}

/// When to act next if nothing happens.
struct Clock {
    wall: Instant,
    cpu_check: Instant,
    hard: Option<Instant>,
}

impl<'a> Attendant<'a> {
    /// Takes charge of a cell that was just cloned.
    pub fn new(
        workshop: &'a Workshop,
        order: &'a Order,
        cell: &'a Cell,
        control: Control,
        watch: Watch,
        tenant: TenantId,
    ) -> std::io::Result<Self> {
        let watch = crate::ready::register_for(watch, Interest::READABLE)?;
        let (learnt, verdict, limits_hit) = (Learnt::default(), None, Vec::new());
        Ok(Self { workshop, order, cell, control, watch, learnt, verdict, limits_hit, stored: Vec::new(), tenant })
    }

    /// Everything between the clone and the last byte.
    pub async fn attend(
        &mut self,
        ticket: Ticket,
        ends: Ends,
        started_ns: u64,
        result: &mut ExecutionResult,
    ) -> std::io::Result<()> {
        let allowance = Allowance::new(self.order.limits.output_bytes_max);
        let Ticket { input, cancel, watcher, .. } = ticket;
        let watching = watcher.clone();
        let closing = Arc::new(Notify::new());
        let (out, err) = (self.intake(u64::MAX), self.intake(u64::MAX));
        let stderr = tokio::spawn(capture(ends.stderr, Which::Stderr, allowance.clone(), err, watcher.clone()));
        let (stdout, feeder) = if self.order.spec.terminal {
            drop((ends.stdin, ends.stdout));
            let terminal = self.terminal().await?;
            let feeder =
                tokio::spawn(terminal.clone().feed(input, self.intake(limits::INPUT_BYTES_KEPT), Arc::clone(&closing)));
            (tokio::spawn(capture(terminal, Which::Stdout, allowance.clone(), out, watcher)), feeder)
        } else {
            let feeder =
                tokio::spawn(feed(ends.stdin, input, self.intake(limits::INPUT_BYTES_KEPT), Arc::clone(&closing)));
            (tokio::spawn(capture(ends.stdout, Which::Stdout, allowance.clone(), out, watcher)), feeder)
        };
        self.supervise(&allowance, &cancel, started_ns).await;
        // The box is empty or about to be, so the streams end by themselves; what was not read of the input is nobody's.
        closing.notify_one();
        watching.iter().for_each(Watcher::close);
        let (stdout, stderr, fed) = (joined(stdout).await?, joined(stderr).await?, joined(feeder).await?);
        result.outputs.stdout = stdout.0;
        result.outputs.stderr = stderr.0;
        result.input =
            InputRecord { sha256: fed.sha256, bytes: fed.bytes, kept: fed.stored.is_some() || fed.bytes == 0 };
        self.stored.extend([stdout.1, stderr.1, fed.stored].into_iter().flatten());
        if result.outputs.stdout.truncated || result.outputs.stderr.truncated {
            self.decide(Cause::OutputLimit, "output");
        }
        Ok(())
    }

    /// Whether the keeper has reported all there is.
    pub const fn is_finished(&self) -> bool {
        self.learnt.finished
    }

    fn intake(&self, bytes_max: u64) -> Intake {
        Intake::new(&self.workshop.blobs, &self.tenant, bytes_max)
    }

    /// The terminal comes with one of the first records.
    async fn terminal(&mut self) -> std::io::Result<Terminal> {
        while let Some(record) = self.control.record().await? {
            if record == Record::Terminal {
                let master = self.control.descriptor().ok_or(std::io::ErrorKind::InvalidData)?;
                return Terminal::new(master);
            }
            self.note(record);
            if self.learnt.fault.is_some() {
                break;
            }
        }
        Err(std::io::Error::other("the shim ended before it had made a terminal"))
    }

    /// Until the shim's end: records, limits, cancellation; after a verdict, an order to the keeper, then the group's kill.
    async fn supervise(&mut self, allowance: &Allowance, cancel: &Arc<Notify>, started_ns: u64) {
        let start = Instant::now() - Duration::from_nanos(now_ns().saturating_sub(started_ns));
        let wall = start + Duration::from_millis(self.order.limits.wall_ms_max);
        let mut clock = Clock { wall, cpu_check: Instant::now() + self.cpu_pause(0), hard: None };
        loop {
            let open = self.verdict.is_none() && self.learnt.ended.is_none();
            let next = clock.hard.unwrap_or(clock.wall);
            let cause = tokio::select! {
                biased;
                record = self.control.record() => match record {
                    Ok(Some(record)) => self.record(record, &mut clock).await,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(%error, cell = self.cell.relative(), "a shim's report was cut");
                        hard_kill(self.cell);
                        return;
                    }
                },
                () = cancel.notified(), if open => Some((Cause::Cancelled, "")),
                () = allowance.over.notified(), if open => Some((Cause::OutputLimit, "output")),
                signals = events(&self.watch), if open => {
                    // Version 1 tells of a kill before it is counted.
                    clock.cpu_check = clock.cpu_check.min(Instant::now() + limits::CPU_CHECK_LEAST);
                    self.kernel_says(&signals)
                }
                () = sleep_until(clock.cpu_check), if open => self.processor_time(&mut clock),
                () = sleep_until(next), if open || clock.hard.is_some() => {
                    if clock.hard.is_none() {
                        Some((Cause::WallTimeout, "wall"))
                    } else {
                        hard_kill(self.cell);
                        clock.hard = Some(Instant::now() + limits::REAP_WAIT);
                        if self.learnt.finished || next + limits::REAP_WAIT < Instant::now() { return } else { None }
                    }
                }
            };
            if let Some((cause, limit)) = cause
                && self.learnt.ended.is_none()
            {
                self.decide(cause, limit);
                clock.hard = Some(Instant::now() + limits::KEEPER_GRACE);
                if let Err(error) = self.control.order_kill() {
                    tracing::debug!(%error, "the keeper is gone already");
                }
            }
        }
    }

    /// The first verdict stands; later limits are only noted.
    fn decide(&mut self, cause: Cause, limit: &str) {
        if !limit.is_empty() && !self.limits_hit.iter().any(|hit| hit == limit) {
            self.limits_hit.push(limit.into());
        }
        self.verdict.get_or_insert(cause);
    }

    /// The processor time cannot be used up before every processor of the share has run for what is left.
    fn cpu_pause(&self, used_us: u64) -> Duration {
        let limits = &self.order.limits;
        let left_us = (limits.cpu_time_ms_max * 1000).saturating_sub(used_us);
        let pause = Duration::from_micros(left_us * 1000 / limits.cpu_millis_max.max(1)).max(limits::CPU_CHECK_LEAST);
        // Version 1 counts refused forks without telling anybody.
        if self.workshop.backend == "v2" { pause } else { pause.min(limits::PIDS_CHECK) }
    }

    fn processor_time(&self, clock: &mut Clock) -> Option<(Cause, &'static str)> {
        let used_us = match self.cell.usage() {
            Ok(usage) => usage.cpu_user_us + usage.cpu_system_us,
            Err(error) => {
                tracing::error!(%error, "the processor time of a cell could not be read");
                return Some((Cause::Lost { reason: "its processor time could not be read".into() }, ""));
            }
        };
        if used_us >= self.order.limits.cpu_time_ms_max * 1000 {
            return Some((Cause::CpuTimeout, "cpu_time"));
        }
        clock.cpu_check = Instant::now() + self.cpu_pause(used_us);
        self.kernel_says(&[Signal::OutOfMemory])
    }

    /// What the kernel has counted in this cell. On version 1 all cells of a tenant hear of it when their sum is too much;
    /// only the one that lost a process is meant.
    fn kernel_says(&self, signals: &[Signal]) -> Option<(Cause, &'static str)> {
        if !signals.contains(&Signal::OutOfMemory) && !signals.contains(&Signal::PidsMax) {
            return None;
        }
        let events = self.cell.events().ok()?;
        let hit = breach::Hit::of(&self.cell.usage().ok()?, &self.order.limits);
        if events.oom_kills > 0 {
            return Some((Cause::Oom, hit.memory));
        }
        (events.pids_max_hits > 0).then_some((Cause::PidsLimit, hit.pids))
    }

    async fn record(&mut self, record: Record, clock: &mut Clock) -> Option<(Cause, &'static str)> {
        match record {
            Record::File(path, mode, size) => {
                if let Err(error) = self.file(path, mode, size).await {
                    tracing::error!(%error, "an output file could not be kept");
                    self.decide(Cause::Lost { reason: format!("an output file could not be kept: {error}") }, "");
                    hard_kill(self.cell);
                }
                None
            }
            Record::Denied(number, 0) => Some((Cause::Seccomp { syscall: syscall_name(number) }, "")),
            Record::Ended(_) | Record::Finished => {
                clock.hard = Some(Instant::now() + limits::COLLECT_WAIT);
                self.note(record);
                None
            }
            other => {
                self.note(other);
                None
            }
        }
    }

    fn note(&mut self, record: Record) {
        match record {
            Record::Done(stage, at) => drop(self.learnt.done_ns.insert(stage.name(), at)),
            Record::Handed(at) => drop(self.learnt.done_ns.insert(Stage::Exec.name(), at)),
            Record::Fact(fact, value) => drop(self.learnt.facts.insert(fact.name().into(), value)),
            Record::Fault(stage, errno) => self.learnt.fault = Some((stage, errno)),
            Record::Ended(status) => self.learnt.ended = Some(status),
            Record::Omitted(why, count) => drop(self.learnt.omitted.insert(why.name().into(), count)),
            Record::Finished => self.learnt.finished = true,
            Record::Denied(call, errno) => self.learnt.denied.push((call, errno)),
            Record::Ready | Record::File(..) | Record::Listener | Record::Terminal => {}
        }
    }

    /// One output file: its bytes go behind those of the files before it, into one blob.
    async fn file(&mut self, path_bytes: u16, mode: u16, size: u64) -> std::io::Result<()> {
        let (mut path, mut hash) = (Vec::new(), sha2::Sha256::new());
        let keep = |piece: &[u8]| {
            path.extend_from_slice(piece);
            Ok(())
        };
        self.control.bytes(u64::from(path_bytes), keep).await?;
        let fresh = Intake::new(&self.workshop.blobs, &self.tenant, u64::MAX);
        let pack = self.learnt.pack.get_or_insert(fresh);
        let take = |piece: &[u8]| {
            hash.update(piece);
            pack.take(piece).map_err(std::io::Error::other)
        };
        self.control.bytes(size, take).await?;
        let sha256 = Digest::from_bytes(hash.finalize().into());
        self.learnt.files.push(OutputFile { path: printable_path(&path), mode, bytes: size, sha256 });
        Ok(())
    }

    /// What was learnt, as the result says it.
    ///
    /// # Errors
    /// The store's: the files are not kept.
    pub fn settle(self, result: &mut ExecutionResult, started_ns: u64) -> Result<Vec<Stored>, BlobError> {
        let (mut learnt, mut stored) = (self.learnt, self.stored);
        if let Some(pack) = learnt.pack.take() {
            let taken = pack.finish()?;
            result.outputs.pack_sha256 = Some(taken.sha256.to_hex());
            stored.extend(taken.stored);
        }
        result.cause = match (self.verdict, learnt.fault, learnt.ended) {
            (Some(verdict), ..) => verdict,
            (None, Some((stage, errno)), _) => fault(stage, errno),
            (None, None, Some(status)) => ended(status),
            (None, None, None) if learnt.done_ns.is_empty() => failed(Stage::Shim.name(), 0, MUTE_SHIM),
            (None, None, None) => Cause::Lost { reason: "the keeper ended without a word about the program".into() },
        };
        let after = |(stage, at): (&'static str, u64)| (stage.to_owned(), at.saturating_sub(started_ns) / 1000);
        result.timing_us.extend(learnt.done_ns.into_iter().map(after));
        result.limits_hit = self.limits_hit;
        result.denials = learnt.denied.iter().map(|(call, errno)| denial(self.order, *call, *errno)).collect();
        result.enforced.facts = learnt.facts;
        result.outputs.files = learnt.files;
        result.outputs.omitted = learnt.omitted;
        result.outputs.collected = learnt.finished;
        Ok(stored)
    }
}

async fn events(watch: &AsyncFd<Watch>) -> Vec<Signal> {
    match watch.readable().await {
        Ok(mut guard) => {
            let signals = guard.get_inner().take();
            guard.clear_ready();
            signals.unwrap_or_else(|error| {
                tracing::error!(%error, "the events of a cell could not be read");
                Vec::new()
            })
        }
        Err(error) => {
            tracing::error!(%error, "the events of a cell cannot be waited for");
            std::future::pending().await
        }
    }
}

const MUTE_SHIM: &str = "remand-shim ended before it had reported anything";

fn fault(stage: Stage, errno: u32) -> Cause {
    let error = std::io::Error::from_raw_os_error(errno.cast_signed());
    let reason =
        if stage == Stage::Shim { format!("remand-shim cannot be executed: {error}") } else { error.to_string() };
    failed(stage.name(), errno, reason)
}

fn denial(order: &Order, call: u32, errno: u32) -> Denial {
    let errno = u16::try_from(errno).unwrap_or_default();
    let Explained { syscall, errno, why, next } = explain_denial(order.policy_name(), order.syscalls(), call, errno);
    Denial { syscall, errno, why, next }
}

/// A wait status, see wait(2). The kernel ends a job by itself only for a foreign ABI: all else is asked for by name.
fn ended(status: u32) -> Cause {
    const SIGSYS: u8 = 31;
    match (status & 0x7f) as u8 {
        0 => Cause::Exited { code: (status >> 8) as u8 },
        SIGSYS => Cause::Seccomp {
            syscall: "not named: a foreign ABI's (i386, x32), or SIGSYS sent by the program itself".into(),
        },
        signal => Cause::Signaled { signal },
    }
}

/// Writes what the client sends to the program until it ends, closes or the program closes its end; what was sent is hashed
/// and kept. `closing` ends the wait for more.
async fn feed(
    stdin: pipe::Sender,
    mut input: mpsc::Receiver<Input>,
    mut intake: Intake,
    closing: Arc<Notify>,
) -> std::io::Result<Taken> {
    let mut stdin = Some(stdin);
    loop {
        let piece = tokio::select! {
            piece = input.recv() => piece,
            () = closing.notified() => None,
        };
        let Some(Input::Bytes(bytes)) = piece else {
            match piece {
                Some(Input::Window(..)) => continue,
                _ => break,
            }
        };
        intake.take(&bytes).map_err(std::io::Error::other)?;
        let Some(open) = &mut stdin else { continue };
        tokio::select! {
            written = open.write_all(&bytes) => if let Err(error) = written {
                tracing::debug!(%error, "a program takes no more input");
                stdin = None;
            },
            () = closing.notified() => break,
        }
    }
    drop(stdin);
    intake.finish().map_err(std::io::Error::other)
}

async fn joined<T>(task: JoinHandle<std::io::Result<T>>) -> std::io::Result<T> {
    match timeout(limits::REAP_WAIT, task).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => Err(std::io::Error::other(error)),
        Err(_elapsed) => Err(std::io::Error::other("a stream of the box did not end with it")),
    }
}
