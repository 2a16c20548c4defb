//! Buckets: a name of an account, in one region, with versioning and tags.

use hearth_store::Expect;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Handlers, owner, tags, time};
use crate::error;
use crate::record::{BUCKET, BucketName, BucketRecord, OBJECT, Owner, Versioning};
use crate::refuse;
use crate::state::{delete, put};

/// The region whose requests need not name it.
const DEFAULT_REGION: &str = "us-east-1";
/// Buckets of an account (AWS's quota).
const BUCKETS_MAX: usize = 10_000;
const LIST_MAX: usize = 10_000;

impl Handlers {
    pub async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        let most = match input.max_buckets {
            None => LIST_MAX,
            Some(most) => usize::try_from(most)
                .ok()
                .filter(|most| (1..=LIST_MAX).contains(most))
                .ok_or_else(|| error::invalid("Argument max-buckets must be an integer between 1 and 10000"))?,
        };
        let prefix = input.prefix.clone().unwrap_or_default();
        let mut names = self.state.names(&owner, input.continuation_token, BUCKETS_MAX).await?;
        let is_meant = |region: &str| input.bucket_region.as_ref().is_none_or(|wanted| wanted == region);
        names.retain(|(name, bucket)| name.starts_with(&prefix) && is_meant(&bucket.region));
        let more = names.len() > most;
        names.truncate(most);
        let buckets = names.iter().map(|(name, bucket)| Bucket {
            name: Some(name.clone()),
            creation_date: Some(time(bucket.created_ms)),
            bucket_region: Some(bucket.region.clone()),
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            owner: Some(who(&owner)),
            continuation_token: names.last().filter(|_| more).map(|(name, _)| name.clone()),
            prefix: input.prefix,
        }))
    }

    pub async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        let grants = input.grant_full_control.is_some()
            || input.grant_read.is_some()
            || input.grant_read_acp.is_some()
            || input.grant_write.is_some()
            || input.grant_write_acp.is_some();
        refuse::bucket_acl(input.acl.as_ref(), grants)?;
        let enforced = |ownership: &ObjectOwnership| ownership.as_str() == ObjectOwnership::BUCKET_OWNER_ENFORCED;
        let configuration = input.create_bucket_configuration.unwrap_or_default();
        refuse::given(
            "CreateBucket",
            &[
                (input.object_lock_enabled_for_bucket == Some(true), "ObjectLockEnabledForBucket"),
                (!input.object_ownership.as_ref().is_none_or(enforced), "ObjectOwnership"),
                (configuration.location.is_some() || configuration.bucket.is_some(), "a directory bucket"),
            ],
        )?;
        let constraint = configuration.location_constraint.as_ref().map(BucketLocationConstraint::as_str);
        match constraint.filter(|constraint| !constraint.is_empty()) {
            Some(given) if given != owner.region.as_str() => return Err(error::illegal_location(given)),
            Some(DEFAULT_REGION) => {
                let message = "The specified location-constraint is not valid";
                return Err(S3Error::with_message(S3ErrorCode::InvalidLocationConstraint, message));
            }
            None if owner.region.as_str() != DEFAULT_REGION => return Err(error::illegal_location("unspecified")),
            _ => {}
        }
        let _alone = self.state.alone(&owner, &input.bucket).await;
        let place = owner.key(BUCKET, input.bucket.clone());
        let answer = CreateBucketOutput { location: Some(format!("/{}", input.bucket)) };
        if self.state.get::<BucketRecord>(place.clone()).await?.is_some() {
            // Recorded: in the first region making a bucket again changes nothing.
            let first = owner.region.as_str() == DEFAULT_REGION;
            return if first { Ok(S3Response::new(answer)) } else { Err(error::already_owned()) };
        }
        if self.state.home(&owner, &input.bucket).await?.is_some() {
            return Err(error::already_owned());
        }
        if self.state.names(&owner, None, BUCKETS_MAX).await?.len() >= BUCKETS_MAX {
            let message = "You have attempted to create more buckets than allowed";
            return Err(S3Error::with_message(S3ErrorCode::TooManyBuckets, message));
        }
        let record = BucketRecord { created_ms: self.now_ms(), versioning: Versioning::Never, tags: Vec::new() };
        let name = BucketName { region: owner.region.to_string(), created_ms: record.created_ms };
        let named = put(owner.name_key(&input.bucket), Expect::Absent, &name)?;
        self.state.commit(vec![put(place, Expect::Absent, &record)?, named]).await?;
        Ok(S3Response::new(answer))
    }

    pub async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        self.state.bucket(&owner, &input.bucket).await?;
        let bucket_region = Some(owner.region.to_string());
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
    }

    pub async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let _alone = self.state.alone(&owner, &input.bucket).await;
        let found = self.state.bucket(&owner, &input.bucket).await?;
        let within = format!("{}/", input.bucket);
        // Earlier versions are only there where there is a current one. Uploads under way go with their bucket.
        let first = self.state.list(&owner, OBJECT, Some(within.clone()), 1).await?;
        if first.iter().any(|record| record.id.starts_with(&within)) {
            return Err(error::not_empty());
        }
        let (mut writes, blobs) = self.end_of_all(&owner, &input.bucket).await?;
        let name = owner.name_key(&input.bucket);
        // Of two buckets that were made before names were their account's, one has it.
        if self.state.home(&owner, &input.bucket).await?.is_some_and(|home| home == owner) {
            writes.push(delete(name, Expect::Anything));
        }
        writes.push(delete(owner.key(BUCKET, input.bucket), found.expect()));
        self.state.commit(writes).await?;
        self.state.discard(blobs).await;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    pub async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        // It is asked where a bucket is by those who do not know, whatever their region.
        let home = self.state.home(&owner, &input.bucket).await?.ok_or_else(error::no_bucket)?;
        let elsewhere = Some(home.region.to_string()).filter(|region| region != DEFAULT_REGION);
        let location_constraint = elsewhere.map(BucketLocationConstraint::from);
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    pub async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let status = match self.state.bucket(&owner, &input.bucket).await?.value.versioning {
            Versioning::Never => None,
            Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
            Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
        };
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
    }

    pub async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let asked = input.versioning_configuration;
        let mfa = input.mfa.is_some() || asked.mfa_delete.is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED);
        refuse::given("PutBucketVersioning", &[(mfa, "MFADelete")])?;
        let versioning = match asked.status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => return Err(error::malformed()),
        };
        self.change_bucket(&owner, &input.bucket, |bucket| bucket.versioning = versioning).await?;
        Ok(S3Response::new(PutBucketVersioningOutput {}))
    }

    pub async fn get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let found = self.state.bucket(&owner, &input.bucket).await?.value.tags;
        if found.is_empty() {
            return Err(error::no_tags());
        }
        Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tags::shown(&found) }))
    }

    pub async fn put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        let given = tags::of_bucket(input.tagging)?;
        self.change_bucket(&owner, &input.bucket, |bucket| bucket.tags = given).await?;
        Ok(S3Response::new(PutBucketTaggingOutput {}))
    }

    pub async fn delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        let (owner, input) = (owner(&request)?, request.input);
        refuse::owner(input.expected_bucket_owner.as_deref(), &owner.account)?;
        self.change_bucket(&owner, &input.bucket, |bucket| bucket.tags.clear()).await?;
        Ok(S3Response::new(DeleteBucketTaggingOutput {}))
    }

    async fn change_bucket(
        &self,
        owner: &Owner,
        bucket: &str,
        change: impl FnOnce(&mut BucketRecord) + Send,
    ) -> S3Result<()> {
        let _alone = self.state.alone(owner, bucket).await;
        let mut found = self.state.bucket(owner, bucket).await?;
        change(&mut found.value);
        let write = put(owner.key(BUCKET, bucket.to_owned()), found.expect(), &found.value)?;
        self.state.commit(vec![write]).await
    }
}

/// Who owns everything in an account.
pub(super) fn who(owner: &Owner) -> s3s::dto::Owner {
    // AWS's ids are 64 hexadecimal digits that say nothing.
    let id = format!("{:0>64}", owner.account.as_str());
    s3s::dto::Owner { id: Some(id), ..s3s::dto::Owner::default() }
}
