//! Measures what confinement costs, for `script/bench`: `cost TIMES FOLDER`. One JSON object on stdout; times are
//! microseconds. Needs root, the feature `weaken`, and a profile with debug assertions (`measure`).
//!
//! - A program's start: as it is, in a sandbox made for it, in one that was prepared, and in one made for it without filter
//!   and Landlock.
//! - Its work: how many messages a second a program in a sandbox answers over a socket, as a runtime does, with and
//!   without filter and Landlock.
//!
//! What is compared is measured in turns, so that a busy machine disturbs both alike.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_model::{CodeTree, Memory, Root, RootBind};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Class, Command, Driver, Identity, Isolation, Layer, Prepared, Sandbox, launcher, weaken};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Sandboxes whose times do not count.
const WARM_UP: usize = 10;
/// Turns of work, each with and without, and how long one lasts.
const TURNS: usize = 20;
/// How long a prepared sandbox has been in stock, at least.
const SETTLED: Duration = Duration::from_millis(10);
const TURN: Duration = Duration::from_millis(250);
/// Bytes of a message: an event with its headers, about.
const MESSAGE: usize = 512;
const PORT: u16 = 9001;

fn main() -> Result<()> {
    launcher::main_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["hello"] => Ok(std::io::stdout().write_all(b".")?),
        ["answer"] => answer(),
        [times, folder] => measure(times.parse()?, Path::new(folder)),
        _ => Err("usage: cost TIMES FOLDER".into()),
    }
}

/// The program inside.
fn answer() -> Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    server.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    while server.read_exact(&mut message).is_ok() {
        server.write_all(&message)?;
    }
    Ok(())
}

fn measure(times: usize, folder: &Path) -> Result<()> {
    // Launchers are started before there is a thread.
    let full = start(&[])?;
    let open = start(&[Layer::Filter, Layer::Walls])?;
    let class = class(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let results = runtime.block_on(async {
        let full = Variant::new("full", full, &class, folder).await?;
        let open = Variant::new("open", open, &class, folder).await?;
        let mut starts = [const { Vec::new() }; 4];
        for _ in 0..WARM_UP + times {
            starts[0].push(bare()?);
            starts[1].push(full.start().await?);
            starts[2].push(open.start().await?);
            starts[3].push(full.start_prepared().await?);
        }
        let [plain, confined, unfiltered, prepared] = starts.map(|mut all| summary(all.split_off(WARM_UP)));
        let (mut with, mut without) = (full.worker().await?, open.worker().await?);
        let mut ratios = Vec::new();
        let (mut per_second, mut per_second_open) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let (a, b) = (with.turn()?, without.turn()?);
            ratios.push(a / b);
            per_second.push(a);
            per_second_open.push(b);
        }
        Ok::<_, Box<dyn Error>>(serde_json::json!({
            "forkExec": plain, "sandbox": confined, "withoutFilterAndWalls": unfiltered, "prepared": prepared,
            "messages": {
                "perSecond": median(per_second), "perSecondWithoutFilterAndWalls": median(per_second_open),
                "ratio": median(ratios),
            },
        }))
    })?;
    println!("{results}");
    Ok(())
}

fn start(without: &[Layer]) -> Result<launcher::Started> {
    weaken::without(without);
    Ok(launcher::start(&launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: PathBuf::from("/run/hearth"),
        server: Owner { uid: 0, gid: 0 },
    })?)
}

fn class(folder: &Path) -> Result<Class> {
    let (skeleton, code) = (folder.join("skeleton"), folder.join("code"));
    for name in ["bin", "lib", "lib64", "usr", "dev", "proc", "sys", "tmp", "var/task", "etc", "mnt", "opt"] {
        std::fs::create_dir_all(skeleton.join(name))?;
    }
    std::fs::create_dir_all(&code)?;
    std::fs::copy(std::env::current_exe()?, code.join("program"))?;
    for open in [folder, &skeleton, &code] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755))?;
    }
    let bind = |name: &str| RootBind { source: Path::new("/").join(name), target: name.into() };
    let binds = ["bin", "lib", "lib64", "usr"].map(bind).into();
    let root = Arc::new(Root { skeleton, binds, whole: false });
    Ok(Class { root, ephemeral_storage: Memory::mib(512), listeners: Vec::new() })
}

/// The program as it starts without a sandbox.
fn bare() -> Result<Duration> {
    let began = Instant::now();
    let mut child = std::process::Command::new(std::env::current_exe()?).arg("hello").stdout(Stdio::piped()).spawn()?;
    child.stdout.as_mut().ok_or("no stdout")?.read_exact(&mut [0])?;
    let took = began.elapsed();
    child.wait()?;
    Ok(took)
}

/// Sandboxes of one kind.
struct Variant {
    driver: ProcessDriver,
    class: Class,
    code: PathBuf,
}

impl Variant {
    async fn new(name: &str, started: launcher::Started, class: &Class, folder: &Path) -> Result<Self> {
        let config = Config {
            instance: format!("cost{name}{}", std::process::id()),
            scratch: folder.join(format!("scratch-{name}")),
            isolation: Isolation::Process,
        };
        let driver = ProcessDriver::open(started.attach()?, config).await?;
        Ok(Variant { driver, class: class.clone(), code: folder.join("code") })
    }

    async fn sandbox(&self) -> Result<Box<dyn Sandbox>> {
        self.bind(self.driver.prepare(self.class.clone()).await?).await
    }

    async fn bind(&self, prepared: Box<dyn Prepared>) -> Result<Box<dyn Sandbox>> {
        let code = CodeTree { path: self.code.clone(), lease: Arc::new(()) };
        Ok(prepared.bind(Identity { memory: Memory::mib(1769), code: Some(code), opt: None }).await?)
    }

    /// From nothing to the program's first words.
    async fn start(&self) -> Result<Duration> {
        let began = Instant::now();
        let prepared = self.driver.prepare(self.class.clone()).await?;
        self.run(prepared, began).await
    }

    /// From a sandbox in stock to the program's first words.
    async fn start_prepared(&self) -> Result<Duration> {
        let prepared = self.driver.prepare(self.class.clone()).await?;
        // Its first process goes on for a moment.
        tokio::time::sleep(SETTLED).await;
        self.run(prepared, Instant::now()).await
    }

    async fn run(&self, prepared: Box<dyn Prepared>, began: Instant) -> Result<Duration> {
        let (mut reader, writer) = std::io::pipe()?;
        let sandbox = self.bind(prepared).await?;
        let process = sandbox.spawn(command("hello", writer.into())).await?;
        reader.read_exact(&mut [0])?;
        let took = began.elapsed();
        process.exit.await?;
        drop(sandbox);
        self.driver.closed().await;
        Ok(took)
    }

    async fn worker(&self) -> Result<Worker> {
        let sandbox = self.sandbox().await?;
        let listener = sandbox.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).await?;
        listener.set_nonblocking(false)?;
        let (_, writer) = std::io::pipe()?;
        sandbox.spawn(command("answer", writer.into())).await?;
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        Ok(Worker { stream, _sandbox: sandbox })
    }
}

/// A program in a sandbox that answers messages.
struct Worker {
    stream: TcpStream,
    _sandbox: Box<dyn Sandbox>,
}

impl Worker {
    /// Messages a second.
    fn turn(&mut self) -> Result<f64> {
        let mut message = [0; MESSAGE];
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < TURN {
            self.stream.write_all(&message)?;
            self.stream.read_exact(&mut message)?;
            count += 1;
        }
        Ok(f64::from(count) / began.elapsed().as_secs_f64())
    }
}

fn command(role: &str, output: std::os::fd::OwnedFd) -> Command {
    Command {
        program: "/var/task/program".to_owned(),
        arguments: vec![role.to_owned()],
        environment: Vec::new(),
        working_directory: "/var/task".to_owned(),
        output,
        log: None,
        told: None,
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn summary(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)].as_micros() as u64;
    serde_json::json!({ "p50Us": at(0.5), "p90Us": at(0.9), "p99Us": at(0.99), "n": times.len() })
}
