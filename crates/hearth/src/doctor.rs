//! What this host lets Hearth hold: each promise is tried in a sandbox.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hearth_sandbox::privilege::{self, Owner};
use hearth_sandbox::process::{self, ProcessDriver};
use hearth_sandbox::{Driver, Isolation, Unavailable, launcher, promises};

use crate::cli::Failure;
use crate::documents::{Doctor, PromiseRow};
use crate::serve::owner;
use crate::settings::Settings;

/// For what is left when all was tried.
const LINGER: Duration = Duration::from_secs(5);

/// Tries what a driver holds.
pub async fn examine(driver: &dyn Driver, isolation: Isolation, way: &'static str) -> Doctor {
    let tried = driver.probe().await;
    let runs_confined = tried.is_ok() && isolation != Isolation::None;
    let promises = tried.unwrap_or_else(|error| promises::none(&error.to_string()));
    Doctor {
        way,
        isolation: isolation.to_string(),
        cgroup: process::cgroup_kind().ok(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        promises: promises.into_iter().map(PromiseRow::from).collect(),
        runs_confined,
    }
}

/// The same without a server: with a launcher and a driver of its own, as a server would have them. Call it while there
/// is one thread.
pub fn examine_host(settings: &Settings) -> Result<Doctor, Failure> {
    let folder = tempfile::tempdir()?;
    let first = *settings.sandbox_uids.0.start();
    let is_root = rustix::process::geteuid().is_root() && privilege::may_become_another();
    let other = (is_root && privilege::is_mapped(first)).then_some(Owner { uid: first, gid: first });
    let own = || Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    if let Some(owner) = other {
        std::os::unix::fs::chown(folder.path(), Some(owner.uid), Some(owner.gid))?;
    }
    let way = process::way();
    let orders = launcher::Orders {
        isolation: settings.isolation,
        uids: settings.sandbox_uids.0.clone(),
        run: owner::meeting_place(other, settings.isolation)?,
        server: other.unwrap_or_else(own),
    };
    let started = launcher::start(&orders)?;
    privilege::become_unprivileged(other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let doctor = runtime.block_on(async {
        let driver = driver(started, settings.isolation, folder.path()).await?;
        let doctor = examine(&*driver, settings.isolation, way).await;
        let _ = tokio::time::timeout(LINGER, driver.closed()).await;
        Ok::<_, Failure>(doctor)
    });
    // The launcher ends with its last handle, and is waited for.
    runtime.shutdown_timeout(LINGER);
    doctor
}

async fn driver(started: launcher::Started, isolation: Isolation, folder: &Path) -> Result<Arc<dyn Driver>, Failure> {
    let instance = format!("doctor{}", std::process::id());
    let config = process::Config { instance, scratch: folder.join("scratch"), isolation };
    let launcher = started.attach()?;
    match ProcessDriver::open(launcher.clone(), config).await {
        Ok(driver) => Ok(Arc::new(driver)),
        Err(error) => Ok(Arc::new(Unavailable::new(&error, launcher))),
    }
}
