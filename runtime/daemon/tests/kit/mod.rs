//! A daemon on folders of a test's own, and clients of it.
#![allow(dead_code, reason = "not every suite needs everything")]

pub mod people;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use remand_client::{Captured, Client, ClientError, FileSink};
use remand_model::envelope::Command as Request;
use remand_model::outcome::{ExecutionResult, OutputFile};
use remand_model::refusal::Code;
use remand_model::run::RunRequest;
use remand_model::{ExecutionId, TenantId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Folders for one daemon. Removed when dropped.
pub struct Place(tempfile::TempDir);

/// A running `remandd`; killed when dropped.
pub struct Daemon(Child);

/// A place, or nothing where this machine cannot have one, which is said.
pub fn place() -> Option<Place> {
    let missing = ["remand-spawner", "remand-shim"].iter().find(|name| !programs().join(name).is_file());
    let reason = match missing {
        Some(name) => format!("{name} is not built: cargo build -p remand-spawner -p remand-shim"),
        None if !rustix::process::geteuid().is_root() => "only root can boot a daemon".to_owned(),
        None => {
            let folder = tempfile::Builder::new().prefix("remand-audit-").tempdir().expect("a temporary folder");
            // The daemon serves as a user of its own, and must reach its state.
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder.path(), open).expect("our own folder");
            return Some(Place(folder));
        }
    };
    eprintln!("skipped: {reason}");
    None
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_remandd")).parent().expect("a program lies in a folder").to_owned()
}

impl Place {
    /// The folder that all of it lies in.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A folder of the daemon's state.
    pub fn state(&self, name: &str) -> PathBuf {
        self.path().join("state").join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remandd"));
        command.arg("--state").arg(self.path().join("state")).arg("--run").arg(self.path().join("run"));
        command.arg("--node-id").arg("node1.example").env("REMAND_BIN_DIR", programs());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Starts a daemon and returns once it serves.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// As [`Place::start`], with further arguments.
    pub fn start_with(&self, arguments: &[&str]) -> Daemon {
        let mut child = self.command().args(arguments).spawn().expect("remandd starts");
        let mut said = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("remandd serves; else it said why above");
        assert_eq!(&said, b"ready\n");
        Daemon(child)
    }

    /// What a daemon says that refuses to serve.
    pub fn refused(&self) -> String {
        self.refused_with(&[])
    }

    /// As [`Place::refused`], with further arguments.
    pub fn refused_with(&self, arguments: &[&str]) -> String {
        let ended = self.command().args(arguments).stderr(Stdio::piped()).output().expect("remandd starts");
        assert!(!ended.status.success() && ended.stdout.is_empty(), "it serves");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    }

    /// A client that is attached to a tenant.
    pub fn client(&self, tenant: &str) -> Client {
        let mut client = Client::connect(&self.path().join("run/root.sock")).expect("it listens");
        client.hello().expect("it greets");
        if tenant != "local" {
            // There already, where a client of it came before.
            match self.client("local").ask(Request::Tenant, &json!({"tenant_id": tenant, "what": "create"})) {
                Err(ClientError::Refused(refusal)) if refusal.code == Code::Conflict => {}
                made => drop(made.expect("root makes tenants")),
            }
        }
        client.attach(&tenant.parse::<TenantId>().expect("a name"), None).expect("it lets root in");
        client
    }
}

impl Daemon {
    /// Ends it as a loss of power would.
    pub fn kill(mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }

    /// Asks it to end.
    pub fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).expect("it has not been reaped");
        self.0.wait().expect("our own child")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Reaped already where `kill` or `stop` came first; `Child` remembers that.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("remandd: {error}");
        }
    }
}

/// A request to run a shell script.
pub fn request(name: &str, script: &str) -> RunRequest {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    RunRequest::new(name.parse().expect("a name"), argv)
}

/// Runs a script to its end.
pub fn run(client: &mut Client, name: &str, script: &str) -> ExecutionResult {
    client.run(&request(name, script), None, &mut Captured::default()).expect("it runs").result
}

/// The text of an answer's member.
pub fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("no {member} in {answer}")).to_owned()
}

/// Asks for what an audit command gives.
pub fn audit(client: &mut Client, payload: &Value) -> Value {
    client.ask(remand_model::envelope::Command::Audit, payload).expect("an answer")
}

/// The types of a tenant's events, in order, without those of a node's first start.
pub fn kinds(client: &mut Client) -> Vec<String> {
    let events = audit(client, &json!({"what": "log", "limit": 1000}));
    let all = events["events"].as_array().expect("a list").iter().map(|event| text(event, "event_type"));
    all.filter(|kind| !["QUOTA_REGISTERED", "TOKEN_ISSUED"].contains(&kind.as_str())).collect()
}

/// The proof of an execution, as `remand proof` would write it into a file.
pub fn proof(client: &mut Client, id: &ExecutionId) -> Vec<u8> {
    let proof = client.retrieve_execution_proof(id).expect("a proof");
    serde_json::to_vec(&proof).expect("JSON")
}

/// Takes an export into a folder.
pub struct Folder(pub PathBuf, pub Option<std::fs::File>);

impl FileSink for Folder {
    fn begin(&mut self, file: &OutputFile) -> std::io::Result<()> {
        let path = self.0.join(&file.path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
        self.1 = Some(std::fs::File::create_new(path)?);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(self.1.as_mut().expect("a file was begun"), bytes)
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.1 = None;
        Ok(())
    }
}

/// What the chain says of an execution, in order.
pub fn events_of(client: &mut Client, id: &ExecutionId) -> Vec<Value> {
    let found = audit(client, &json!({"what": "query", "subject": format!("execution:{id}"), "limit": 100}));
    found["events"].as_array().expect("a list").clone()
}
