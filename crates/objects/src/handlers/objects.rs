//! Objects: put, read, deleted.

use std::collections::BTreeMap;
use std::ops::Range as Bytes;

use hearth_store::{BlobId, Expect, Key};
use hearth_wire::hex;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::creating::{headers_given, refuse_creating};
use super::sums::{Sums, given_checksums, with_checksum};
use super::{Handlers, asked, owner, signed, tags, time};
use crate::conditions::{self, Reading, strong};
use crate::content;
use crate::door::Asked;
use crate::error;
use crate::intake::{self, Said, Taken};
use crate::record::{self, Body, Content, Headers, ObjectRecord, Versioning};
use crate::refuse;
use crate::state::State;

/// What an object is when nobody said.
const CONTENT_TYPE: &str = "binary/octet-stream";
/// How often an object may be replaced between finding and opening it before a reader gives up.
const REPLACED_MAX: usize = 20;
/// Names and values of metadata together, bytes.
const METADATA_MAX: usize = 2048;

/// One version, as it was found.
pub struct Located {
    pub place: Key,
    pub expect: Expect,
    /// Without its content.
    pub record: ObjectRecord,
    pub content: Box<Content>,
    versioning: Versioning,
}

impl Located {
    pub fn version_id(&self) -> Option<String> {
        (self.versioning != Versioning::Never).then(|| self.record.version().to_owned())
    }
}

/// The current version of a key, or the one that is asked for. A delete marker is an error that says so.
pub async fn find(
    state: &State,
    owner: &record::Owner,
    bucket: &str,
    key: &str,
    version: Option<&str>,
) -> S3Result<Located> {
    let versioning = state.bucket(owner, bucket).await?.value.versioning;
    let (place, found) = match version {
        Some(version) => state.version(owner, bucket, key, version).await?.ok_or_else(error::no_version)?,
        None => {
            let current = state.current(owner, bucket, key).await?.ok_or_else(error::no_key)?;
            (owner.key(record::OBJECT, record::object_id(bucket, key)), current)
        }
    };
    let expect = found.expect();
    let mut record = found.value;
    match record.content.take() {
        Some(content) => Ok(Located { place, expect, record, content, versioning }),
        None if version.is_some() => Err(error::deleted(error::no_method(), record.version())),
        None => Err(error::deleted(error::no_key(), record.version())),
    }
}

/// What was asked for of a content, and the number of parts where a part was.
struct Span {
    bytes: Bytes<u64>,
    partial: bool,
    parts: Option<i32>,
}

impl Span {
    fn content_range(&self, size: u64) -> Option<String> {
        self.partial.then(|| format!("bytes {}-{}/{size}", self.bytes.start, self.bytes.end.saturating_sub(1)))
    }

    fn length(&self) -> i64 {
        signed(self.bytes.end - self.bytes.start)
    }
}

impl Handlers {
    pub async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (asked, input) = (asked(&request)?.clone(), request.input);
        let owner = &asked.owner;
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse_creating!("PutObject", &input);
        let mut content_of = Describing {
            headers: headers_given!(input),
            tags: tags::of_header(input.tagging.as_deref())?,
            storage_class: refuse::class("PutObject", input.storage_class.as_ref())?,
        };
        self.state.bucket(owner, &input.bucket).await?;
        let sums = Sums::of(given_checksums!(input), input.checksum_algorithm.as_ref());
        let said = said(&asked, input.content_length, input.content_md5, sums)?;
        let taken = intake::take(&*self.state.blobs, input.body, said).await?;
        let etag = hex(&taken.md5);
        let answer = PutObjectOutput { e_tag: Some(strong(&etag)), ..PutObjectOutput::default() };
        let answer = with_checksum!(answer, &taken.checksum);
        let content = content_of.content(&taken, etag);
        let conditions = (input.if_match, input.if_none_match);
        let version_id = self.place(owner.clone(), input.bucket, input.key, content, conditions).await?;
        Ok(S3Response::new(PutObjectOutput { version_id, ..answer }))
    }

    /// Makes a new content the current version of a key. Answers the version's id where there are versions. Goes to its
    /// end also when the client goes away.
    pub(super) async fn place(
        &self,
        owner: record::Owner,
        bucket: String,
        key: String,
        content: Content,
        conditions: (Option<ETagCondition>, Option<ETagCondition>),
    ) -> S3Result<Option<String>> {
        let this = self.clone();
        whole(async move {
            let body = content.body.clone();
            let placed = this.place_now(&owner, (&bucket, &key), content, conditions).await;
            if let (Err(error), Body::Blob(blob)) = (&placed, body) {
                this.give_up(error, blob).await;
            }
            placed
        })
        .await
    }

    async fn place_now(
        &self,
        owner: &record::Owner,
        (bucket, key): (&str, &str),
        content: Content,
        (matches, none_match): (Option<ETagCondition>, Option<ETagCondition>),
    ) -> S3Result<Option<String>> {
        let _turn = self.state.turn(owner, bucket, key).await;
        let versioning = self.state.bucket(owner, bucket).await?.value.versioning;
        let current = self.state.current(owner, bucket, key).await?;
        let etag = current.as_ref().and_then(|current| Some(&*current.value.content.as_ref()?.etag));
        conditions::of_write(matches.as_ref(), none_match.as_ref(), etag)?;
        let new = self.version_of(current.as_ref().map(|current| &*current.value.order), Some(Box::new(content)));
        let (change, new) = self.state.replacing(owner, (bucket, key), versioning, current.as_ref(), new).await?;
        self.state.apply(owner, change).await?;
        Ok((versioning != Versioning::Never).then(|| new.version().to_owned()))
    }

    /// Deletes a content whose record was refused. When the store failed, nobody knows what became of the record: then the
    /// next start finds out.
    pub(super) async fn give_up(&self, error: &S3Error, blob: BlobId) {
        if *error.code() != S3ErrorCode::InternalError {
            self.state.discard(vec![blob]).await;
        }
    }

    /// A new version; `None` is a delete marker.
    pub(super) fn version_of(&self, newest: Option<&str>, content: Option<Box<Content>>) -> ObjectRecord {
        ObjectRecord { order: self.order(newest), null: true, modified_ms: self.now_ms(), content }
    }

    pub async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given("GetObject", &[(input.sse_customer_algorithm.is_some(), "SSECustomerAlgorithm")])?;
        let reading = Reading {
            matches: input.if_match,
            none_match: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        let mut attempts = 0..REPLACED_MAX;
        let (found, span, pieces) = loop {
            let found = find(&self.state, &owner, &input.bucket, &input.key, input.version_id.as_deref()).await?;
            reading.check(&found.content.etag, found.record.modified_ms)?;
            let span = self.span(&owner, &found.content, input.range, input.part_number).await?;
            match content::read(&self.state, &owner, &found.content, span.bytes.clone()).await? {
                Some(pieces) => break (found, span, pieces),
                // It was replaced since it was found.
                None => attempts.next().ok_or_else(error::conflict)?,
            };
        };
        let (version_id, Content { headers, size, etag, .. }) = (found.version_id(), &*found.content);
        let headers = headers.clone();
        let answer = GetObjectOutput {
            body: Some(StreamingBlob::wrap(pieces)),
            content_length: Some(span.length()),
            content_range: span.content_range(*size),
            parts_count: span.parts,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(strong(etag)),
            last_modified: Some(time(found.record.modified_ms)),
            version_id,
            content_type: Some(headers.content_type.unwrap_or_else(|| CONTENT_TYPE.to_owned())),
            cache_control: headers.cache_control,
            content_disposition: headers.content_disposition,
            content_encoding: headers.content_encoding,
            content_language: headers.content_language,
            expires: headers.expires_ms.map(time),
            metadata: Some(headers.metadata.into_iter().collect()),
            storage_class: found.content.storage_class.clone().map(StorageClass::from),
            tag_count: i32::try_from(found.content.tags.len()).ok().filter(|count| *count > 0),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::new(match shows_checksum(input.checksum_mode.as_ref(), &span) {
            true => with_checksum!(typed answer, &found.content.checksum),
            false => answer,
        }))
    }

    pub async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given("HeadObject", &[(input.sse_customer_algorithm.is_some(), "SSECustomerAlgorithm")])?;
        let found = find(&self.state, &owner, &input.bucket, &input.key, input.version_id.as_deref()).await?;
        let reading = Reading {
            matches: input.if_match,
            none_match: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        reading.check(&found.content.etag, found.record.modified_ms)?;
        let span = self.span(&owner, &found.content, input.range, input.part_number).await?;
        let (version_id, Content { headers, size, etag, .. }) = (found.version_id(), &*found.content);
        let headers = headers.clone();
        let answer = HeadObjectOutput {
            content_length: Some(span.length()),
            content_range: span.content_range(*size),
            parts_count: span.parts,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(strong(etag)),
            last_modified: Some(time(found.record.modified_ms)),
            version_id,
            content_type: Some(headers.content_type.unwrap_or_else(|| CONTENT_TYPE.to_owned())),
            cache_control: headers.cache_control,
            content_disposition: headers.content_disposition,
            content_encoding: headers.content_encoding,
            content_language: headers.content_language,
            expires: headers.expires_ms.map(time),
            metadata: Some(headers.metadata.into_iter().collect()),
            storage_class: found.content.storage_class.clone().map(StorageClass::from),
            ..HeadObjectOutput::default()
        };
        let mut response = S3Response::new(match shows_checksum(input.checksum_mode.as_ref(), &span) {
            true => with_checksum!(typed answer, &found.content.checksum),
            false => answer,
        });
        if span.partial {
            response.status = Some(http::StatusCode::PARTIAL_CONTENT);
        }
        Ok(response)
    }

    /// Which bytes a range or a part number means.
    async fn span(
        &self,
        owner: &record::Owner,
        content: &Content,
        range: Option<Range>,
        part: Option<i32>,
    ) -> S3Result<Span> {
        match (range, part) {
            (Some(_), Some(_)) => {
                Err(error::invalid_request("Cannot specify both Range header and partNumber query parameter"))
            }
            (None, None) => Ok(Span { bytes: 0..content.size, partial: false, parts: None }),
            (Some(range), None) => {
                let bytes = range.check(content.size).map_err(|_| error::range())?;
                Ok(Span { bytes, partial: true, parts: None })
            }
            (None, Some(number)) => {
                let missing = || {
                    let message = "The requested partnumber is not satisfiable";
                    let mut error = S3Error::with_message(S3ErrorCode::Custom("InvalidPartNumber".into()), message);
                    error.set_status_code(http::StatusCode::RANGE_NOT_SATISFIABLE);
                    error
                };
                let Body::Parts { count, .. } = &content.body else {
                    let whole = Span { bytes: 0..content.size, partial: content.size > 0, parts: None };
                    return if number == 1 { Ok(whole) } else { Err(missing()) };
                };
                let parts = self.state.parts(owner, &content.body).await?.parts;
                let mut begin = 0;
                for part in &parts {
                    let end = begin + part.size;
                    if i64::from(part.number) == i64::from(number) {
                        let parts = i32::try_from(*count).ok();
                        return Ok(Span { bytes: begin..end, partial: true, parts });
                    }
                    begin = end;
                }
                Err(missing())
            }
        }
    }

    pub async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given("GetObjectAttributes", &[(input.sse_customer_algorithm.is_some(), "SSECustomerAlgorithm")])?;
        let found = find(&self.state, &owner, &input.bucket, &input.key, input.version_id.as_deref()).await?;
        // Clients write all in one header.
        let asked = || input.object_attributes.iter().flat_map(|asked| asked.as_str().split(','));
        let wants = |name: &str| asked().any(|asked| asked.trim() == name);
        let content = &found.content;
        let object_parts = match wants(ObjectAttributes::OBJECT_PARTS) {
            true => self.attributes_of_parts(&owner, content, input.max_parts, input.part_number_marker).await?,
            false => None,
        };
        let checksum = with_checksum!(typed Checksum::default(), &content.checksum);
        let class = content.storage_class.clone().unwrap_or_else(|| StorageClass::STANDARD.to_owned());
        Ok(S3Response::new(GetObjectAttributesOutput {
            checksum: wants(ObjectAttributes::CHECKSUM).then_some(checksum),
            e_tag: wants(ObjectAttributes::ETAG).then(|| strong(&content.etag)),
            object_size: wants(ObjectAttributes::OBJECT_SIZE).then(|| signed(content.size)),
            storage_class: wants(ObjectAttributes::STORAGE_CLASS).then(|| StorageClass::from(class)),
            object_parts,
            last_modified: Some(time(found.record.modified_ms)),
            version_id: found.version_id(),
            ..GetObjectAttributesOutput::default()
        }))
    }

    async fn attributes_of_parts(
        &self,
        owner: &record::Owner,
        content: &Content,
        most: Option<i32>,
        after: Option<i32>,
    ) -> S3Result<Option<GetObjectAttributesParts>> {
        let Body::Parts { count, .. } = content.body else { return Ok(None) };
        let most = usize::try_from(most.unwrap_or(1000)).unwrap_or(0).min(1000);
        let after = u32::try_from(after.unwrap_or(0)).unwrap_or(0);
        let mut parts = self.state.parts(owner, &content.body).await?.parts;
        parts.retain(|part| part.number > after);
        let more = parts.len() > most;
        parts.truncate(most);
        let listed = parts.iter().map(|part| {
            let listed = ObjectPart {
                part_number: i32::try_from(part.number).ok(),
                size: Some(signed(part.size)),
                ..ObjectPart::default()
            };
            with_checksum!(listed, &part.checksum)
        });
        Ok(Some(GetObjectAttributesParts {
            parts: Some(listed.collect()),
            is_truncated: Some(more),
            max_parts: i32::try_from(most).ok(),
            next_part_number_marker: parts.last().and_then(|part| i32::try_from(part.number).ok()),
            part_number_marker: i32::try_from(after).ok(),
            total_parts_count: i32::try_from(count).ok(),
        }))
    }
}

/// Goes to its end also when whoever waits for it does not.
pub(super) async fn whole<T: Send + 'static>(work: impl Future<Output = S3Result<T>> + Send + 'static) -> S3Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(error::damaged(&error)))
}

/// What goes with a content.
pub(super) struct Describing {
    pub headers: Headers,
    pub tags: record::Tags,
    pub storage_class: Option<String>,
}

impl Describing {
    pub fn content(&mut self, taken: &Taken, etag: String) -> Content {
        Content {
            size: taken.size,
            etag,
            body: Body::Blob(taken.blob),
            headers: std::mem::take(&mut self.headers),
            tags: std::mem::take(&mut self.tags),
            checksum: taken.checksum.clone(),
            storage_class: self.storage_class.take(),
        }
    }
}

/// The encoding of the transfer is not one of the object.
pub(super) fn content_encoding(given: Option<&str>) -> Option<String> {
    let kept: Vec<&str> =
        given?.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "aws-chunked").collect();
    Some(kept.join(",")).filter(|kept| !kept.is_empty())
}

pub(super) fn metadata(given: Option<&Metadata>) -> S3Result<BTreeMap<String, String>> {
    let given: BTreeMap<String, String> =
        given.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    if given.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_MAX {
        let message = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(S3Error::with_message(S3ErrorCode::MetadataTooLarge, message));
    }
    Ok(given)
}

pub(super) fn said(asked: &Asked, length: Option<i64>, md5: Option<String>, Sums(given): Sums) -> S3Result<Said> {
    let length = length.map(|length| u64::try_from(length).map_err(|_| error::invalid("Invalid length")));
    let length = length.transpose()?.or(asked.decoded_length);
    if length.is_none() {
        return Err(error::no_length());
    }
    let trailing = asked.trailing.map(|algorithm| (algorithm, None));
    Ok(Said {
        length,
        md5,
        sha256: asked.sha256,
        checksum: given.filter(|(_, value)| value.is_some() || trailing.is_none()).or(trailing),
        trailers: asked.trailers.clone(),
    })
}

fn shows_checksum(mode: Option<&ChecksumMode>, span: &Span) -> bool {
    !span.partial && mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}
