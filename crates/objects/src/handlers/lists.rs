//! Lists of keys, of versions and of uploads: by prefix, rolled up at a delimiter, page by page.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hearth_store::Record;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::buckets::who;
use super::{Handlers, owner, signed, time};
use crate::conditions::strong;
use crate::error;
use crate::record::{self, OBJECT, ObjectRecord, UPLOAD, UploadRecord, VERSION, below, key_of, object_id, split};
use crate::refuse;
use crate::state::{State, parse};

const LIST_MAX: i32 = 1000;
/// Records that are read at once.
const PAGE: usize = 1000;
/// What `encoding-type: url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');
/// Sorts behind whatever a key may go on with.
const BEHIND: char = '\u{10ffff}';

/// What is listed.
struct Wanted<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// Only what sorts behind this key, or common prefix.
    after: Option<&'a str>,
    /// Also what belongs to that key itself, as far as it sorts behind this.
    below: Option<&'a str>,
    most: usize,
}

enum Row<T> {
    One(String, T),
    Common(String),
}

struct Page<T> {
    rows: Vec<Row<T>>,
    truncated: bool,
}

impl<T> Page<T> {
    /// Where the next page goes on.
    fn next(&self) -> Option<&str> {
        let last = self.rows.last().filter(|_| self.truncated)?;
        Some(match last {
            Row::One(key, _) | Row::Common(key) => key,
        })
    }
}

/// Reads records of a kind in the order of their keys. `each` turns one into what is listed, or into nothing.
async fn walk<T>(
    state: &State,
    owner: &record::Owner,
    kind: &'static str,
    wanted: Wanted<'_>,
    mut each: impl FnMut(&Record) -> S3Result<Option<T>>,
) -> S3Result<Page<T>> {
    let within = object_id(wanted.bucket, wanted.prefix);
    let after = wanted.after.map(|key| match wanted.below {
        Some(what) => below(&object_id(wanted.bucket, key), what),
        // What belongs to a key comes right behind it.
        None => object_id(wanted.bucket, key) + "\u{1}\u{10ffff}",
    });
    let mut page = Page { rows: Vec::new(), truncated: false };
    if wanted.most == 0 {
        return Ok(page);
    }
    let mut position = match after.filter(|after| *after >= within) {
        Some(after) => after,
        None => {
            // The list begins behind a key; the prefix may be one.
            if let Some(found) = state.records.get(owner.key(kind, within.clone())).await.map_err(error::of_records)?
                && let Some(row) = row(&found, &wanted, &mut each)?
            {
                page.rows.push(row);
            }
            within.clone()
        }
    };
    loop {
        let records = state.list(owner, kind, Some(position), PAGE).await?;
        for record in records.iter().take_while(|record| record.id.starts_with(&within)) {
            let Some(row) = row(record, &wanted, &mut each)? else { continue };
            match (&row, page.rows.last()) {
                (Row::Common(common), Some(Row::Common(last))) if common == last => continue,
                (Row::Common(common), _) if wanted.after.is_some_and(|after| &**common <= after) => continue,
                _ => {}
            }
            if page.rows.len() == wanted.most {
                page.truncated = true;
                return Ok(page);
            }
            page.rows.push(row);
        }
        match records.last() {
            Some(last) if records.len() == PAGE && last.id.starts_with(&within) => {
                position = last.id.clone();
                let key = key_of(split(&last.id).map_or(&last.id, |(key, _)| key)).unwrap_or_default();
                if let Some(common) = common(&key, &wanted) {
                    // The rest of it needs not be read.
                    let end = object_id(wanted.bucket, &common) + &BEHIND.to_string();
                    position = position.max(end);
                }
            }
            _ => return Ok(page),
        }
    }
}

fn row<T>(
    record: &Record,
    wanted: &Wanted<'_>,
    each: &mut impl FnMut(&Record) -> S3Result<Option<T>>,
) -> S3Result<Option<Row<T>>> {
    let Some(listed) = each(record)? else { return Ok(None) };
    let id = split(&record.id).map_or(&*record.id, |(key, _)| key);
    let key = key_of(id).ok_or_else(|| error::damaged(&"the id of an object"))?;
    Ok(Some(match common(&key, wanted) {
        Some(common) => Row::Common(common),
        None => Row::One(key, listed),
    }))
}

/// What a key is rolled up to.
fn common(key: &str, wanted: &Wanted<'_>) -> Option<String> {
    let delimiter = wanted.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.get(wanted.prefix.len()..)?;
    let end = wanted.prefix.len() + rest.find(delimiter)? + delimiter.len();
    key.get(..end).map(str::to_owned)
}

fn most(asked: Option<i32>) -> S3Result<(i32, usize)> {
    let asked = asked.unwrap_or(LIST_MAX);
    let most = usize::try_from(asked.min(LIST_MAX));
    most.map(|most| (asked, most))
        .map_err(|_| error::invalid("Argument max-keys must be an integer between 0 and 2147483647"))
}

/// How names are written.
struct Spelling(bool);

impl Spelling {
    fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Spelling(false)),
            Some(EncodingType::URL) => Ok(Spelling(true)),
            Some(_) => Err(error::invalid("Invalid Encoding Method specified in Request")),
        }
    }

    fn spell(&self, text: &str) -> String {
        if self.0 { utf8_percent_encode(text, PLAIN).to_string() } else { text.to_owned() }
    }

    fn all(&self, texts: Option<String>) -> Option<String> {
        texts.map(|text| self.spell(&text))
    }
}

/// Both versions of the operation list these.
struct Listed {
    contents: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    next: Option<String>,
    truncated: bool,
}

impl Handlers {
    async fn objects(
        &self,
        owner: &record::Owner,
        wanted: Wanted<'_>,
        spelling: &Spelling,
        with_owner: bool,
    ) -> S3Result<Listed> {
        let page = walk(&self.state, owner, OBJECT, wanted, |record| {
            let found: ObjectRecord = parse(record)?.value;
            Ok(found.content.map(|content| (content, found.modified_ms)))
        });
        let page = page.await?;
        let (next, truncated) = (page.next().map(str::to_owned), page.truncated);
        let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
        for row in page.rows {
            match row {
                Row::Common(common) => prefixes.push(CommonPrefix { prefix: Some(spelling.spell(&common)) }),
                Row::One(key, (content, modified_ms)) => contents.push(Object {
                    key: Some(spelling.spell(&key)),
                    size: Some(signed(content.size)),
                    e_tag: Some(strong(&content.etag)),
                    last_modified: Some(time(modified_ms)),
                    storage_class: Some(ObjectStorageClass::from(
                        content.storage_class.unwrap_or_else(|| StorageClass::STANDARD.to_owned()),
                    )),
                    checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(content.checksum.algorithm.name())]),
                    checksum_type: Some(ChecksumType::from_static(match content.checksum.whole {
                        true => ChecksumType::FULL_OBJECT,
                        false => ChecksumType::COMPOSITE,
                    })),
                    owner: with_owner.then(|| who(owner)),
                    ..Object::default()
                }),
            }
        }
        Ok(Listed { contents, prefixes, next, truncated })
    }

    pub async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        self.state.bucket(&owner, &input.bucket).await?;
        let ((max_keys, most), spelling) = (most(input.max_keys)?, Spelling::of(input.encoding_type.as_ref())?);
        let wanted = Wanted {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: input.marker.as_deref().filter(|marker| !marker.is_empty()),
            below: None,
            most,
        };
        let listed = self.objects(&owner, wanted, &spelling, true).await?;
        let rolls_up = input.delimiter.is_some();
        Ok(S3Response::new(ListObjectsOutput {
            next_marker: listed.next.filter(|_| rolls_up).map(|next| spelling.spell(&next)),
            name: Some(input.bucket),
            prefix: Some(spelling.spell(&input.prefix.unwrap_or_default())),
            marker: Some(spelling.spell(&input.marker.unwrap_or_default())),
            delimiter: spelling.all(input.delimiter),
            max_keys: Some(max_keys),
            is_truncated: Some(listed.truncated),
            contents: Some(listed.contents),
            common_prefixes: Some(listed.prefixes),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        }))
    }

    pub async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        self.state.bucket(&owner, &input.bucket).await?;
        let ((max_keys, most), spelling) = (most(input.max_keys)?, Spelling::of(input.encoding_type.as_ref())?);
        let after = match &input.continuation_token {
            Some(token) => Some(position(token)?),
            None => input.start_after.clone().filter(|after| !after.is_empty()),
        };
        let wanted = Wanted {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: after.as_deref(),
            below: None,
            most,
        };
        let listed = self.objects(&owner, wanted, &spelling, input.fetch_owner == Some(true)).await?;
        let count = listed.contents.len() + listed.prefixes.len();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(spelling.spell(&input.prefix.unwrap_or_default())),
            delimiter: spelling.all(input.delimiter),
            start_after: spelling.all(input.start_after),
            continuation_token: input.continuation_token,
            next_continuation_token: listed.next.as_deref().map(token),
            max_keys: Some(max_keys),
            key_count: i32::try_from(count).ok(),
            is_truncated: Some(listed.truncated),
            contents: Some(listed.contents),
            common_prefixes: Some(listed.prefixes),
            encoding_type: input.encoding_type,
            ..ListObjectsV2Output::default()
        }))
    }

    pub async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        self.state.bucket(&owner, &input.bucket).await?;
        let ((max_keys, most), spelling) = (most(input.max_keys)?, Spelling::of(input.encoding_type.as_ref())?);
        let marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
        let within = input.version_id_marker.as_deref().filter(|marker| !marker.is_empty());
        if within.is_some() && marker.is_none() {
            return Err(error::invalid("A version-id marker cannot be specified without a key marker."));
        }
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let wanted = Wanted {
            bucket: &input.bucket,
            prefix,
            delimiter: input.delimiter.as_deref(),
            after: marker,
            below: None,
            most: most + 1,
        };
        let page = walk(&self.state, &owner, OBJECT, wanted, |record| Ok(Some(parse::<ObjectRecord>(record)?.value)));
        let mut rows: Vec<Row<(ObjectRecord, bool)>> = Vec::new();
        if let (Some(key), Some(version)) = (marker, within)
            && key.starts_with(prefix)
        {
            let all = self.versions_of(&owner, &input.bucket, key).await?;
            let seen = all.iter().position(|(found, _)| found.version() == version);
            rows.extend(all.into_iter().skip(seen.map_or(0, |seen| seen + 1)).map(|row| Row::One(key.to_owned(), row)));
        }
        for row in page.await?.rows {
            if rows.len() > most {
                break;
            }
            match row {
                Row::Common(common) => rows.push(Row::Common(common)),
                Row::One(key, current) => {
                    rows.push(Row::One(key.clone(), (current, true)));
                    for earlier in self.earlier_of(&owner, &input.bucket, &key).await? {
                        rows.push(Row::One(key.clone(), (earlier, false)));
                    }
                }
            }
        }
        let truncated = rows.len() > most;
        rows.truncate(most);
        let (next_key, next_version) = match rows.last().filter(|_| truncated) {
            Some(Row::One(key, (version, _))) => (Some(spelling.spell(key)), Some(version.version().to_owned())),
            Some(Row::Common(common)) => (Some(spelling.spell(common)), None),
            None => (None, None),
        };
        let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Common(common) => prefixes.push(CommonPrefix { prefix: Some(spelling.spell(&common)) }),
                Row::One(key, (version, is_latest)) => {
                    let (key, id) = (Some(spelling.spell(&key)), Some(version.version().to_owned()));
                    let modified = Some(time(version.modified_ms));
                    match version.content {
                        None => markers.push(DeleteMarkerEntry {
                            key,
                            version_id: id,
                            is_latest: Some(is_latest),
                            last_modified: modified,
                            owner: Some(who(&owner)),
                        }),
                        Some(content) => versions.push(ObjectVersion {
                            key,
                            version_id: id,
                            is_latest: Some(is_latest),
                            last_modified: modified,
                            size: Some(signed(content.size)),
                            e_tag: Some(strong(&content.etag)),
                            storage_class: Some(ObjectVersionStorageClass::from(
                                content.storage_class.unwrap_or_else(|| StorageClass::STANDARD.to_owned()),
                            )),
                            owner: Some(who(&owner)),
                            ..ObjectVersion::default()
                        }),
                    }
                }
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(spelling.spell(&input.prefix.unwrap_or_default())),
            delimiter: spelling.all(input.delimiter),
            key_marker: Some(spelling.spell(&input.key_marker.unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            next_key_marker: next_key,
            next_version_id_marker: next_version,
            max_keys: Some(max_keys),
            is_truncated: Some(truncated),
            versions: Some(versions),
            delete_markers: Some(markers),
            common_prefixes: Some(prefixes),
            encoding_type: input.encoding_type,
            ..ListObjectVersionsOutput::default()
        }))
    }

    /// Every version of a key, the current one first.
    async fn versions_of(&self, owner: &record::Owner, bucket: &str, key: &str) -> S3Result<Vec<(ObjectRecord, bool)>> {
        let current = self.state.current(owner, bucket, key).await?.map(|current| (current.value, true));
        let earlier = self.earlier_of(owner, bucket, key).await?;
        Ok(current.into_iter().chain(earlier.into_iter().map(|version| (version, false))).collect())
    }

    async fn earlier_of(&self, owner: &record::Owner, bucket: &str, key: &str) -> S3Result<Vec<ObjectRecord>> {
        let records = self.state.range(owner, VERSION, &below(&object_id(bucket, key), "")).await?;
        records.iter().map(|record| parse(record).map(|found| found.value)).collect()
    }

    pub async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        self.state.bucket(&owner, &input.bucket).await?;
        let ((max_uploads, most), spelling) = (most(input.max_uploads)?, Spelling::of(input.encoding_type.as_ref())?);
        let marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
        let wanted = Wanted {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: marker,
            below: input.upload_id_marker.as_deref().filter(|id| marker.is_some() && !id.is_empty()),
            most,
        };
        let page = walk(&self.state, &owner, UPLOAD, wanted, |record| {
            let upload: UploadRecord = parse(record)?.value;
            Ok(Some((split(&record.id).map(|(_, id)| id.to_owned()).unwrap_or_default(), upload)))
        });
        let page = page.await?;
        let (truncated, next) = (page.truncated, page.next().map(|next| spelling.spell(next)));
        let next_upload = match page.rows.last().filter(|_| truncated) {
            Some(Row::One(_, (id, _))) => Some(id.clone()),
            _ => None,
        };
        let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
        for row in page.rows {
            match row {
                Row::Common(common) => prefixes.push(CommonPrefix { prefix: Some(spelling.spell(&common)) }),
                Row::One(key, (id, upload)) => uploads.push(MultipartUpload {
                    key: Some(spelling.spell(&key)),
                    upload_id: Some(id),
                    initiated: Some(time(upload.started_ms)),
                    owner: Some(who(&owner)),
                    initiator: Some(Initiator { id: who(&owner).id, ..Initiator::default() }),
                    storage_class: Some(StorageClass::from(
                        upload.storage_class.unwrap_or_else(|| StorageClass::STANDARD.to_owned()),
                    )),
                    checksum_algorithm: upload
                        .algorithm
                        .map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
                    ..MultipartUpload::default()
                }),
            }
        }
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(spelling.spell(&input.prefix.unwrap_or_default())),
            delimiter: spelling.all(input.delimiter),
            key_marker: Some(spelling.spell(&input.key_marker.unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            next_key_marker: next,
            next_upload_id_marker: next_upload,
            max_uploads: Some(max_uploads),
            is_truncated: Some(truncated),
            uploads: Some(uploads),
            common_prefixes: Some(prefixes),
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        }))
    }
}

/// Where a list goes on, as clients carry it.
fn token(key: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key)
}

fn position(token: &str) -> S3Result<String> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| error::invalid("The continuation token provided is incorrect"))
}
