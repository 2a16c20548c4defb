//! What is stored: JSON documents, in the partition of their account and region.
//!
//! | kind | id |
//! |---|---|
//! | `s3-bucket-name` | `BUCKET`, in its account's partition: the region that it is in |
//! | `s3-bucket` | `BUCKET` |
//! | `s3-object` | `BUCKET/KEY`: the current version, also when it is a delete marker |
//! | `s3-version` | `BUCKET/KEY` 0x01 `ORDER`: earlier versions, the newest first |
//! | `s3-upload` | `BUCKET/KEY` 0x01 `UPLOAD`: a multipart upload under way |
//! | `s3-part` | `UPLOAD/NUMBER`, five digits: its parts |
//! | `s3-parts` | `UPLOAD`: the parts of an object that came in parts |
//!
//! Keys sort as their bytes, and a key before what lies below it: characters below 0x03 are spelled by two, so that
//! 0x01 is free.

use std::collections::BTreeMap;

use hearth_model::{AccountId, Region};
use hearth_store::{BlobId, Key};
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;

pub const BUCKET_NAME: &str = "s3-bucket-name";
pub const BUCKET: &str = "s3-bucket";
pub const OBJECT: &str = "s3-object";
pub const VERSION: &str = "s3-version";
pub const UPLOAD: &str = "s3-upload";
pub const PART: &str = "s3-part";
pub const PARTS: &str = "s3-parts";

/// Id of the one version that a key has without versioning.
pub const NULL: &str = "null";

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub account: AccountId,
    pub region: Region,
}

impl Owner {
    pub fn partition(&self) -> String {
        format!("{}/{}", self.account, self.region)
    }

    pub fn key(&self, kind: &'static str, id: String) -> Key {
        Key { partition: self.partition(), kind, id }
    }

    /// Where an account's bucket says in which region it is.
    pub fn name_key(&self, bucket: &str) -> Key {
        Key { partition: self.account.to_string(), kind: BUCKET_NAME, id: bucket.to_owned() }
    }

    /// The same account in another region.
    pub fn within(&self, region: &Region) -> Self {
        Owner { account: self.account.clone(), region: region.clone() }
    }
}

/// `BUCKET/KEY`, as it sorts.
pub fn object_id(bucket: &str, key: &str) -> String {
    let mut id = String::with_capacity(bucket.len() + key.len() + 1);
    id.push_str(bucket);
    id.push('/');
    for character in key.chars() {
        match character {
            '\0' => id.push_str("\u{2}\u{3}"),
            '\u{1}' => id.push_str("\u{2}\u{4}"),
            '\u{2}' => id.push_str("\u{2}\u{5}"),
            other => id.push(other),
        }
    }
    id
}

/// Bucket and key, back from [`object_id`].
pub fn key_of(id: &str) -> Option<String> {
    let (_, spelled) = id.split_once('/')?;
    let mut key = String::with_capacity(spelled.len());
    let mut characters = spelled.chars();
    while let Some(character) = characters.next() {
        key.push(match character {
            '\u{2}' => match characters.next()? {
                '\u{3}' => '\0',
                '\u{4}' => '\u{1}',
                '\u{5}' => '\u{2}',
                _ => return None,
            },
            other => other,
        });
    }
    Some(key)
}

/// What belongs to a key: a version, an upload.
pub fn below(object_id: &str, what: &str) -> String {
    format!("{object_id}\u{1}{what}")
}

/// The key's id and what is below it, back from [`below`].
pub fn split(id: &str) -> Option<(&str, &str)> {
    id.rsplit_once('\u{1}')
}

pub fn part_id(upload: &str, number: u32) -> String {
    format!("{upload}/{number:05}")
}

/// A name is one bucket of its account, whatever the region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BucketName {
    pub region: String,
    pub created_ms: u64,
}

impl BucketName {
    pub fn region(&self) -> Option<Region> {
        Region::parse(&self.region)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BucketRecord {
    pub created_ms: u64,
    pub versioning: Versioning,
    pub tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    Never,
    Enabled,
    Suspended,
}

/// In the order in which they were given.
pub type Tags = Vec<(String, String)>;

/// One version of a key.
#[derive(Clone, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Sorts the versions of a key, the newest first; unique.
    pub order: String,
    /// Whether its id is [`NULL`] and not its order.
    pub null: bool,
    pub modified_ms: u64,
    /// `None` is a delete marker.
    pub content: Option<Box<Content>>,
}

impl ObjectRecord {
    pub fn version(&self) -> &str {
        if self.null { NULL } else { &self.order }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Content {
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    pub body: Body,
    pub headers: Headers,
    pub tags: Tags,
    pub checksum: Checksum,
    /// When another than `STANDARD`.
    pub storage_class: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    Blob(BlobId),
    /// The upload that it came by, under which its parts are listed, and how many there are.
    Parts {
        upload: String,
        count: u32,
    },
}

/// What comes back with an object as it was given.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Headers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct UploadRecord {
    pub started_ms: u64,
    pub headers: Headers,
    pub tags: Tags,
    pub storage_class: Option<String>,
    /// As it was asked for; else whatever the parts come with.
    pub algorithm: Option<crate::checksum::Algorithm>,
    pub whole: bool,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct PartRecord {
    pub number: u32,
    pub size: u64,
    pub etag: String,
    pub blob: BlobId,
    pub checksum: Checksum,
    pub modified_ms: u64,
}

/// The parts of an object, in order.
#[derive(Clone, Serialize, Deserialize)]
pub struct PartsRecord {
    pub parts: Vec<PartRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_sort_as_keys_do_and_read_back(mut keys in prop::collection::vec("[\0-\u{5}a/\u{e9}\u{10ffff}]{0,6}", 2..20)) {
            let mut ids: Vec<String> = keys.iter().map(|key| object_id("b", key)).collect();
            keys.sort();
            ids.sort();
            let back: Option<Vec<String>> = ids.iter().map(|id| key_of(id)).collect();
            prop_assert_eq!(back, Some(keys));
        }

        #[test]
        fn versions_of_a_key_come_before_longer_keys(key in "[\0-\u{5}ab]{0,5}", more in "[\0-\u{5}ab]{1,3}") {
            let (short, long) = (object_id("b", &key), object_id("b", &format!("{key}{more}")));
            let version = below(&short, "ffff");
            prop_assert!(short < version && version < long);
            prop_assert_eq!(split(&version), Some((short.as_str(), "ffff")));
        }
    }
}
