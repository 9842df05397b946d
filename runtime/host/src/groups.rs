//! Needs that concern control groups: made, limited, entered and killed for real, in a tree that is gone afterwards.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use remand_cgroup::{Cell, CellLimits, Kill, Kind, Layout, TenantLimits, Tree, Version};
use remand_model::{Limits, TenantId};

use crate::child::{Outcome, helper};

/// What a finding starts with when a look would have changed more than itself.
pub(crate) const NOT_TRIED: &str = "not tried";
/// How long a killed cell may take to become empty.
const END_WAIT: Duration = Duration::from_secs(5);

fn text(error: impl std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// Makes a tree with one limited cell, does something with it, and removes all of it.
fn with_cell(work: impl FnOnce(&Cell) -> Outcome) -> Outcome {
    let layout = Layout::detect().map_err(text)?;
    let moved = Tree::in_the_way(&layout).map_err(text)?;
    if !moved.is_empty() {
        return Err(format!(
            "{NOT_TRIED}: it would move {} processes of this group, as remandd does at boot",
            moved.len()
        ));
    }
    let name = format!("remand-doctor-{}", std::process::id());
    let tree = Tree::prepare(&layout, &name, 0, 0).map_err(text)?;
    let outcome = build(&tree).and_then(|cell| work(&cell));
    let removed = tree.remove_all().map_err(text);
    let found = outcome?;
    removed.map(|_| found)
}

fn build(tree: &Tree) -> Result<Cell, String> {
    let tenant: TenantId = "doctor".parse().map_err(text)?;
    tree.tenant(&tenant, &TenantLimits::default()).map_err(text)?;
    tree.cell(&tenant, "probe", &CellLimits::of(&Limits::default(), 1)).map_err(text)
}

pub(crate) fn layout() -> Outcome {
    let layout = Layout::detect().map_err(text)?;
    match layout.kind() {
        Kind::Unified => Ok("version 2".into()),
        Kind::Hybrid => Err("hybrid: version 1 controllers beside version 2".into()),
        Kind::Legacy => Err("version 1 only".into()),
        Kind::Absent => Err("no control groups are mounted".into()),
    }
}

/// Sets and reads back every limit.
pub(crate) fn limits() -> Outcome {
    with_cell(|cell| {
        let homes: Vec<String> = cell.hierarchies().iter().flat_map(homes).collect();
        Ok(format!("{} limits read back; {}", cell.enforced().len(), homes.join(", ")))
    })
}

fn homes(hierarchy: &remand_cgroup::CellHierarchy) -> Vec<String> {
    let version = if hierarchy.version == Version::V1 { "v1" } else { "v2" };
    hierarchy.controllers.iter().map(|name| format!("{name} {version}")).collect()
}

/// Puts a process into the cell's group in every hierarchy.
pub(crate) fn enter() -> Outcome {
    with_cell(|cell| {
        let mut child = occupant(cell)?;
        let populated = cell.populated().map_err(text);
        let found = cell.pids().map_err(text);
        end(cell, &mut child)?;
        match (populated?, found?.len()) {
            (true, 1) => Ok(format!("{} hierarchies", cell.hierarchies().len())),
            other => Err(format!("populated and processes: {other:?}")),
        }
    })
}

/// Kills an occupied cell as one.
pub(crate) fn kill() -> Outcome {
    with_cell(|cell| {
        let mut child = occupant(cell)?;
        let outcome = match cell.kill().map_err(text)? {
            Kill::Sent => Ok("cgroup.kill".into()),
            Kill::ByCaller(_) => Err("only process by process".into()),
        };
        end(cell, &mut child)?;
        outcome
    })
}

/// Starts a helper that enters the cell everywhere and stays.
fn occupant(cell: &Cell) -> Result<Child, String> {
    let mut child = helper("helper.enter")?;
    let door = |version| if version == Version::V1 { "tasks" } else { "cgroup.procs" };
    let doors = cell.hierarchies();
    let doors = doors.iter().map(|h| h.root.join(cell.relative()).join(door(h.version)));
    let lines: String = doors.map(|path: PathBuf| format!("{}\n", path.display())).collect();
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(format!("{lines}\n").as_bytes()).map_err(text)?;
    let mut answer = [0u8; 1];
    let entered = child.stdout.as_mut().expect("piped").read_exact(&mut answer);
    child.stdin = Some(stdin);
    match entered {
        Ok(()) => Ok(child),
        Err(_) => {
            end(cell, &mut child)?;
            Err("a process cannot enter the groups".into())
        }
    }
}

/// Ends the helper and waits until the cell is empty.
fn end(cell: &Cell, child: &mut Child) -> Result<(), String> {
    child.kill().map_err(text)?;
    child.wait().map_err(text)?;
    cell.remove(END_WAIT).map_err(text)
}

/// The other side of [`occupant`]: enters every group that it is told, says so, and stays until its input ends.
pub(crate) fn enter_helper() -> Outcome {
    let mut lines = std::io::stdin().lines();
    for line in lines.by_ref() {
        let path = line.map_err(text)?;
        if path.is_empty() {
            break;
        }
        std::fs::write(&path, "0").map_err(|error| format!("{path}: {error}"))?;
    }
    let mut out = std::io::stdout();
    out.write_all(b".").and_then(|()| out.flush()).map_err(text)?;
    let rest = lines.count();
    Ok(format!("{rest} lines after the end"))
}
