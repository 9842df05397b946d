//! Bundles for the container runtimes: the same root, namespaces and limits that our own default gives.

use super::peers::Workload;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What every box sees of the host, read-only.
pub const HOST_FOLDERS: [&str; 4] = ["/usr", "/bin", "/lib", "/lib64"];

/// Calls that the bundle's filter allows: what the two workloads and their loaders use, and what is as common.
const CALLS: &str = "access arch_prctl brk capget chdir clock_getres clock_gettime clock_nanosleep clone clone3 close \
    close_range dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait eventfd2 execve exit exit_group faccessat faccessat2 \
    fchdir fcntl fstat fstatfs ftruncate futex getcwd getdents64 getegid geteuid getgid getpid getppid getrandom \
    getrlimit getsockopt gettid getuid ioctl lseek lstat madvise mkdir mmap mprotect mremap munmap nanosleep \
    newfstatat open openat pipe pipe2 poll ppoll pread64 prlimit64 pselect6 pwrite64 read readlink readlinkat readv \
    rename rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield select set_robust_list \
    set_tid_address setsockopt sigaltstack socketpair stat statfs statx sysinfo tgkill umask uname unlink unlinkat \
    wait4 waitid write writev prctl capset setresuid setresgid setgroups setuid setgid kill";

/// Writes `config.json` and an empty root below `folder`; `bench` is bound to `/bench` inside.
pub fn write_bundle(folder: &Path, bench: &Path, workload: Workload) -> std::io::Result<()> {
    let root = folder.join("rootfs");
    for place in ["proc", "dev", "tmp", "usr", "bench"] {
        fs::create_dir_all(root.join(place))?;
    }
    for path in HOST_FOLDERS.iter().filter(|path| **path != "/usr") {
        let inside = root.join(&path[1..]);
        if !inside.is_symlink() {
            symlink(format!("usr{path}"), inside)?; // as on the host, since Debian 12
        }
    }
    fs::write(folder.join("config.json"), config(bench, workload).to_string())
}

fn config(bench: &Path, workload: Workload) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(workload),
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "box",
        "mounts": mounts(bench),
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 200_000, "size": 65536}],
            "gidMappings": [{"containerID": 0, "hostID": 200_000, "size": 65536}],
            "namespaces": namespaces(),
            "resources": {
                "memory": {"limit": 512 << 20},
                "cpu": {"quota": 100_000, "period": 100_000},
                "pids": {"limit": 64}
            },
            "seccomp": seccomp(),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/sys", "/proc/irq", "/proc/bus"]
        }
    })
}

fn process(workload: Workload) -> Value {
    json!({
        "terminal": false,
        "user": {"uid": 1000, "gid": 1000},
        "args": workload.argv(),
        "env": ["PATH=/usr/bin:/bin"],
        "cwd": "/",
        "capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": true
    })
}

fn mounts(bench: &Path) -> Value {
    let bind = |source: &str, destination: &str| {
        json!({"destination": destination, "source": source, "type": "bind",
               "options": ["rbind", "ro", "nosuid", "nodev"]})
    };
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "size=64m"]},
        bind("/usr", "/usr"),
        bind(&bench.display().to_string(), "/bench"),
    ])
}

fn namespaces() -> Value {
    ["user", "pid", "mount", "network", "ipc", "uts", "cgroup"].iter().map(|kind| json!({"type": kind})).collect()
}

fn seccomp() -> Value {
    let names: Vec<&str> = CALLS.split_whitespace().collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    })
}
