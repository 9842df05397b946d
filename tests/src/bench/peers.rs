//! Who is compared: for each box the command that runs a workload in it with all the isolation that it offers.

use super::oci;
use remand_model::run::{RunRequest, Volume};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is run inside each box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// A static program that returns at once.
    True,
    /// `python3 -c 'print(1)'`.
    Python,
    /// The static program, asked for [`PROBE_CODE`]: shows that a box really runs it.
    Probe,
}

/// The exit code that the static program returns when it is given an argument.
pub const PROBE_CODE: i32 = 42;

impl Workload {
    /// Those of the report, in its order.
    pub const MEASURED: [Self; 2] = [Self::True, Self::Python];

    /// The command inside the box; the static program lies in `/bench` there.
    #[must_use]
    pub fn argv(self) -> &'static [&'static str] {
        match self {
            Self::True => &["/bench/true"],
            Self::Python => &["/usr/bin/python3", "-c", "print(1)"],
            Self::Probe => &["/bench/true", "probe"],
        }
    }

    /// What it must have printed.
    #[must_use]
    pub fn stdout(self) -> &'static [u8] {
        match self {
            Self::True | Self::Probe => b"",
            Self::Python => b"1\n",
        }
    }

    /// As it is called in the report.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::True => "a static `true`",
            Self::Python => "`python3 -c 'print(1)'`",
            Self::Probe => "a probe",
        }
    }
}

/// One way to run a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `posix_spawn` and nothing else: the measure of all.
    Plain,
    /// The connected API of a running daemon: one connection, one execution after the other. The program's folder is part of
    /// the policy, so that the root's template is kept.
    RemandConnected,
    /// The same, but the folder is the caller's volume: the root is assembled for each execution.
    RemandVolume,
    /// A fresh `remand run` process that finds a running daemon.
    RemandServed,
    /// A fresh `remand run` that starts its daemon, runs, and ends it.
    RemandAlone,
    /// bubblewrap, all namespaces.
    Bubblewrap,
    /// crun, all namespaces, limits, a filter.
    Crun,
    /// runc, the same.
    Runc,
    /// gVisor, the same, without control groups.
    Runsc,
}

impl Peer {
    /// All, plain first.
    pub const ALL: [Self; 9] = [
        Self::Plain,
        Self::RemandConnected,
        Self::RemandVolume,
        Self::RemandServed,
        Self::RemandAlone,
        Self::Bubblewrap,
        Self::Crun,
        Self::Runc,
        Self::Runsc,
    ];

    /// As it is called in the report and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::RemandConnected => "remand-api",
            Self::RemandVolume => "remand-volume",
            Self::RemandServed => "remand-client",
            Self::RemandAlone => "remand-alone",
            Self::Bubblewrap => "bwrap",
            Self::Crun => "crun",
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }

    /// What its row stands for.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Plain => "posix_spawn and exec, no isolation",
            Self::RemandConnected => {
                "the whole cell and its record, asked for over a connection to a running daemon; namespaces and control \
                 groups are made for each, nothing is made ahead; the root's template is kept, which no program touches"
            }
            Self::RemandVolume => {
                "the same with the program's folder as a volume (`-v`): the template is made for each, too"
            }
            Self::RemandServed => "as remand-api, by `remand run` as a fresh process each time",
            Self::RemandAlone => "`remand run` without a daemon: it starts one, and ends it; everything is made anew",
            Self::Bubblewrap => "seven namespaces, read-only binds, no capabilities; no control group, no filter",
            Self::Crun | Self::Runc => {
                "seven namespaces, memory, processor and process limits, a filter of some 100 calls"
            }
            Self::Runsc => "its own kernel in user space, no network, no control group",
        }
    }

    /// Whether its work is done by the running daemon, not by children of ours.
    #[must_use]
    pub fn is_served(self) -> bool {
        matches!(self, Self::RemandConnected | Self::RemandVolume | Self::RemandServed)
    }

    /// Whether it must not see the second version's hierarchy beside the first's: crun refuses such hosts otherwise.
    #[must_use]
    pub fn wants_no_hybrid(self) -> bool {
        self == Self::Crun && Path::new(UNIFIED).exists()
    }

    /// Who is asked for its version, if anybody.
    #[must_use]
    pub fn program(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::RemandConnected | Self::RemandVolume | Self::RemandServed | Self::RemandAlone => None,
            Self::Bubblewrap => Some("bwrap"),
            Self::Crun => Some("crun"),
            Self::Runc => Some("runc"),
            Self::Runsc => Some("runsc"),
        }
    }
}

/// Where a hybrid host mounts the second version's hierarchy.
pub const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Where a run finds its things: the static program, the bundles, our binaries.
#[derive(Debug, Clone)]
pub struct Ground {
    /// A temporary folder: `bench/true`, `root/`, `bundle-*`.
    pub folder: PathBuf,
    /// The folder of `remand`.
    pub binaries: PathBuf,
    /// The running daemon, where there is one.
    pub served: Option<Served>,
}

/// A daemon that `scripts/bench` has started.
#[derive(Debug, Clone)]
pub struct Served {
    /// Its socket.
    pub socket: PathBuf,
    /// Its process id.
    pub pid: u32,
}

impl Ground {
    /// Makes what the boxes need below `folder`, which holds `bench/true` already.
    pub fn prepare(folder: &Path, binaries: &Path, served: Option<Served>) -> std::io::Result<Self> {
        for workload in [Workload::True, Workload::Python, Workload::Probe] {
            oci::write_bundle(&folder.join(bundle(workload)), &folder.join("bench"), workload)?;
        }
        let ground = Self { folder: folder.to_owned(), binaries: binaries.to_owned(), served };
        std::fs::write(ground.policy_file(), ground.policy())?;
        Ok(ground)
    }

    /// The request of one run over the connected API.
    #[must_use]
    pub fn request(&self, peer: Peer, workload: Workload, id: &str) -> RunRequest {
        let argv = workload.argv().iter().map(|word| (*word).to_owned()).collect();
        let mut request = RunRequest::new(id.parse().expect("a plain id"), argv);
        if peer == Peer::RemandVolume {
            request.volumes = vec![Volume { source: self.programs(), target: "/bench".to_owned(), writable: false }];
        } else {
            "bench".clone_into(&mut request.policy);
            request.policy_text = Some(self.policy());
        }
        request
    }

    /// The folder of the static program.
    fn programs(&self) -> String {
        self.folder.join("bench").to_str().expect("a plain path").to_owned()
    }

    /// The default profile, which also shows that folder.
    fn policy(&self) -> String {
        let (source, why) = (self.programs(), "what is measured");
        format!(
            "extends = \"batch\"\n\n[[root.binds]]\nsource = {source:?}\ntarget = \"/bench\"\nwhy = {why:?}\n\n\
             [[files]]\npath = \"/bench\"\naccess = [\"read\", \"execute\"]\nwhy = {why:?}\n"
        )
    }

    fn policy_file(&self) -> PathBuf {
        self.folder.join("bench.toml")
    }

    /// The command of one run; `id` is used by no other run.
    #[must_use]
    pub fn command(&self, peer: Peer, workload: Workload, id: &str) -> Command {
        match peer {
            Peer::Plain => self.plain(workload),
            Peer::RemandServed | Peer::RemandConnected | Peer::RemandVolume => {
                let mut command = self.remand(workload);
                command.envs(self.served.as_ref().map(|served| ("REMAND_SOCKET", &served.socket)));
                command
            }
            Peer::RemandAlone => {
                let mut command = self.remand(workload);
                command.env("REMAND_SOCKET", self.folder.join("alone/run/root.sock"));
                command.env("REMAND_STATE", self.folder.join("alone/state"));
                command.env("REMAND_RUN", self.folder.join("alone/run"));
                command
            }
            Peer::Bubblewrap => self.bubblewrap(workload),
            Peer::Crun => self.container("crun", &[], workload, id),
            Peer::Runc => self.container("runc", &[], workload, id),
            Peer::Runsc => {
                let options = ["--network=none", "--ignore-cgroups", "--platform=ptrace"];
                self.container("runsc", &options, workload, id)
            }
        }
    }

    fn plain(&self, workload: Workload) -> Command {
        let argv = workload.argv();
        let outside = argv[0].replace("/bench/", &format!("{}/", self.folder.join("bench").display()));
        let mut command = Command::new(outside);
        command.args(&argv[1..]);
        command
    }

    fn remand(&self, workload: Workload) -> Command {
        let mut command = Command::new(self.binaries.join("remand"));
        command.args(["run", "--quiet", "--policy"]).arg(self.policy_file()).arg("--").args(workload.argv());
        command
    }

    fn bubblewrap(&self, workload: Workload) -> Command {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--unshare-user", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]);
        command.args(["--uid", "1000", "--gid", "1000", "--hostname", "box", "--clearenv"]);
        for path in oci::HOST_FOLDERS {
            command.args(["--ro-bind", path, path]);
        }
        command.arg("--ro-bind").arg(self.folder.join("bench")).arg("/bench");
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/", "--"]);
        command.args(workload.argv());
        command
    }

    fn container(&self, program: &str, options: &[&str], workload: Workload, id: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.folder.join(format!("state-{program}"))).args(options);
        command.arg("run").arg("--bundle").arg(self.folder.join(bundle(workload))).arg(id);
        command
    }
}

fn bundle(workload: Workload) -> &'static str {
    match workload {
        Workload::True => "bundle-true",
        Workload::Python => "bundle-python",
        Workload::Probe => "bundle-probe",
    }
}
