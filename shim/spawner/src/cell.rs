//! One cell: cloned into its namespaces, its ids mapped, its descriptors laid out, its shim started.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use remand_spec::estate::IDS_OF_A_CELL;
use remand_spec::message::SPAWN_FDS;
use remand_spec::{Record, Stage, Vetted};
use remand_sys::process::{self, Side, Texts};
use remand_sys::{Errno, Result, confine, file};

use crate::Failure;
use crate::groups::CellGroups;
use crate::template::write_map;

/// Lowest number for the descriptors that the child lays out, so that no target of the layout is one of its sources.
const ABOVE: i32 = 64;
/// Numbers in the shim: the streams, then spec, control, and the `tasks` files.
const FIRST_TASKS: i32 = 5;

/// What the child needs, prepared so that it calls nothing but the kernel.
struct Plan {
    streams: [OwnedFd; 3],
    shim: OwnedFd,
    spec: OwnedFd,
    control: OwnedFd,
    tasks: Vec<OwnedFd>,
    argv: Texts,
    environment: Texts,
}

/// Makes the cell and answers with the process descriptor of its pid 1, a child of the daemon.
pub fn make(
    vetted: &Vetted,
    shim: &OwnedFd,
    proc: BorrowedFd<'_>,
    groups: &CellGroups,
    fds: [OwnedFd; SPAWN_FDS],
) -> std::result::Result<OwnedFd, Failure> {
    let failed = |error| Failure::call(Stage::Clone, "cannot clone the cell", error);
    let plan = Plan::new(shim, &fds, groups).map_err(failed)?;
    let (go, ready) = file::pipe().map_err(failed)?;
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let flags = (namespaces | libc::CLONE_PARENT) as u64;
    let folder = groups.folder.as_ref().map(AsFd::as_fd);
    // Whoever is effective now owns the user namespace, and what the kernel allows a user is charged to its owner: so it is
    // the cell's own first id, and no box can use up what another one, or the host's root, is allowed.
    let ids_first = vetted.spec().ids_first;
    let cloned = confine::act_as(ids_first).and_then(|()| process::clone(flags, folder, 0));
    if !matches!(cloned, Ok(Side::Child)) {
        confine::act_as(0).map_err(failed)?;
    }
    match cloned.map_err(failed)? {
        Side::Child => {
            drop(ready);
            plan.become_shim(go.as_fd())
        }
        Side::Parent(pid, cell) => {
            // On failure `ready` closes unwritten, and the child ends by itself.
            map_ids(proc, pid, ids_first)
                .and_then(|()| file::write_all(ready.as_fd(), b"g"))
                .map_err(|error| Failure::call(Stage::Ids, "cannot map the cell's ids", error))?;
            Ok(cell)
        }
    }
}

fn map_ids(proc: BorrowedFd<'_>, pid: i32, first: u32) -> Result<()> {
    let map = format!("0 {first} {IDS_OF_A_CELL}");
    write_map(proc, pid, "uid_map", &map)?;
    write_map(proc, pid, "gid_map", &map)
}

impl Plan {
    fn new(shim: &OwnedFd, fds: &[OwnedFd; SPAWN_FDS], groups: &CellGroups) -> Result<Self> {
        let high = |fd: &OwnedFd| file::duplicate_above(fd.as_fd(), ABOVE);
        let [spec, control, stdin, stdout, stderr] = fds;
        Ok(Self {
            streams: [high(stdin)?, high(stdout)?, high(stderr)?],
            shim: high(shim)?,
            spec: high(spec)?,
            control: high(control)?,
            tasks: groups.tasks.iter().map(high).collect::<Result<_>>()?,
            argv: Texts::new(&[b"remand-shim".to_vec()])?,
            environment: Texts::new(&[])?,
        })
    }

    /// The child's whole life here: wait for the map, lay out descriptors, exec. Without the map exec would take away the
    /// capabilities that the shim assembles the root with.
    fn become_shim(&self, go: BorrowedFd<'_>) -> ! {
        if file::read(go, &mut [0]) != Ok(1) {
            process::exit(1);
        }
        let (stage, error) = match confine::become_user(0, 0) {
            Err(error) => (Stage::Ids, error),
            Ok(()) => match self.lay_out() {
                Err(error) => (Stage::Clone, error),
                Ok(()) => (Stage::Shim, process::execute_fd(self.shim.as_fd(), &self.argv, &self.environment)),
            },
        };
        self.report(stage, error)
    }

    fn lay_out(&self) -> Result<()> {
        let fixed = self.streams.iter().chain([&self.spec, &self.control]).chain(&self.tasks);
        let mut number = 0;
        for fd in fixed {
            file::duplicate_to(fd.as_fd(), number, true)?;
            number += 1;
        }
        assert_eq!(number, FIRST_TASKS + self.tasks.len() as i32, "the layout that the shim expects");
        file::cloexec_from(number as u32)
    }

    fn report(&self, stage: Stage, error: Errno) -> ! {
        let record = Record::Fault(stage, error.0 as u32).encode();
        process::exit(if file::write_all(self.control.as_fd(), &record).is_ok() { 1 } else { 2 })
    }
}
