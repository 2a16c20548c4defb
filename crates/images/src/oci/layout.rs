//! OCI layout folders: `index.json`, and blobs below `blobs/sha256` by their digest. What `skopeo copy … oci:FOLDER`,
//! `docker buildx build --output type=oci` (unpacked) and `crane pull --format=oci` write.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hearth_model::CodeHash;

use super::manifest::{self, DOCUMENT_MAX, Described, Document};
use super::source::digest_of;
use crate::fault::Fault;
use crate::intake::Intake;

/// What is read at once of a blob, bytes.
const PIECE: usize = 256 * 1024;

pub struct Layout {
    pub folder: PathBuf,
}

impl Layout {
    /// The entry of the folder's index with this tag; without a tag, all of it is meant.
    pub fn tagged(&self, tag: Option<&str>) -> Result<Described, Fault> {
        let path = self.folder.join("index.json");
        let bytes = read(&path, DOCUMENT_MAX)?;
        let Document::Index(manifests) = manifest::parse(&bytes).map_err(Fault::Damaged)? else {
            return Err(Fault::Damaged(format!("{} is no index", path.display())));
        };
        let of_tag = |described: &&Described| tag.is_none() || described.tag.as_deref() == tag;
        let mut found = manifests.iter().filter(of_tag);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(Fault::Missing),
            (Some(_), Some(_)) => {
                Err(Fault::Unsupported("its folder has several images: name one by its tag".to_owned()))
            }
        }
    }

    /// A document, whose digest is as it is named.
    pub fn document(&self, digest: CodeHash, size: u64) -> Result<Bytes, Fault> {
        let bytes = read(&self.blob(digest), size.min(DOCUMENT_MAX))?;
        if digest_of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(Fault::Damaged(format!("what came for sha256:{} is another", digest.to_hex())))
        }
    }

    pub fn copy(&self, digest: CodeHash, to: &mut Intake<'_>) -> Result<(), Fault> {
        let mut blob = open(&self.blob(digest))?;
        let mut buffer = vec![0; PIECE];
        loop {
            match blob.read(&mut buffer)? {
                0 => return Ok(()),
                read => to.take(&buffer[..read])?,
            }
        }
    }

    fn blob(&self, digest: CodeHash) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.to_hex())
    }
}

fn read(path: &Path, max: u64) -> Result<Bytes, Fault> {
    let mut bytes = Vec::new();
    open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(Fault::Damaged(format!("{} is longer than it should be", path.display())));
    }
    Ok(bytes.into())
}

/// A regular file: who opens a pipe may wait for ever.
fn open(path: &Path) -> Result<File, Fault> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
        io::ErrorKind::PermissionDenied => Fault::Denied(format!("{}: {error}", path.display())),
        _ => Fault::from(error),
    };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Fault::Damaged(format!("{} is no file", path.display())));
    }
    File::open(path).map_err(failed)
}
