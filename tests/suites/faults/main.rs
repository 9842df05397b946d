//! What goes wrong around a box: processes killed at any moment, full disks, missing files, walls that a kernel lacks.
//!
//! Each time: the verdict is stated, nothing is left within three seconds, and the next start works. Started with
//! `--without` this program is a launcher instead: see [`without`].
#![forbid(unsafe_code)]

mod clock;
mod exhausted;
mod killed;
mod recorded;
mod walls;
mod without;

use remand_tests::suite::Case;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == without::FLAG) {
        return without::launch(&arguments[1..]);
    }
    let rooms: [&[Case]; 5] = [walls::CASES, killed::CASES, recorded::CASES, exhausted::CASES, clock::CASES];
    remand_tests::stage::main(&rooms.concat())
}
