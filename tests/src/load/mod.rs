//! A load on a real daemon with kills in the middle of it, and what must still be true afterwards.
//!
//! Clients of many tenants run, submit, read, write and plan; meanwhile spawners and client processes are killed, and in a
//! second phase the daemon itself. Every client keeps what it was told; the exported chains must hold all of it.

mod chain;
mod client;
mod processes;
mod storm;

pub use chain::Chain;
pub use client::{Count, Told};
pub use storm::Numbers;

use crate::kit::{Daemon, Place};
use remand_client::Client;
use remand_model::TenantId;
use remand_model::envelope::Command;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How heavy a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// Length of both phases together.
    pub length: Duration,
    /// Connections at once.
    pub clients: usize,
    /// Tenants that they are spread over.
    pub tenants: usize,
}

impl Weight {
    /// What `--seconds=`, `--clients=` and `--tenants=` say; what they leave out is the short form.
    ///
    /// # Errors
    /// A word that is no number, or a tenant without a client.
    pub fn of(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut numbers = BTreeMap::from([("--seconds", 20), ("--clients", 60), ("--tenants", 20)]);
        for argument in arguments {
            let Some((name, value)) = argument.split_once('=') else { continue };
            if let Some(number) = numbers.get_mut(name) {
                *number = value.parse().map_err(|error| format!("{argument}: {error}"))?;
            }
        }
        let [seconds, clients, tenants] = ["--seconds", "--clients", "--tenants"].map(|name| numbers[name]);
        if tenants == 0 || clients < tenants {
            return Err(format!("{clients} clients for {tenants} tenants: every tenant needs one"));
        }
        Ok(Self { length: Duration::from_secs(seconds as u64), clients, tenants })
    }
}

/// A tenant that clients can work for.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// Its token, as text.
    pub token: String,
    /// Its contract's hash.
    pub contract: String,
}

/// What a load has shown, before it is judged.
#[derive(Debug)]
pub struct Shown {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// What every client did and was told, phase by phase.
    pub count: Count,
    /// Processes that were started and killed.
    pub numbers: Numbers,
    /// Each tenant's chain, from its export.
    pub chains: BTreeMap<TenantId, Chain>,
    /// What of the machine is still held after the end, in words; nothing where all is well.
    pub left: Vec<String>,
}

/// A small generator (SplitMix64): one seed, one course of kills.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// A time up to `most`.
    pub fn pause(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }
}

/// A connection that has greeted and is attached.
///
/// # Errors
/// Those of the client.
pub fn attached(place: &Place, tenant: &TenantId, token: Option<&str>) -> Result<Client, remand_client::ClientError> {
    let mut client = Client::connect(&place.socket())?;
    client.hello()?;
    client.attach(tenant, token)?;
    Ok(client)
}

/// Makes `count` tenants with a quota, a token and a contract each.
#[must_use]
pub fn tenants(place: &Place, count: usize) -> Vec<Tenant> {
    tenants_named(place, "tenant", count)
}

/// As [`tenants`], with names that begin so.
#[must_use]
pub fn tenants_named(place: &Place, prefix: &str, count: usize) -> Vec<Tenant> {
    let mut root = attached(place, &"local".parse().expect("a name"), None).expect("root is let in");
    (0..count).map(|number| tenant(place, &mut root, &format!("{prefix}-{number:02}"))).collect()
}

fn tenant(place: &Place, root: &mut Client, name: &str) -> Tenant {
    let mut ask = |command, payload: Value| root.ask(command, &payload).expect("root administers");
    ask(Command::Tenant, json!({"what": "create", "tenant_id": name}));
    let quota = json!({
        "max_cpu_seconds": 100_000, "max_memory_mb": 100_000, "max_disk_mb": 1 << 30, "max_network_kb": 0,
        "max_concurrent_tasks": 12, "max_pids": 100_000, "max_output_bytes": 1_u64 << 40, "window_seconds": 86_400,
        "weight": 1,
    });
    ask(Command::Quota, json!({"what": "register", "tenant_id": name, "quota": quota}));
    let grant = json!({
        "tenant_id": name, "rights": ["exec.run=*", "state.set=*", "state.get=*", "blob.get=*"], "triggers": ["manual"],
        "expires_s": 4_000_000_000_u64, "calls_max": 10_000_000, "cpu_ms_max": 100_000_000,
    });
    let token =
        ask(Command::Token, json!({"what": "issue", "grant": grant}))["token"].as_str().expect("text").to_owned();
    let name: TenantId = name.parse().expect("a name");
    let mut own = attached(place, &name, Some(&token)).expect("its token lets it in");
    let contract = json!({
        "contract_id": "echo", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/bin/cat"], "profile": "batch"},
        "input_schema": {"type": "object"}, "output_schema": {"type": "object"},
    });
    let made = own.ask(Command::Contract, &json!({"what": "register", "contract": contract})).expect("registered");
    Tenant { name, token, contract: made["contract_hash"].as_str().expect("text").to_owned() }
}

/// Puts the load on a fresh daemon and returns what it has shown.
#[must_use]
pub fn run(place: &Place, weight: Weight) -> Shown {
    let daemon = place.daemon();
    let tenants = tenants(place, weight.tenants);
    let (quiet, restless) = (weight.length * 3 / 4, weight.length / 4);
    let mut numbers = Numbers::default();
    let mut left = Vec::new();
    // The first executions open what stays open: the counting begins after them.
    let mut count = storm::calm(place, &tenants, weight.tenants);
    let before = storm::holdings(&daemon);
    count.add(storm::of_spawners(place, &daemon, &tenants, weight.clients, quiet, &mut numbers));
    left.extend(storm::held(place, &daemon, &before));
    numbers.holdings = (before, storm::holdings(&daemon));
    let (told, daemon) = storm::of_daemons(place, daemon, &tenants, weight.clients, restless, &mut numbers);
    count.add(told);
    left.extend(storm::running(place));
    let chains = tenants.iter().map(|tenant| (tenant.name.clone(), Chain::export(place, &tenant.name))).collect();
    end(place, daemon, &mut left);
    Shown { tenants, count, numbers, chains, left }
}

fn end(place: &Place, daemon: Daemon, left: &mut Vec<String>) {
    let ended = daemon.stop();
    if !ended.success() {
        left.push(format!("the daemon ended with {ended}"));
    }
    let traces = storm::settled(|| {
        let traces = place.traces();
        if traces.is_empty() { Vec::new() } else { vec![format!("{traces:?}")] }
    });
    left.extend(traces);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(arguments: &[&str]) -> Result<Weight, String> {
        Weight::of(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn what_is_not_said_is_the_short_form() {
        let (short, long) = (weight(&[]).unwrap(), weight(&["--seconds=120", "--clients=200"]).unwrap());
        assert_eq!((short.length.as_secs(), short.clients, short.tenants), (20, 60, 20));
        assert_eq!((long.length.as_secs(), long.clients, long.tenants), (120, 200, 20));
    }

    #[test]
    fn a_tenant_without_a_client_and_a_word_that_is_no_number_are_refused() {
        assert!(weight(&["--clients=3"]).is_err());
        assert!(weight(&["--seconds=long"]).is_err());
    }
}
