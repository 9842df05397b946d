//! What pid 1 does while the payload runs, and how it ends.

use std::os::fd::{AsFd, OwnedFd};

use remand_spec::record::RECORD_BYTES;
use remand_spec::{Fact, Record, Stage};
use remand_sys::process::{self, Side};
use remand_sys::{Errno, Result, confine, file};

use crate::prepare::Prepared;
use crate::report::{Fault, Report};
use crate::{collect, payload};

/// `CAP_DAC_READ_SEARCH` and `CAP_KILL`, in the cell's own user namespace: to read any output file, to kill any process.
const KEPT_CAPABILITIES: u64 = 1 << 2 | 1 << 5;

/// Splits the payload off, waits for the end, kills what is left, reports.
pub fn keep(cell: Prepared) -> std::result::Result<(), Fault> {
    let split = split(cell);
    let (cell, pid, status, signals) = split?;
    let Prepared { report, spec, out, terminal } = cell;
    drop(terminal);
    let (report, ()) = report.stage(Stage::Split, give_up())?;
    let report = handed(report, &status)?;
    let (mut report, ended) = match wait(report, &signals, pid) {
        (report, Ok(ended)) => (report, ended),
        (report, Err(error)) => return Err(Fault::new(report, Stage::Split, error)),
    };
    report.note(Record::Ended(ended as u32));
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

fn split(cell: Prepared) -> std::result::Result<Split, Fault> {
    let prepared = process::signal_fd(libc::SIGCHLD).and_then(|signals| Ok((signals, file::pipe()?)));
    let (signals, (status, write_end)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Err(Fault::new(cell.report, Stage::Split, error)),
    };
    match process::clone(0, None, libc::SIGCHLD) {
        Ok(Side::Child) => payload::become_payload(cell, &write_end),
        Ok(Side::Parent(pid, _)) => Ok((cell, pid, status, signals)),
        Err(error) => Err(Fault::new(cell.report, Stage::Split, error)),
    }
}

/// The keeper keeps no stream of the payload, so that their end is the payload's end, and hardly any right.
fn give_up() -> Result<()> {
    (0..3).try_for_each(|number| file::inherited(number).map(drop))?;
    confine::bound_capabilities(KEPT_CAPABILITIES)?;
    confine::set_capabilities(KEPT_CAPABILITIES)?;
    confine::no_new_privileges()
}

/// Waits for exec: a record is a fault of the payload's side, the end of the pipe is success (or the payload's death, which
/// the wait below sees).
fn handed(mut report: Report, status: &OwnedFd) -> std::result::Result<Report, Fault> {
    let mut bytes = [0; RECORD_BYTES];
    match file::read(status.as_fd(), &mut bytes) {
        Ok(RECORD_BYTES) => match Record::decode(&bytes) {
            Some(Record::Fault(stage, errno)) => Err(Fault::new(report, stage, Errno(errno as i32))),
            _ => Err(Fault::new(report, Stage::Exec, Errno(libc::EBADMSG))),
        },
        Ok(_) => {
            report.note(Record::Handed(process::clock_ns(libc::CLOCK_MONOTONIC)));
            let (mut report, ()) = report.stage(Stage::Exec, Ok(()))?;
            match report.flush() {
                Ok(()) => Ok(report),
                Err(error) => Err(Fault::new(report, Stage::Exec, error)),
            }
        }
        Err(error) => Err(Fault::new(report, Stage::Exec, error)),
    }
}

/// Reaps until the payload's own process has ended. A byte from the daemon is the order to kill; its end is its death.
fn wait(report: Report, signals: &OwnedFd, payload: i32) -> (Report, Result<i32>) {
    loop {
        let mut fds = [file::readable(report.control()), file::readable(signals.as_fd())];
        if let Err(error) = file::wait_any(&mut fds) {
            return (report, Err(error));
        }
        if fds[0].revents != 0 {
            match file::read(report.control(), &mut [0]) {
                Ok(1) => match process::kill(-1, libc::SIGKILL) {
                    Ok(()) | Err(Errno(libc::ESRCH)) => {}
                    Err(error) => return (report, Err(error)),
                },
                _ => process::exit(3),
            }
        }
        if fds[1].revents != 0 {
            match reap(signals, payload) {
                Ok(None) => {}
                Ok(Some(status)) => return (report, Ok(status)),
                Err(error) => return (report, Err(error)),
            }
        }
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
    match process::kill(-1, libc::SIGKILL) {
        Ok(()) | Err(Errno(libc::ESRCH)) => {}
        Err(error) => return Err(error),
    }
    loop {
        match process::wait_child(true) {
            Err(Errno(libc::ECHILD)) => return Ok(()),
            other => drop(other?),
        }
    }
}
