//! What a person can do about an execution's end.

use remand_model::outcome::Cause;

use crate::breach;

/// One sentence, or nothing where there is nothing to do.
#[must_use]
pub fn of(cause: &Cause, limits_hit: &[String]) -> Option<String> {
    let is_hit = |name: &str| limits_hit.iter().any(|hit| hit == name);
    let together = |what: &str, field: &str| {
        format!("the tenant's executions together used up its {what}: run fewer at once, or have its {field} raised")
    };
    Some(match cause {
        Cause::Oom if is_hit(breach::TENANT_MEMORY) => together("memory", "max_memory_mb"),
        Cause::PidsLimit if is_hit(breach::TENANT_PIDS) => together("processes", "max_pids"),
        Cause::Exited { .. } | Cause::Signaled { .. } | Cause::Cancelled => return None,
        Cause::WallTimeout => "the wall time was over: give more with --wall".into(),
        Cause::CpuTimeout => "the processor time was used up: give more with --cpu-time".into(),
        Cause::Oom => "the memory was used up: give more with --memory".into(),
        Cause::OutputLimit => "more was printed than allowed: give more with --output-max".into(),
        Cause::PidsLimit => "more processes or threads were wanted than allowed: give more with --pids".into(),
        Cause::DiskQuota => "the writable places were full: give more with --disk or --inodes".into(),
        Cause::Seccomp { syscall } => {
            format!("the policy ends executions for the system call {syscall}: see `remand policy explain`")
        }
        Cause::Refused { .. } => "correct the request and send it again".into(),
        Cause::SetupFailed { stage, errno, .. } => setup(stage, *errno),
        Cause::Lost { .. } => "run it again; if it happens again, look at the daemon's log".into(),
    })
}

fn setup(stage: &str, errno: u32) -> String {
    match (stage, errno) {
        ("exec", 2 | 20) => {
            "there is no such program in the box: check the name, PATH and what the policy shows".into()
        }
        ("exec", 13) => {
            "the program is not executable in the box: check its mode and the policy's [[files]] rules".into()
        }
        ("exec", 8) => "the program is not in a format that this kernel runs".into(),
        ("streams", 2 | 20) => "the working folder is not there in the box: check -w".into(),
        ("template", 2) => {
            "a path that is to be shown is not there on the host: check -v, --rootfs and the policy".into()
        }
        ("template", 40) => "a path that is to be shown has a link in it: give the path that it leads to".into(),
        ("template", 22) => {
            "the file system of a folder given with -v cannot show other owners: give a folder on another one".into()
        }
        ("shim", _) => {
            "remand-shim beside remandd is damaged or of another version: install the four programs together, then \
             restart remandd"
                .into()
        }
        ("vet", _) => "the estate of this node forbids it: see the estate file, which root writes".into(),
        ("cgroup", _) => "a limit could not be set: run `remand doctor`".into(),
        ("landlock" | "seccomp" | "ids" | "clone" | "root" | "time", _) => {
            "this host could not raise a wall that the policy needs: run `remand doctor`".into()
        }
        _ => "run `remand doctor`; if it finds nothing, report this".into(),
    }
}
