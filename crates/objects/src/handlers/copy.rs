//! Copies: of an object, and of a range of one into a part.

use hearth_store::BlobsError;
use hearth_wire::hex;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::creating::headers_given;
use super::multipart::{Part, part_number};
use super::objects::{Describing, Located, find};
use super::sums::with_checksum;
use super::{Handlers, asked, owner, tags, time};
use crate::checksum::Algorithm;
use crate::conditions::{Reading, strong};
use crate::content;
use crate::error;
use crate::intake::{self, PUT_MAX, Said, Taken};
use crate::record::{self, Body};
use crate::refuse;

/// What a copy is made of.
struct Source {
    bucket: String,
    key: String,
    version: Option<String>,
}

impl Handlers {
    pub async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::owner(input.expected_source_bucket_owner.as_deref(), &owner.account)?;
        refuse_copy(&input)?;
        let source = source("CopyObject", input.copy_source)?;
        self.state.bucket(&owner, &input.bucket).await?;
        let (from, found) = self.source(&owner, &source).await?;
        let reading = Reading {
            matches: input.copy_source_if_match,
            none_match: input.copy_source_if_none_match,
            modified_since: input.copy_source_if_modified_since,
            unmodified_since: input.copy_source_if_unmodified_since,
        };
        reading.check_source(&found.content.etag, found.record.modified_ms)?;
        if found.content.size > PUT_MAX {
            let message =
                "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120";
            return Err(error::invalid_request(message));
        }
        let replaces =
            input.metadata_directive.as_ref().is_some_and(|asked| asked.as_str() == MetadataDirective::REPLACE);
        let retags = input.tagging_directive.as_ref().is_some_and(|asked| asked.as_str() == TaggingDirective::REPLACE);
        let class = refuse::class("CopyObject", input.storage_class.as_ref())?;
        let to_itself = (&source.bucket, &source.key) == (&input.bucket, &input.key) && source.version.is_none();
        if to_itself && !replaces && class == found.content.storage_class && input.server_side_encryption.is_none() {
            return Err(error::invalid_request(
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
                 metadata, storage class, website redirect location or encryption attributes.",
            ));
        }
        let headers = match replaces {
            false => found.content.headers.clone(),
            true => headers_given!(input),
        };
        let tags = match retags {
            false => found.content.tags.clone(),
            true => tags::of_header(input.tagging.as_deref())?,
        };
        let algorithm = input.checksum_algorithm.as_ref().and_then(|asked| Algorithm::parse(asked.as_str()));
        let taken = self.copied(&from, &found, algorithm).await?;
        let etag = hex(&taken.md5);
        let content = Describing { headers, tags, storage_class: class }.content(&taken, etag.clone());
        let version_id = self.place(owner, input.bucket, input.key, content, (None, None)).await?;
        let result = CopyObjectResult {
            e_tag: Some(strong(&etag)),
            last_modified: Some(time(self.now_ms())),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(with_checksum!(typed result, &taken.checksum)),
            copy_source_version_id: found.version_id(),
            version_id,
            ..CopyObjectOutput::default()
        }))
    }

    /// What is to be copied, which may be in any region, and where that is.
    async fn source(&self, owner: &record::Owner, source: &Source) -> S3Result<(record::Owner, Located)> {
        let from = self.state.home(owner, &source.bucket).await?.unwrap_or_else(|| owner.clone());
        let found = find(&self.state, &from, &source.bucket, &source.key, source.version.as_deref()).await?;
        Ok((from, found))
    }

    /// The content as one blob: the bytes of an object that came whole are shared.
    async fn copied(&self, owner: &record::Owner, found: &Located, algorithm: Option<Algorithm>) -> S3Result<Taken> {
        let content = &found.content;
        let md5 = unhex(&content.etag);
        let same = algorithm.is_none_or(|algorithm| algorithm == content.checksum.algorithm);
        if let (Body::Blob(blob), Some(md5), true) = (&content.body, md5, same) {
            let blob = self.state.blobs.copy(*blob).await.map_err(|error| match error {
                // Deleted since it was found.
                BlobsError::Missing(_) => error::no_key(),
                error => error::of_blobs(error),
            })?;
            return Ok(Taken { blob, size: content.size, md5, checksum: content.checksum.clone() });
        }
        let algorithm = algorithm.unwrap_or(content.checksum.algorithm);
        self.read_over(owner, found, 0..content.size, algorithm).await
    }

    /// A range of a content as a blob of its own.
    async fn read_over(
        &self,
        owner: &record::Owner,
        found: &Located,
        range: std::ops::Range<u64>,
        algorithm: Algorithm,
    ) -> S3Result<Taken> {
        let length = Some(range.end - range.start);
        let pieces = content::read(&self.state, owner, &found.content, range).await?.ok_or_else(error::no_key)?;
        let said = Said { length, checksum: Some((algorithm, None)), ..Said::default() };
        intake::take(&*self.state.blobs, Some(pieces), said).await
    }

    pub async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let (asked, input) = (asked(&request)?.clone(), request.input);
        let owner = &asked.owner;
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::owner(input.expected_source_bucket_owner.as_deref(), &owner.account)?;
        let encrypted = input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some();
        refuse::given("UploadPartCopy", &[(encrypted, "SSECustomerAlgorithm")])?;
        let number = part_number(input.part_number)?;
        let upload = self.uploading(owner, &input.bucket, &input.key, &input.upload_id).await?;
        let source = source("UploadPartCopy", input.copy_source)?;
        let (from, found) = self.source(owner, &source).await?;
        let reading = Reading {
            matches: input.copy_source_if_match,
            none_match: input.copy_source_if_none_match,
            modified_since: input.copy_source_if_modified_since,
            unmodified_since: input.copy_source_if_unmodified_since,
        };
        reading.check_source(&found.content.etag, found.record.modified_ms)?;
        let range = copied_range(input.copy_source_range.as_deref(), found.content.size)?;
        if range.end - range.start > PUT_MAX {
            return Err(error::too_large());
        }
        let algorithm = upload.value.algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let taken = self.read_over(&from, &found, range, algorithm).await?;
        let part = Part { bucket: input.bucket, key: input.key, upload: input.upload_id, number };
        let record = self.keep_part(owner.clone(), part, taken).await?;
        let result = CopyPartResult {
            e_tag: Some(strong(&record.etag)),
            last_modified: Some(time(record.modified_ms)),
            ..CopyPartResult::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(with_checksum!(result, &record.checksum)),
            copy_source_version_id: found.version_id(),
            ..UploadPartCopyOutput::default()
        }))
    }
}

fn source(operation: &str, source: CopySource) -> S3Result<Source> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(error::not_supported(&format!("{operation} with an access point as CopySource")));
    };
    Ok(Source { bucket: bucket.into(), key: key.into(), version: version_id.map(String::from) })
}

/// `bytes=FIRST-LAST`, both within the source.
fn copied_range(text: Option<&str>, size: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(text) = text else { return Ok(0..size) };
    let ends = text.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    let Some((first, last)) = ends.filter(|(first, last)| first <= last) else {
        return Err(error::invalid(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based \
             offsets of the first and last bytes to copy",
        ));
    };
    if last >= size {
        return Err(error::invalid(format!("Range specified is not valid for source object of size: {size}")));
    }
    Ok(first..last + 1)
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let byte = |index: usize| u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..16).map(byte).collect();
    bytes.filter(|_| text.len() == 32)?.try_into().ok()
}

fn refuse_copy(input: &CopyObjectInput) -> S3Result<()> {
    let grants = input.grant_full_control.is_some()
        || input.grant_read.is_some()
        || input.grant_read_acp.is_some()
        || input.grant_write_acp.is_some();
    refuse::acl(input.acl.as_ref(), grants)?;
    refuse::encryption("CopyObject", input.server_side_encryption.as_ref())?;
    let encrypted = input.sse_customer_algorithm.is_some() || input.copy_source_sse_customer_algorithm.is_some();
    refuse::given(
        "CopyObject",
        &[
            (encrypted, "SSECustomerAlgorithm"),
            (input.ssekms_key_id.is_some(), "SSEKMSKeyId"),
            (input.object_lock_mode.is_some(), "ObjectLockMode"),
            (input.object_lock_legal_hold_status.is_some(), "ObjectLockLegalHoldStatus"),
            (input.object_lock_retain_until_date.is_some(), "ObjectLockRetainUntilDate"),
            (input.website_redirect_location.is_some(), "WebsiteRedirectLocation"),
        ],
    )
}
