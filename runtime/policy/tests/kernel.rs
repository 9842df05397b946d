//! The filters loaded into a real kernel: this program starts itself again, loads them and becomes another program.
#![forbid(unsafe_code)]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output};

use remand_policy::{Library, Profile, bpf, compile};

/// Profile and command, one a line: present only in the child that becomes the command.
const CHILD: &str = "REMAND_POLICY_CHILD";

/// Runs `command` under the filters of `profile` in a folder of its own.
fn under(profile: &str, command: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let order = [&[profile], command].concat().join("\u{1}");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_becomes_its_command", "--nocapture", "--test-threads=1"])
        .env(CHILD, order)
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn installed(program: &str) -> bool {
    let found = Path::new(program).exists();
    if !found {
        eprintln!("SKIPPED: {program} is not installed here");
    }
    found
}

#[track_caller]
fn works(profile: &str, command: &[&str], expected: &str) {
    if !installed(command[0]) {
        return;
    }
    let output = under(profile, command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{profile}: {command:?}: {}\n{out}\n{err}", output.status);
    assert!(out.contains(expected), "{profile}: {command:?}\n{out}\n{err}");
}

/// What a Python program under the default profile sees: it calls by number and prints the error's name.
const PROBE: &str = r#"
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*[ctypes.c_long(a) for a in args])
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]
"#;

fn probe(code: &str) -> Output {
    under("batch", &["/usr/bin/python3", "-c", &format!("{PROBE}\n{code}")])
}

#[track_caller]
fn answers(number: i64, arguments: &str, expected: &str) {
    if !installed("/usr/bin/python3") {
        return;
    }
    let output = probe(&format!("print('answer', call({number}, {arguments}))"));
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(out.contains(&format!("answer {expected}\n")), "{number}({arguments}): {out}{err}");
}

/// No test by itself: in the child it loads the filters and becomes the command; elsewhere it has nothing to do.
#[test]
fn the_child_becomes_its_command() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let mut words = order.split('\u{1}');
    let profile = Profile::load(words.next().unwrap(), &Library::built_in()).unwrap();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).env_remove(CHILD).envs(profile.environment.iter().map(|v| (&v.name, &v.value)));
    // The built home of a profile does not exist on the host.
    command.env("HOME", std::env::current_dir().unwrap()).env_remove("CARGO_HOME");
    for filter in compile(&profile, 2).unwrap().filters {
        let of_crate = |i: bpf::Instruction| seccompiler::sock_filter {
            code: i.code,
            jt: i.jump_true,
            jf: i.jump_false,
            k: i.operand,
        };
        let program: Vec<_> = bpf::decode(&filter.bytes).unwrap().into_iter().map(of_crate).collect();
        seccompiler::apply_filter(&program).unwrap();
    }
    panic!("the command did not start: {}", command.exec());
}

#[test]
fn an_unknown_call_does_not_exist() {
    answers(libc::SYS_openat2, "0", "ENOSYS");
    answers(999, "0", "ENOSYS");
}

/// With the shim's listener they get the error number that the profile states.
#[test]
fn a_named_call_fails_also_where_nobody_listens() {
    answers(libc::SYS_unshare, "0x10000000", "ENOSYS");
    answers(libc::SYS_mount, "0, 0, 0, 0, 0", "ENOSYS");
    answers(libc::SYS_keyctl, "0, 0", "ENOSYS");
    answers(libc::SYS_sysinfo, "0", "ENOSYS");
}

#[test]
fn the_new_clone_does_not_exist_and_the_old_makes_no_namespace() {
    answers(libc::SYS_clone3, "0, 0", "ENOSYS");
    answers(libc::SYS_clone, "0x10000011, 0, 0, 0, 0", "EPERM");
}

#[test]
fn a_high_bit_hides_no_terminal_request_from_the_kernel() {
    answers(libc::SYS_ioctl, "0, 0x5412, 0", "EPERM");
    answers(libc::SYS_ioctl, "0, 0x100005412, 0", "EPERM");
}

#[test]
fn a_family_off_the_list_makes_no_socket() {
    answers(libc::SYS_socket, "40, 1, 0", "EPERM");
    answers(libc::SYS_socket, "38, 5, 0", "EPERM");
    answers(libc::SYS_socket, "16, 3, 0", "EPERM");
    answers(libc::SYS_socket, "1, 1, 0", "ok");
}

#[test]
fn address_randomisation_stays_on() {
    answers(libc::SYS_personality, "0x0040000", "EPERM");
    answers(libc::SYS_personality, "0xffffffff", "ok");
}

#[test]
fn a_call_of_the_kill_list_fails_where_nobody_listens() {
    answers(libc::SYS_kexec_load, "0, 0, 0, 0", "ENOSYS");
}

#[test]
fn the_x32_abi_is_killed() {
    if installed("/usr/bin/python3") {
        let output = probe("call(0x40000000 + 39); print('alive')");
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
    }
}

#[test]
fn the_32_bit_abi_is_killed() {
    // mov eax, 20 (getpid of i386); int 0x80; ret
    let code = "import mmap\n\
        m = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n\
        m.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))\n\
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n\
        print('alive')";
    if installed("/usr/bin/python3") {
        let output = probe(code);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{output:?}");
    }
}

#[test]
fn the_default_runs_a_shell_with_the_core_utilities() {
    let script = "set -e; mkdir -p a/b; echo x > a/f; cp a/f a/g; cp -r a c; mv a/g a/h; ln -s h a/l; ln a/h a/m; \
        mkfifo p; (echo through > p &); cat p; seq 100 | shuf | sort -n | tail -n 1; find . -type f | xargs ls -la > l; \
        tar czf t.gz a; tar tzf t.gz > /dev/null; split -n 2 l; touch -d yesterday a/f; chmod 600 a/f; stat a/f > /dev/null; \
        df . > /dev/null; du -s . > /dev/null; rm -r c; timeout 5 sleep 0; truncate -s 10 t; date > /dev/null; id -u > /dev/null; \
        sha256sum a/f > /dev/null; install -m 755 a/f z; sed -i s/x/y/ a/f; cat < <(grep -c y a/f); wait; echo done";
    works("batch", &["/bin/bash", "-c", script], "done");
}

#[test]
fn the_default_sorts_large_inputs_without_knowing_the_hosts_memory() {
    works(
        "batch",
        &["/bin/bash", "-c", "seq 300000 | sort -R --random-source=/dev/zero | sort -n | tail -n 1"],
        "300000",
    );
}

#[test]
fn the_default_runs_awk_and_perl() {
    works("batch", &["/usr/bin/awk", "BEGIN { \"echo 4\" | getline x; print x + 1 }"], "5");
    let script = "open(F, '>', 'f'); print F 1; close F; my $p = fork; exit 0 unless $p; waitpid $p, 0; print `echo 7`";
    works("batch", &["/usr/bin/perl", "-e", script], "7");
}

#[test]
fn the_default_runs_python_with_children_and_threads() {
    let script = "import subprocess, threading, tempfile, json, hashlib, shutil, os\n\
        t = threading.Thread(target=lambda: None); t.start(); t.join()\n\
        d = tempfile.mkdtemp(); open(d + '/f', 'w').write('x'); shutil.copy(d + '/f', d + '/g'); shutil.rmtree(d)\n\
        print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout)";
    works("batch", &["/usr/bin/python3", "-c", script], "child");
}

#[test]
fn the_default_runs_sqlite() {
    let script = "create table t(x); insert into t values(41); pragma journal_mode=wal; update t set x = x + 1; vacuum; select x from t;";
    works("batch", &["/usr/bin/sqlite3", "f.db", script], "42");
}

#[test]
fn the_default_clones_a_local_git_repository() {
    let script = "set -e; export GIT_CONFIG_NOSYSTEM=1; git init -q a; cd a; echo x > f; git add f; \
        git -c user.name=a -c user.email=a@b commit -qm first; cd ..; git clone -q a b; git clone -q --no-local a c; \
        git -C b log --format=%s; git -C b gc -q; git -C c status --short; git -C c fsck";
    works("batch", &["/bin/bash", "-c", script], "first");
}

#[test]
fn python_runs_event_loops_pools_and_shared_memory() {
    let script = "import asyncio, multiprocessing, concurrent.futures, socket, signal, select, os\n\
        from multiprocessing import shared_memory\n\
        async def main():\n\
        \x20 p = await asyncio.create_subprocess_exec('true'); await p.wait(); await asyncio.sleep(0)\n\
        asyncio.run(main())\n\
        with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, [-20, -22])))\n\
        with concurrent.futures.ProcessPoolExecutor(1) as e: assert list(e.map(abs, [-1])) == [1]\n\
        s = shared_memory.SharedMemory(create=True, size=10); s.close(); s.unlink()\n\
        m = multiprocessing.Manager(); assert m.list([1])[0] == 1; m.shutdown()\n\
        l = socket.socket(socket.AF_UNIX); l.bind('s'); l.listen(); c = socket.socket(socket.AF_UNIX); c.connect('s'); l.accept()\n\
        import pty; pid, fd = pty.fork()\n\
        if pid == 0: os._exit(0)\n\
        os.waitpid(pid, 0)";
    works("python", &["/usr/bin/python3", "-c", script], "42");
}

#[test]
fn build_compiles_c_and_runs_make() {
    let script = "set -e; printf '#include <stdio.h>\\nint main(){puts(\"compiled\");}' > h.c; gcc -O2 -pipe -flto=auto h.c -o h; \
        printf 'all: h.o\\n\\tgcc h.o -o h2\\n' > Makefile; make -s -j2; strip h2; ar rc l.a h.o; ./h2; gcc -static h.c -o s; ./s";
    if installed("/usr/bin/gcc") && installed("/usr/bin/make") {
        works("build", &["/bin/bash", "-c", script], "compiled");
    }
}

#[test]
fn build_compiles_rust_with_cargo() {
    let script = "set -e; cargo init -q --bin --vcs none p; cd p; cargo run -q --offline";
    let toolchain = std::env::var("CARGO").unwrap_or_default();
    if installed(&toolchain) {
        let bin = Path::new(&toolchain).parent().unwrap().display();
        works("build", &["/bin/bash", "-c", &format!("export PATH={bin}:$PATH; {script}")], "Hello, world!");
    }
}

#[test]
fn node_runs_workers_and_children() {
    let script = "const cp = require('child_process'), w = require('worker_threads'), fs = require('fs');\
        fs.writeFileSync('f', 'x'); fs.copyFileSync('f', 'g'); fs.watch('f').close(); \
        console.log(cp.execSync('echo child').toString()); new w.Worker('1', { eval: true }); \
        require('net').createServer().listen('s', function () { this.close(); }); setTimeout(() => {}, 5);";
    works("node", &["/usr/bin/node", "-e", script], "child");
}

#[test]
fn java_runs_threads_and_children() {
    let script = "cat > A.java <<'E'\npublic class A { public static void main(String[] a) throws Exception {\n\
        Thread t = new Thread(() -> {}); t.start(); t.join(); new ProcessBuilder(\"true\").start().waitFor();\n\
        java.nio.file.Files.write(java.nio.file.Path.of(\"f\"), new byte[3]); System.out.println(\"started\"); } }\nE\n\
        java A.java";
    if installed("/usr/bin/java") && installed("/usr/bin/javac") {
        works("java", &["/bin/bash", "-c", script], "started");
    }
}

#[test]
fn the_default_runs_imagemagick_and_ffmpeg() {
    works("batch", &["/usr/bin/convert", "-size", "8x8", "xc:red", "info:-"], "8x8");
    let film = ["/usr/bin/ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-f", "md5", "-"];
    works("batch", &film, "MD5=");
}
