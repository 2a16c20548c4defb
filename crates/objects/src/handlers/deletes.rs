//! Objects deleted: one, or many at once.

use std::collections::BTreeMap;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};
use tokio::task::JoinSet;

use super::objects::whole;
use super::{Handlers, owner};
use crate::conditions;
use crate::error;
use crate::record::{self, Versioning};
use crate::refuse;

/// Objects that one request may delete, and how many of them at a time.
const DELETE_MAX: usize = 1000;
const DELETING_MAX: usize = 32;

struct Deleted {
    /// Of what was deleted for good, or of the marker that was made.
    version_id: Option<String>,
    marker: bool,
}

impl Handlers {
    pub async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given(
            "DeleteObject",
            &[
                (input.mfa.is_some(), "MFA"),
                (input.bypass_governance_retention == Some(true), "BypassGovernanceRetention"),
                (input.if_match_size.is_some(), "IfMatchSize"),
                (input.if_match_last_modified_time.is_some(), "IfMatchLastModifiedTime"),
            ],
        )?;
        let this = self.clone();
        let deleted = whole(async move {
            let place = (&*input.bucket, &*input.key, input.version_id.as_deref());
            this.delete_one(&owner, place, input.if_match.as_ref()).await
        });
        let Deleted { version_id, marker } = deleted.await?;
        let answer = DeleteObjectOutput { version_id, delete_marker: marker.then_some(true), ..Default::default() };
        Ok(S3Response::new(answer))
    }

    pub async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        refuse::given(
            "DeleteObjects",
            &[
                (input.mfa.is_some(), "MFA"),
                (input.bypass_governance_retention == Some(true), "BypassGovernanceRetention"),
            ],
        )?;
        if input.delete.objects.is_empty() || input.delete.objects.len() > DELETE_MAX {
            return Err(error::malformed());
        }
        self.state.bucket(&owner, &input.bucket).await?;
        let quiet = input.delete.quiet == Some(true);
        let mut waiting = input.delete.objects.into_iter().enumerate();
        let mut deleting = JoinSet::new();
        let mut results = BTreeMap::new();
        loop {
            while deleting.len() < DELETING_MAX
                && let Some((index, object)) = waiting.next()
            {
                let (this, owner, bucket) = (self.clone(), owner.clone(), input.bucket.clone());
                deleting.spawn(async move {
                    let condition = object.e_tag.clone().map(ETagCondition::ETag);
                    let place = (&*bucket, &*object.key, object.version_id.as_deref());
                    let deleted = this.delete_one(&owner, place, condition.as_ref()).await;
                    (index, object, deleted)
                });
            }
            match deleting.join_next().await {
                Some(Ok((index, object, deleted))) => drop(results.insert(index, (object, deleted))),
                Some(Err(error)) => return Err(error::damaged(&error)),
                None => break,
            }
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (_, (object, result)) in results {
            match result {
                Ok(_) if quiet => {}
                Ok(Deleted { version_id, marker }) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    delete_marker: marker.then_some(true),
                    delete_marker_version_id: version_id.filter(|_| marker),
                    version_id: object.version_id,
                }),
                Err(error) => errors.push(s3s::dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(object.key),
                    version_id: object.version_id,
                }),
            }
        }
        let answer = DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), ..Default::default() };
        Ok(S3Response::new(answer))
    }

    async fn delete_one(
        &self,
        owner: &record::Owner,
        (bucket, key, version): (&str, &str, Option<&str>),
        condition: Option<&ETagCondition>,
    ) -> S3Result<Deleted> {
        let _turn = self.state.turn(owner, bucket, key).await;
        let versioning = self.state.bucket(owner, bucket).await?.value.versioning;
        let current = self.state.current(owner, bucket, key).await?;
        if condition.is_some() {
            let etag = current.as_ref().and_then(|current| Some(&*current.value.content.as_ref()?.etag));
            conditions::of_write(condition, None, etag)?;
        }
        if let Some(version) = version {
            let Some(found) = self.state.version(owner, bucket, key, version).await? else {
                return Ok(Deleted { version_id: Some(version.to_owned()), marker: false });
            };
            let marker = found.1.value.content.is_none();
            let change = self.state.removing(owner, (bucket, key), found).await?;
            self.state.apply(owner, change).await?;
            return Ok(Deleted { version_id: Some(version.to_owned()), marker });
        }
        if versioning == Versioning::Never {
            if let Some(current) = current {
                let place = owner.key(record::OBJECT, record::object_id(bucket, key));
                let change = self.state.removing(owner, (bucket, key), (place, current)).await?;
                self.state.apply(owner, change).await?;
            }
            return Ok(Deleted { version_id: None, marker: false });
        }
        let marker = self.version_of(current.as_ref().map(|current| &*current.value.order), None);
        let (change, marker) = self.state.replacing(owner, (bucket, key), versioning, current.as_ref(), marker).await?;
        self.state.apply(owner, change).await?;
        Ok(Deleted { version_id: Some(marker.version().to_owned()), marker: true })
    }
}
