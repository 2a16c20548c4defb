//! Objects that come in parts. Each part is a blob; the object is the list of them.

use std::collections::BTreeMap;

use hearth_store::{BlobId, Expect, Write};
use hearth_wire::hex;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::buckets::who;
use super::creating::{headers_given, refuse_creating};
use super::objects::{said, whole};
use super::sums::{Sums, given_checksums, with_checksum};
use super::{Handlers, asked, owner, signed, tags, time};
use crate::checksum::{self, Algorithm, Checksum};
use crate::conditions::{self, strong};
use crate::error;
use crate::intake::{self, Taken};
use crate::record::{
    self, Body, Content, PART, PARTS, PartRecord, PartsRecord, UPLOAD, UploadRecord, Versioning, below, object_id,
    part_id, split,
};
use crate::refuse;
use crate::state::{Found, delete, parse, put};

const PARTS_MAX: u32 = 10_000;
/// Smallest part but the last, bytes.
const PART_MIN: u64 = 5 << 20;
/// Largest object, bytes.
const OBJECT_MAX: u64 = 5 << 40;
const LIST_MAX: i32 = 1000;

/// Which part of which upload.
pub(super) struct Part {
    pub bucket: String,
    pub key: String,
    pub upload: String,
    pub number: u32,
}

pub(super) fn part_number(number: i32) -> S3Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|number| (1..=PARTS_MAX).contains(number))
        .ok_or_else(|| error::invalid("Part number must be an integer between 1 and 10000, inclusive"))
}

impl Handlers {
    pub async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse_creating!("CreateMultipartUpload", &input);
        let algorithm = match &input.checksum_algorithm {
            None => None,
            Some(name) => Some(Algorithm::parse(name.as_str()).ok_or_else(|| {
                error::invalid_request("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
            })?),
        };
        let whole = match (algorithm, input.checksum_type.as_ref().map(ChecksumType::as_str)) {
            (Some(algorithm), Some(ChecksumType::FULL_OBJECT)) if !algorithm.combines() => {
                let name = algorithm.name().to_ascii_lowercase();
                return Err(error::invalid_request(format!(
                    "The FULL_OBJECT checksum type cannot be used with the {name} checksum algorithm."
                )));
            }
            (_, Some(kind)) => kind == ChecksumType::FULL_OBJECT,
            (algorithm, None) => matches!(algorithm, None | Some(Algorithm::Crc64Nvme)),
        };
        let record = UploadRecord {
            started_ms: self.now_ms(),
            headers: headers_given!(input),
            tags: tags::of_header(input.tagging.as_deref())?,
            storage_class: refuse::class("CreateMultipartUpload", input.storage_class.as_ref())?,
            algorithm,
            whole,
        };
        let upload = self.upload_id();
        let _turn = self.state.turn(&owner, &input.bucket, &input.key).await;
        self.state.bucket(&owner, &input.bucket).await?;
        let place = owner.key(UPLOAD, below(&object_id(&input.bucket, &input.key), &upload));
        self.state.commit(vec![put(place, Expect::Absent, &record)?]).await?;
        let kind = if whole { ChecksumType::FULL_OBJECT } else { ChecksumType::COMPOSITE };
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload),
            checksum_type: algorithm.map(|_| ChecksumType::from_static(kind)),
            checksum_algorithm: input.checksum_algorithm,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn uploading(
        &self,
        owner: &record::Owner,
        bucket: &str,
        key: &str,
        upload: &str,
    ) -> S3Result<Found<UploadRecord>> {
        self.state.bucket(owner, bucket).await?;
        self.state.upload(owner, bucket, key, upload).await?.ok_or_else(error::no_upload)
    }

    pub async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (asked, input) = (asked(&request)?.clone(), request.input);
        let owner = &asked.owner;
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given("UploadPart", &[(input.sse_customer_algorithm.is_some(), "SSECustomerAlgorithm")])?;
        let number = part_number(input.part_number)?;
        let upload = self.uploading(owner, &input.bucket, &input.key, &input.upload_id).await?.value;
        let sums = Sums::of(given_checksums!(input), input.checksum_algorithm.as_ref());
        let mut said = said(&asked, input.content_length, input.content_md5, sums)?;
        match (upload.algorithm, &said.checksum) {
            (Some(wanted), Some((given, _))) if wanted != *given => {
                let (wanted, given) = (wanted.name().to_ascii_lowercase(), given.name().to_ascii_lowercase());
                return Err(error::invalid_request(format!(
                    "Checksum Type mismatch occurred, expected checksum Type: {wanted}, actual checksum Type: {given}"
                )));
            }
            (Some(wanted), None) => said.checksum = Some((wanted, None)),
            _ => {}
        }
        let taken = intake::take(&*self.state.blobs, input.body, said).await?;
        let part = Part { bucket: input.bucket, key: input.key, upload: input.upload_id, number };
        let record = self.keep_part(owner.clone(), part, taken).await?;
        let answer = UploadPartOutput { e_tag: Some(strong(&record.etag)), ..UploadPartOutput::default() };
        Ok(S3Response::new(with_checksum!(answer, &record.checksum)))
    }

    /// Makes a blob a part, in place of an earlier one of its number. Goes to its end also when the client goes away.
    pub(super) async fn keep_part(&self, owner: record::Owner, part: Part, taken: Taken) -> S3Result<PartRecord> {
        let this = self.clone();
        whole(async move {
            let blob = taken.blob;
            let kept = this.keep_part_now(&owner, &part, taken).await;
            if let Err(error) = &kept {
                this.give_up(error, blob).await;
            }
            kept
        })
        .await
    }

    async fn keep_part_now(&self, owner: &record::Owner, part: &Part, taken: Taken) -> S3Result<PartRecord> {
        let _turn = self.state.turn(owner, &part.bucket, &part.key).await;
        self.uploading(owner, &part.bucket, &part.key, &part.upload).await?;
        let place = owner.key(PART, part_id(&part.upload, part.number));
        let former: Option<Found<PartRecord>> = self.state.get(place.clone()).await?;
        let record = PartRecord {
            number: part.number,
            size: taken.size,
            etag: hex(&taken.md5),
            blob: taken.blob,
            checksum: taken.checksum,
            modified_ms: self.now_ms(),
        };
        let expect = crate::state::expect_of(former.as_ref());
        self.state.commit(vec![put(place, expect, &record)?]).await?;
        self.state.discard(former.into_iter().map(|former| former.value.blob).collect()).await;
        Ok(record)
    }

    /// The parts of an upload, by number.
    async fn parts_of(&self, owner: &record::Owner, upload: &str) -> S3Result<BTreeMap<u32, PartRecord>> {
        let records = self.state.range(owner, PART, &format!("{upload}/")).await?;
        let parts =
            records.iter().map(|record| parse::<PartRecord>(record).map(|part| (part.value.number, part.value)));
        parts.collect()
    }

    pub async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (asked, input) = (asked(&request)?.clone(), request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &asked.owner.account)?;
        refuse::given("CompleteMultipartUpload", &[(input.sse_customer_algorithm.is_some(), "SSECustomerAlgorithm")])?;
        let location = format!("{}/{}/{}", asked.origin, input.bucket, input.key);
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let this = self.clone();
        let (content, version_id) = whole(async move { this.complete(&asked.owner, input).await }).await?;
        let answer = CompleteMultipartUploadOutput {
            bucket: Some(bucket),
            key: Some(key),
            location: Some(location),
            e_tag: Some(strong(&content.etag)),
            version_id,
            ..CompleteMultipartUploadOutput::default()
        };
        Ok(S3Response::new(with_checksum!(typed answer, &content.checksum)))
    }

    async fn complete(
        &self,
        owner: &record::Owner,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<(Content, Option<String>)> {
        let (bucket, key, id) = (&*input.bucket, &*input.key, &*input.upload_id);
        let _turn = self.state.turn(owner, bucket, key).await;
        let versioning = self.state.bucket(owner, bucket).await?.value.versioning;
        let current = self.state.current(owner, bucket, key).await?;
        let shown = |version: &str| (versioning != Versioning::Never).then(|| version.to_owned());
        let Some(upload) = self.state.upload(owner, bucket, key, id).await? else {
            // A client that did not hear the answer asks again.
            return match current.map(|current| current.value) {
                Some(done) if done.content.as_ref().is_some_and(|content| is_of(content, id)) => {
                    let version = shown(done.version());
                    done.content.map(|content| (*content, version)).ok_or_else(error::no_upload)
                }
                _ => Err(error::no_upload()),
            };
        };
        let mut uploaded = self.parts_of(owner, id).await?;
        let asked = input.multipart_upload.as_ref().and_then(|asked| asked.parts.as_ref());
        let parts = chosen(asked.ok_or_else(error::malformed)?, &mut uploaded)?;
        let content = joined(id, &parts, &upload.value, given_checksums!(input))?;
        if input.mpu_object_size.is_some_and(|size| size != signed(content.size)) {
            return Err(error::invalid_request(
                "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
            ));
        }
        let etag = current.as_ref().and_then(|current| Some(&*current.value.content.as_ref()?.etag));
        conditions::of_write(input.if_match.as_ref(), input.if_none_match.as_ref(), etag)?;
        let newest = current.as_ref().map(|current| &*current.value.order);
        let new = self.version_of(newest, Some(Box::new(content.clone())));
        let replacing = self.state.replacing(owner, (bucket, key), versioning, current.as_ref(), new);
        let (mut change, new) = replacing.await?;
        let numbers: Vec<u32> = parts.iter().map(|part| part.number).chain(uploaded.keys().copied()).collect();
        change.writes.push(put(owner.key(PARTS, id.to_owned()), Expect::Absent, &PartsRecord { parts })?);
        change.writes.extend(self.end_of(owner, (bucket, key, id), upload.expect(), &numbers));
        self.state.apply(owner, change).await?;
        self.state.discard(uploaded.into_values().map(|part| part.blob).collect()).await;
        Ok((content, shown(new.version())))
    }

    /// Forgets an upload and its parts.
    fn end_of(
        &self,
        owner: &record::Owner,
        (bucket, key, upload): (&str, &str, &str),
        expect: Expect,
        numbers: &[u32],
    ) -> Vec<Write> {
        let place = owner.key(UPLOAD, below(&object_id(bucket, key), upload));
        let parts = numbers.iter().map(|number| delete(owner.key(PART, part_id(upload, *number)), Expect::Anything));
        std::iter::once(delete(place, expect)).chain(parts).collect()
    }

    /// Forgets every upload of a bucket that is about to go: what to write, and the blobs to delete after that.
    pub(super) async fn end_of_all(&self, owner: &record::Owner, bucket: &str) -> S3Result<(Vec<Write>, Vec<BlobId>)> {
        let (mut writes, mut blobs) = (Vec::new(), Vec::new());
        for record in self.state.range(owner, UPLOAD, &format!("{bucket}/")).await? {
            let id = split(&record.id).map(|(_, id)| id.to_owned()).unwrap_or_default();
            for part in self.parts_of(owner, &id).await?.into_values() {
                writes.push(delete(owner.key(PART, part_id(&id, part.number)), Expect::Anything));
                blobs.push(part.blob);
            }
            writes.push(delete(owner.key(UPLOAD, record.id), Expect::Change(record.change)));
        }
        Ok((writes, blobs))
    }

    pub async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given("AbortMultipartUpload", &[(input.if_match_initiated_time.is_some(), "IfMatchInitiatedTime")])?;
        let this = self.clone();
        whole(async move {
            let (bucket, key, id) = (&*input.bucket, &*input.key, &*input.upload_id);
            let _turn = this.state.turn(&owner, bucket, key).await;
            let upload = this.uploading(&owner, bucket, key, id).await?;
            let parts = this.parts_of(&owner, id).await?;
            let numbers: Vec<u32> = parts.keys().copied().collect();
            this.state.commit(this.end_of(&owner, (bucket, key, id), upload.expect(), &numbers)).await?;
            let blobs: Vec<BlobId> = parts.into_values().map(|part| part.blob).collect();
            this.state.discard(blobs).await;
            Ok(S3Response::new(AbortMultipartUploadOutput::default()))
        })
        .await
    }

    pub async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let upload = self.uploading(&owner, &input.bucket, &input.key, &input.upload_id).await?.value;
        let most = input.max_parts.unwrap_or(LIST_MAX).clamp(0, LIST_MAX);
        let after = input.part_number_marker.unwrap_or(0);
        let mut parts = self.parts_of(&owner, &input.upload_id).await?;
        parts.retain(|number, _| i64::from(*number) > i64::from(after));
        let more = parts.len() > usize::try_from(most).unwrap_or(0);
        let listed = parts.values().take(usize::try_from(most).unwrap_or(0)).map(|part| {
            let listed = s3s::dto::Part {
                part_number: i32::try_from(part.number).ok(),
                size: Some(signed(part.size)),
                e_tag: Some(strong(&part.etag)),
                last_modified: Some(time(part.modified_ms)),
                ..s3s::dto::Part::default()
            };
            with_checksum!(listed, &part.checksum)
        });
        let listed: Vec<s3s::dto::Part> = listed.collect();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(more),
            max_parts: Some(most),
            part_number_marker: Some(after),
            next_part_number_marker: listed.last().and_then(|part| part.part_number),
            parts: Some(listed),
            owner: Some(who(&owner)),
            initiator: Some(Initiator { id: who(&owner).id, ..Initiator::default() }),
            storage_class: Some(StorageClass::from(
                upload.storage_class.unwrap_or_else(|| StorageClass::STANDARD.to_owned()),
            )),
            checksum_algorithm: upload.algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
            ..ListPartsOutput::default()
        }))
    }
}

fn is_of(content: &Content, id: &str) -> bool {
    matches!(&content.body, Body::Parts { upload, .. } if upload == id)
}

/// The parts that the client lists, taken out of those that came.
fn chosen(asked: &[CompletedPart], uploaded: &mut BTreeMap<u32, PartRecord>) -> S3Result<Vec<PartRecord>> {
    if asked.is_empty() {
        return Err(error::malformed());
    }
    let mut parts: Vec<PartRecord> = Vec::with_capacity(asked.len());
    for asked in asked {
        let number = asked.part_number.and_then(|number| u32::try_from(number).ok()).ok_or_else(error::part)?;
        if parts.last().is_some_and(|last| last.number >= number) {
            return Err(error::part_order());
        }
        let part = uploaded.remove(&number).ok_or_else(error::part)?;
        if asked.e_tag.as_ref().is_none_or(|etag| etag.value() != part.etag) {
            return Err(error::part());
        }
        let given = given_checksums!(asked).into_iter().find_map(|(algorithm, value)| Some((algorithm, value?)));
        if given.is_some_and(|(algorithm, value)| algorithm == part.checksum.algorithm && *value != part.checksum.value)
        {
            return Err(error::part());
        }
        parts.push(part);
    }
    let (_, others) = parts.split_last().ok_or_else(error::malformed)?;
    if others.iter().any(|part| part.size < PART_MIN) {
        return Err(error::too_small());
    }
    Ok(parts)
}

/// The object that the parts are together.
fn joined(
    id: &str,
    parts: &[PartRecord],
    upload: &UploadRecord,
    given: [(Algorithm, Option<&String>); 5],
) -> S3Result<Content> {
    let size = parts.iter().map(|part| part.size).sum::<u64>();
    if size > OBJECT_MAX {
        return Err(error::too_large());
    }
    let mut tags = Md5::new();
    for part in parts {
        for at in (0..part.etag.len()).step_by(2) {
            let byte = part.etag.get(at..at + 2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
            tags.update([byte.ok_or_else(|| error::damaged(&"the tag of a part"))?]);
        }
    }
    let etag = format!("{}-{}", hex(&tags.finalize()), parts.len());
    let checksum = checksum_of(parts, upload)?;
    if let Some((algorithm, value)) = given.into_iter().find_map(|(algorithm, value)| Some((algorithm, value?)))
        && algorithm == checksum.algorithm
        && *value != checksum.value
    {
        return Err(error::bad_checksum(algorithm.name()));
    }
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    Ok(Content {
        size,
        etag,
        body: Body::Parts { upload: id.to_owned(), count },
        headers: upload.headers.clone(),
        tags: upload.tags.clone(),
        checksum,
        storage_class: upload.storage_class.clone(),
    })
}

fn checksum_of(parts: &[PartRecord], upload: &UploadRecord) -> S3Result<Checksum> {
    let algorithm = upload.algorithm.or_else(|| Some(parts.first()?.checksum.algorithm));
    let algorithm = algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let sums = parts.iter().map(|part| (&part.checksum, part.size));
    checksum::of_parts(algorithm, upload.whole && algorithm.combines(), sums).ok_or_else(|| {
        error::invalid_request(
            "The upload was created without a checksum algorithm, and its parts have different ones.",
        )
    })
}
