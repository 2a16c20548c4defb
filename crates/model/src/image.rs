//! Container images as functions run them: pinned by digest when they are named, never by a tag.

use crate::{CodeHash, Secret};

/// An image whose name was resolved: everything that is needed to have it again. Immutable.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// As it was named: `registry.example.com/team/app:1`.
    pub uri: String,
    /// Of its manifest, for one platform.
    pub digest: CodeHash,
    /// The lowest first.
    pub layers: Vec<ImageLayer>,
    pub process: ImageProcess,
}

/// A layer as it is fetched.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageLayer {
    /// Of the packed bytes.
    pub digest: CodeHash,
    /// Packed bytes.
    pub size: u64,
    pub packing: Packing,
}

/// How the tar of a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// What is started of an image, as the image itself says.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageProcess {
    pub environment: Vec<(String, Secret)>,
    pub entry_point: Vec<String>,
    pub command: Vec<String>,
    /// Empty: `/`.
    pub working_directory: String,
}

/// What a function puts in place of what its image says (`ImageConfig`).
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageOverrides {
    pub entry_point: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub working_directory: Option<String>,
}

impl Image {
    /// The repository with the digest: `registry.example.com/team/app@sha256:…`.
    pub fn resolved_uri(&self) -> String {
        let name = self.uri.split_once('@').map_or(self.uri.as_str(), |(name, _)| name);
        // A tag follows the last colon, unless that is the port of the host.
        let repository = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => name,
        };
        format!("{repository}@sha256:{}", self.digest.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolved_name_has_the_digest_in_place_of_the_tag() {
        let resolved = |uri: &str| {
            let (uri, digest) = (uri.to_owned(), CodeHash([0; 32]));
            let image = Image { uri, digest, layers: Vec::new(), process: ImageProcess::default() };
            image.resolved_uri().split_once("@sha256:").unwrap().0.to_owned()
        };
        assert_eq!(resolved("host:5000/team/app:1"), "host:5000/team/app");
        assert_eq!(resolved("host:5000/team/app"), "host:5000/team/app");
        assert_eq!(resolved("host/app:1@sha256:00"), "host/app");
        assert_eq!(resolved("oci:/srv/images:1"), "oci:/srv/images");
    }
}
