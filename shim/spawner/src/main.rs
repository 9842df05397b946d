//! `remand-spawner ESTATE SHIM`: root, one thread, one job: make cells.
//!
//! Standard input is a SEQPACKET socket to the daemon, the only peer. A request carries descriptors and nothing that needs
//! parsing but the sealed spec; the spec is vetted against the estate, which only root can write. Cells are cloned as
//! children of the daemon, which waits for them. When the daemon is gone, everything in the estate's groups is killed and
//! removed, and the spawner ends.
#![forbid(unsafe_code)]

mod cell;
mod groups;
mod template;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use remand_spec::message::SPAWN_FDS;
use remand_spec::{Answer, Estate, Request, SpawnSpec, Stage, codec, vet};
use remand_sys::process::{self, Side, Texts};
use remand_sys::{Errno, file, socket};

use crate::groups::Groups;
use crate::template::Templates;

/// Why a cell was not made.
struct Failure {
    stage: Stage,
    errno: u32,
    reason: String,
}

impl Failure {
    fn refused(reason: impl Into<String>) -> Self {
        Self { stage: Stage::Vet, errno: 0, reason: reason.into() }
    }

    fn call(stage: Stage, what: &str, error: Errno) -> Self {
        Self { stage, errno: error.0 as u32, reason: format!("{what}: {error}") }
    }
}

/// What the spawner holds from start to end.
struct Spawner {
    arguments: Vec<String>,
    program: OwnedFd,
    shim: OwnedFd,
    estate: Estate,
    groups: Groups,
    templates: Templates,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = start(arguments).and_then(|mut spawner| spawner.serve());
    if let Err(reason) = outcome {
        eprintln!("remand-spawner: {reason}");
        process::exit(1);
    }
}

fn start(arguments: Vec<String>) -> Result<Spawner, String> {
    let [_, estate, shim] = arguments.as_slice() else {
        return Err("usage: remand-spawner ESTATE SHIM, with the daemon's socket as standard input".into());
    };
    let estate = read_estate(estate)?;
    // Templates are looked into by users that they do not belong to; their modes are meant as they are written.
    process::set_umask(0);
    remand_sys::confine::keep_capabilities().map_err(|error| format!("securebits: {error}"))?;
    let shim = pin(shim).map_err(|error| format!("cannot pin the shim {shim}: {error}"))?;
    let program = file::open(c"/proc/self/exe", libc::O_PATH, 0).map_err(|error| format!("/proc/self/exe: {error}"))?;
    let groups = Groups::open(&estate).map_err(|error| format!("cannot open the estate's control groups: {error}"))?;
    let templates = Templates::start().map_err(|error| format!("cannot make a mount namespace: {error}"))?;
    Ok(Spawner { arguments, program, shim, estate, groups, templates })
}

/// The estate is believed because only root can have written it, so that is checked first.
fn read_estate(path: &str) -> Result<Estate, String> {
    let name = remand_sys::c_string(path).map_err(|error| format!("{path}: {error}"))?;
    let fd = file::open(&name, libc::O_RDONLY | libc::O_NOFOLLOW, 0).map_err(|error| format!("{path}: {error}"))?;
    let stat = file::stat(fd.as_fd()).map_err(|error| format!("{path}: {error}"))?;
    if stat.uid != 0 || stat.mode & 0o022 != 0 || stat.mode & libc::S_IFMT != libc::S_IFREG {
        return Err(format!("{path} is not a file that only root can write: chown root, chmod 644"));
    }
    let bytes = read_whole(fd.as_fd()).map_err(|error| format!("{path}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{path} is not text"))?;
    Estate::parse(&text).map_err(|error| format!("{path}: {error}"))
}

/// Copies the shim into sealed memory: what cells execute cannot be changed any more, not even through `/proc/1/exe`.
fn pin(path: &str) -> Result<OwnedFd, Errno> {
    let source = file::open(&remand_sys::c_string(path)?, libc::O_RDONLY, 0)?;
    let memory = file::memory_file(c"remand-shim", true)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file::read(source.as_fd(), &mut buffer)? {
            0 => break,
            n => file::write_all(memory.as_fd(), &buffer[..n])?,
        }
    }
    file::seal(memory.as_fd())?;
    // A second, read-only description: exec refuses a file that somebody holds open for writing.
    let name = remand_sys::c_string(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory)))?;
    file::open(&name, libc::O_RDONLY, 0)
}

fn read_whole(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while bytes.len() <= codec::BYTES_MAX {
        match file::read_at(fd, &mut buffer, bytes.len() as u64)? {
            0 => return Ok(bytes),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
    Err(Errno(libc::EFBIG))
}

impl Spawner {
    fn serve(&mut self) -> Result<(), String> {
        let daemon = file::inherited(0).map_err(|error| format!("no socket on standard input: {error}"))?;
        loop {
            let mut buffer = [0; 16];
            let (size, fds) = match socket::receive(daemon.as_fd(), &mut buffer) {
                Ok((0, _)) | Err(Errno(libc::ECONNRESET)) => break,
                Ok(received) => received,
                Err(error) => return Err(format!("cannot receive from the daemon: {error}")),
            };
            let (answer, handle) = match self.handle(&buffer[..size], fds) {
                Ok((answer, handle)) => (answer, handle),
                Err(f) => (Answer::Refused { stage: f.stage, errno: f.errno, reason: f.reason }, None),
            };
            let handles: Vec<_> = handle.iter().map(AsFd::as_fd).collect();
            match socket::send(daemon.as_fd(), &answer.encode(), &handles) {
                Err(Errno(libc::EPIPE | libc::ECONNRESET)) => break,
                other => other.map_err(|error| format!("cannot answer the daemon: {error}"))?,
            }
        }
        self.groups.clear();
        Ok(())
    }

    fn handle(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> Result<(Answer, Option<OwnedFd>), Failure> {
        match Request::decode(bytes).map_err(|error| Failure::refused(error.to_string()))? {
            Request::Spawn => {
                let fds: [OwnedFd; SPAWN_FDS] =
                    fds.try_into().map_err(|_| Failure::refused("a spawn request carries five descriptors"))?;
                self.spawn(fds).map(|(answer, cell)| (answer, Some(cell)))
            }
            Request::Heir => {
                let [socket] = fds.try_into().map_err(|_| Failure::refused("an heir needs one socket"))?;
                self.heir(&socket).map_err(|error| Failure::call(Stage::Clone, "cannot start an heir", error))?;
                Ok((Answer::Done { cloned_ns: process::clock_ns(libc::CLOCK_MONOTONIC), template_made: false }, None))
            }
        }
    }

    fn spawn(&mut self, fds: [OwnedFd; SPAWN_FDS]) -> Result<(Answer, OwnedFd), Failure> {
        let sealed = file::is_sealed(fds[0].as_fd()).map_err(|e| Failure::call(Stage::Vet, "the spec's seals", e))?;
        if !sealed {
            return Err(Failure::refused("the spec is not sealed: it could change after it was vetted"));
        }
        let bytes = read_whole(fds[0].as_fd()).map_err(|e| Failure::call(Stage::Vet, "the spec", e))?;
        let spec = SpawnSpec::decode(&bytes).map_err(|error| Failure::refused(error.to_string()))?;
        let vetted = vet(spec, &self.estate).map_err(Failure::refused)?;
        let groups = self.groups.of_cell(&vetted.spec().cgroup)?;
        let template_made = self.templates.enter(vetted.spec())?;
        let made = cell::make(&vetted, &self.shim, self.templates.proc(), &groups, fds);
        let left = self.templates.after(vetted.spec());
        let cell = made?;
        left.map_err(|error| Failure::call(Stage::Template, "cannot give the template up", error))?;
        Ok((Answer::Done { cloned_ns: process::clock_ns(libc::CLOCK_MONOTONIC), template_made }, cell))
    }

    /// Another spawner, likewise a child of the daemon, so that the loss of one is not the loss of all.
    fn heir(&mut self, daemon: &OwnedFd) -> Result<(), Errno> {
        let arguments: Vec<Vec<u8>> = self.arguments.iter().map(|text| text.clone().into_bytes()).collect();
        let (argv, environment) = (Texts::new(&arguments)?, Texts::new(&[])?);
        let daemon = file::duplicate_above(daemon.as_fd(), 64)?;
        self.templates.leave()?;
        if let Side::Parent(..) = process::clone(libc::CLONE_PARENT as u64, None, 0)? {
            return Ok(());
        }
        if file::duplicate_to(daemon.as_fd(), 0, true).and_then(|()| file::cloexec_from(3)).is_ok() {
            process::execute_fd(self.program.as_fd(), &argv, &environment);
        }
        process::exit(1)
    }
}
