//! What a sandbox holds, seen from inside, on the real kernel.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hearth_sandbox::{Exit, Signal};
use support::{Ground, Test, begin, command, python, run_all, runs, shell};

const TESTS: &[(&str, Test)] = &[
    ("a_function_is_nobody_without_privileges", |w| Box::pin(a_function_is_nobody_without_privileges(w))),
    ("a_function_sees_only_its_own_files", |w| Box::pin(a_function_sees_only_its_own_files(w))),
    ("exits_signals_and_exec_errors_are_told_apart", |w| Box::pin(exits_signals_and_exec_errors_are_told_apart(w))),
    ("a_frozen_function_makes_no_progress", |w| Box::pin(a_frozen_function_makes_no_progress(w))),
    ("sockets_are_made_inside", |w| Box::pin(sockets_are_made_inside(w))),
    ("killed_processes_leave_temporary_storage", |w| Box::pin(killed_processes_leave_temporary_storage(w))),
    ("a_process_is_signalled_alone_with_its_children", |w| Box::pin(a_process_is_signalled_alone_with_its_children(w))),
    ("dangerous_calls_are_refused", |w| Box::pin(dangerous_calls_are_refused(w))),
];

fn main() {
    run_all(TESTS);
}

async fn a_function_is_nobody_without_privileges(world: &Ground) {
    let sandbox = world.sandbox(256).await;
    let (status, exit) = shell(&*sandbox, "cat /proc/self/status; id -u; id -G; hostname; echo $PATH").await;
    assert_eq!(exit, Exit::Code(0), "{status}");
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(status.ends_with("1051\n1051\nlocalhost\n/usr/bin:/bin\n"), "{status}");
}

async fn a_function_sees_only_its_own_files(world: &Ground) {
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

async fn exits_signals_and_exec_errors_are_told_apart(world: &Ground) {
    let sandbox = world.sandbox(256).await;
    assert_eq!(shell(&*sandbox, "exit 3").await.1, Exit::Code(3));
    assert_eq!(shell(&*sandbox, "kill -9 $$").await.1, Exit::Signal(9));
    let (_, writer) = std::io::pipe().unwrap();
    let Err(error) = sandbox.spawn(command("/var/task/bootstrap", &[], writer.into())).await else {
        panic!("a missing program was executed")
    };
    assert!(error.to_string().starts_with("fork/exec /var/task/bootstrap: No such file"), "{error}");
}

async fn a_frozen_function_makes_no_progress(world: &Ground) {
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

async fn sockets_are_made_inside(world: &Ground) {
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
    // Where a tunnel leads out, nobody serves it here.
    assert!(said.contains("Network is unreachable") || said.contains("timed out"), "{said}");
}

async fn killed_processes_leave_temporary_storage(world: &Ground) {
    let sandbox = world.sandbox(256).await;
    let (_, writer) = std::io::pipe().unwrap();
    let process = sandbox.spawn(command("/bin/sh", &["-c", "sleep 1000"], writer.into())).await.unwrap();
    shell(&*sandbox, "echo kept > /tmp/kept").await;
    sandbox.kill_processes().await.unwrap();
    assert_eq!(process.exit.await.unwrap(), Exit::Signal(9));
    assert_eq!(shell(&*sandbox, "cat /tmp/kept").await.0, "kept\n");
}

async fn a_process_is_signalled_alone_with_its_children(world: &Ground) {
    let sandbox = world.sandbox(256).await;
    let polite = "import signal, subprocess, sys\nsignal.signal(15, lambda *_: sys.exit(7))\n\
        subprocess.Popen(['sleep', '1000'])\nprint('here', flush=True)\nsignal.pause()";
    let (first, second) = (begin(&*sandbox, polite).await, begin(&*sandbox, polite).await);
    sandbox.signal(first.id, Signal::Terminate).await.unwrap();
    assert_eq!(first.exit.await.unwrap(), Exit::Code(7));
    sandbox.signal(first.id, Signal::Kill).await.expect("one that has ended gets nothing");
    let mut exit = second.exit;
    assert!(runs(&mut exit), "the other one goes on");
    for stranger in [0, 1, u32::MAX] {
        sandbox.signal(stranger, Signal::Kill).await.unwrap();
    }
    sandbox.signal(second.id, Signal::Kill).await.unwrap();
    assert_eq!(exit.await.unwrap(), Exit::Signal(9));
}

async fn dangerous_calls_are_refused(world: &Ground) {
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
