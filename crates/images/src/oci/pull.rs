//! From a name to an image, and from an image to its tree.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_model::{Architecture, CodeHash, Image, ImageError, ImageLayer};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::layer::NOTES;
use super::manifest::{self, Document, Manifest, choose};
use super::name::Name;
use super::notes::Notes;
use super::registry::Registries;
use super::source::Source;
use super::stack::stack;
use crate::fault::Fault;
use crate::gather;
use crate::progress::Progress;
use crate::trees::{Tree, Trees};
use crate::unpacker::{self, What};

/// Largest image, bytes of its files (AWS's limit: 10 GB).
const IMAGE_MAX: u64 = 10 << 30;
/// Layers of one image that are fetched and unpacked at one time.
const AT_ONCE: usize = 3;
/// Counts up when the same layers become another tree.
const EDITION: &str = "1";
/// Nested indexes that are followed.
const INDEXES_MAX: usize = 2;

/// Finds out what a name means now, for an architecture.
pub async fn resolve(registries: &Registries, uri: &str, architecture: Architecture) -> Result<Image, ImageError> {
    let name = Name::parse(uri)?;
    let resolved = async {
        let source = Source::of(&name, registries);
        let (mut bytes, mut digest) = source.named(&name).await?;
        for _ in 0..=INDEXES_MAX {
            match manifest::parse(&bytes).map_err(Fault::Unsupported)? {
                Document::Index(manifests) => {
                    let chosen = choose(&manifests, architecture)
                        .ok_or_else(|| Fault::Unsupported(format!("it is not there for {}", architecture.as_str())))?;
                    digest = chosen.digest;
                    bytes = source.manifest(digest).await?;
                }
                Document::Manifest(manifest) => return image(uri, &source, digest, manifest).await,
            }
        }
        Err(Fault::Unsupported("its indexes lead to indexes".to_owned()))
    };
    resolved.await.map_err(|fault: Fault| fault.of(uri))
}

async fn image(uri: &str, source: &Source, digest: CodeHash, manifest: Manifest) -> Result<Image, Fault> {
    let (config, size) = manifest.config;
    let process = manifest::process(&source.config(config, size).await?).map_err(Fault::Unsupported)?;
    Ok(Image { uri: uri.to_owned(), digest, layers: manifest.layers, process })
}

/// The name of an image's tree in the cache.
pub fn tree_name(layers: &[ImageLayer]) -> String {
    let mut hash = Sha256::new();
    hash.update(EDITION);
    layers.iter().for_each(|layer| hash.update(layer.digest.0));
    format!("image-{}", CodeHash(hash.finalize().into()).to_hex())
}

/// Finds an image's tree, or makes it: its layers first, side by side. Blocking, in a thread of the async runtime.
pub fn pull(trees: &Trees, registries: &Registries, image: &Image, progress: &Progress) -> Result<Tree, ImageError> {
    let packed = image.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    progress.begin(image.layers.len() as u64, packed);
    if packed > IMAGE_MAX {
        return Err(ImageError::TooLarge { uri: image.uri.clone(), limit: IMAGE_MAX });
    }
    let made = trees.make(&tree_name(&image.layers), |root| {
        let layers = fetch(trees, registries, image, progress)?;
        Ok(stack(layers.iter().map(|layer| layer.path.as_path()), root)?)
    });
    made.map_err(|failure: Failure| failure.of(&image.uri))
}

/// Why there is no tree.
enum Failure {
    Fault(Fault),
    TooLarge,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let damaged = error.kind() == io::ErrorKind::InvalidData;
        Failure::Fault(if damaged { Fault::Damaged(error.to_string()) } else { error.into() })
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Fault(fault)
    }
}

impl Failure {
    fn of(self, uri: &str) -> ImageError {
        match self {
            Failure::Fault(fault) => fault.of(uri),
            Failure::TooLarge => ImageError::TooLarge { uri: uri.to_owned(), limit: IMAGE_MAX },
        }
    }
}

/// Every layer's own tree, in order.
fn fetch(trees: &Trees, registries: &Registries, image: &Image, progress: &Progress) -> Result<Vec<Tree>, Failure> {
    let name = Name::parse(&image.uri).map_err(|e| Fault::Unsupported(e.to_string()))?;
    let source = Source::of(&name, registries);
    let (handle, total) = (Handle::current(), AtomicU64::new(0));
    gather::each(&image.layers, AT_ONCE, |layer| {
        one(trees, &source, layer, progress, &handle).and_then(|tree| within(tree, &total))
    })
}

/// Counts a layer's files: no further ones are fetched for an image that is too large already.
fn within(tree: Tree, total: &AtomicU64) -> Result<Tree, Failure> {
    let (_, size) = Notes::read(&tree.path.join(NOTES))?;
    let before = total.fetch_add(size, Ordering::Relaxed);
    if before.saturating_add(size) > IMAGE_MAX { Err(Failure::TooLarge) } else { Ok(tree) }
}

/// One layer's tree: found, or fetched, proven and unpacked.
fn one(
    trees: &Trees,
    source: &Source,
    layer: &ImageLayer,
    progress: &Progress,
    handle: &Handle,
) -> Result<Tree, Failure> {
    let (mut is_new, name) = (false, format!("layer-{}", layer.digest.to_hex()));
    let tree = trees.make(&name, |folder| {
        is_new = true;
        let blob = folder.join("blob");
        let file = File::options().read(true).write(true).create_new(true).open(&blob)?;
        let came = |bytes| progress.came(bytes);
        handle.block_on(source.layer(layer, &file, &came))?;
        // Who unpacks sees the folder alone, and its input as a descriptor.
        fs::remove_file(&blob)?;
        unpack(layer, &file, folder)
    })?;
    if !is_new {
        progress.came(layer.size);
    }
    progress.part_is_there();
    Ok(tree)
}

fn unpack(layer: &ImageLayer, packed: &File, folder: &Path) -> Result<(), Failure> {
    let unpacked = unpacker::read(What::Layer(layer.packing), packed, &File::open(folder)?, IMAGE_MAX);
    unpacked.map(drop).map_err(|error| match error {
        unpacker::Error::TooLarge { .. } => Failure::TooLarge,
        unpacker::Error::Refused(reason) => Fault::Unsupported(format!("a layer of it: {reason}")).into(),
        unpacker::Error::Io(reason) => Fault::Unavailable(reason).into(),
    })
}
