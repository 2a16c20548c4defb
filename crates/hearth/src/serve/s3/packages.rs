//! Packages from buckets of another S3: one GET each, read as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use hearth_model::{BoxFuture, StoredPackage, StoredPackageError, StoredPackageRef, StoredPackages};
use hyper::Method;

use super::{Answer, Ask, Client, Error};

pub struct OtherBuckets(pub Client);

impl StoredPackages for OtherBuckets {
    fn open(&self, at: StoredPackageRef) -> BoxFuture<'_, Result<StoredPackage, StoredPackageError>> {
        Box::pin(async move { self.get(at).await.map_err(|error| self.said(error)) })
    }
}

impl OtherBuckets {
    async fn get(&self, at: StoredPackageRef) -> Result<StoredPackage, Error> {
        let version = at.version.as_deref().map(|version| ("versionId", version));
        let answer = self
            .0
            .send(&Ask {
                method: Method::GET,
                region: at.region.as_str(),
                bucket: &at.bucket,
                key: &at.key,
                query: version.as_slice(),
                source: None,
                content: None,
            })
            .await?;
        let unknown = || Error::Unusable("it does not say how long the object is".to_owned());
        let size = answer.size().ok_or_else(unknown)?;
        let version = answer.head.headers.get("x-amz-version-id").and_then(|version| version.to_str().ok());
        let version = version.filter(|version| *version != "null").map(str::to_owned);
        Ok(StoredPackage { size, version, pieces: Box::pin(Pieces(answer)) })
    }

    fn said(&self, error: Error) -> StoredPackageError {
        match error {
            Error::Refused { code, message, .. } => StoredPackageError { code, message },
            Error::Unusable(reason) => {
                let endpoint = &self.0.endpoint.address;
                tracing::warn!(%endpoint, %reason, "a package could not be read from another S3");
                let message = format!("The endpoint {endpoint} cannot be used: {reason}");
                StoredPackageError { code: "ServiceUnavailable".to_owned(), message }
            }
        }
    }
}

struct Pieces(Answer);

impl Stream for Pieces {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_piece(cx)
    }
}
