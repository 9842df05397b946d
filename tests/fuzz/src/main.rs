//! One target of `remand_tests::targets` under libFuzzer: `REMAND_FUZZ_TARGET` names it, `REMAND_FUZZ_SEEDS` is the folder
//! that takes its seeds before the fuzzer reads it. Started by scripts/fuzz.
#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use remand_tests::targets::{self, Target};
use std::path::PathBuf;
use std::sync::OnceLock;

static TARGET: OnceLock<Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("REMAND_FUZZ_TARGET").expect("REMAND_FUZZ_TARGET names a target");
        targets::find(&name).unwrap_or_else(|| panic!("no target {name}"))
    })
}

fn plant() {
    let Some(folder) = std::env::var_os("REMAND_FUZZ_SEEDS").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder of seeds");
    for (number, seed) in (target().seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("the folder of seeds");
    }
}

fuzz_target!(
    init: plant(),
    |bytes: &[u8]| (target().attack)(bytes)
);
