//! Where the blobs of an image come from: a registry or a folder. Nothing that comes is believed before its digest is.

use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;
use hearth_model::{CodeHash, ImageLayer};
use sha2::{Digest, Sha256};

use super::layout::Layout;
use super::manifest::DOCUMENT_MAX;
use super::name::{Name, Which};
use super::registry::{Registries, Repository};
use crate::fault::Fault;
use crate::intake::Intake;

pub enum Source {
    Layout(Layout),
    Registry(Box<Repository>),
}

impl Source {
    pub fn of(name: &Name, registries: &Registries) -> Self {
        match name {
            Name::Layout { folder, .. } => Source::Layout(Layout { folder: PathBuf::from(folder) }),
            Name::Registry { host, repository, .. } => {
                Source::Registry(Box::new(registries.repository(host, repository)))
            }
        }
    }

    /// The manifest or index that a name means, and its digest.
    pub async fn named(&self, name: &Name) -> Result<(Bytes, CodeHash), Fault> {
        match (self, name) {
            (Source::Layout(layout), Name::Layout { tag, .. }) => {
                let described = layout.tagged(tag.as_deref())?;
                Ok((layout.document(described.digest, described.size)?, described.digest))
            }
            (Source::Registry(repository), Name::Registry { which: Which::Tag(tag), .. }) => {
                let bytes = repository.manifest(tag).await?;
                let digest = digest_of(&bytes);
                Ok((bytes, digest))
            }
            (_, Name::Registry { which: Which::Digest(digest), .. }) => Ok((self.manifest(*digest).await?, *digest)),
            _ => Err(Fault::Missing),
        }
    }

    pub async fn manifest(&self, digest: CodeHash) -> Result<Bytes, Fault> {
        let bytes = match self {
            Source::Layout(layout) => layout.document(digest, DOCUMENT_MAX)?,
            Source::Registry(repository) => repository.manifest(&format!("sha256:{}", digest.to_hex())).await?,
        };
        proven(bytes, digest)
    }

    pub async fn config(&self, digest: CodeHash, size: u64) -> Result<Bytes, Fault> {
        if size > DOCUMENT_MAX {
            return Err(Fault::Unsupported(format!("its configuration is larger than {DOCUMENT_MAX} bytes")));
        }
        let bytes = match self {
            Source::Layout(layout) => layout.document(digest, size)?,
            Source::Registry(repository) => repository.small(digest, size).await?,
        };
        proven(bytes, digest)
    }

    /// Writes a layer's packed bytes, and proves them. Blocks between the pieces that it writes.
    pub async fn layer(&self, layer: &ImageLayer, file: &File, came: &(dyn Fn(u64) + Sync)) -> Result<(), Fault> {
        let mut intake = Intake::new(file, layer.size, came);
        match self {
            Source::Layout(layout) => layout.copy(layer.digest, &mut intake)?,
            Source::Registry(repository) => repository.download(layer.digest, &mut intake).await?,
        }
        let found = intake.finish()?;
        if found == layer.digest {
            Ok(())
        } else {
            Err(Fault::Damaged(format!("what came for the layer sha256:{} is another", layer.digest.to_hex())))
        }
    }
}

pub fn digest_of(bytes: &[u8]) -> CodeHash {
    CodeHash(Sha256::digest(bytes).into())
}

fn proven(bytes: Bytes, digest: CodeHash) -> Result<Bytes, Fault> {
    if digest_of(&bytes) == digest {
        Ok(bytes)
    } else {
        Err(Fault::Damaged(format!("what came for sha256:{} is another", digest.to_hex())))
    }
}
