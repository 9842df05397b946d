//! `remand-shim`: pid 1 of a cell, the keeper.
//!
//! It starts as root of its own user namespace only, assembles what belongs to this one cell, splits off the payload's
//! process, gives up everything but the right to kill and to read inside, and then waits: for the payload's end, for the
//! daemon's word, or for the daemon's end. Afterwards it kills what is left, reports the output files and ends, and with it
//! ends the pid namespace.
//!
//! Descriptors from the spawner: 0 to 2 the payload's streams, 3 the sealed spec, 4 the control socket to the daemon, from
//! 5 on the `tasks` files of version 1 control groups. It has no arguments, no environment and no other descriptors, and
//! never opens anything outside of its own root.
#![forbid(unsafe_code)]

mod collect;
mod keeper;
mod payload;
mod prepare;
mod report;

use remand_sys::process;

use crate::report::Report;

fn main() {
    let Ok(report) = Report::start() else { process::exit(2) };
    let ended = prepare::prepare(report).and_then(keeper::keep);
    process::exit(match ended {
        Ok(()) => 0,
        Err(fault) => fault.send(),
    })
}
