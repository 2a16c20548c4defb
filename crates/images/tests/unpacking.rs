//! Packages through the process of its own that reads them, as the server uses it.
//!
//! Not libtest: this binary is also that process.

use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hearth_images::{Closed, Config, DebianSettings, Images, Ports};
use hearth_model::{AdmitError, CodeTree, Materials, Packages};
use hearth_store::{Blobs, Files, MemoryRecords};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const OPTIONS: SimpleFileOptions = SimpleFileOptions::DEFAULT;

struct World {
    images: Images,
    blobs: Arc<dyn Blobs>,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

fn main() {
    hearth_images::main_if_asked();
    for (name, test) in [
        ("a_package_is_admitted_and_unpacked_with_its_modes", modes as fn(&World)),
        ("what_is_refused_leaves_nothing", what_is_refused_leaves_nothing),
        ("links_are_kept_as_written_and_never_followed", links_are_kept_as_written),
        ("the_limit_is_exact", the_limit_is_exact),
        ("a_package_that_was_changed_on_disk_is_refused_and_leaves_nothing", changed_on_disk),
    ] {
        test(&World::new());
        println!("test {name} ... ok");
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs: Arc<dyn Blobs> = Arc::new(Files::open(&folder.path().join("blobs")).unwrap());
        let config = Config {
            cache_dir: folder.path().join("cache"),
            substitute: false,
            fetch: false,
            closed: Closed::default(),
            registry_credentials: None,
            debian: DebianSettings::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let ports = Ports { blobs: blobs.clone(), records: Arc::new(MemoryRecords::default()) };
        let images = runtime.block_on(Images::open(config, ports)).unwrap();
        World { images, blobs, folder, runtime }
    }

    fn admit(&self, zip: Vec<u8>) -> Result<CodeTree, AdmitError> {
        self.runtime.block_on(async {
            let checked = self.images.check(Box::pin(Chunks(zip, 0))).await?;
            checked.keep.await?;
            Ok(self.images.code(checked.admitted.code).await.expect("what was admitted can be unpacked"))
        })
    }

    /// Whatever lies in the cache of code, and the blobs.
    fn left(&self) -> Vec<PathBuf> {
        let below = |name: &str| walk(&self.folder.path().join(name));
        let all = below("cache/code").into_iter().chain(below("cache/empty")).chain(below("blobs"));
        all.filter(|path| !path.ends_with("blobs/new")).collect()
    }
}

/// Bytes in small pieces, and where they go on.
struct Chunks(Vec<u8>, usize);

impl futures_core::Stream for Chunks {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let end = (self.1 + 1000).min(self.0.len());
        let piece = Bytes::copy_from_slice(&self.0[self.1..end]);
        self.1 = end;
        std::task::Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

fn zip(build: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn modes(world: &World) {
    let tree = world.admit(zip(|w| {
        for (name, mode) in [("a/b/bootstrap", 0o700), ("a/private", 0o600), ("setuid", 0o6755)] {
            w.start_file(name, OPTIONS.unix_permissions(mode)).unwrap();
            w.write_all(b"x").unwrap();
        }
    }));
    let tree = tree.unwrap();
    let mode = |name: &str| std::fs::metadata(tree.path.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(["a", "a/b/bootstrap", "a/private", "setuid"].map(mode), [0o755, 0o755, 0o644, 0o755]);
    let owner = std::fs::metadata(tree.path.join("setuid")).unwrap().uid();
    assert_eq!(owner, std::fs::metadata(world.folder.path()).unwrap().uid());
}

fn what_is_refused_leaves_nothing(world: &World) {
    let file = |name: &str| zip(|w| w.start_file(name, OPTIONS).unwrap());
    let device = {
        let mut zip = file("device");
        let header = zip.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
        zip[header + 38..header + 42].copy_from_slice(&(0o020_666_u32 << 16).to_le_bytes());
        zip
    };
    for package in [file("../x"), file("/etc/x"), file("a/../../x"), device, b"PK\x03\x04 and nothing".to_vec()] {
        assert!(matches!(world.admit(package), Err(AdmitError::NotAZip(_))));
    }
    assert_eq!(world.left(), [] as [PathBuf; 0]);
}

fn links_are_kept_as_written(world: &World) {
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let targets = ["/opt/lib/x.so", "../../../../../../etc/passwd", secret.to_str().unwrap(), "/proc/self/fd/3"];
    let tree = world.admit(zip(|w| {
        for (n, target) in targets.iter().enumerate() {
            w.add_symlink(format!("link{n}"), *target, OPTIONS).unwrap();
        }
        w.start_file("last", OPTIONS).unwrap();
    }));
    let tree = tree.unwrap();
    for (n, target) in targets.iter().enumerate() {
        assert_eq!(std::fs::read_link(tree.path.join(format!("link{n}"))).unwrap(), Path::new(target));
    }
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    let through = zip(|w| {
        w.add_symlink("out", world.folder.path().to_str().unwrap(), OPTIONS).unwrap();
        w.start_file("out/secret", OPTIONS).unwrap();
    });
    assert!(matches!(world.admit(through), Err(AdmitError::NotAZip(_))));
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
}

fn the_limit_is_exact(world: &World) {
    const LIMIT: usize = 262_144_000;
    let of = |sizes: &[usize]| {
        zip(|w| {
            let piece = vec![0; 1 << 20];
            for (n, size) in sizes.iter().enumerate() {
                w.start_file(n.to_string(), OPTIONS.compression_level(Some(1))).unwrap();
                for at in (0..*size).step_by(piece.len()) {
                    w.write_all(&piece[..piece.len().min(size - at)]).unwrap();
                }
            }
        })
    };
    let check = |zip: Vec<u8>| {
        let checked = world.runtime.block_on(world.images.check(Box::pin(Chunks(zip, 0))));
        checked.map(|checked| checked.admitted)
    };
    assert_eq!(check(of(&[LIMIT - 5, 5])).unwrap().unzipped, LIMIT as u64);
    assert!(matches!(check(of(&[LIMIT - 5, 6])), Err(AdmitError::TooLarge { limit: 262_144_000 })));
    assert_eq!(world.left(), [] as [PathBuf; 0]);
}

fn changed_on_disk(world: &World) {
    let hash = world.runtime.block_on(world.blobs.put(Bytes::from_static(b"not a package"))).unwrap();
    assert!(world.runtime.block_on(Materials::code(&world.images, hash)).is_err());
    let cache = world.folder.path().join("cache");
    // The lock of a tree that is not there goes at the next start.
    let mut left = world.left().into_iter().filter(|path| path.starts_with(&cache));
    assert!(left.all(|path| path.extension().is_some_and(|kind| kind == "lock")));
}
