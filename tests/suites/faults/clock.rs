//! A machine's clock that jumps: leases, tokens and the order of events stay right. Only on a machine of its own.

use nix::time::{ClockId, clock_gettime, clock_settime};
use remand_model::envelope::Command;
use remand_model::refusal::Code;
use remand_tests::cases;
use remand_tests::kit::{Place, Raw, Reply, Traces};
use remand_tests::load;
use remand_tests::suite::{Case, Verdict};
use serde_json::{Value, json};
use std::time::Duration;

pub const CASES: &[Case] = cases![a_clock_that_jumps_ends_no_lease_revives_no_token_and_breaks_no_chain];

const DAY: i64 = 86_400;

/// The machine's clock; set right again when dropped.
struct Clock {
    wall: Duration,
    monotonic: Duration,
}

fn now(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("a clock can be read").into()
}

impl Clock {
    fn new() -> Self {
        Self { wall: now(ClockId::CLOCK_REALTIME), monotonic: now(ClockId::CLOCK_MONOTONIC) }
    }

    /// What the clock should say, and so many seconds more or less.
    fn off_by(&self, seconds: i64) {
        let right = self.wall + (now(ClockId::CLOCK_MONOTONIC) - self.monotonic);
        let set = i64::try_from(right.as_secs()).expect("not so late") + seconds;
        let set = Duration::from_secs(set.try_into().expect("after 1970"));
        clock_settime(ClockId::CLOCK_REALTIME, set.into()).expect("root of a machine of its own");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.off_by(0);
    }
}

fn run(raw: &mut Raw, name: &str) -> Reply {
    let request = json!({"protocol_version": "1.0", "request_id": name, "argv": ["/bin/true"], "policy": "batch"});
    raw.ask(Command::Run, &request)
}

fn code(reply: Reply) -> Code {
    reply.expect_err("it is refused").code
}

/// A token that lasts an hour by the right clock.
fn hour(place: &Place, tenant: &str, clock: &Clock) -> String {
    let grant = json!({"tenant_id": tenant, "rights": ["exec.run=*"], "triggers": ["manual"],
        "expires_s": clock.wall.as_secs() + 3600, "calls_max": 100, "cpu_ms_max": 1_000_000});
    let mut root = Raw::attached(place, "local", None);
    let issued = root.ask(Command::Token, &json!({"what": "issue", "grant": grant})).expect("root issues");
    issued["token"].as_str().expect("text").to_owned()
}

fn starts(raw: &mut Raw) -> Value {
    let asked = json!({"what": "query", "event_type": "EXECUTION_STARTED"});
    raw.ask(Command::Audit, &asked).expect("it looks")["events"].clone()
}

fn a_clock_that_jumps_ends_no_lease_revives_no_token_and_breaks_no_chain() -> Verdict {
    if std::env::var_os("REMAND_OWN_MACHINE").is_none() {
        return Verdict::Skipped("only a machine of its own may have its clock set (REMAND_OWN_MACHINE)".to_owned());
    }
    let place = Place::find().expect("the suite has one");
    let daemon = place.daemon();
    let tenant = load::tenants_named(&place, "clock", 1).remove(0);
    let (name, clock) = (tenant.name.as_str().to_owned(), Clock::new());
    let brief = hour(&place, &name, &clock);
    let mut long = Raw::attached(&place, &name, Some(&tenant.token));
    let mut short = Raw::attached(&place, &name, Some(&brief));
    run(&mut short, "before").expect("its hour is not over");

    clock.off_by(2 * DAY);
    // The lease lasts by another clock; the token does not.
    run(&mut long, "ahead").expect("it lasts for years");
    assert_eq!(code(run(&mut short, "expired")), Code::TokenExpired);
    let before = starts(&mut long);

    clock.off_by(0);
    // What has expired does not come back with the clock, however often it is tried.
    for number in 0..3 {
        assert_eq!(code(run(&mut short, &format!("revived-{number}"))), Code::ClockBackwards);
        assert_eq!(code(run(&mut long, &format!("behind-{number}"))), Code::ClockBackwards);
    }
    clock.off_by(-DAY);
    assert_eq!(code(run(&mut long, "far-behind")), Code::ClockBackwards);
    assert_eq!(starts(&mut long), before, "something was started");

    clock.off_by(0);
    assert!(daemon.stop().success());
    let daemon = place.daemon();
    let mut long = Raw::attached(&place, &name, Some(&tenant.token));
    run(&mut long, "right-again").expect("the clock is right, and the daemon was restarted");
    let log = long.ask(Command::Audit, &json!({"what": "query", "limit": 1000})).expect("it looks");
    let events = log["events"].as_array().expect("a list");
    let number = |event: &Value, key: &str| event[key].as_u64().expect("a number");
    assert!(events.iter().enumerate().all(|(index, event)| number(event, "event_id") == index as u64));
    assert!(events.windows(2).all(|pair| number(&pair[0], "timestamp") < number(&pair[1], "timestamp")));
    let wall = |event: &Value| number(event, "wall_clock_us");
    assert!(events.windows(2).any(|pair| wall(&pair[0]) > wall(&pair[1])), "the record does not show the jump");
    assert_eq!(long.ask(Command::Audit, &json!({"what": "verify"})).expect("it holds")["ok"], json!(true));
    assert!(daemon.stop().success());
    Traces::assert_gone(|| place.traces());
    Verdict::Proved
}
