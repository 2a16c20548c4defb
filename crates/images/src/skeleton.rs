//! The made part of a root: folders to mount on, a small `/etc`, and the runtime's own files. Its name in the cache is
//! the hash of what it is made from, so equal skeletons are one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hearth_model::{CodeHash, Root, RootBind};
use sha2::{Digest, Sha256};

use crate::layers::lay;
use crate::programs;
use crate::trees::{Lease, Trees};

/// Folders that every root has, to mount on or to be found empty.
const FOLDERS: &[&str] = &[
    "dev",
    "home",
    "mnt",
    // Where layers and packages have libraries: the loader never looks again into a folder that was not there when a
    // program began, and a runtime that was started ahead of need began before they were mounted.
    "opt/lib",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/bin",
    "usr/local/bin",
    "usr/sbin",
    "var/lang/bin",
    "var/lang/lib",
    "var/log",
    "var/runtime",
    "var/task/lib",
    "var/tmp",
];

const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:1051:1051::/home/sbx_user1051:/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nsbx_user1051:x:1051:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    (
        "etc/os-release",
        "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n",
    ),
];

/// What every root says of the network, whoever made the rest of it.
pub const NETWORK: &[(&str, &str)] = &[
    ("etc/hosts", "127.0.0.1 localhost localhost.localdomain sandbox sandbox.localdomain\n"),
    ("etc/resolv.conf", RESOLVER),
];

/// The resolver that every sandbox has: the server, at the other end of its network. Where it has none, asking fails at
/// once.
const RESOLVER: &str = "nameserver 169.254.78.1\noptions timeout:7 attempts:1\n";

const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("etc/localtime", "../usr/share/zoneinfo/UTC"),
    ("etc/mtab", "../proc/self/mounts"),
    // Where programs that were built for Amazon Linux look for authorities.
    ("etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt"),
    ("usr/sbin/ldconfig", "../bin/ldconfig"),
];

/// What every root shows of the host, where the host has it: shared libraries, locales, time zones, authorities.
const SHARED: &[&str] = &[
    "usr/lib64",
    "usr/lib/locale",
    "usr/lib/ssl",
    "usr/share/zoneinfo",
    "usr/share/ca-certificates",
    "etc/ssl/certs",
    "etc/ld.so.cache",
];

/// What a root with a system of its own shows of the host.
const AUTHORITIES: &[&str] = &["usr/share/ca-certificates", "etc/ssl/certs"];

/// Debian's folder of shared libraries.
const LIBRARIES: &str = if cfg!(target_arch = "aarch64") { "lib/aarch64-linux-gnu" } else { "lib/x86_64-linux-gnu" };

/// Done to a skeleton after its files are there.
type Finish<'a> = Box<dyn FnOnce(&Path) -> io::Result<()> + 'a>;

/// A root to be.
pub struct Skeleton<'a> {
    /// What is there first: a whole system of another distribution, instead of parts of the host's.
    system: Option<&'a Path>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    links: BTreeMap<PathBuf, PathBuf>,
    binds: Vec<RootBind>,
    /// What else its content depends on.
    facts: Vec<String>,
    finish: Vec<Finish<'a>>,
}

/// A root and what keeps it.
pub struct Made {
    pub root: Root,
    pub leases: Vec<std::sync::Arc<Lease>>,
}

impl<'a> Skeleton<'a> {
    /// What all roots have in common, with what they show of the host.
    pub fn new() -> Self {
        let mut skeleton = Self::made();
        for folder in SHARED {
            skeleton.share(Path::new(folder));
        }
        skeleton.libraries();
        skeleton
    }

    /// The same on a system that is complete but for what the host knows of authorities.
    pub fn on(system: &'a Path) -> Self {
        let mut skeleton = Skeleton { system: Some(system), ..Self::made() };
        for folder in AUTHORITIES {
            skeleton.share(Path::new(folder));
        }
        skeleton
    }

    fn made() -> Self {
        let file = |(path, text): &(&str, &str)| (PathBuf::from(path), text.as_bytes().to_vec());
        let mut skeleton = Skeleton {
            system: None,
            files: FILES.iter().chain(NETWORK).map(file).collect(),
            links: BTreeMap::new(),
            binds: Vec::new(),
            facts: Vec::new(),
            finish: Vec::new(),
        };
        for (path, target) in LINKS {
            skeleton.link(path, target);
        }
        skeleton
    }

    /// Library folders as the host has them: `/lib` may be a link into `/usr` or a folder of its own.
    fn libraries(&mut self) {
        self.share(&Path::new("usr").join(LIBRARIES));
        // The loader, where it lies beside the libraries' folder.
        for entry in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
            let loader = entry.file_name().to_str().is_some_and(|name| name.starts_with("ld-linux"));
            if let Some(target) = fs::read_link(entry.path()).ok().filter(|_| loader) {
                self.link(Path::new("usr/lib").join(entry.file_name()), target);
            }
        }
        for name in ["lib", "lib64"] {
            let host = Path::new("/").join(name);
            match fs::read_link(&host) {
                Ok(target) => self.link(name, target.strip_prefix("/").unwrap_or(&target)),
                Err(_) if name == "lib" => self.share(Path::new(LIBRARIES)),
                Err(_) => self.share(Path::new(name)),
            }
        }
    }

    /// Binds something of the host at its own place, where the host has it.
    pub fn share(&mut self, path: &Path) {
        let source = Path::new("/").join(path);
        if source.exists() {
            self.bind(source, path);
        }
    }

    pub fn bind(&mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.binds.push(RootBind { source: source.into(), target: target.into() });
    }

    pub fn file(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), content.into());
    }

    /// Files of a bootstrap, by their names below `/var/runtime`.
    pub fn bootstrap(&mut self, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.file(Path::new("var/runtime").join(name), *text);
        }
    }

    pub fn link(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.links.insert(path.into(), target.into());
    }

    /// Adds a step whose outcome follows from `fact`.
    pub fn finish(&mut self, fact: String, step: impl FnOnce(&Path) -> io::Result<()> + 'a) {
        self.facts.push(fact);
        self.finish.push(Box::new(step));
    }

    /// Makes the skeleton, or finds it.
    pub fn make(mut self, trees: &Trees) -> io::Result<Made> {
        let mut leases = Vec::new();
        if self.system.is_none() {
            let programs = programs::tree(trees)?;
            self.bind(&programs.path, "usr/bin");
            leases.push(programs.lease);
        }
        let whole = self.system.is_some();
        let name = self.name();
        let binds = self.binds.clone();
        let tree = trees.make(&name, |folder| self.fill(folder))?;
        leases.push(tree.lease);
        Ok(Made { root: Root { skeleton: tree.path, binds, whole }, leases })
    }

    fn name(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(system) = self.system {
            hash.update(format!("system {}\n", system.display()));
        }
        for (path, content) in &self.files {
            hash.update(format!("file {} {}\n", path.display(), content.len()));
            hash.update(content);
        }
        for (path, target) in &self.links {
            hash.update(format!("link {} {}\n", path.display(), target.display()));
        }
        for bind in &self.binds {
            hash.update(format!("bind {} {}\n", bind.source.display(), bind.target.display()));
        }
        for fact in &self.facts {
            hash.update(format!("fact {fact}\n"));
        }
        format!("root-{}", CodeHash(hash.finalize().into()).to_hex())
    }

    fn fill(self, root: &Path) -> io::Result<()> {
        if let Some(system) = self.system {
            lay(system, root, &|_, _| Ok(None))?;
        }
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder))?;
        }
        for (path, target) in &self.links {
            make_room(&root.join(path))?;
            symlink(target, root.join(path))?;
        }
        for (path, content) in &self.files {
            // A file of the system is one of the cache's, and is not written to.
            make_room(&root.join(path))?;
            fs::write(root.join(path), content)?;
        }
        for bind in &self.binds {
            let place = root.join(&bind.target);
            if bind.source.is_dir() {
                fs::create_dir_all(place)?;
            } else {
                make_room(&place)?;
                fs::write(place, "")?;
            }
        }
        self.finish.into_iter().try_for_each(|step| step(root))
    }
}

/// For what is to be there, in place of what a system has.
fn make_room(path: &Path) -> io::Result<()> {
    create_parent(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}
