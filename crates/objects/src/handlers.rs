//! The operations. What each does is in the module of its group; here is only who does what.

mod buckets;
mod copy;
mod creating;
mod deletes;
mod lists;
mod multipart;
mod objects;
mod sums;
mod tags;

pub use objects::find;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_model::Clock;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::door::Asked;
use crate::record::Owner;
use crate::state::State;

/// Everything that the operations share.
#[derive(Clone)]
pub struct Handlers {
    pub state: Arc<State>,
    pub clock: Arc<dyn Clock>,
}

impl Handlers {
    fn now_ms(&self) -> u64 {
        self.clock.epoch_ms()
    }

    fn micros(&self) -> u64 {
        let since = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// The order of a new version: before all of the key that there are.
    fn order(&self, current: Option<&str>) -> String {
        let newest = current.and_then(|order| u64::from_str_radix(order.get(..16)?, 16).ok());
        let place = (u64::MAX - self.micros()).min(newest.map_or(u64::MAX, |newest| newest.saturating_sub(1)));
        format!("{place:016x}{}", random())
    }

    /// Ids of uploads sort by when they began.
    fn upload_id(&self) -> String {
        format!("{:016x}{}", self.micros(), random())
    }
}

/// 16 hexadecimal digits.
fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()[16..].to_owned()
}

fn time(ms: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_millis(ms)).into()
}

fn millis(timestamp: &Timestamp) -> Option<u64> {
    let mut text = Vec::new();
    timestamp.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
    let seconds: f64 = std::str::from_utf8(&text).ok()?.parse().ok()?;
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)?;
    u64::try_from(since.as_millis()).ok()
}

fn asked<T>(request: &S3Request<T>) -> S3Result<&Asked> {
    request.extensions.get::<Asked>().ok_or_else(crate::error::denied)
}

fn owner<T>(request: &S3Request<T>) -> S3Result<Owner> {
    asked(request).map(|asked| asked.owner.clone())
}

/// Sizes are at most those of disks.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

macro_rules! operations {
    ($($name:ident: $input:ident => $output:ident;)+) => {
        #[async_trait::async_trait]
        impl S3 for Handlers {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    Handlers::$name(self, request).await
                }
            )+
        }
    };
}

operations! {
    list_buckets: ListBucketsInput => ListBucketsOutput;
    create_bucket: CreateBucketInput => CreateBucketOutput;
    head_bucket: HeadBucketInput => HeadBucketOutput;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput;
    put_bucket_versioning: PutBucketVersioningInput => PutBucketVersioningOutput;
    get_bucket_tagging: GetBucketTaggingInput => GetBucketTaggingOutput;
    put_bucket_tagging: PutBucketTaggingInput => PutBucketTaggingOutput;
    delete_bucket_tagging: DeleteBucketTaggingInput => DeleteBucketTaggingOutput;
    put_object: PutObjectInput => PutObjectOutput;
    get_object: GetObjectInput => GetObjectOutput;
    head_object: HeadObjectInput => HeadObjectOutput;
    get_object_attributes: GetObjectAttributesInput => GetObjectAttributesOutput;
    delete_object: DeleteObjectInput => DeleteObjectOutput;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
    copy_object: CopyObjectInput => CopyObjectOutput;
    get_object_tagging: GetObjectTaggingInput => GetObjectTaggingOutput;
    put_object_tagging: PutObjectTaggingInput => PutObjectTaggingOutput;
    delete_object_tagging: DeleteObjectTaggingInput => DeleteObjectTaggingOutput;
    list_objects: ListObjectsInput => ListObjectsOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    list_object_versions: ListObjectVersionsInput => ListObjectVersionsOutput;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
    upload_part: UploadPartInput => UploadPartOutput;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
    list_parts: ListPartsInput => ListPartsOutput;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput;
}
