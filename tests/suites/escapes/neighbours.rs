//! Boxes beside each other: nothing of one is seen, reached or used up by another.

use remand_tests::cases;
use remand_tests::stage::stage;
use remand_tests::suite::{Case, Verdict};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

pub const CASES: &[Case] = cases![
    abstract_sockets_end_at_the_wall,
    no_process_of_another_box_or_the_host_can_be_seen_or_signalled,
    one_box_cannot_use_up_the_kernels_allowance_of_another,
    one_box_cannot_use_up_the_pipes_of_another,
    nothing_of_one_box_is_found_by_the_next,
];

const PYTHON: &str = "/usr/bin/python3";

/// Whether boxes have Python: the attacks below need it for calls that a shell cannot make.
fn python() -> Result<(), Verdict> {
    let seen = stage().run(&["--policy", "python", "--", PYTHON, "-c", "print(1)"]);
    if seen.finished.code() == 0 { Ok(()) } else { Err(Verdict::Skipped(format!("no {PYTHON} on this host"))) }
}

/// Python code that makes one call of the C library until it fails or `most` have succeeded, and prints how many.
fn hoard(call: &str, most: u32) -> String {
    format!(
        "import ctypes,sys,os\nc=ctypes.CDLL(None)\nn=0\nwhile n<{most} and {call}>=0: n+=1\nprint(n,flush=True)\nsys.stdin.read()"
    )
}

fn abstract_sockets_end_at_the_wall() -> Verdict {
    if let Err(skipped) = python() {
        return skipped;
    }
    let name = format!("remand-attack-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).expect("a good name");
    let listener = UnixListener::bind_addr(&address).expect("nobody has it");
    let connect = format!(
        "import socket\ns=socket.socket(socket.AF_UNIX)\ntry:\n s.connect('\\0{name}'); print('connected')\nexcept OSError as e: print(e.errno)"
    );
    let hosts = stage().run(&["--policy", "python", "--", PYTHON, "-c", &connect]).expect(0);
    assert!(["111\n", "1\n"].contains(&hosts.text().as_str()), "the host's socket: {}", hosts.text());
    drop(listener);
    let serve = format!(
        "exec {PYTHON} -c \"import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind('\\0{name}'); s.listen(); print('ready',flush=True); sys.stdin.read()\""
    );
    let server = stage().live(&["--policy", "python"], &serve);
    let other = stage().run(&["--policy", "python", "--", PYTHON, "-c", &connect]).expect(0);
    assert_eq!(server.end(), 0);
    assert!(["111\n", "1\n"].contains(&other.text().as_str()), "the other box's socket: {}", other.text());
    Verdict::Proved
}

fn no_process_of_another_box_or_the_host_can_be_seen_or_signalled() -> Verdict {
    let other = stage().live(&[], "trap 'exit 66' TERM; echo ready; read line; exit 0");
    let pids: Vec<String> =
        other.processes().into_iter().chain([stage().daemon()]).map(|pid| pid.to_string()).collect();
    let script = format!(
        "for p in {}; do [ -e /proc/$p ] && echo sees $p; kill -TERM $p 2>/dev/null && echo hit $p; done; kill -TERM -1; true",
        pids.join(" ")
    );
    let seen = stage().shell(&[], &format!("trap '' TERM; {script}")).expect(0);
    assert_eq!(seen.text(), "");
    assert_eq!(other.end(), 0, "it was not signalled");
    Verdict::Proved
}

fn one_box_cannot_use_up_the_kernels_allowance_of_another() -> Verdict {
    if let Err(skipped) = python() {
        return skipped;
    }
    let hog = format!("exec {PYTHON} -c '{}'", hoard("c.inotify_init1(0)", 1000));
    let hog = stage().live(&["--policy", "python", "--nofile", "4096"], &hog);
    let victim = stage().run(&["--policy", "python", "--", PYTHON, "-c", &hoard("c.inotify_init1(0)", 3)]).expect(0);
    let host = std::process::Command::new(PYTHON)
        .args(["-c", &hoard("c.inotify_init1(0)", 3)])
        .stdin(std::process::Stdio::null())
        .output();
    assert_eq!(hog.end(), 0);
    let found = victim.text();
    assert!(found == "3\n" || found == "0\n" && alone() == "0\n", "another box got {found}");
    assert_eq!(String::from_utf8_lossy(&host.expect("the host has it").stdout), "3\n", "the host's root got fewer");
    Verdict::Proved
}

/// What a box gets while nobody hoards: nothing at all where the policy does not give the call.
fn alone() -> String {
    stage().run(&["--policy", "python", "--", PYTHON, "-c", &hoard("c.inotify_init1(0)", 3)]).expect(0).text()
}

fn one_box_cannot_use_up_the_pipes_of_another() -> Verdict {
    if let Err(skipped) = python() {
        return skipped;
    }
    // Above fs.pipe-user-pages-soft a user's pipes hold one or two pages; below it, 64 KiB.
    let size = "import os,fcntl,sys\nend=[os.pipe() for i in range(700)]\nprint('ready',flush=True)\nsys.stdin.read()";
    let hog = stage().live(&["--policy", "python", "--nofile", "4096"], &format!("exec {PYTHON} -c \"{size}\""));
    let fresh = "import os,fcntl\nr,w=os.pipe()\nprint(fcntl.fcntl(w,1032))\nprint(fcntl.fcntl(w,1031,1<<20))";
    let victim = stage().run(&["--policy", "python", "--", PYTHON, "-c", fresh]).expect(0);
    assert_eq!(hog.end(), 0);
    assert_eq!(victim.text(), "65536\n1048576\n");
    Verdict::Proved
}

fn nothing_of_one_box_is_found_by_the_next() -> Verdict {
    let leave = "for d in /tmp /out /work /home/user /dev/shm; do echo secret >$d/left; mkdir $d/.hidden; done";
    let look = "find /tmp /out /work /home/user /dev/shm -mindepth 1; grep -rs secret /tmp /out /work /home/user /dev/shm; true";
    for _ in 0..3 {
        drop(stage().shell(&[], leave).expect(0));
        assert_eq!(stage().shell(&[], look).expect(0).text(), "");
    }
    Verdict::Proved
}
