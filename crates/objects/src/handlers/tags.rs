//! Tags of objects, and what holds of all tags.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::objects::find;
use super::{Handlers, owner};
use crate::error;
use crate::record::{self, ObjectRecord};
use crate::refuse;
use crate::state::put;

/// Tags of an object, and of a bucket; characters of a key and of a value.
const OBJECT_MAX: usize = 10;
const BUCKET_MAX: usize = 50;
const KEY_MAX: usize = 128;
const VALUE_MAX: usize = 256;

impl Handlers {
    pub async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let found = find(&self.state, &owner, &input.bucket, &input.key, input.version_id.as_deref()).await?;
        let (tag_set, version_id) = (shown(&found.content.tags), found.version_id());
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
    }

    pub async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let given = of_object(input.tagging.tag_set)?;
        let place = (&*input.bucket, &*input.key, input.version_id.as_deref());
        let version_id = self.retag(&owner, place, given).await?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
    }

    pub async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let place = (&*input.bucket, &*input.key, input.version_id.as_deref());
        let version_id = self.retag(&owner, place, Vec::new()).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
    }

    async fn retag(
        &self,
        owner: &record::Owner,
        (bucket, key, version): (&str, &str, Option<&str>),
        tags: record::Tags,
    ) -> S3Result<Option<String>> {
        let _turn = self.state.turn(owner, bucket, key).await;
        let mut found = find(&self.state, owner, bucket, key, version).await?;
        let version_id = found.version_id();
        found.content.tags = tags;
        let record = ObjectRecord { content: Some(found.content), ..found.record };
        self.state.commit(vec![put(found.place, found.expect, &record)?]).await?;
        Ok(version_id)
    }
}

pub(super) fn shown(tags: &record::Tags) -> TagSet {
    tags.iter().map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) }).collect()
}

pub(super) fn of_bucket(tagging: Tagging) -> S3Result<record::Tags> {
    checked(tagging.tag_set, BUCKET_MAX)
}

fn of_object(tags: TagSet) -> S3Result<record::Tags> {
    checked(tags, OBJECT_MAX)
}

/// `x-amz-tagging`: `a=b&c=d`.
pub(super) fn of_header(text: Option<&str>) -> S3Result<record::Tags> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().map(|text| text.into_owned())
    };
    let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let tags = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let bad = |_| error::invalid("The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.");
        Ok(Tag { key: Some(decode(key).map_err(bad)?), value: Some(decode(value).map_err(bad)?) })
    });
    of_object(tags.collect::<S3Result<_>>()?)
}

fn checked(tags: TagSet, most: usize) -> S3Result<record::Tags> {
    if tags.len() > most {
        let message = format!("Object tags cannot be greater than {most}");
        let mut error = S3Error::with_message(S3ErrorCode::Custom("BadRequest".into()), message);
        error.set_status_code(http::StatusCode::BAD_REQUEST);
        return Err(error);
    }
    let mut checked: record::Tags = Vec::with_capacity(tags.len());
    for tag in tags {
        let (key, value) = (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        if key.is_empty() || key.chars().count() > KEY_MAX || !key.chars().all(is_allowed) {
            return Err(error::invalid_tag("The TagKey you have provided is invalid"));
        }
        if value.chars().count() > VALUE_MAX || !value.chars().all(is_allowed) {
            return Err(error::invalid_tag("The TagValue you have provided is invalid"));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(error::invalid_tag("System tags cannot be added/updated by requester"));
        }
        if checked.iter().any(|(other, _)| *other == key) {
            return Err(error::invalid_tag("Cannot provide multiple Tags with the same key"));
        }
        checked.push((key, value));
    }
    Ok(checked)
}

fn is_allowed(character: char) -> bool {
    character.is_alphanumeric() || character.is_whitespace() || "_.:/=+-@".contains(character)
}
