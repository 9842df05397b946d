//! What pid 1 does while the payload runs, and how it ends.

use std::os::fd::{AsFd, OwnedFd};

use remand_spec::record::{LEAVE, RECORD_BYTES};
use remand_spec::{Fact, Record, Stage};
use remand_sys::process::{self, Side};
use remand_sys::{Errno, Result, confine, file, socket};

use crate::prepare::Prepared;
use crate::report::{Fault, Report};
use crate::{collect, payload};

/// `CAP_DAC_READ_SEARCH` and `CAP_KILL`, in the cell's own user namespace: to read any output file, to kill any process.
pub const KEPT_CAPABILITIES: u64 = 1 << 2 | 1 << 5;

/// Refused calls of different numbers that are told of; a payload can try every number there is.
const TOLD_MAX: usize = 64;

/// Waits for leave, splits the payload off, waits for the end, kills what is left, reports.
pub fn keep(cell: Prepared) -> std::result::Result<(), Fault> {
    // Until the start is on record nothing runs; the daemon's end, and an order to kill, end the cell here.
    let mut word = [0];
    if file::read(cell.report.control(), &mut word) != Ok(1) || word[0] != LEAVE {
        process::exit(3);
    }
    let (cell, pid, status, signals) = split(cell)?;
    let Prepared { report, spec, out, terminal, .. } = cell;
    drop(terminal);
    let (report, ()) = report.stage(Stage::Split, give_up())?;
    let (mut report, listener) = handed(report, &status)?;
    let listener = listener.map(|fd| Listener { fd, answers: &spec.answers, told: Vec::new() });
    match wait(&mut report, &signals, listener, pid) {
        Ok(ended) => report.note(Record::Ended(ended as u32)),
        Err(error) => return Err(Fault::new(report, Stage::Split, error)),
    }
    let finished = end_all().and_then(|()| report.flush()).and_then(|()| {
        let scratch = file::file_system(out.as_fd())?;
        report.fact(Fact::ScratchBytesFree, scratch.blocks_free * scratch.block_bytes);
        report.fact(Fact::ScratchInodesFree, scratch.inodes_free);
        collect::collect(&mut report, &out, &spec)?;
        report.note(Record::Finished);
        report.flush()
    });
    finished.map_err(|error| Fault::new(report, Stage::Collect, error))
}

type Split = (Prepared, i32, OwnedFd, OwnedFd);

fn split(mut cell: Prepared) -> std::result::Result<Split, Fault> {
    // What both sides lose is lost before they part.
    let prepared = confine::unbound_capabilities(!KEPT_CAPABILITIES)
        .and_then(|()| process::signal_fd(libc::SIGCHLD))
        .and_then(|signals| Ok((signals, socket::pair()?)));
    let (signals, (status, write_end)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Err(Fault::new(cell.report, Stage::Split, error)),
    };
    match process::clone(0, None, libc::SIGCHLD) {
        Ok(Side::Child) => payload::become_payload(cell, &write_end),
        Ok(Side::Parent(pid, _)) => {
            cell.report.leave_to_child();
            Ok((cell, pid, status, signals))
        }
        Err(error) => Err(Fault::new(cell.report, Stage::Split, error)),
    }
}

/// The keeper keeps no stream of the payload, so that their end is the payload's end, and hardly any right.
fn give_up() -> Result<()> {
    (0..3).try_for_each(|number| file::inherited(number).map(drop))?;
    confine::set_capabilities(KEPT_CAPABILITIES)?;
    confine::no_new_privileges()
}

/// Waits for exec: a record is a fault of the payload's side or the listener of its filter; the end is success (or the
/// payload's death, which the wait below sees).
fn handed(mut report: Report, status: &OwnedFd) -> std::result::Result<(Report, Option<OwnedFd>), Fault> {
    let (mut bytes, mut listener) = ([0; RECORD_BYTES], None);
    loop {
        let (size, mut fds) = match socket::receive(status.as_fd(), &mut bytes) {
            Ok(received) => received,
            Err(error) => return Err(Fault::new(report, Stage::Exec, error)),
        };
        if size == 0 {
            break;
        }
        match Record::decode(&bytes).filter(|_| size == RECORD_BYTES) {
            Some(Record::Listener) => listener = fds.pop(),
            Some(Record::Fault(stage, errno)) => return Err(Fault::new(report, stage, Errno(errno as i32))),
            _ => return Err(Fault::new(report, Stage::Exec, Errno(libc::EBADMSG))),
        }
    }
    report.note(Record::Handed(process::clock_ns(libc::CLOCK_MONOTONIC)));
    match report.flush() {
        Ok(()) => Ok((report, listener)),
        Err(error) => Err(Fault::new(report, Stage::Exec, error)),
    }
}

/// Reaps until the payload's own process has ended. A byte from the daemon is the order to kill; its end is its death.
fn wait(report: &mut Report, signals: &OwnedFd, listener: Option<Listener<'_>>, payload: i32) -> Result<i32> {
    let mut listener = listener;
    loop {
        let mut fds = vec![file::readable(report.control()), file::readable(signals.as_fd())];
        fds.extend(listener.as_ref().map(|listener| file::readable(listener.fd.as_fd())));
        file::wait_any(&mut fds)?;
        if fds[0].revents != 0 {
            match file::read(report.control(), &mut [0]) {
                Ok(1) => kill_all()?,
                _ => process::exit(3),
            }
        }
        if let Some(asking) = &mut listener {
            match fds[2].revents {
                0 => {}
                // The caller may have been killed before it was heard.
                revents if revents & libc::POLLIN != 0 => match asking.answer(report) {
                    Err(Errno(libc::ENOENT)) => {}
                    other => other?,
                },
                _ => listener = None,
            }
        }
        if fds[1].revents != 0
            && let Some(status) = reap(signals, payload)?
        {
            return Ok(status);
        }
    }
}

/// The end of the filter that asks, and what it has told of.
struct Listener<'a> {
    fd: OwnedFd,
    answers: &'a [(u32, u32)],
    told: Vec<u32>,
}

impl Listener<'_> {
    /// One call: refused, and told the first time; or the end of the job.
    fn answer(&mut self, report: &mut Report) -> Result<()> {
        let (id, call) = confine::notified_call(self.fd.as_fd())?;
        let stated = self.answers.iter().find(|(number, _)| *number == call);
        let errno = stated.map_or(libc::ENOSYS as u32, |(_, errno)| *errno);
        if errno == 0 || (self.told.len() < TOLD_MAX && !self.told.contains(&call)) {
            self.told.push(call);
            report.note(Record::Denied(call, errno));
            report.flush()?;
        }
        if errno == 0 {
            return kill_all();
        }
        confine::refuse_call(self.fd.as_fd(), id, errno)
    }
}

fn reap(signals: &OwnedFd, payload: i32) -> Result<Option<i32>> {
    let mut information = [0; 128];
    match file::read(signals.as_fd(), &mut information) {
        Ok(_) | Err(Errno(libc::EAGAIN)) => {}
        Err(error) => return Err(error),
    }
    let mut ended = None;
    loop {
        match process::wait_child(false) {
            Ok(Some((pid, status))) if pid == payload => ended = Some(status),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno(libc::ECHILD)) => return Ok(ended),
            Err(error) => return Err(error),
        }
    }
}

/// Kills every process of the namespace but this one, and waits until all are gone.
fn end_all() -> Result<()> {
    kill_all()?;
    loop {
        match process::wait_child(true) {
            Err(Errno(libc::ECHILD)) => return Ok(()),
            other => drop(other?),
        }
    }
}

/// kill(2) with -1: every process of the namespace but the caller, at once, so that no fork gets away.
fn kill_all() -> Result<()> {
    match process::kill(-1, libc::SIGKILL) {
        Err(Errno(libc::ESRCH)) => Ok(()),
        other => other,
    }
}
