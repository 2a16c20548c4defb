//! `/tmp` of a sandbox. Where images can be mounted: an ext4 image of its own in an unnamed sparse file, so that it is disk, has a size, and is gone
//! with the sandbox. Images of one size are copies of one template, whose few blocks of metadata are all that is copied.
//! Elsewhere: a folder, on disk but without a size of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hearth_model::Memory;
use rustix::fs::{Mode, OFlags, SeekFrom};

/// Room for metadata beside the promised size, MiB: 1 in 64 and 8. What is left of it nobody may use.
const fn image_mib(size: Memory) -> u64 {
    size.as_mib() as u64 + size.as_mib() as u64 / 64 + 8
}

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// What the names of templates begin and end with.
const TEMPLATE: (&str, &str) = ("exact-", ".ext4");

/// Names of folders that are `/tmp` of a sandbox begin so.
const FOLDER: &str = "folder-";

pub struct Scratch {
    folder: PathBuf,
}

/// Where what is written to `/tmp` goes.
pub enum Place {
    Image(OwnedFd),
    Folder(PathBuf, OwnedFd),
}

impl Place {
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Place::Image(descriptor) | Place::Folder(_, descriptor) => descriptor.as_fd(),
        }
    }

    /// What is to be removed once nobody uses it. An image is gone with the device that it lies in.
    pub fn into_folder(self) -> Option<PathBuf> {
        match self {
            Place::Image(_) => None,
            Place::Folder(path, _) => Some(path),
        }
    }
}

impl Scratch {
    /// Opens or makes the folder, and removes files that were left unfinished in it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_template = name.starts_with(TEMPLATE.0) && name.ends_with(TEMPLATE.1);
            if !is_template && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Scratch { folder: folder.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A folder for everybody, as `/tmp` is; empty.
    pub fn folder(&self, id: u64) -> io::Result<Place> {
        let path = self.folder.join(format!("{FOLDER}{id}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
        let descriptor = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Place::Folder(path, descriptor))
    }

    /// Folders that an ended server did not remove.
    pub fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(FOLDER)) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// An image whose file system has room for `size`, to the block. Blocking.
    pub fn image(&self, size: Memory) -> io::Result<OwnedFd> {
        let template = self.template(size)?;
        let image =
            rustix::fs::open(&self.folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        let length = template.metadata()?.len();
        rustix::fs::ftruncate(&image, length)?;
        let mut at = 0;
        while at < length {
            let from = match rustix::fs::seek(&template, SeekFrom::Data(at)) {
                Ok(from) => from,
                Err(rustix::io::Errno::NXIO) => break,
                Err(e) => return Err(e.into()),
            };
            at = rustix::fs::seek(&template, SeekFrom::Hole(from))?;
            copy(&template, &image, from, at)?;
        }
        Ok(image)
    }

    fn template(&self, size: Memory) -> io::Result<File> {
        let path = self.folder.join(format!("{}{}{}", TEMPLATE.0, size.as_mib(), TEMPLATE.1));
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let beside = tempfile::NamedTempFile::new_in(&self.folder)?;
        beside.as_file().set_len(image_mib(size) << 20)?;
        make_file_system(beside.path(), size)?;
        open_to_all(beside.path())?;
        keep_back(beside.path(), size)?;
        beside.persist(&path)?;
        File::open(&path)
    }
}

/// No journal: nothing of it outlives its sandbox. Nothing reserved for root, and an inode for each 32 KiB.
fn make_file_system(path: &Path, size: Memory) -> io::Result<()> {
    let inodes = (u64::from(size.as_mib()) * 32).to_string();
    let options =
        ["-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"];
    run("mkfs.ext4", options.iter().copied().chain(["-N", &inodes]), path)
}

/// The root of a new file system as `/tmp` has it: empty, for everybody. Done once here, it costs no sandbox anything.
fn open_to_all(path: &Path) -> io::Result<()> {
    run("debugfs", ["-w", "-R", "rmdir lost+found"].into_iter(), path)?;
    run("debugfs", ["-w", "-R", "set_inode_field / mode 041777"].into_iter(), path)
}

/// Keeps from users what the file system has room for beyond `size`.
fn keep_back(path: &Path, size: Memory) -> io::Result<()> {
    // In the superblock, 1024 bytes from the start: the number of blocks at 4, of free ones at 12.
    let superblock = |offset: u64| {
        let mut bytes = [0; 4];
        File::open(path)?.read_exact_at(&mut bytes, 1024 + offset)?;
        Ok::<u64, io::Error>(u32::from_le_bytes(bytes).into())
    };
    let (blocks, free) = (superblock(4)?, superblock(12)?);
    // The kernel keeps these for its own metadata (`ext4_set_resv_clusters`).
    let kernel = (blocks / 50).min(4096);
    let surplus = free.checked_sub(kernel + size.as_bytes() / BLOCK);
    let surplus = surplus.ok_or_else(|| io::Error::other("the image of /tmp has too little room for metadata"))?;
    run("tune2fs", ["-r", &surplus.to_string()].into_iter(), path)
}

/// A program of e2fsprogs on an image.
fn run<'a>(name: &str, arguments: impl Iterator<Item = &'a str>, image: &Path) -> io::Result<()> {
    let places = ["/sbin", "/usr/sbin"].map(|folder| Path::new(folder).join(name));
    let program = places.into_iter().find(|place| place.exists()).unwrap_or_else(|| name.into());
    let done = std::process::Command::new(program)
        .args(arguments)
        .arg(image)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| io::Error::new(e.kind(), format!("{name} (package e2fsprogs) cannot be run: {e}")))?;
    if done.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(&done.stderr).trim())))
    }
}

fn copy(from: &File, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        if rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
