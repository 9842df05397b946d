//! The control plane of a real daemon, through the real command: needs root, and the four programs side by side.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

struct Daemon {
    child: Child,
    home: PathBuf,
    programs: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("our own child");
    }
}

/// The programs, where this machine can run them.
fn programs() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_BIN_EXE_remandd")).parent().expect("a folder").to_owned();
    let folder = std::env::var_os("REMAND_BIN_DIR").map_or(own, PathBuf::from);
    let all = ["remand", "remandd", "remand-spawner", "remand-shim"].iter().all(|name| folder.join(name).is_file());
    (all && rustix::process::geteuid().is_root()).then_some(folder)
}

impl Daemon {
    fn start(home: &Path, programs: &Path) -> Self {
        let mut child = Command::new(programs.join("remandd"))
            .arg("--state")
            .arg(home.join("state"))
            .arg("--run")
            .arg(home.join("run"))
            .env("REMAND_BIN_DIR", programs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("remandd starts");
        let mut ready = [0; 6];
        child.stdout.take().expect("a pipe").read_exact(&mut ready).expect("it is ready");
        Self { child, home: home.to_owned(), programs: programs.to_owned() }
    }

    /// The answer, or what the command said where it failed.
    fn remand(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(self.programs.join("remand"));
        command.args(["-o", "json"]).args(arguments).env("REMAND_SOCKET", self.home.join("run/root.sock"));
        let output = command.stdin(Stdio::null()).output().expect("remand starts");
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn file(&self, name: &str, content: &Value) -> String {
        let path = self.home.join(name);
        std::fs::write(&path, content.to_string()).expect("our own folder");
        path.display().to_string()
    }

    fn events(&self) -> u64 {
        self.remand(&["--tenant", "acme", "audit", "root"]).expect("a root")["tree_size"].as_u64().expect("a size")
    }
}

fn prepared(daemon: &Daemon) -> String {
    daemon.remand(&["tenant", "create", "acme"]).expect("made");
    let quota = ["quota", "set", "acme", "--max-cpu-seconds", "600", "--max-memory-mb", "1024", "--max-disk-mb", "900"];
    let rest = ["--max-concurrent-tasks", "2", "--max-pids", "200", "--max-output-bytes", "1000000000"];
    daemon.remand(&[&quota[..], &rest].concat()).expect("a quota");
    let grant = json!({"tenant_id": "acme", "rights": ["exec.run=*"], "triggers": ["manual"],
        "expires_s": 4_000_000_000_u64, "calls_max": 20, "cpu_ms_max": 900_000});
    let (grant, token) = (daemon.file("grant.json", &grant), daemon.home.join("token").display().to_string());
    daemon.remand(&["token", "issue", &grant, "--out", &token]).expect("issued");
    token
}

fn contract() -> Value {
    json!({"contract_id": "up", "execution_seed": 1, "capability_requirements": ["exec.run"],
        "program": {"argv": ["/usr/bin/tr", "a-z", "A-Z"], "profile": "batch"},
        "input_schema": {"type": "object", "required": ["T"]}, "output_schema": {"type": "object"}})
}

#[test]
fn a_plan_of_three_steps_leaves_sixteen_events_and_every_registry_survives_a_kill() {
    let Some(programs) = programs() else {
        eprintln!("skipped: not root, or the programs are not built");
        return;
    };
    let home = tempfile::tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.path(), open).expect("our own folder");
    let daemon = Daemon::start(home.path(), &programs);
    let token = prepared(&daemon);
    let own = ["--tenant", "acme", "--token-file", &token];
    let ask = |daemon: &Daemon, arguments: &[&str]| daemon.remand(&[&own[..], arguments].concat());

    let refused = daemon.remand(&["--tenant", "acme", "run", "--", "true"]).expect_err("no token");
    assert!(refused.contains("token_missing"), "{refused}");
    let refused = ask(&daemon, &["run", "--memory", "2G", "--", "true"]).expect_err("more than the quota");
    assert!(refused.contains("quota_too_small") && refused.contains("limit 1073741824"), "{refused}");

    let file = daemon.file("contract.json", &contract());
    let hash = ask(&daemon, &["contract", "register", &file]).expect("registered")["contract_hash"].clone();
    let step =
        |text: &str| json!({"domain": "exec", "method": "run", "resource": "up", "params": {"input": {"T": text}}});
    let plan = json!({"protocol_version": "1.0", "plan_id": "p", "tenant_id": "acme",
        "steps": [step("a"), step("b"), step("c")]});
    let plan = daemon.file("plan.json", &plan);
    let before = daemon.events();
    let report = ask(&daemon, &["plan", "run", &plan]).expect("run");
    assert_eq!((report["state"].as_str(), daemon.events() - before), (Some("completed"), 16), "{report}");
    assert_eq!(report["released"][2]["output"], "{\"T\":\"C\"}");

    drop(daemon);
    let daemon = Daemon::start(home.path(), &programs);
    assert_eq!(ask(&daemon, &["contract", "hash", "up"]).expect("restored")["contract_hash"], hash);
    assert!(daemon.remand(&["quota", "get", "acme"]).expect("restored")["used"]["output_bytes"].as_u64() > Some(0));
    ask(&daemon, &["run", "--", "true"]).expect("token and quota are restored");
    let tokens = daemon.remand(&["--tenant", "acme", "token", "list"]).expect("tokens");
    let id = tokens["tokens"][0]["token_id"].as_str().expect("an id").to_owned();
    daemon.remand(&["--tenant", "acme", "token", "revoke", &id]).expect("revoked");

    drop(daemon);
    let daemon = Daemon::start(home.path(), &programs);
    let refused = ask(&daemon, &["run", "--", "true"]).expect_err("revoked before the restart");
    assert!(refused.contains("token_revoked"), "{refused}");
}
