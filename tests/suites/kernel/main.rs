//! The box's promises, one case each, shown by a probe that runs inside.
#![forbid(unsafe_code)]

mod files;
mod identity;
mod inherited;
mod limits;
mod outputs;
mod streams;
mod syscalls;
mod usage;

use remand_tests::suite::Case;
use std::process::ExitCode;

fn main() -> ExitCode {
    let rooms: [&[Case]; 8] = [
        identity::CASES,
        inherited::CASES,
        files::CASES,
        syscalls::CASES,
        limits::CASES,
        usage::CASES,
        outputs::CASES,
        streams::CASES,
    ];
    remand_tests::stage::main(&rooms.concat())
}
