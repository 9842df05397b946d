//! What the shipped profiles promise.
#![forbid(unsafe_code)]

use remand_policy::{BUILT_IN, Library, Profile, check, compile};

const ABIS: [i32; 4] = [2, 4, 6, 7];

fn load(name: &str) -> Profile {
    Profile::load(name, &Library::built_in()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_shipped_profile_is_clean_and_compiles_for_every_kernel() {
    for (name, _) in BUILT_IN {
        let findings = check(name, &Library::built_in());
        assert!(findings.is_empty(), "{findings:#?}");
        for abi in ABIS {
            assert_eq!(compile(&load(name), abi).unwrap().landlock.abi, abi);
        }
    }
}

#[test]
fn the_default_profile_allows_at_most_120_system_calls() {
    let allowed = compile(&load("batch"), 7).unwrap().syscalls_allowed;
    assert!(allowed <= 120, "{allowed}");
}
