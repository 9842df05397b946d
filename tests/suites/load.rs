//! Many clients of many tenants on a real daemon, while spawners, clients and the daemon are killed.
//!
//! Arguments: `--seconds=`, `--clients=`, `--tenants=`; without them the short form. The numbers are printed.
#![forbid(unsafe_code)]

use remand_tests::cases;
use remand_tests::kit::Place;
use remand_tests::load::{self, Shown, Weight};
use remand_tests::suite::{self, Case, Verdict};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

const CASES: &[Case] = cases![
    nothing_acknowledged_is_missing_in_the_exported_chains,
    every_exported_chain_verifies_offline,
    every_execution_has_one_start_and_one_end,
    what_was_acknowledged_is_read_back,
    nothing_is_refused_but_for_a_while,
    no_tenant_is_starved,
    no_process_group_mount_or_descriptor_is_left,
    a_killed_daemon_serves_again_within_two_seconds,
];

/// The best-served tenant has at most this many times the executions of the worst.
const UNFAIR: u64 = 3;

static SHOWN: OnceLock<Shown> = OnceLock::new();

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return suite::main(CASES);
    }
    let mut stdout = std::io::stdout();
    let place = match (Weight::of(arguments.into_iter()), Place::find()) {
        (Ok(weight), Ok(place)) => {
            let shown = load::run(&place, weight);
            print(&mut stdout, weight, &shown).expect("stdout takes a line");
            SHOWN.set(shown).expect("only here");
            place
        }
        (Err(why), _) => {
            writeln!(stdout, "FAILED load: {why}").expect("stdout takes a line");
            return ExitCode::FAILURE;
        }
        (_, Err(why)) => {
            CASES.iter().for_each(|(name, _)| writeln!(stdout, "skipped {name}: {why}").expect("stdout takes a line"));
            return ExitCode::SUCCESS;
        }
    };
    let code = suite::main(CASES);
    drop(place);
    code
}

fn shown() -> &'static Shown {
    SHOWN.get().expect("main set it")
}

fn shares(shown: &Shown) -> Vec<u64> {
    let of = |tenant: &load::Tenant| shown.count.executions.get(&tenant.name).copied().unwrap_or_default();
    let mut shares: Vec<u64> = shown.tenants.iter().map(of).collect();
    shares.sort_unstable();
    shares
}

fn print(out: &mut impl Write, weight: Weight, shown: &Shown) -> std::io::Result<()> {
    let Weight { length, clients, tenants } = weight;
    let (count, numbers, shares) = (&shown.count, &shown.numbers, shares(shown));
    let total: u64 = shares.iter().sum();
    writeln!(out, "load: {clients} clients of {tenants} tenants for {} s", length.as_secs())?;
    let (least, median, most) = (shares[0], shares[shares.len() / 2], shares[shares.len() - 1]);
    writeln!(out, "load: {total} executions acknowledged; a tenant's least {least}, median {median}, most {most}")?;
    let events: usize = shown.chains.values().map(load::Chain::len).sum();
    let told: usize = count.told.values().map(Vec::len).sum();
    writeln!(out, "load: {told} acknowledgements kept by clients, {events} events in {} chains", shown.chains.len())?;
    writeln!(out, "load: causes {:?}, refused {:?}, connections cut {}", count.causes, count.refused, count.cut)?;
    let slowest = numbers.restarts.iter().max().map_or(0, Duration::as_millis);
    writeln!(
        out,
        "load: killed {} spawners, {} client processes, {} daemons (the slowest restart took {slowest} ms)",
        numbers.spawners,
        numbers.processes,
        numbers.restarts.len()
    )?;
    let (before, after) = &numbers.holdings;
    let sum = |held: &std::collections::BTreeMap<String, usize>| held.values().sum::<usize>();
    writeln!(
        out,
        "load: the daemon's descriptors {} before, {} after; threads {}, {}; memory of its own {} KiB, {} KiB",
        sum(&before.descriptors),
        sum(&after.descriptors),
        before.threads,
        after.threads,
        before.memory_kib,
        after.memory_kib
    )
}

/// Fails with the first few of what is wrong.
fn none(wrong: &[String], what: &str) -> Verdict {
    assert!(wrong.is_empty(), "{} {what}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    Verdict::Proved
}

fn nothing_acknowledged_is_missing_in_the_exported_chains() -> Verdict {
    let told = &shown().count.told;
    assert!(told.len() == shown().tenants.len(), "every tenant was told something");
    let missing: Vec<String> = told.iter().flat_map(|(tenant, told)| shown().chains[tenant].missing(told)).collect();
    none(&missing, "acknowledgements are not in the chain")
}

fn every_exported_chain_verifies_offline() -> Verdict {
    let bad = shown().chains.iter().filter(|(_, chain)| chain.verified.0 != 0 || chain.is_empty());
    let bad: Vec<String> = bad.map(|(tenant, chain)| format!("{tenant}: {}", chain.verified.1)).collect();
    none(&bad, "exports do not verify")
}

fn every_execution_has_one_start_and_one_end() -> Verdict {
    let executions: usize = shown().chains.values().map(load::Chain::executions).sum();
    assert!(executions as u64 >= shares(shown()).iter().sum(), "{executions} executions in all chains");
    let bad: Vec<String> = shown().chains.values().flat_map(load::Chain::unbalanced).collect();
    none(&bad, "executions are open, or were closed twice")
}

fn what_was_acknowledged_is_read_back() -> Verdict {
    none(&shown().count.stale, "values or outputs were others'")
}

fn nothing_is_refused_but_for_a_while() -> Verdict {
    let different: Vec<String> =
        shown().count.complaints.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
    none(&different, "refusals that nobody can wait out")
}

fn no_tenant_is_starved() -> Verdict {
    let shares = shares(shown());
    let (least, most) = (shares[0], shares[shares.len() - 1]);
    assert!(least > 0 && most <= least * UNFAIR, "least {least}, most {most}: {shares:?}");
    Verdict::Proved
}

fn no_process_group_mount_or_descriptor_is_left() -> Verdict {
    none(&shown().left, "things are left")
}

fn a_killed_daemon_serves_again_within_two_seconds() -> Verdict {
    let restarts = &shown().numbers.restarts;
    assert!(!restarts.is_empty(), "no daemon was killed");
    assert!(restarts.iter().all(|took| *took < Duration::from_secs(2)), "{restarts:?}");
    Verdict::Proved
}
