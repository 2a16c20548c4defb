//! `hearth doctor`.

use super::{Failure, Global, output};
use crate::documents::Doctor;
use crate::settings::Settings;

#[derive(clap::Args)]
pub struct DoctorOptions {
    /// Status 0 only when every promise is held
    #[arg(long)]
    strict: bool,
    /// What a server with this isolation would hold
    #[arg(long, value_name = "process|landlock|none")]
    isolation: Option<String>,
}

pub fn run(global: &Global, options: &DoctorOptions) -> Result<(), Failure> {
    let doctor = crate::doctor::examine_host(&settings(options)?)?;
    if global.json {
        output::document(&doctor)?;
    } else {
        print(&doctor)?;
    }
    let all_held = doctor.promises.iter().all(|promise| promise.held);
    match (doctor.runs_confined, options.strict && !all_held) {
        (false, _) => Err(Failure::No("functions cannot run confined here".to_owned())),
        (true, true) => Err(Failure::No("not every promise is held here".to_owned())),
        (true, false) => Ok(()),
    }
}

/// As a server that is started here would have them.
fn settings(options: &DoctorOptions) -> Result<Settings, Failure> {
    let flags = options.isolation.iter().map(|isolation| ("isolation", isolation.clone())).collect();
    super::settings(flags)
}

fn print(doctor: &Doctor) -> Result<(), Failure> {
    let cgroup = doctor.cgroup.unwrap_or("unknown");
    let (way, isolation, kernel) = (doctor.way, &doctor.isolation, &doctor.kernel);
    output::line(&format!("running as {way}, isolation {isolation}, cgroups {cgroup}, kernel {kernel}\n"))?;
    let rows = doctor.promises.iter().map(|promise| {
        let held = if promise.held { "held" } else { "NOT HELD" };
        let detail = match (promise.held, promise.fix.is_empty()) {
            (true, _) => promise.by.clone(),
            (false, true) => promise.why.clone(),
            (false, false) => format!("{}; to hold it: {}", promise.why, promise.fix),
        };
        [promise.name.to_owned(), held.to_owned(), detail]
    });
    output::table(["PROMISE", "", "BY"], rows)
}
