//! The languages that functions are written in start in the real sandbox, under its filter, and do what programs do:
//! threads, processes, sockets, files, time, names. What this machine does not have is named and left out, or a failure
//! where `HEARTH_EVERY_LANGUAGE` is set, as `script/test` does once `tests/runtimes/install` has installed all.
//!
//! Needs root. `cargo test -p hearth-sandbox --test runtimes [NAME]`.

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use hearth_sandbox::{Exit, launcher};
use support::{Ground, command, pipe};

/// A language: what of this machine it needs, one of these places; how its program is made ready in the package by what
/// is found there; how it is started.
struct Language {
    name: &'static str,
    needs: &'static [&'static str],
    build: fn(&Path, &Path) -> Option<std::process::Command>,
    program: &'static str,
    arguments: &'static [&'static str],
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        needs: &["/usr/bin/python3"],
        build: |_, _| None,
        program: "/usr/bin/python3",
        arguments: &["/var/task/program.py"],
    },
    Language {
        name: "node",
        needs: &["/usr/bin/node"],
        build: |_, _| None,
        program: "/usr/bin/node",
        arguments: &["/var/task/program.js"],
    },
    Language {
        name: "java",
        needs: &["/usr/lib/jvm/java-17-openjdk-amd64/bin/javac"],
        build: |javac, code| {
            let mut javac = std::process::Command::new(javac);
            javac.arg("-d").arg(code).arg(code.join("Program.java"));
            Some(javac)
        },
        program: "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        arguments: &["-Xmx256m", "-cp", "/var/task", "Program"],
    },
    Language {
        name: "go",
        needs: &["/usr/local/go/bin/go", "/usr/bin/go"],
        build: |go, code| {
            let mut go = std::process::Command::new(go);
            go.args(["build", "-o"]).arg(code.join("program-go")).arg(code.join("program.go"));
            go.env("GOCACHE", target("go-cache")).env("CGO_ENABLED", "0").env("GO111MODULE", "off");
            Some(go)
        },
        program: "/var/task/program-go",
        arguments: &[],
    },
    Language {
        name: "rust",
        needs: &["/proc/self/exe"],
        build: |_, code| {
            let mut copy = std::process::Command::new("cp");
            copy.arg(std::env::current_exe().unwrap()).arg(code.join("program-rust"));
            Some(copy)
        },
        program: "/var/task/program-rust",
        arguments: &["--as-a-function"],
    },
    Language {
        name: "ruby",
        needs: &["/usr/bin/ruby"],
        build: |_, _| None,
        program: "/usr/bin/ruby",
        arguments: &["/var/task/program.rb"],
    },
    Language {
        name: "sharp",
        needs: &[concat!(env!("CARGO_TARGET_TMPDIR"), "/sharp/node_modules")],
        build: |modules, code| {
            let mut copy = std::process::Command::new("cp");
            copy.arg("-r").arg(modules).arg(code);
            Some(copy)
        },
        program: "/usr/bin/node",
        arguments: &["/var/task/sharp.js"],
    },
    Language {
        name: "chromium",
        needs: &["/usr/lib/chromium/chromium-headless-shell"],
        build: |_, _| None,
        program: "/bin/sh",
        arguments: &["/var/task/chromium.sh"],
    },
];

impl Language {
    /// What it needs, where this machine has it.
    fn found(&self) -> Option<&'static Path> {
        self.needs.iter().map(Path::new).find(|place| place.exists())
    }
}

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn main() {
    launcher::main_if_asked();
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--as-a-function") {
        return program();
    }
    let started = support::start(Path::new(support::RUN));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wanted = argument.filter(|name| !name.starts_with('-')).unwrap_or_default();
    let every = std::env::var_os("HEARTH_EVERY_LANGUAGE").is_some();
    runtime.block_on(async {
        let ground = Ground::new(started, |code| {
            let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtimes");
            for program in std::fs::read_dir(programs).unwrap().flatten() {
                std::fs::copy(program.path(), code.join(program.file_name())).unwrap();
            }
            for language in LANGUAGES.iter().filter(|language| language.name.contains(&wanted)) {
                if let Some(mut build) = language.found().and_then(|found| (language.build)(found, code)) {
                    assert!(build.stdin(Stdio::null()).status().unwrap().success(), "{}", language.name);
                }
            }
        })
        .await;
        for language in LANGUAGES.iter().filter(|language| language.name.contains(&wanted)) {
            if language.found().is_none() {
                assert!(!every, "{} needs {:?}", language.name, language.needs);
                println!("test {} ... not on this machine ({:?})", language.name, language.needs);
                continue;
            }
            let sandbox = ground.sandbox(1769).await;
            let (reader, writer) = pipe();
            let command = command(language.program, language.arguments, writer);
            let (said, exit) = support::run_command(&*sandbox, command, reader).await.unwrap();
            assert_eq!((exit, said.trim()), (Exit::Code(0), "works"), "{}", language.name);
            println!("test {} ... ok", language.name);
        }
        ground.end().await;
    });
}

/// What the Rust program does inside.
fn program() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello").unwrap());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    server.join().unwrap();
    assert_eq!(text, "hello");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
    std::fs::write("/tmp/rust", "x").unwrap();
    std::fs::copy("/tmp/rust", "/tmp/rust-2").unwrap();
    assert_eq!(std::fs::metadata("/tmp/rust-2").unwrap().len(), 1);
    std::fs::remove_file("/tmp/rust").unwrap();
    let echoed = std::process::Command::new("/bin/echo").arg("hello").output().unwrap();
    assert_eq!(echoed.stdout, b"hello\n");
    println!("works");
}
