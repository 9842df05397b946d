//! Known classes of escape, one case each: the attack that worked elsewhere, tried here.
//!
//! The ledger below names for each class the advisories, whether it can apply to this design, and the case that tries it;
//! the suite prints it. Cases of the kernel suite are named with `kernel::`.
#![forbid(unsafe_code)]

mod ledger;
mod neighbours;
mod paths;
mod records;
mod secrets;
mod volumes;

use remand_tests::suite::Case;
use std::process::ExitCode;

fn main() -> ExitCode {
    let rooms: [&[Case]; 6] =
        [ledger::CASES, paths::CASES, volumes::CASES, neighbours::CASES, records::CASES, secrets::CASES];
    remand_tests::stage::main(&rooms.concat())
}
