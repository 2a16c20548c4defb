//! The documents of an image: indexes, manifests, configurations. Parsed from bytes whose digest is known, but which a
//! stranger wrote: everything in them may be missing or wrong.

use std::collections::BTreeMap;

use hearth_model::{Architecture, CodeHash, ImageLayer, ImageProcess, Packing, Secret};
use serde::Deserialize;

use super::name::digest;

/// Largest manifest, index or configuration, bytes (registries take no larger manifests).
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// Most layers of an image: what container engines can mount.
const LAYERS_MAX: usize = 127;

/// Kinds of documents that are asked for.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// What Docker calls the reference to a build's attestations, which are no images.
const REFERENCE: &str = "vnd.docker.reference.type";
/// Where a layout says the tag of a manifest.
const TAG: &str = "org.opencontainers.image.ref.name";

/// What the bytes of a manifest mean.
pub enum Document {
    /// One of several manifests is meant.
    Index(Vec<Described>),
    Manifest(Manifest),
}

pub struct Manifest {
    /// Digest and size.
    pub config: (CodeHash, u64),
    pub layers: Vec<ImageLayer>,
}

/// A manifest as an index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub digest: CodeHash,
    pub size: u64,
    /// System and architecture, where the index says them.
    platform: Option<(String, String)>,
    pub tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: String,
    config: Option<RawProcess>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProcess {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|e| format!("its manifest is no manifest: {e}"))?;
    if raw.schema_version != Some(2) {
        return Err("its manifest is not of version 2".to_owned());
    }
    if let Some(manifests) = raw.manifests {
        let is_image = |described: &RawDescriptor| !annotations(described).contains_key(REFERENCE);
        return manifests
            .iter()
            .filter(|each| is_image(each))
            .map(described)
            .collect::<Result<_, _>>()
            .map(Document::Index);
    }
    let (Some(config), Some(layers)) = (raw.config, raw.layers) else {
        return Err("its manifest has neither layers nor manifests".to_owned());
    };
    let is_config = matches!(
        config.media_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    );
    if !is_config {
        return Err(format!(
            "its configuration is of the kind {:?}, which is none of an image",
            shown(&config.media_type)
        ));
    }
    if layers.len() > LAYERS_MAX {
        return Err(format!("it has more than {LAYERS_MAX} layers"));
    }
    let config = (digest(&config.digest).ok_or("a digest of its manifest is not of SHA-256")?, config.size);
    Ok(Document::Manifest(Manifest { config, layers: layers.iter().map(layer).collect::<Result<_, _>>()? }))
}

fn annotations(descriptor: &RawDescriptor) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    descriptor.annotations.as_ref().unwrap_or(&NONE)
}

fn described(raw: &RawDescriptor) -> Result<Described, String> {
    Ok(Described {
        digest: digest(&raw.digest).ok_or("a digest of its index is not of SHA-256")?,
        size: raw.size,
        platform: raw.platform.as_ref().map(|platform| (platform.os.clone(), platform.architecture.clone())),
        tag: annotations(raw).get(TAG).cloned(),
    })
}

fn layer(raw: &RawDescriptor) -> Result<ImageLayer, String> {
    let packing = match raw.media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Packing::Plain,
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Packing::Gzip
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" => Packing::Zstd,
        other => return Err(format!("a layer is of the kind {:?}", shown(other))),
    };
    let digest = digest(&raw.digest).ok_or("a digest of its manifest is not of SHA-256")?;
    Ok(ImageLayer { digest, size: raw.size, packing })
}

/// A stranger's text, as errors show it.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The manifest of an index for Linux on an architecture. One that says no platform is meant when it is alone.
pub fn choose(manifests: &[Described], architecture: Architecture) -> Option<&Described> {
    let name = match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::Arm64 => "arm64",
    };
    let fits = |described: &&Described| {
        described.platform.as_ref().is_some_and(|(os, architecture)| os == "linux" && architecture == name)
    };
    manifests.iter().find(fits).or(match manifests {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    })
}

/// What an image's configuration says of its process.
pub fn process(bytes: &[u8]) -> Result<ImageProcess, String> {
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|e| format!("its configuration is none: {e}"))?;
    if !raw.os.is_empty() && raw.os != "linux" {
        return Err(format!("it is for {:?}, not for Linux", shown(&raw.os)));
    }
    let process = raw.config.unwrap_or_default();
    let variable = |text: String| {
        let (key, value) = text.split_once('=')?;
        let plain = !key.is_empty() && !text.contains('\0');
        plain.then(|| (key.to_owned(), Secret::new(value)))
    };
    let environment = process.env.unwrap_or_default().into_iter().filter_map(variable).collect();
    let (entry_point, command) = (process.entrypoint.unwrap_or_default(), process.cmd.unwrap_or_default());
    let working_directory = process.working_dir.unwrap_or_default();
    if entry_point.iter().chain(&command).chain([&working_directory]).any(|text| text.contains('\0')) {
        return Err("its configuration has a zero byte in a command".to_owned());
    }
    Ok(ImageProcess { environment, entry_point, command, working_directory })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hex(byte: u8) -> String {
        format!("sha256:{}", format!("{byte:02x}").repeat(32))
    }

    fn index(manifests: Value) -> Vec<Described> {
        match parse(json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes()) {
            Ok(Document::Index(manifests)) => manifests,
            _ => panic!("it is an index"),
        }
    }

    fn entry(byte: u8, platform: Value) -> Value {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": hex(byte), "size": 7, "platform": platform})
    }

    #[test]
    fn of_an_index_the_manifest_for_the_architecture_is_chosen() {
        let mut attestation = entry(9, json!({"os": "unknown", "architecture": "unknown"}));
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let all = index(json!([
            attestation,
            entry(1, json!({"os": "windows", "architecture": "amd64"})),
            entry(2, json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
            entry(3, json!({"os": "linux", "architecture": "amd64"})),
        ]));
        let chosen = |architecture| choose(&all, architecture).map(|described| described.digest.0[0]);
        assert_eq!((chosen(Architecture::X86_64), chosen(Architecture::Arm64)), (Some(3), Some(2)));
        assert_eq!(choose(&all[..2], Architecture::X86_64), None);
        let alone = index(json!([entry(4, Value::Null)]));
        assert_eq!(choose(&alone, Architecture::X86_64).unwrap().digest.0[0], 4);
    }

    #[test]
    fn a_manifest_is_of_an_image_or_refused() {
        let manifest = |config: &str, layers: Value| {
            let config = json!({"mediaType": config, "digest": hex(1), "size": 2});
            parse(json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string().as_bytes())
        };
        let layer = |kind: &str| json!({"mediaType": kind, "digest": hex(2), "size": 3});
        let oci = "application/vnd.oci.image.config.v1+json";
        let kinds = [
            ("application/vnd.oci.image.layer.v1.tar", Packing::Plain),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Packing::Gzip),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Packing::Zstd),
        ];
        let layers = kinds.map(|(kind, _)| layer(kind));
        let Ok(Document::Manifest(whole)) = manifest(oci, layers.to_vec().into()) else { panic!("it is a manifest") };
        let packings: Vec<Packing> = whole.layers.iter().map(|layer| layer.packing).collect();
        assert_eq!(packings, kinds.map(|(_, packing)| packing));
        let refused = |result: Result<Document, String>| result.err().unwrap();
        assert!(refused(manifest("application/vnd.cncf.helm.config.v1+json", json!([]))).contains("helm"));
        let foreign = layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        assert!(refused(manifest(oci, json!([foreign]))).contains("foreign"));
        assert!(refused(manifest(oci, vec![layer(kinds[0].0); 128].into())).contains("127"));
        assert!(refused(parse(b"{\"schemaVersion\": 1}")).contains("version 2"));
        assert!(refused(parse(b"<html>")).contains("no manifest"));
    }

    #[test]
    fn a_configuration_may_leave_everything_out() {
        assert!(process(b"{}").unwrap() == ImageProcess::default());
        assert!(process(br#"{"os": "linux", "config": {"Env": null, "Entrypoint": null, "Cmd": null}}"#).is_ok());
        assert!(process(br#"{"os": "windows"}"#).is_err());
        let whole =
            br#"{"config": {"Env": ["A=b=c", "broken"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w"}}"#;
        let whole = process(whole).unwrap();
        assert_eq!((whole.entry_point, whole.command), (vec!["/e".to_owned()], vec!["c".to_owned()]));
        assert_eq!(whole.working_directory, "/w");
        assert!(whole.environment == [("A".to_owned(), Secret::new("b=c"))]);
    }
}
