//! Measures how long a sandbox takes from nothing to the first words of a program in it, beside the same program without
//! one, for `script/bench`: `sandbox TIMES FOLDER`. One JSON object on stdout; times are microseconds. Needs root.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hearth_model::{CodeTree, Memory, Root, RootBind};
use hearth_sandbox::privilege::Owner;
use hearth_sandbox::process::{Config, ProcessDriver};
use hearth_sandbox::{Class, Driver, Identity, Isolation, launcher};

/// Sandboxes whose times do not count.
const WARM_UP: usize = 10;

fn main() -> Result<()> {
    launcher::main_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["hello"] {
        std::io::stdout().write_all(b".")?;
        return Ok(());
    }
    let [times, folder] = arguments.as_slice() else { anyhow::bail!("usage: sandbox TIMES FOLDER") };
    let (times, folder) = (times.parse()?, Path::new(folder));
    let plain = bare(times)?;
    let orders = launcher::Orders {
        isolation: Isolation::Process,
        uids: 1_879_048_192..=1_879_113_727,
        run: PathBuf::from("/run/hearth"),
        server: Owner { uid: 0, gid: 0 },
    };
    let started = launcher::start(&orders)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let confined = runtime.block_on(confined(started, times, folder))?;
    println!("{}", serde_json::json!({ "forkExec": summary(plain), "sandbox": summary(confined) }));
    Ok(())
}

/// The program as it starts without a sandbox.
fn bare(times: usize) -> Result<Vec<Duration>> {
    let program = std::env::current_exe()?;
    let once = || {
        let began = Instant::now();
        let mut child = Command::new(&program).arg("hello").stdout(Stdio::piped()).spawn()?;
        child.stdout.as_mut().context("no stdout")?.read_exact(&mut [0])?;
        let took = began.elapsed();
        child.wait()?;
        Ok(took)
    };
    (0..times).map(|_| once()).collect()
}

async fn confined(started: launcher::Started, times: usize, folder: &Path) -> Result<Vec<Duration>> {
    let (skeleton, code) = (folder.join("skeleton"), folder.join("code"));
    for name in ["bin", "lib", "lib64", "usr", "dev", "proc", "sys", "tmp", "var/task", "etc", "mnt", "opt"] {
        std::fs::create_dir_all(skeleton.join(name))?;
    }
    std::fs::create_dir_all(&code)?;
    std::fs::copy(std::env::current_exe()?, code.join("hello"))?;
    for open in [folder, &skeleton, &code] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755))?;
    }
    let bind = |name: &str| RootBind { source: Path::new("/").join(name), target: name.into() };
    let binds = ["bin", "lib", "lib64", "usr"].map(bind).into();
    let config = Config {
        instance: format!("bench{}", std::process::id()),
        scratch: folder.join("scratch"),
        isolation: Isolation::Process,
    };
    let driver = ProcessDriver::open(started.attach()?, config).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    let class = Class { root: Arc::new(Root { skeleton, binds }), ephemeral_storage: Memory::mib(512) };
    let mut all = Vec::new();
    for _ in 0..WARM_UP + times {
        let code = CodeTree { path: code.clone(), lease: Arc::new(()) };
        let (mut reader, writer) = std::io::pipe()?;
        let command = hearth_sandbox::Command {
            program: "/var/task/hello".to_owned(),
            arguments: vec!["hello".to_owned()],
            environment: Vec::new(),
            working_directory: "/var/task".to_owned(),
            output: writer.into(),
        };
        let began = Instant::now();
        let prepared = driver.prepare(class.clone()).await?;
        let sandbox = prepared.bind(Identity { memory: Memory::mib(1769), code, opt: None }).await?;
        let process = sandbox.spawn(command).await?;
        reader.read_exact(&mut [0])?;
        all.push(began.elapsed());
        process.exit.await?;
        drop(sandbox);
        driver.closed().await;
    }
    Ok(all.split_off(WARM_UP))
}

fn summary(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)].as_micros() as u64;
    serde_json::json!({ "p50Us": at(0.5), "p90Us": at(0.9), "p99Us": at(0.99), "n": times.len() })
}
