//! The made part of a root: folders to mount on, a small `/etc`, and `/var/runtime` with the bootstrap. Its name in the
//! cache is the hash of its content, so equal skeletons are one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hearth_model::{CodeHash, Root, RootBind};
use sha2::{Digest, Sha256};

/// Folders that every root has.
const FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/local/bin",
    "var/lang/bin",
    "var/lang/lib",
    "var/runtime",
    "var/task",
    "var/tmp",
];

const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:1051:1051::/home/sbx_user1051:/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nsbx_user1051:x:1051:\n"),
    ("etc/hosts", "127.0.0.1 localhost localhost.localdomain sandbox sandbox.localdomain\n"),
    ("etc/resolv.conf", ""),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    (
        "etc/os-release",
        "NAME=\"Amazon Linux\"\nVERSION=\"2023\"\nID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\n",
    ),
];

/// System folders of the host that every root shows, read-only, where the host has them.
const SHARED: &[&str] =
    &["usr/bin", "usr/lib", "usr/lib64", "usr/share/zoneinfo", "etc/ssl/certs", "usr/share/ca-certificates"];

/// What a runtime adds.
#[derive(Default)]
pub struct Additions {
    pub files: BTreeMap<&'static str, Vec<u8>>,
    pub binds: Vec<RootBind>,
}

/// Makes the skeleton, or finds it, and puts the root together.
pub fn root(cache: &Path, additions: Additions) -> io::Result<Root> {
    let mut binds = shared();
    binds.extend(additions.binds);
    let mut files: BTreeMap<&str, Vec<u8>> =
        FILES.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect();
    files.extend(additions.files);
    let skeleton = cache.join("roots").join(name(&files, &binds));
    if !skeleton.exists() {
        fs::create_dir_all(cache.join("roots"))?;
        let beside = tempfile::Builder::new().prefix(".new-").tempdir_in(cache.join("roots"))?;
        fill(beside.path(), &files, &binds)?;
        fs::set_permissions(beside.path(), fs::Permissions::from_mode(0o755))?;
        match fs::rename(beside.path(), &skeleton) {
            Ok(()) => drop(beside.keep()),
            // Another Hearth was faster.
            Err(_) if skeleton.exists() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Root { skeleton, binds })
}

fn shared() -> Vec<RootBind> {
    let there = SHARED.iter().map(|name| (Path::new("/").join(name), PathBuf::from(name)));
    there.filter(|(source, _)| source.is_dir()).map(|(source, target)| RootBind { source, target }).collect()
}

fn name(files: &BTreeMap<&str, Vec<u8>>, binds: &[RootBind]) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(format!("{name}\n{}\n", content.len()));
        hash.update(content);
    }
    for bind in binds {
        hash.update(format!("{} {}\n", bind.source.display(), bind.target.display()));
    }
    CodeHash(hash.finalize().into()).to_hex()
}

fn fill(folder: &Path, files: &BTreeMap<&str, Vec<u8>>, binds: &[RootBind]) -> io::Result<()> {
    for name in FOLDERS {
        fs::create_dir_all(folder.join(name))?;
    }
    // As on systems whose `/usr` is merged; elsewhere programs find nothing missing by it.
    for name in ["bin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), folder.join(name))?;
    }
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    for bind in binds {
        let place = folder.join(&bind.target);
        if bind.source.is_dir() {
            fs::create_dir_all(place)?;
        } else {
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(place, "")?;
        }
    }
    Ok(())
}
