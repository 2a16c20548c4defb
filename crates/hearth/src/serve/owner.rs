//! Who the server is. Started as root it becomes the owner of its data folder, so that a fault in it is not root's; an
//! ordinary user stays itself.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use hearth_sandbox::Isolation;
use hearth_sandbox::privilege::{Owner, is_mapped, may_become_another};
use rustix::fs::{Access, access};

use crate::cli::Failure;
use crate::settings::Settings;

/// What data folders hold, and what cache folders do: a folder of root's with anything else in it is not given away.
const OF_DATA: &[&str] = &[
    "blobs",
    "format",
    "format.new",
    "instance",
    "instance.new",
    "key",
    "key.new",
    "key.next",
    "key.next.new",
    "lock",
    "logs",
    "records.sqlite",
    "scratch",
];
const OF_CACHE: &[&str] = &["code", "images", "runtimes"];

/// Where instances meet when there is root.
const RUN: &str = "/run/hearth";

/// Who the server becomes; `None` when it stays who it is. Makes the folders, and gives root's to that user.
pub fn choose(settings: &Settings) -> Result<Option<Owner>, Failure> {
    let first = *settings.sandbox_uids.0.start();
    if !rustix::process::geteuid().is_root() || !may_become_another() {
        return Ok(None);
    }
    if !is_mapped(first) {
        tracing::warn!(first, "user ids of sandbox.uids do not exist in this user namespace: the server keeps its own");
        return Ok(None);
    }
    make(&settings.data_dir).map_err(|e| failed("make the data folder", &settings.data_dir, &e))?;
    make(&settings.cache_dir).map_err(|e| failed("make the cache folder", &settings.cache_dir, &e))?;
    let facts =
        fs::metadata(&settings.data_dir).map_err(|e| failed("look at the data folder", &settings.data_dir, &e))?;
    let owner = match facts.uid() {
        0 => Owner { uid: first, gid: first },
        uid => Owner { uid, gid: facts.gid() },
    };
    give(&settings.data_dir, owner, OF_DATA, "data")?;
    give(&settings.cache_dir, owner, OF_CACHE, "cache")?;
    Ok(Some(owner))
}

/// Becomes that user, for good, without any privilege; and whoever it is, none can be gained any more.
pub fn become_it(owner: Option<Owner>, settings: &Settings) -> Result<(), Failure> {
    hearth_sandbox::privilege::become_unprivileged(owner)
        .map_err(|e| Failure::No(format!("cannot give up privileges: {e}")))?;
    let Some(owner) = owner else { return Ok(()) };
    reach(&settings.data_dir, owner, "data")?;
    reach(&settings.cache_dir, owner, "cache")?;
    // Where it was started may be closed to it.
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Where instances of this host, or of this user, meet: to share out user ids, and to know who lives. `owner` is whom the
/// server becomes, if it is another.
pub fn meeting_place(owner: Option<Owner>, isolation: Isolation) -> Result<PathBuf, Failure> {
    if owner.is_some() && isolation == Isolation::Process {
        return Ok(RUN.into());
    }
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let uid = owner.map_or(rustix::process::geteuid().as_raw(), |owner| owner.uid);
    let place = match given {
        Some(folder) if owner.is_none() => folder.join("hearth"),
        _ => std::env::temp_dir().join(format!("hearth-{uid}{}", namespace())),
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(|e| failed("make", &place, &e))?;
    let look = || fs::symlink_metadata(&place).map_err(|e| failed("look at", &place, &e));
    if let Some(owner) = owner.filter(|_| look().is_ok_and(|facts| facts.is_dir() && facts.uid() == 0)) {
        lchown(&place, Some(owner.uid), Some(owner.gid)).map_err(|e| failed("give away", &place, &e))?;
    }
    let facts = look()?;
    if !facts.is_dir() || facts.uid() != uid || facts.permissions().mode() & 0o022 != 0 {
        return Err(Failure::No(format!("{} is not a folder of user {uid} alone", place.display())));
    }
    Ok(place)
}

/// Users of two namespaces may have one number. Empty for the host's own.
fn namespace() -> String {
    const OF_HOST: u64 = 0xEFFF_FFFD;
    match fs::metadata("/proc/self/ns/user") {
        Ok(facts) if facts.ino() != OF_HOST => format!("-{}", facts.ino()),
        _ => String::new(),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::No(format!("cannot {what} {}: {error}", path.display()))
}

/// The folder for its owner alone; those above it open to all, as they lead to it.
fn make(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// What root made becomes the server's. A folder with anything in it that Hearth does not make is refused: it may be
/// one that was named by mistake.
fn give(folder: &Path, owner: Owner, known: &[&str], what: &str) -> Result<(), Failure> {
    let failed = |e: io::Error| failed(&format!("give the {what} folder to user {}:", owner.uid), folder, &e);
    let facts = fs::metadata(folder).map_err(failed)?;
    if facts.uid() == owner.uid {
        return Ok(());
    }
    if facts.uid() != 0 {
        return Err(Failure::No(format!(
            "the {what} folder {} belongs to user {}, and the server runs as user {}, whose data folder it has: use \
             another {what} folder",
            folder.display(),
            facts.uid(),
            owner.uid
        )));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if !known.iter().any(|known| *known == name || known.ends_with(".sqlite") && name.starts_with(known)) {
            return Err(Failure::No(format!(
                "the {what} folder {} holds {name}, which is not Hearth's: it is not given to user {}, as which the \
                 server runs",
                folder.display(),
                owner.uid
            )));
        }
    }
    let folder = folder.canonicalize().map_err(failed)?;
    give_all(&folder, owner).map_err(failed)
}

/// Bottom up: while it lasts, nobody else can change what is in a folder of root's.
fn give_all(path: &Path, owner: Owner) -> io::Result<()> {
    let facts = fs::symlink_metadata(path)?;
    if facts.is_dir() {
        for entry in fs::read_dir(path)? {
            give_all(&entry?.path(), owner)?;
        }
    }
    if facts.uid() == 0 { lchown(path, Some(owner.uid), Some(owner.gid)) } else { Ok(()) }
}

/// An error that names the folder that is in the way. For the user who this is now.
fn reach(folder: &Path, owner: Owner, what: &str) -> Result<(), Failure> {
    let absolute = std::path::absolute(folder)?;
    let mut above: Vec<&Path> = absolute.ancestors().collect();
    above.reverse();
    for place in above {
        if access(place, Access::EXEC_OK).is_err() {
            return Err(Failure::No(format!(
                "the {what} folder {} cannot be reached by user {}, as which the server runs: {} is closed to it. Use a \
                 {what} folder elsewhere, or give the data folder to a user who may pass",
                folder.display(),
                owner.uid,
                place.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_above_a_new_one_are_open_and_it_is_not() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        make(&folder).unwrap();
        make(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&base.path().join("a")) & 0o700), (0o700, 0o700));
    }
}
