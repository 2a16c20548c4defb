//! Landlock around the function's processes: which files they may touch whatever mounts say, which ports they may reach,
//! and that signals and abstract sockets stay among themselves. Each kernel holds what it knows.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// What is let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walls {
    /// To read and execute, with all that is below.
    pub readable: Vec<String>,
    /// To do anything with, with all that is below.
    pub writable: Vec<String>,
    /// TCP ports to connect to; `None`: all.
    pub ports: Option<Vec<u16>>,
}

impl Walls {
    /// Inside namespaces, where `/` holds nothing but what a function may see.
    pub fn inside() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Walls { readable: texts(&["/"]), writable: texts(&["/tmp", "/dev", "/proc"]), ports: None }
    }

    /// Raises them around this process and all that it starts. Nothing where the kernel has no Landlock, or one that
    /// forbids every move between folders.
    pub fn raise(&self) -> io::Result<()> {
        if version() < REFER { Ok(()) } else { self.restrict().map_err(io::Error::other) }
    }

    fn restrict(&self) -> Result<(), RulesetError> {
        let all = AccessFs::from_all(NEWEST);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .scope(Scope::from_all(NEWEST))?;
        if self.ports.is_some() {
            ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
        }
        let mut ruleset = ruleset.create()?;
        for (paths, access) in [(&self.readable, AccessFs::from_read(NEWEST)), (&self.writable, all)] {
            // What is not there cannot be touched either.
            for path in paths.iter().filter_map(|path| PathFd::new(path).ok()) {
                ruleset = ruleset.add_rule(PathBeneath::new(path, access))?;
            }
        }
        for port in self.ports.iter().flatten() {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        ruleset.restrict_self().map(drop)
    }
}

/// The newest that this was written for.
const NEWEST: ABI = ABI::V6;
/// The first that can allow moves between folders.
pub const REFER: i32 = 2;
/// The first that knows ports.
pub const PORTS: i32 = 4;

/// Which Landlock the kernel has; 0 when it has none.
pub fn version() -> i32 {
    crate::sys::landlock_version()
}

/// Whether walls can be raised at all.
pub fn are_there() -> bool {
    version() >= REFER
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Walls are a thread's own.
    fn within(walls: Walls, act: impl FnOnce() + Send + 'static) {
        std::thread::spawn(move || {
            walls.raise().unwrap();
            act();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_not_let_through_is_refused() {
        if !are_there() {
            return;
        }
        let (open, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = |folder: &tempfile::TempDir| folder.path().to_string_lossy().into_owned();
        fs::write(closed.path().join("secret"), "x").unwrap();
        let walls = Walls {
            readable: vec!["/usr".to_owned(), "/etc/hosts".to_owned(), "/proc/self".to_owned(), "/nowhere".to_owned()],
            writable: vec![text(&open), "/dev/null".to_owned()],
            ports: Some(vec![9]),
        };
        within(walls, move || {
            fs::write(open.path().join("f"), "x").unwrap();
            fs::create_dir(open.path().join("d")).unwrap();
            fs::rename(open.path().join("f"), open.path().join("d/f")).unwrap();
            fs::write("/dev/null", "x").unwrap();
            assert!(fs::read("/etc/hosts").is_ok() && fs::read_dir("/usr").is_ok());
            let refused = [
                fs::read(closed.path().join("secret")).unwrap_err(),
                fs::write(closed.path().join("new"), "x").unwrap_err(),
                fs::read("/etc/passwd").unwrap_err(),
                fs::write("/usr/new", "x").unwrap_err(),
            ];
            assert!(refused.iter().all(|error| error.kind() == io::ErrorKind::PermissionDenied), "{refused:?}");
            if version() >= PORTS {
                let error = std::net::TcpStream::connect("127.0.0.1:10").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                let error = std::net::TcpStream::connect("127.0.0.1:9").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            }
            std::mem::forget(closed);
        });
    }
}
