//! What the server says when it serves: where, on what, with which limits, and with which runtimes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use hearth_sandbox::Isolation;
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
    let scheme = if settings.tls_certificate.is_some() { "https" } else { "http" };
    let mut text = format!("listening on {scheme}://{address}\n");
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "  {name:<12}  {value}");
    };
    row("data folder", &folder.path().display());
    row("cache folder", &settings.cache_dir.display());
    row("runtimes", &runtimes.join(", "));
    let loose = match settings.isolation {
        Isolation::Process => "",
        Isolation::Landlock => ": the weakest tier, see docs/ways.md",
        Isolation::None => ": functions are not confined and can do all that this server's user can",
    };
    eprintln!("  isolation     {}{loose}", settings.isolation);
    let promises = rooms.driver.promises();
    let held: Vec<&str> = promises.iter().filter(|promise| promise.held).map(|promise| promise.name).collect();
    row("enforced", &held.join(", "));
    for promise in promises.iter().filter(|promise| !promise.held) {
        row("not enforced", &format_args!("{}: {}", promise.name, promise.why));
    }
    // Whoever started the server may listen no more: that ends nothing.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
