//! One client of a load: it works for its tenant, keeps what it was told, and connects again when the daemon was lost.

use super::{Dice, Tenant, attached};
use crate::kit::Place;
use remand_client::{Captured, Client, ClientError};
use remand_model::ExecutionId;
use remand_model::TenantId;
use remand_model::envelope::Command;
use remand_model::outcome::{Cause, ExecutionResult};
use remand_model::refusal::{Code, Move};
use remand_model::run::RunRequest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A client that was told to wait, or lost its daemon, asks again after at most this.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What a client was told, and so what must be in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An execution has ended; these are the numbers of its first and last event.
    Ended(ExecutionId, u64, u64),
    /// An execution was taken on.
    Taken(ExecutionId),
    /// A value was written with this event.
    Written(u64),
}

/// What clients did and heard, summed up.
#[derive(Debug, Default)]
pub struct Count {
    /// What was acknowledged, by tenant.
    pub told: BTreeMap<TenantId, Vec<Told>>,
    /// Executions whose end or acceptance was acknowledged, by tenant.
    pub executions: BTreeMap<TenantId, u64>,
    /// Refusals, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Words of refusals that are a defect's, or nobody's to wait out.
    pub complaints: Vec<String>,
    /// Ends, by the name of their cause.
    pub causes: BTreeMap<&'static str, u64>,
    /// Requests that the connection did not survive.
    pub cut: u64,
    /// Values read back that were not the ones acknowledged.
    pub stale: Vec<String>,
}

impl Count {
    /// Adds what another client did.
    pub fn add(&mut self, other: Self) {
        other.told.into_iter().for_each(|(tenant, told)| self.told.entry(tenant).or_default().extend(told));
        other.executions.into_iter().for_each(|(tenant, count)| *self.executions.entry(tenant).or_default() += count);
        other.refused.into_iter().for_each(|(code, count)| *self.refused.entry(code).or_default() += count);
        other.causes.into_iter().for_each(|(cause, count)| *self.causes.entry(cause).or_default() += count);
        self.complaints.extend(other.complaints);
        self.stale.extend(other.stale);
        self.cut += other.cut;
    }

    /// Notes an end that was told.
    pub fn ended(&mut self, tenant: &TenantId, result: &ExecutionResult) {
        *self.causes.entry(result.cause.name()).or_default() += 1;
        *self.executions.entry(tenant.clone()).or_default() += 1;
        match &result.record {
            Some(record) => self
                .tell(tenant, Told::Ended(result.execution_id.clone(), record.started_event, record.completed_event)),
            None => self.complaints.push(format!("{}: an end without a record", result.execution_id)),
        }
    }

    fn tell(&mut self, tenant: &TenantId, told: Told) {
        self.told.entry(tenant.clone()).or_default().push(told);
    }
}

/// A client at work.
pub struct Worker<'a> {
    place: &'a Place,
    tenant: &'a Tenant,
    number: usize,
    dice: Dice,
    /// Values that were acknowledged under this client's own keys.
    values: BTreeMap<String, String>,
    requests: u64,
    count: Count,
}

impl<'a> Worker<'a> {
    /// A client with a number that no other client of the load has.
    pub fn new(place: &'a Place, tenant: &'a Tenant, number: usize) -> Self {
        let dice = Dice::new(number as u64 + 1);
        Self { place, tenant, number, dice, values: BTreeMap::new(), requests: 0, count: Count::default() }
    }

    /// Works until it is over, and returns what it was told.
    pub fn work(mut self, over: &AtomicBool) -> Count {
        while !over.load(Ordering::Relaxed) {
            let done = self.connect().and_then(|mut client| {
                while !over.load(Ordering::Relaxed) {
                    self.act(&mut client)?;
                }
                Ok(())
            });
            if let Err(error) = done {
                self.lost(&error);
            }
        }
        self.count
    }

    /// Does one of each kind of thing.
    pub fn work_once(mut self) -> Count {
        let mut client = self.connect().expect("it listens");
        for kind in [0, 40, 60, 80, 95] {
            let done = self.act_of(&mut client, kind);
            done.expect("nothing is killed yet");
        }
        self.count
    }

    fn connect(&self) -> Result<Client, ClientError> {
        attached(self.place, &self.tenant.name, Some(&self.tenant.token))
    }

    fn lost(&mut self, error: &ClientError) {
        match error {
            ClientError::Refused(refusal) => self.refused(refusal),
            ClientError::Protocol(_) | ClientError::Deadline { .. } => self.count.complaints.push(error.to_string()),
            _ => self.count.cut += 1,
        }
        std::thread::sleep(self.dice.pause(PAUSE_MAX));
    }

    fn refused(&mut self, refusal: &remand_model::refusal::Refusal) {
        *self.count.refused.entry(refusal.code.name()).or_default() += 1;
        if refusal.whose_move() != Move::Wait {
            self.count.complaints.push(format!("{}: {refusal}", self.tenant.name));
        }
    }

    fn act(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let kind = self.dice.below(100);
        self.act_of(client, kind)
    }

    /// One request; a refusal of it is counted, any other failure ends the connection.
    fn act_of(&mut self, client: &mut Client, kind: u64) -> Result<(), ClientError> {
        self.requests += 1;
        let done = match kind {
            0..40 => self.run(client),
            40..60 => self.submit(client),
            60..80 => self.write(client),
            80..95 => self.read(client),
            _ => self.plan(client),
        };
        match done {
            Err(ClientError::Refused(refusal)) => {
                self.refused(&refusal);
                let told = refusal.retry_after_ms.map_or(PAUSE_MAX, Duration::from_millis);
                std::thread::sleep(self.dice.pause(told.min(PAUSE_MAX)));
                Ok(())
            }
            other => other,
        }
    }

    fn request(&self, argv: &[&str]) -> RunRequest {
        // Names are new in every life of this program, as the state is.
        let name = format!("c{}-{}-{}", self.number, self.requests, self.values.len());
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        RunRequest::new(name.parse().expect("a name"), argv)
    }

    fn run(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let word = format!("{}-{}", self.number, self.requests);
        let mut captured = Captured::default();
        let end = client.run(&self.request(&["/bin/echo", &word]), None, &mut captured)?;
        let said = String::from_utf8_lossy(&captured.stdout).into_owned();
        if matches!(end.result.cause, Cause::Exited { code: 0 }) && said.trim_end() != word {
            self.count.stale.push(format!("{}: {word} was to be printed, came {said:?}", end.result.execution_id));
        }
        self.count.ended(&self.tenant.name, &end.result);
        Ok(())
    }

    fn submit(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let id = client.submit_execution_request(&self.request(&["/bin/true"]))?;
        self.count.tell(&self.tenant.name, Told::Taken(id.clone()));
        *self.count.executions.entry(self.tenant.name.clone()).or_default() += 1;
        if self.dice.below(2) == 0 {
            let result = client.wait_for_execution(&id)?;
            *self.count.causes.entry(result.cause.name()).or_default() += 1;
        }
        Ok(())
    }

    fn write(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let key = format!("client-{}/{}", self.number, self.dice.below(5));
        let value = format!("{}", self.requests);
        // Until it is acknowledged nobody knows which of both values is there.
        self.values.remove(&key);
        let told = client.ask(Command::State, &json!({"what": "set", "key": key, "value": value}))?;
        let event = told["event_id"].as_u64().ok_or_else(|| ClientError::Protocol(format!("no event in {told}")))?;
        self.count.tell(&self.tenant.name, Told::Written(event));
        self.values.insert(key, value);
        Ok(())
    }

    fn read(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let Some((key, value)) = self.values.first_key_value() else { return self.write(client) };
        let read = client.ask(Command::State, &json!({"what": "get", "key": key}))?;
        if read["value"] != json!(value) {
            self.count.stale.push(format!("{key} is {}, acknowledged was {value}", read["value"]));
        }
        Ok(())
    }

    fn plan(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let name = format!("p{}-{}-{}", self.number, self.requests, self.values.len());
        let key = format!("plan-{}", self.number);
        let plan = json!({
            "protocol_version": "1.0", "plan_id": name, "tenant_id": self.tenant.name, "steps": [
                {"domain": "state", "method": "set", "resource": key, "params": {"key": key, "value": name}},
                {"domain": "exec", "method": "run", "resource": "echo", "params": {"input": {"n": self.requests}}},
            ],
        });
        let report = client.ask(Command::Plan, &json!({"what": "run", "plan": plan, "request_id": name}))?;
        if report["state"] != "completed" {
            let refusal: Option<remand_model::refusal::Refusal> =
                serde_json::from_value(report["refusal"].clone()).unwrap_or_default();
            match refusal {
                // Its spawner was killed: that is how it ended, and no refusal.
                Some(refusal) if refusal.code == Code::StepFailed && refusal.detail.contains(": lost ") => {
                    *self.count.causes.entry("lost").or_default() += 1;
                }
                Some(refusal) => self.refused(&refusal),
                None => self.count.complaints.push(format!("{report}")),
            }
        }
        for id in report["released"].as_array().into_iter().flatten().filter_map(executed) {
            self.count.tell(&self.tenant.name, Told::Taken(id));
            *self.count.executions.entry(self.tenant.name.clone()).or_default() += 1;
        }
        Ok(())
    }
}

fn executed(released: &Value) -> Option<ExecutionId> {
    released["execution_id"].as_str()?.parse().ok()
}
