//! Runs a command on a kernel that lacks something: an outer filter that refuses a call, a mount namespace without a
//! hierarchy. The lack is inherited by whatever the command starts, so it reaches daemon, spawner and shim alike.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The first argument that makes this program a launcher.
pub const FLAG: &str = "--without";

/// Something that a kernel can lack.
#[derive(Debug, Clone, Copy)]
pub enum Lack {
    /// A call by number, always or with one argument (its position and value); and the error it fails with.
    Call(u32, Option<(u8, u64)>, u32),
    /// Something that is mounted.
    Mount(&'static str),
    /// The right to write to something that is mounted.
    Writing(&'static str),
}

impl Lack {
    /// As an argument of the launcher.
    pub fn word(self) -> String {
        match self {
            Self::Call(number, None, error) => format!("call:{number}:{error}"),
            Self::Call(number, Some((at, value)), error) => format!("call:{number}:{error}:{at}:{value}"),
            Self::Mount(path) => format!("mount:{path}"),
            Self::Writing(path) => format!("writing:{path}"),
        }
    }
}

/// `LACK COMMAND ARGUMENTS...`; does not return unless something fails.
pub fn launch(arguments: &[String]) -> ExitCode {
    let parts: Vec<&str> = arguments[0].split(':').collect();
    match parts[..] {
        ["call", ..] => refuse(&parts[1..].iter().map(|part| part.parse().expect("a number")).collect::<Vec<u64>>()),
        ["mount", path] => {
            own_mounts();
            umount2(path, MntFlags::MNT_DETACH).expect("it is mounted");
        }
        ["writing", path] => {
            own_mounts();
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(None::<&str>, path, None::<&str>, flags, None::<&str>).expect("it is mounted");
        }
        _ => panic!("what is {arguments:?}?"),
    }
    let error = Command::new(&arguments[1]).args(&arguments[2..]).exec();
    eprintln!("{}: {error}", arguments[1]);
    ExitCode::FAILURE
}

/// A mount namespace of this process's own, from which nothing spreads.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("root may");
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).expect("root may");
}

fn refuse(numbers: &[u64]) {
    let (call, error) = (i64::try_from(numbers[0]).expect("a call"), u32::try_from(numbers[1]).expect("an error"));
    let rules = match numbers.get(2..4) {
        None => Vec::new(),
        Some(with) => {
            let at = u8::try_from(with[0]).expect("a position");
            let condition = SeccompCondition::new(at, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, with[1]);
            vec![SeccompRule::new(vec![condition.expect("a condition")]).expect("a rule")]
        }
    };
    let arch = std::env::consts::ARCH.try_into().expect("a known processor");
    let filter = SeccompFilter::new([(call, rules)].into(), SeccompAction::Allow, SeccompAction::Errno(error), arch);
    let program: seccompiler::BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("this kernel filters calls");
}
