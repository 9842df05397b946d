//! A tree of this test's own, processes inside its cells, and an end that leaves nothing behind.
#![allow(dead_code, reason = "each suite uses its part")]

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use remand_cgroup::{Base, Cell, CellLimits, Kill, Layout, Tree, Version};
use remand_model::{Limits, TenantId};

/// Long enough for a loaded machine; no verdict depends on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A user without any right of its own.
pub const NOBODY: u32 = 65534;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A prepared tree that is removed when the test ends.
pub struct Ground {
    pub tree: Tree,
    pub tenant: TenantId,
}

/// A tree, or a printed reason why this host cannot have one.
pub fn ground() -> Option<Ground> {
    let ground = ground_for(0)?;
    ground.tree.tenant(&ground.tenant, &Default::default()).unwrap();
    Some(ground)
}

/// A tree that belongs to this user, still without a tenant.
pub fn ground_for(uid: u32) -> Option<Ground> {
    if !rustix::process::geteuid().is_root() {
        return skip("not root");
    }
    let layout = Layout::detect().expect("/proc is mounted");
    let name = format!("remand-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let tree = match Tree::prepare(&layout, &name, uid, uid) {
        Ok(tree) => tree,
        Err(error) => return skip(&error.to_string()),
    };
    Some(Ground { tree, tenant: tenant() })
}

/// Prints why a test did not run, so that skips can be counted.
pub fn skip<T>(reason: &str) -> Option<T> {
    eprintln!("skipped: {reason}");
    None
}

impl Ground {
    pub fn cell(&self, name: &str, limits: &CellLimits) -> Cell {
        self.tree.cell(&self.tenant, name, limits).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let left = self.tree.clone().remove_all().expect("the test's tree can be removed");
        let base = Layout::detect().unwrap().unified().map(|unified| unified.kind);
        // In a delegated group the process itself has moved into its tree, which then ends with the service.
        assert!(left.is_empty() || base.is_some_and(|kind| kind != Base::Root), "left behind: {left:?}");
    }
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

/// Roomy limits that a test narrows in one place.
pub fn roomy() -> CellLimits {
    CellLimits::of(&Limits { memory_bytes_max: 256 << 20, cpu_millis_max: 2000, ..Limits::default() }, 1)
}

/// The files to which a process writes itself to enter the cell.
pub fn doors(cell: &Cell) -> Vec<PathBuf> {
    let door = |version| if version == Version::V1 { "tasks" } else { "cgroup.procs" };
    cell.hierarchies().iter().map(|h| h.root.join(cell.relative()).join(door(h.version))).collect()
}

/// The part of a test that runs inside a cell: this same binary again, so that a bare machine needs nothing but a shell.
/// Without its variable it is an empty test.
#[test]
fn payload() {
    match std::env::var("REMAND_TEST_PAYLOAD").as_deref() {
        Ok("memory") => hog_memory(),
        Ok("memfd") => hog_memfd(),
        Ok("threads") => bomb(),
        Ok("spin") => spin(),
        Ok("unprivileged") => build_unprivileged(),
        _ => {}
    }
}

/// The shell words that run a payload.
pub fn payload_command(name: &str) -> String {
    let own = std::env::current_exe().unwrap();
    format!("REMAND_TEST_PAYLOAD={name} '{}' --exact kit::payload --nocapture", own.display())
}

/// This same binary as a payload; by its descriptor, because another user may not reach its path.
pub fn own_command(payload: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env("REMAND_TEST_PAYLOAD", payload).args(["--exact", "kit::payload", "--nocapture"]);
    command
}

/// Makes, limits, reads, kills and removes a cell without privilege, and fails to touch what is root's.
fn build_unprivileged() {
    let name = std::env::var("REMAND_TEST_TREE").unwrap();
    let tree = Tree::open(&Layout::detect().unwrap(), &name).unwrap();
    tree.tenant(&tenant(), &Default::default()).unwrap();
    let cell = tree.cell(&tenant(), "mine", &roomy()).unwrap();
    assert!(!cell.enforced().is_empty());
    cell.usage().unwrap();
    cell.events().unwrap();
    assert!(cell.watch().unwrap().take().unwrap().is_empty());
    end(&cell);
    for hierarchy in cell.hierarchies() {
        let top = hierarchy.root.join(&name);
        for file in
            ["memory.max", "memory.limit_in_bytes", "pids.max", "cgroup.procs", "tasks", "cgroup.subtree_control"]
        {
            let refused = std::fs::OpenOptions::new().write(true).open(top.join(file)).unwrap_err().kind();
            assert!(matches!(refused, ErrorKind::PermissionDenied | ErrorKind::NotFound), "{file} {refused}");
        }
    }
    tree.remove_tenant(&tenant()).unwrap();
    say("\nbuilt and refused\n");
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Touches memory in steps of 4 MiB and says how many MiB it got.
fn hog_memory() {
    let mut blocks = Vec::new();
    for step in 1..256 {
        blocks.push(vec![1u8; 4 << 20]);
        say(&format!("\n{}\n", step * 4));
    }
}

fn hog_memfd() {
    let fd = rustix::fs::memfd_create("hog", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = std::fs::File::from(fd);
    for _ in 0..256 {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
}

/// Starts a hundred threads that stay, says how many were refused, and stays until it is killed.
fn bomb() {
    let stay = || std::thread::Builder::new().stack_size(64 << 10).spawn(std::thread::park);
    let refused = (0..100).filter(|_| stay().is_err()).count();
    say(&format!("\nrefused {refused}\n"));
    loop {
        std::thread::park();
    }
}

/// Keeps two processors busy for two seconds of wall time.
fn spin() {
    let busy = || {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(busy);
        busy();
    });
}

/// Starts a shell script inside the cell: the shell enters every hierarchy before the script begins.
pub fn start(cell: &Cell, script: &str) -> Child {
    let mut text = String::new();
    for door in doors(cell) {
        text += &format!("echo $$ > '{}' || exit 99\n", door.display());
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &(text + script)]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Kills what is in the cell and removes it.
pub fn end(cell: &Cell) {
    assert_eq!(cell.kill().unwrap(), Kill::Sent);
    cell.remove(PATIENCE).unwrap();
}

/// Waits for the watch's descriptor to become readable.
pub fn wait_readable(watch: &remand_cgroup::Watch) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "no notification");
}
