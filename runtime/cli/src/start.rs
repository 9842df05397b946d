//! Starts the daemon for as long as it is needed, where none listens: the full daemon, on the same path.
//!
//! The child gets no input, an empty environment and a process group of its own, so that Ctrl-C here is not Ctrl-C there.
//! It writes `ready` on its standard output once its socket accepts. Its standard error goes into memory: a pipe would
//! break, or hold up whoever waits for our own streams to close, once we are gone and it still serves others.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, flock, memfd_create};

use crate::failure::Failure;

/// A daemon that verifies a long log before it serves is ready within this.
const READY_WAIT: Duration = Duration::from_secs(120);
/// Of what a daemon that failed said, at most so much is shown.
const SAID_BYTES_MAX: u64 = 4096;

/// Starts a daemon and returns once `socket` accepts. Whoever else starts one meanwhile waits for ours.
pub(crate) fn daemon(socket: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::Start(format!(
            "nothing listens on {0}, and only root can start remandd; run this command with sudo, or have an \
             administrator start it: systemctl start remandd",
            socket.display()
        )));
    }
    let binary = binary()?;
    let _lock = lock(socket)?;
    if UnixStream::connect(socket).is_ok() {
        return Ok(());
    }
    let said = memfd_create(c"remandd-stderr", MemfdFlags::CLOEXEC).map_err(io::Error::from);
    let said = File::from(said.map_err(Failure::system("make room for the daemon's messages"))?);
    let mut child = spawn(&binary, socket, &said)?;
    let ready = wait_until_ready(&mut child);
    ready.map_err(|why| failed(child, said, &why))
}

fn binary() -> Result<PathBuf, Failure> {
    let folder = match std::env::var_os("REMAND_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().map_err(Failure::system("find this program's own folder"))?;
            own.parent().map(Path::to_owned).unwrap_or_default()
        }
    };
    let binary = folder.join("remandd");
    if binary.is_file() {
        return Ok(binary);
    }
    let place = binary.display();
    Err(Failure::Start(format!(
        "{place} is missing; build it with scripts/build, or name its folder in REMAND_BIN_DIR"
    )))
}

/// Only one command at a time starts a daemon for this socket.
fn lock(socket: &Path) -> Result<File, Failure> {
    const NEXT: &str = "name a socket in a folder that root can write, with --socket";
    if let Some(folder) = socket.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(Failure::file("make the socket's folder", folder, NEXT))?;
    }
    let mut path = socket.as_os_str().to_owned();
    path.push(".start");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from);
    let file = file.map_err(Failure::file("open the lock", path, NEXT))?;
    let locked = flock(&file, FlockOperation::LockExclusive).map_err(io::Error::from);
    locked.map_err(Failure::system("wait for another command that starts remandd"))?;
    Ok(file.into())
}

fn spawn(binary: &Path, socket: &Path, said: &File) -> Result<Child, Failure> {
    let stderr = said.try_clone().map_err(Failure::system("make room for the daemon's messages"))?;
    let mut command = Command::new(binary);
    command.arg("--until-idle").arg("--socket").arg(socket);
    for (flag, variable) in [("--state", "REMAND_STATE"), ("--run", "REMAND_RUN")] {
        if let Some(folder) = std::env::var_os(variable) {
            command.arg(flag).arg(folder);
        }
    }
    command.env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    command.spawn().map_err(Failure::file("start", binary, "build it again with scripts/build"))
}

fn wait_until_ready(child: &mut Child) -> Result<(), String> {
    let Some(mut stdout) = child.stdout.take() else { return Err("its output is not ours".into()) };
    let (start, mut said) = (Instant::now(), Vec::new());
    while !said.contains(&b'\n') {
        let left = READY_WAIT.saturating_sub(start.elapsed());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Err(format!("it was not ready after {} s", READY_WAIT.as_secs())),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.to_string()),
        }
        let mut bytes = [0; 64];
        match stdout.read(&mut bytes) {
            Ok(0) => return Err("it ended before it was ready".into()),
            Ok(count) => said.extend_from_slice(&bytes[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
    if said == b"ready\n" { Ok(()) } else { Err("it said something else than that it is ready".into()) }
}

fn failed(mut child: Child, mut said: File, why: &str) -> Failure {
    // It may have ended by itself; either way it is gone after the wait, which is all that matters here.
    let ended =
        child.kill().and_then(|()| child.wait()).map_or_else(|error| error.to_string(), |code| code.to_string());
    let mut text = String::new();
    let read = said.seek(SeekFrom::Start(0)).and_then(|_| {
        let mut bytes = Vec::new();
        said.take(SAID_BYTES_MAX).read_to_end(&mut bytes)?;
        text = String::from_utf8_lossy(&bytes).trim().to_owned();
        Ok(())
    });
    if let Err(error) = read {
        text = format!("its messages cannot be read: {error}");
    }
    if text.is_empty() {
        return Failure::Start(format!("remandd did not start: {why} ({ended}); run remand doctor"));
    }
    Failure::Start(format!("remandd did not start ({why}): {text}"))
}
