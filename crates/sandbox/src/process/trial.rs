//! The outside of a probe: makes a sandbox as for a function and lets `probe` try things in it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hearth_model::{CodeTree, Memory, Root};

use super::sandbox::{PreparedProcess, ProcessSandbox};
use super::{ProcessDriver, step};
use crate::driver::{Class, Command, Driver, Error, Exit, Identity, Promise, Sandbox};
use crate::init::request;
use crate::probe::{self, Trial};

/// Without a word for this long, a process that talks all the time is frozen.
const SILENCE: Duration = Duration::from_millis(100);

pub async fn probe(driver: &ProcessDriver) -> Result<Vec<Promise>, Error> {
    let mut promises = driver.promises();
    let folder = tempfile::tempdir_in(driver.shared.scratch.path()).map_err(step("make a folder"))?;
    let (skeleton, marker) = probe::lay_out(folder.path()).map_err(step("make a root"))?;
    let root = Arc::new(Root { skeleton, binds: Vec::new(), whole: false });
    let class = Class { root: root.clone(), ephemeral_storage: Memory::mib(probe::TMP_MIB), listeners: Vec::new() };
    let confined = driver.shared.clone().confine(class).await?;
    let code = CodeTree { path: folder.path().join("code"), lease: Arc::new(()) };
    let identity = Identity { memory: Memory::mib(probe::MEMORY_MIB), code: Some(code), opt: None };
    let sandbox = PreparedProcess { confined }.attach(identity).await?;
    let tried = try_all(&sandbox, &marker, &mut promises).await;
    drop(sandbox);
    let mut roots = driver.shared.roots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    roots.retain(|(composed, _), _| *composed != root);
    drop(roots);
    fs::remove_dir_all(folder.path()).map_err(step("remove a folder"))?;
    tried.map(|()| promises)
}

async fn try_all(sandbox: &ProcessSandbox, marker: &Path, promises: &mut [Promise]) -> Result<(), Error> {
    let (facts, _) = run(sandbox, Trial::Facts, marker).await?;
    probe::judge_facts(promises, &facts);
    if probe::is_held(promises, "processes") {
        probe::judge_processes(promises, &run(sandbox, Trial::Processes, marker).await?.0);
    }
    if probe::is_held(promises, "memory") {
        probe::judge_memory(promises, run(sandbox, Trial::Memory, marker).await?.1);
    }
    if probe::is_held(promises, "freeze") {
        freeze(sandbox, marker, promises).await?;
    }
    if probe::is_held(promises, "cpu") {
        sandbox.limit_cpu()?;
        probe::judge_cpu(promises, &run(sandbox, Trial::Cpu, marker).await?.0);
    }
    Ok(())
}

async fn begin(
    sandbox: &ProcessSandbox,
    trial: Trial,
    marker: &Path,
) -> Result<(OwnedFd, crate::driver::Process), Error> {
    let (reader, writer) = io::pipe().map_err(step("make a pipe"))?;
    let command = Command {
        program: trial.name().to_owned(),
        arguments: vec![format!("{}{}", probe::MARKER, marker.display()), "/tmp".to_owned()],
        environment: Vec::new(),
        working_directory: "/var/task".to_owned(),
        output: writer.into(),
        log: None,
        told: None,
    };
    let process = sandbox.start(request::TRY, command).await?;
    Ok((reader.into(), process))
}

/// What it said, and how it ended.
async fn run(sandbox: &ProcessSandbox, trial: Trial, marker: &Path) -> Result<(String, Option<Exit>), Error> {
    let (output, process) = begin(sandbox, trial, marker).await?;
    let said = tokio::task::spawn_blocking(move || probe::read_all(output));
    let exit = match tokio::time::timeout(probe::PATIENCE, process.exit).await {
        Ok(exit) => Some(exit?),
        Err(_) => {
            sandbox.kill_processes().await?;
            None
        }
    };
    Ok((said.await.map_err(|e| step("read what was said")(io::Error::other(e)))?, exit))
}

async fn freeze(sandbox: &ProcessSandbox, marker: &Path, promises: &mut [Promise]) -> Result<(), Error> {
    let (output, _process) = begin(sandbox, Trial::Chatter, marker).await?;
    sandbox.freeze()?;
    let drained = tokio::task::spawn_blocking(move || (probe::drain(&output, SILENCE).is_ok(), output)).await;
    let (silent, output) = drained.map_err(|e| step("wait for silence")(io::Error::other(e)))?;
    sandbox.thaw()?;
    let more = tokio::task::spawn_blocking(move || {
        let mut ready = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: probe::PATIENCE.as_secs() as i64, tv_nsec: 0 };
        rustix::event::poll(&mut ready, Some(&patience)).is_ok_and(|ready| ready > 0)
    });
    let goes_on = more.await.map_err(|e| step("wait for more")(io::Error::other(e)))?;
    sandbox.kill_processes().await?;
    if !silent || !goes_on {
        probe::fail(promises, "freeze", "processes went on, or never did again");
    }
    Ok(())
}
