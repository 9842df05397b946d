//! The kit against the real product: a program runs, a daemon is killed, and nothing is left either way.
#![forbid(unsafe_code)]

use remand_tests::cases;
use remand_tests::kit::{PATIENCE, Place, Traces, finish};
use remand_tests::suite::{self, Verdict};
use std::io::Read;
use std::process::{ExitCode, Stdio};

fn main() -> ExitCode {
    suite::main(cases![
        a_program_runs_without_a_daemon_and_leaves_nothing,
        a_result_names_the_cause_and_the_walls,
        input_goes_in_and_output_comes_out,
        a_running_daemon_serves_and_ends_when_asked,
        a_killed_daemon_leaves_nothing_behind,
    ])
}

/// The body of a case that needs a place.
fn at_a_place(body: impl FnOnce(&Place)) -> Verdict {
    match Place::find() {
        Ok(place) => {
            body(&place);
            Traces::assert_gone(|| place.traces());
            Verdict::Proved
        }
        Err(why) => Verdict::Skipped(why),
    }
}

fn a_program_runs_without_a_daemon_and_leaves_nothing() -> Verdict {
    at_a_place(|place| {
        assert_eq!(place.remand(&["run", "--", "/bin/echo", "hello"]).expect(0).text(), "hello\n");
        assert_eq!(place.remand(&["run", "--", "/bin/sh", "-c", "exit 7"]).code(), 7);
    })
}

fn a_result_names_the_cause_and_the_walls() -> Verdict {
    at_a_place(|place| {
        let result = place.result(&["--", "/bin/true"]);
        assert_eq!(result["cause"]["kind"], "exited", "{result}");
        assert_eq!(result["protocol_version"], "1.0");
        assert!(result["enforced"]["limits"].as_array().is_some_and(|limits| !limits.is_empty()), "{result}");
    })
}

fn input_goes_in_and_output_comes_out() -> Verdict {
    at_a_place(|place| {
        let input = b"abc\n".repeat(50_000);
        let done = finish(&mut place.command(&["run", "--", "/bin/cat"]), &input, PATIENCE).expect(0);
        assert!(done.stdout == input, "{} bytes of {}", done.stdout.len(), input.len());
    })
}

fn a_running_daemon_serves_and_ends_when_asked() -> Verdict {
    at_a_place(|place| {
        let daemon = place.daemon();
        assert!(!daemon.children().is_empty(), "a daemon without a spawner");
        assert_eq!(place.remand(&["run", "--", "/bin/echo", "hello"]).expect(0).text(), "hello\n");
        assert!(daemon.stop().success());
    })
}

fn a_killed_daemon_leaves_nothing_behind() -> Verdict {
    at_a_place(|place| {
        let daemon = place.daemon();
        let script = "trap '' TERM INT HUP; echo started; setsid sleep 1000 & exec sleep 1000";
        let mut client = place.command(&["run", "--", "/bin/sh", "-c", script]);
        let mut client = client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        client.stdout.take().unwrap().read_exact(&mut [0; 8]).expect("the program says that it has started");
        daemon.kill();
        assert_eq!(client.wait().unwrap().code(), Some(125), "whose daemon is gone cannot know how the program ended");
        // What the dead daemon cannot do itself is for the next one to do, when it starts.
        Traces::assert_gone(|| Traces { groups: Default::default(), ..place.traces() });
        assert!(place.daemon().stop().success());
    })
}
