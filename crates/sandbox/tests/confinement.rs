//! What a sandbox holds, seen from inside, on the real kernel. Needs root, as Hearth does in this version.
//!
//! Not libtest: the launcher must be started before any thread exists.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{BoxFuture, CodeTree, Memory, Root, RootBind};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Class, Command, Driver, Exit, Identity, Isolation, Sandbox, launcher};

struct World {
    driver: ProcessDriver,
    class: Class,
    code: CodeTree,
    instance: String,
    _folder: tempfile::TempDir,
}

type Test = for<'a> fn(&'a World) -> BoxFuture<'a, ()>;

const TESTS: &[(&str, Test)] = &[
    ("a_function_is_nobody_without_privileges", |w| Box::pin(a_function_is_nobody_without_privileges(w))),
    ("a_function_sees_only_its_own_files", |w| Box::pin(a_function_sees_only_its_own_files(w))),
    ("exits_signals_and_exec_errors_are_told_apart", |w| Box::pin(exits_signals_and_exec_errors_are_told_apart(w))),
    ("temporary_storage_is_disk_and_has_its_size", |w| Box::pin(temporary_storage_is_disk_and_has_its_size(w))),
    ("memory_is_limited_and_only_the_function_dies", |w| Box::pin(memory_is_limited_and_only_the_function_dies(w))),
    ("processes_are_limited", |w| Box::pin(processes_are_limited(w))),
    ("a_frozen_function_makes_no_progress", |w| Box::pin(a_frozen_function_makes_no_progress(w))),
    ("sockets_are_made_inside", |w| Box::pin(sockets_are_made_inside(w))),
    ("killed_processes_leave_temporary_storage", |w| Box::pin(killed_processes_leave_temporary_storage(w))),
    ("dangerous_calls_are_refused", |w| Box::pin(dangerous_calls_are_refused(w))),
];

fn main() {
    launcher::main_if_asked();
    let orders = launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: PathBuf::from("/run/hearth"),
        server: Owner { uid: 0, gid: 0 },
    };
    let started = launcher::start(&orders).expect("start the launcher");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wanted = std::env::args().nth(1).filter(|name| !name.starts_with('-'));
    runtime.block_on(async {
        let world = world(started).await;
        for (name, test) in TESTS {
            if wanted.as_deref().is_none_or(|wanted| name.contains(wanted)) {
                let began = Instant::now();
                test(&world).await;
                println!("test {name} ... ok ({} ms)", began.elapsed().as_millis());
            }
        }
        let instance = world.instance.clone();
        leaves_nothing_behind(world, &instance).await;
        println!("test leaves_nothing_behind ... ok");
    });
}

async fn world(started: launcher::Started) -> World {
    let folder = tempfile::tempdir().unwrap();
    let skeleton = folder.path().join("skeleton");
    for name in ["bin", "lib", "lib64", "usr", "dev", "proc", "tmp", "var/task", "etc", "mnt", "opt"] {
        std::fs::create_dir_all(skeleton.join(name)).unwrap();
    }
    let code = folder.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("index.txt"), "code").unwrap();
    for open in [folder.path(), &skeleton, &code] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let binds =
        ["bin", "lib", "lib64", "usr"].map(|name| RootBind { source: Path::new("/").join(name), target: name.into() });
    let instance = format!("test{}", std::process::id());
    let config =
        Config { instance: instance.clone(), scratch: folder.path().join("scratch"), isolation: Isolation::Process };
    World {
        driver: ProcessDriver::open(started.attach().unwrap(), config).await.unwrap(),
        class: Class { root: Arc::new(Root { skeleton, binds: binds.into() }), ephemeral_storage: Memory::mib(512) },
        code: CodeTree { path: code, lease: Arc::new(()) },
        instance,
        _folder: folder,
    }
}

impl World {
    async fn sandbox(&self, memory: u32) -> Box<dyn Sandbox> {
        let prepared = self.driver.prepare(self.class.clone()).await.unwrap();
        let identity = Identity { memory: Memory::mib(memory), code: self.code.clone(), opt: None };
        prepared.bind(identity).await.unwrap()
    }
}

/// Runs a program to its end; its output and how it ended.
async fn run(sandbox: &dyn Sandbox, program: &str, arguments: &[&str]) -> (String, Exit) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let process = sandbox.spawn(command(program, arguments, writer.into())).await.unwrap();
    let output = tokio::task::spawn_blocking(move || {
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        output
    });
    let exit = process.exit.await.unwrap();
    (output.await.unwrap(), exit)
}

fn command(program: &str, arguments: &[&str], output: std::os::fd::OwnedFd) -> Command {
    Command {
        program: program.to_owned(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        working_directory: "/var/task".to_owned(),
        output,
    }
}

async fn shell(sandbox: &dyn Sandbox, script: &str) -> (String, Exit) {
    run(sandbox, "/bin/sh", &["-c", script]).await
}

async fn python(sandbox: &dyn Sandbox, script: &str) -> (String, Exit) {
    run(sandbox, "/usr/bin/python3", &["-I", "-c", script]).await
}

async fn a_function_is_nobody_without_privileges(world: &World) {
    let sandbox = world.sandbox(256).await;
    let (status, exit) = shell(&*sandbox, "cat /proc/self/status; id -u; id -G; hostname; echo $PATH").await;
    assert_eq!(exit, Exit::Code(0), "{status}");
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(status.ends_with("1051\n1051\nlocalhost\n/usr/bin:/bin\n"), "{status}");
}

async fn a_function_sees_only_its_own_files(world: &World) {
    let sandbox = world.sandbox(256).await;
    let script = "cat index.txt; touch x; touch /x; touch /etc/x; ls /; ls /root; ls /proc | grep -c '^[0-9]'; ls /dev; \
                  cat /proc/1/environ; kill -9 1; echo > /dev/null && echo fine";
    let (seen, _) = shell(&*sandbox, script).await;
    assert!(seen.starts_with("code"), "{seen}");
    assert_eq!(seen.matches("Read-only file system").count(), 3, "{seen}");
    assert!(seen.contains("'/root': No such file") && !seen.contains("home"), "{seen}");
    assert!(seen.contains("full") && !seen.contains("loop"), "{seen}");
    assert!(seen.ends_with("fine\n"), "{seen}");
    let (owners, _) = shell(&*sandbox, "stat -c '%n %u:%g' / /usr /var/task /var/task/index.txt /dev/null").await;
    assert_eq!(owners.matches(" 0:0\n").count(), 5, "as on AWS: {owners}");
}

async fn exits_signals_and_exec_errors_are_told_apart(world: &World) {
    let sandbox = world.sandbox(256).await;
    assert_eq!(shell(&*sandbox, "exit 3").await.1, Exit::Code(3));
    assert_eq!(shell(&*sandbox, "kill -9 $$").await.1, Exit::Signal(9));
    let (_, writer) = std::io::pipe().unwrap();
    let Err(error) = sandbox.spawn(command("/var/task/bootstrap", &[], writer.into())).await else {
        panic!("a missing program was executed")
    };
    assert!(error.to_string().starts_with("fork/exec /var/task/bootstrap: No such file"), "{error}");
}

async fn temporary_storage_is_disk_and_has_its_size(world: &World) {
    let sandbox = world.sandbox(128).await;
    let script = "dd if=/dev/zero of=/tmp/a bs=1M count=500 2>&1 && echo wrote; dd if=/dev/zero of=/tmp/b bs=1M count=50 2>&1; \
                  stat -c '%a' /tmp; ls -A /tmp";
    let (said, exit) = shell(&*sandbox, script).await;
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert!(said.contains("wrote") && said.contains("No space left on device"), "{said}");
    assert!(said.ends_with("1777\na\nb\n"), "{said}");
    assert_eq!(sandbox.usage().unwrap().oom_kills, 0);
}

async fn memory_is_limited_and_only_the_function_dies(world: &World) {
    let sandbox = world.sandbox(128).await;
    let (_, exit) = python(&*sandbox, "x = bytearray(100 << 20); print(len(x))").await;
    assert_eq!(exit, Exit::Code(0));
    let (_, exit) = python(&*sandbox, "x = bytearray(200 << 20); print(len(x))").await;
    assert_eq!(exit, Exit::Signal(9));
    assert!(sandbox.usage().unwrap().oom_kills > 0);
    assert_eq!(shell(&*sandbox, "echo alive").await.0, "alive\n");
}

async fn processes_are_limited(world: &World) {
    let sandbox = world.sandbox(512).await;
    let script = "import os, signal\nn = 0\ntry:\n  while n < 2000:\n    if os.fork() == 0: signal.pause()\n    n += 1\n\
                  except OSError as e: print(n < 1024, e.errno)\nos.kill(-1, 9)";
    let (said, _) = python(&*sandbox, script).await;
    assert_eq!(said, "True 11\n");
    sandbox.kill_processes().await.unwrap();
    assert_eq!(shell(&*sandbox, "echo alive").await.0, "alive\n");
}

async fn a_frozen_function_makes_no_progress(world: &World) {
    let sandbox = world.sandbox(256).await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let script = "import sys\nwhile True: sys.stdout.write('x' * 64); sys.stdout.flush()";
    let _process = sandbox.spawn(command("/usr/bin/python3", &["-I", "-c", script], writer.into())).await.unwrap();
    let mut some = [0; 4096];
    reader.read_exact(&mut some).unwrap();
    sandbox.freeze().unwrap();
    // What was on its way when the freeze was asked for ends in the pipe: read until it is silent.
    let fd = std::os::fd::AsFd::as_fd(&reader);
    rustix::io::ioctl_fionbio(fd, true).unwrap();
    let silent = |reader: &mut std::io::PipeReader| {
        let mut read = 0;
        let mut buffer = [0; 65536];
        while let Ok(n) = reader.read(&mut buffer) {
            read += n;
        }
        read
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut quiet = 0;
    while quiet < 20 {
        assert!(Instant::now() < deadline, "it never stopped");
        tokio::time::sleep(Duration::from_millis(5)).await;
        quiet = if silent(&mut reader) == 0 { quiet + 1 } else { 0 };
    }
    sandbox.thaw().unwrap();
    while silent(&mut reader) == 0 {
        assert!(Instant::now() < deadline, "it never went on");
        tokio::task::yield_now().await;
    }
}

async fn sockets_are_made_inside(world: &World) {
    let (one, two) = (world.sandbox(256).await, world.sandbox(256).await);
    for address in ["127.0.0.1:9001", "169.254.100.1:9001"] {
        let address: SocketAddr = address.parse().unwrap();
        let listener = one.listen(address).await.unwrap();
        two.listen(address).await.expect("each sandbox has its own ports");
        listener.set_nonblocking(false).unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
        let script = format!("import socket; print(socket.create_connection(('{}', 9001)).recv(9))", address.ip());
        assert_eq!(python(&*one, &script).await.0, "b'hello'\n");
        server.join().unwrap();
    }
    let listener = one.listen("127.0.0.1:7000".parse().unwrap()).await.unwrap();
    let dialled = one.dial("127.0.0.1:7000".parse().unwrap()).await.unwrap();
    listener.set_nonblocking(false).unwrap();
    dialled.set_nonblocking(false).unwrap();
    (&dialled).write_all(b"x").unwrap();
    listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    let (said, _) = python(&*one, "import socket; socket.create_connection(('1.1.1.1', 80), 2)").await;
    assert!(said.contains("Network is unreachable"), "{said}");
}

async fn killed_processes_leave_temporary_storage(world: &World) {
    let sandbox = world.sandbox(256).await;
    let (_, writer) = std::io::pipe().unwrap();
    let process = sandbox.spawn(command("/bin/sh", &["-c", "sleep 1000"], writer.into())).await.unwrap();
    shell(&*sandbox, "echo kept > /tmp/kept").await;
    sandbox.kill_processes().await.unwrap();
    assert_eq!(process.exit.await.unwrap(), Exit::Signal(9));
    assert_eq!(shell(&*sandbox, "cat /tmp/kept").await.0, "kept\n");
}

async fn dangerous_calls_are_refused(world: &World) {
    let sandbox = world.sandbox(256).await;
    let script = "import ctypes, errno\nc = ctypes.CDLL(None, use_errno=True)\n\
        def call(name, *a):\n  r = c.syscall(*a); print(name, errno.errorcode.get(ctypes.get_errno()) if r < 0 else r)\n\
        call('unshare', 272, 0x10000000)\ncall('clone3', 435, 0, 0)\ncall('clone', 56, 0x10000000 | 17, 0, 0, 0, 0)\n\
        call('bpf', 321, 0, 0, 0)\ncall('mount', 165, 0, 0, 0, 0, 0)\ncall('io_uring', 425, 1, 0)\n\
        call('socket', 41, 16, 3, 12)\ncall('keyctl', 250, 0, 0)\ncall('ptrace', 101, 0, 0, 0, 0)";
    let (said, _) = python(&*sandbox, script).await;
    let expected = "unshare EPERM\nclone3 ENOSYS\nclone EPERM\nbpf EPERM\nmount EPERM\nio_uring EPERM\nsocket EPERM\n\
                    keyctl EPERM\nptrace EPERM\n";
    assert_eq!(said, expected);
}

async fn leaves_nothing_behind(world: World, instance: &str) {
    drop(world);
    let deadline = Instant::now() + Duration::from_secs(10);
    let left = || {
        let found = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-name", &format!("hearth-{instance}")])
            .output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    while !left().is_empty() {
        assert!(Instant::now() < deadline, "left behind: {}", left());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
