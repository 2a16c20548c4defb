//! What the server says when it serves: where, on what, with which limits, and with which runtimes.

use std::net::SocketAddr;

use hearth_store::DataDir;

use super::rooms::Rooms;
use crate::settings::Settings;

/// On stderr; the first line is for programs, too.
pub fn print(settings: &Settings, folder: &DataDir, address: SocketAddr, rooms: &Rooms) {
    let runtimes: Vec<String> = rooms
        .images
        .installed()
        .iter()
        .map(|installed| match installed.version.as_str() {
            "" => installed.runtime.to_string(),
            version => format!("{} ({version})", installed.runtime),
        })
        .collect();
    eprintln!("listening on http://{address}");
    eprintln!("  data folder   {}", folder.path().display());
    eprintln!("  cache folder  {}", settings.cache_dir.display());
    eprintln!("  runtimes      {}", runtimes.join(", "));
    let promises = rooms.driver.promises();
    let held: Vec<&str> = promises.iter().filter(|promise| promise.held).map(|promise| promise.name).collect();
    eprintln!("  enforced      {}", held.join(", "));
    for promise in promises.iter().filter(|promise| !promise.held) {
        eprintln!("  not enforced  {}: {}", promise.name, promise.why);
    }
}
