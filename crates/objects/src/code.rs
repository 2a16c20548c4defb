//! Packages of functions that lie in buckets, for whoever asks for them in their owner's name.

use hearth_model::{BoxFuture, StoredPackage, StoredPackageError, StoredPackageRef, StoredPackages};
use s3s::S3Error;

use crate::content;
use crate::door::Objects;
use crate::error::{BUCKET_REGION, no_key};
use crate::handlers::find;
use crate::record::Owner;

impl StoredPackages for Objects {
    fn open(&self, at: StoredPackageRef) -> BoxFuture<'_, Result<StoredPackage, StoredPackageError>> {
        Box::pin(async move {
            let owner = Owner { account: at.account, region: at.region };
            let found = find(&self.state, &owner, &at.bucket, &at.key, at.version.as_deref()).await.map_err(said)?;
            let range = 0..found.content.size;
            let pieces = content::read(&self.state, &owner, &found.content, range).await;
            let pieces = pieces.and_then(|pieces| pieces.ok_or_else(no_key)).map_err(said)?;
            Ok(StoredPackage { size: found.content.size, version: found.version_id(), pieces: Box::pin(pieces) })
        })
    }
}

fn said(error: S3Error) -> StoredPackageError {
    let region = error.headers().and_then(|headers| headers.get(BUCKET_REGION)?.to_str().ok());
    let message = match region {
        // Seen in the wild: Lambda takes code from its own region only.
        Some(region) => format!("The bucket is in this region: {region}. Please use this region to retry the request"),
        None => error.message().unwrap_or_default().to_owned(),
    };
    StoredPackageError { code: error.code().as_str().to_owned(), message }
}
