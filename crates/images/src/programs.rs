//! `/usr/bin` of every root: copies of the few programs that AWS's base system has too, so that nothing else of the
//! host's programs is there. What the host lacks is missing.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hearth_model::CodeHash;
use sha2::{Digest, Sha256};

use crate::trees::{Tree, Trees};

/// Shell, core utilities, and what scripts rely on.
const PROGRAMS: &str = "bash arch awk b2sum base32 base64 basename basenc cat chgrp chmod chown cksum comm cp csplit curl \
    cut date dd df dir dircolors dirname du echo egrep env expand expr factor false fgrep find fmt fold getconf grep groups \
    gunzip gzip head hostid id install join ldconfig link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup \
    nproc numfmt od openssl paste pathchk pinky pr printenv printf ptx pwd readlink realpath rm rmdir sed seq sha1sum \
    sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail tar tee test \
    timeout touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami xargs yes";

/// Where the host keeps them.
const FOLDERS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Makes or finds the folder.
pub fn tree(trees: &Trees) -> io::Result<Tree> {
    let found: Vec<_> = PROGRAMS.split_whitespace().filter_map(|name| Some((name, program(name)?))).collect();
    trees.make(&name(&found), |folder| fill(folder, &found))
}

/// The program itself, behind links such as those of Debian's alternatives.
fn program(name: &str) -> Option<PathBuf> {
    let real = FOLDERS.iter().find_map(|folder| fs::canonicalize(Path::new(folder).join(name)).ok())?;
    fs::metadata(&real).is_ok_and(|metadata| metadata.is_file()).then_some(real)
}

/// Changes when the host upgrades one of them.
fn name(found: &[(&str, PathBuf)]) -> String {
    let mut hash = Sha256::new();
    for (name, program) in found {
        let (size, modified) = fs::metadata(program).map(|m| (m.len(), m.mtime())).unwrap_or_default();
        hash.update(format!("{name} {} {size} {modified}\n", program.display()));
    }
    format!("programs-{}", CodeHash(hash.finalize().into()).to_hex())
}

fn fill(folder: &Path, found: &[(&str, PathBuf)]) -> io::Result<()> {
    for (name, program) in found {
        let copy = folder.join(name);
        fs::copy(program, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    if folder.join("bash").exists() {
        symlink("bash", folder.join("sh"))?;
    } else if let Some(shell) = program("sh") {
        fs::copy(shell, folder.join("sh"))?;
    }
    if !folder.join("[").exists() && folder.join("test").exists() {
        fs::copy(folder.join("test"), folder.join("["))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_there_and_nothing_that_raises_privileges() {
        let cache = tempfile::tempdir().unwrap();
        let tree = tree(&Trees::open(cache.path(), u64::MAX).unwrap()).unwrap();
        assert!(tree.path.join("sh").exists() && tree.path.join("cat").exists());
        for entry in fs::read_dir(&tree.path).unwrap() {
            let mode = fs::metadata(entry.unwrap().path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o755);
        }
        assert!(!tree.path.join("su").exists() && !tree.path.join("mount").exists());
    }
}
