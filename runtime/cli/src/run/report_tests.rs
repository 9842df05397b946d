//! Which ends deserve a line, and what the line says.

use remand_model::Limits;
use remand_model::outcome::{Cause, Denial, Enforced, ExecutionResult, InputRecord, Outputs, Usage};
use remand_model::{Digest, ExecutionId, PROTOCOL_VERSION};

use super::lines;

fn result(cause: Cause) -> ExecutionResult {
    ExecutionResult {
        protocol_version: PROTOCOL_VERSION.into(),
        execution_id: ExecutionId::from_claims(&Digest::of(b"")),
        tenant_id: "local".parse().expect("a name"),
        exit_code: cause.exit_code(),
        cause,
        limits_hit: Vec::new(),
        usage: Usage::default(),
        input: InputRecord { sha256: Digest::of(b""), bytes: 0, kept: true },
        outputs: Outputs::none(),
        denials: Vec::new(),
        enforced: Enforced::default(),
        timing_us: [].into(),
        hint: None,
        record: None,
    }
}

#[test]
fn a_plain_end_says_nothing() {
    for code in [0, 1, 123] {
        assert!(lines(&result(Cause::Exited { code }), None).is_empty(), "{code}");
    }
}

#[test]
fn a_code_that_could_be_ours_is_said_to_be_the_programs() {
    for code in [124, 125, 255] {
        assert!(lines(&result(Cause::Exited { code }), None)[0].contains("the program's own"), "{code}");
    }
}

#[test]
fn a_limit_is_named_with_its_size_and_its_flag() {
    let limits = Limits { wall_ms_max: 1500, memory_bytes_max: 32 << 20, ..Limits::default() };
    let told = |cause| lines(&result(cause), Some(&limits)).remove(0);
    assert_eq!(told(Cause::WallTimeout), "wall_timeout: the wall time was over (limit 1500ms); raise it with --wall");
    assert_eq!(told(Cause::Oom), "oom: the memory was used up (limit 32M); raise it with --memory");
}

#[test]
fn every_limit_has_a_flag() {
    let causes = [
        (Cause::CpuTimeout, "--cpu-time"),
        (Cause::Oom, "--memory"),
        (Cause::OutputLimit, "--output-max"),
        (Cause::PidsLimit, "--pids"),
        (Cause::DiskQuota, "--inodes"),
    ];
    for (cause, flag) in causes {
        let line = lines(&result(cause), None).remove(0);
        assert!(line.ends_with(flag), "{line}");
    }
}

#[test]
fn a_limit_met_on_the_way_is_told_and_the_one_that_ended_it_is_not_told_twice() {
    let mut met = result(Cause::Exited { code: 0 });
    met.limits_hit = vec!["pids".into()];
    assert_eq!(lines(&met, None), ["limits met on the way: pids (--pids)"]);
    let mut ended = result(Cause::Oom);
    ended.limits_hit = vec!["memory".into()];
    assert_eq!(lines(&ended, None).len(), 1);
}

#[test]
fn a_full_disk_is_told_by_what_was_full() {
    let mut full = result(Cause::DiskQuota);
    full.limits_hit = vec!["inodes".into()];
    assert!(lines(&full, None)[0].ends_with("no more files; raise it with --inodes"));
    full.limits_hit = vec!["disk".into()];
    assert!(lines(&full, None)[0].ends_with("full; raise it with --disk"));
}

#[test]
fn the_daemons_hint_comes_before_ours() {
    let mut refused = result(Cause::Seccomp { syscall: "ptrace".into() });
    refused.hint = Some("use the policy build".into());
    assert!(lines(&refused, None)[0].ends_with("ptrace; use the policy build"));
}

#[test]
fn what_was_refused_before_a_failure_is_said_and_before_a_success_not() {
    let denial = |n: usize| Denial {
        syscall: format!("call{n}"),
        errno: "EPERM".into(),
        why: "a reason".into(),
        next: "a way".into(),
    };
    let mut result = result(Cause::Exited { code: 1 });
    result.denials = (0..7).map(denial).collect();
    let said = lines(&result, None);
    assert_eq!(said[0], "refused call0 with EPERM: a reason; a way");
    assert_eq!((said.len(), said[5].as_str()), (6, "refused 2 more system calls; --json lists all"));
    result.denials.iter_mut().for_each(|denial| denial.errno = "ENOSYS".into());
    let said = lines(&result, None);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("call0, call1, call2, call3, call4 and 2 others;"), "{said:?}");
    result.exit_code = 0;
    assert!(lines(&result, None).is_empty());
}
