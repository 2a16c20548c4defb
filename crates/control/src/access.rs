//! What every handler begins and ends with: finding what a request means, and writing what it decided.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_core::Stream;
use hearth_identity::RoleArn;
use hearth_model::{
    AccountId, AdmitError, Architecture, Checked, FunctionArn, FunctionName, Image, ImageError, Pieces, Qualifier,
    StoredPackageError, StoredPackageRef,
};
use hearth_policy::Facts;
use hearth_wire::{Blob, Context, Error, MessageKey};
use hearth_wire_lambda::errors::{
    code_storage_exceeded_exception, invalid_parameter_value_exception as invalid, precondition_failed_exception,
    resource_conflict_exception, resource_not_found_exception as not_found, service_exception,
};

use crate::control::Control;
use crate::record::{Content, Definition, FUNCTION, Owner, Rest, StoredAt, Update};
use crate::state::WriteError;
use crate::state::account::Promise;
use crate::state::function::{Changes, Function, Published, number};
use crate::{names, statements};

/// The service, as trust policies name it.
const LAMBDA: &str = "lambda.amazonaws.com";
/// What is handed on at once of a package that a request has brought, bytes.
const PIECE: usize = 1 << 20;

/// What a qualifier of a read leads to.
pub(crate) enum Found<'a> {
    Latest,
    Published(u64, &'a Arc<Published>),
}

impl Control {
    /// The function that a caller means, also another account's when its policy lets the caller do this to it: for the
    /// operations that AWS lets accounts share (spec 1.3).
    pub(crate) fn asked(
        &self,
        cx: &Context,
        name: Option<&str>,
        qualifier: Option<&str>,
        operation: &str,
    ) -> Result<FunctionArn, Error> {
        let arn = names::anyones(cx, name, qualifier)?;
        let (caller, action) = (names::owner(cx).account, format!("lambda:{operation}"));
        if caller == arn.account || self.permits(&arn, &caller, &action) {
            return Ok(arn);
        }
        Err(denied(&caller, &action, &arn.to_string(), arn.region.partition()))
    }

    /// Whether the policy of a function, version or alias lets another account do something to it.
    pub(crate) fn permits(&self, arn: &FunctionArn, caller: &AccountId, action: &str) -> bool {
        let Some(function) = self.inner.state.function(&Owner::of(arn), &arn.name) else { return false };
        let place = arn.qualifier.as_ref().map_or("", Qualifier::as_str);
        let policy = function.policies.get(place).map(|policy| &**policy);
        statements::allows(policy, caller.as_str(), action, &arn.to_string())
    }

    /// The function, whatever the qualifier. Its text names the ARN as it was asked for.
    pub(crate) fn function(&self, arn: &FunctionArn) -> Result<Arc<Function>, Error> {
        let function = self.inner.state.function(&Owner::of(arn), &arn.name);
        function.ok_or_else(|| no_function(arn))
    }

    /// The turn to write a function.
    pub(crate) async fn turn(&self, arn: &FunctionArn) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.state.turn(&Owner::of(arn), FUNCTION, arn.name.as_str()).await
    }

    /// The function, for a change of `$LATEST` or its publication.
    pub(crate) fn to_update(&self, arn: &FunctionArn, revision: Option<&str>) -> Result<Arc<Function>, Error> {
        let function = self.function(arn)?;
        same_revision(revision, &function.record.revision_id, "GetFunction/GetAlias")?;
        settled(&function)?;
        Ok(function)
    }

    /// Whether a function may have a role, where that is asked for: it must be the account's own, and trust Lambda.
    pub(crate) async fn passes_role(&self, arn: &FunctionArn, role: &str) -> Result<(), Error> {
        if !self.inner.config.check_roles {
            return Ok(());
        }
        let refused = || invalid("The role defined for the function cannot be assumed by Lambda.");
        let role = RoleArn::parse(role).ok_or_else(refused)?;
        if role.account != arn.account {
            return Err(Error::new(403, "AccessDeniedException", "Cross-account pass role is not allowed."));
        }
        let facts = Facts::default()
            .with("aws:SourceAccount", arn.account.as_str())
            .with("aws:SourceArn", arn.unqualified().to_string());
        let asked = self.inner.ports.identity.lets_service_assume(&role, LAMBDA, facts).await;
        match asked.map_err(|_| service_exception("The role could not be read; Hearth's log says more."))? {
            true => Ok(()),
            false => Err(refused()),
        }
    }

    /// Writes what was decided of a function; the caller holds the turn.
    pub(crate) async fn commit(&self, function: &Arc<Function>, changes: Changes) -> Result<Arc<Function>, Error> {
        let written = self.inner.state.commit(&function.owner, &function.name, Some(function), changes).await;
        let written = written.map_err(|error| stored(error, &function.arn()))?;
        Ok(written.unwrap_or_else(|| function.clone()))
    }

    /// A package as it came, not looked into yet. What lies in S3 is found there, and read while it is checked.
    pub(crate) async fn package(&self, owner: &Owner, source: Source) -> Result<Incoming, Error> {
        let Source { zip, bucket, key, version, mode, image, kms_key: _ } = source;
        if image.is_some() {
            return Err(invalid("Please don't provide ImageUri when updating a function with packageType Zip."));
        }
        let Some((bucket, key)) = stored_in(bucket, key, zip.is_some())? else {
            let zip = self.uploaded(zip)?;
            return Ok(Incoming { zipped: zip.len() as u64, package: Box::pin(Uploaded(zip)), reference: None });
        };
        let (account, region) = (owner.account.clone(), owner.region.clone());
        let at = StoredPackageRef { account, region, bucket: bucket.clone(), key: key.clone(), version };
        let found = self.inner.ports.stored.open(at).await.map_err(|StoredPackageError { code, message }| {
            invalid(format!("Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"))
        })?;
        let reference = match mode.as_deref() {
            Some("REFERENCE") => Some(Box::new(referred(bucket, key, found.version)?)),
            _ => None,
        };
        Ok(Incoming { zipped: found.size, package: found.pieces, reference })
    }

    fn uploaded(&self, zip: Option<Blob>) -> Result<Bytes, Error> {
        let zip = zip.map(|zip| zip.0).unwrap_or_default();
        if zip.is_empty() {
            return Err(invalid("Uploaded file must be a non-empty zip"));
        }
        let max = self.inner.config.quotas.code_size_zipped;
        if zip.len() as u64 > max {
            let message = format!("Zipped size must be smaller than {max} bytes");
            return Err(Error { key: MessageKey::Upper, ..Error::new(413, "RequestEntityTooLargeException", message) });
        }
        Ok(zip)
    }

    /// Room in the account's code storage for a package.
    pub(crate) fn room(&self, owner: &Owner, bytes: u64) -> Result<Promise, Error> {
        let promise = self.inner.state.totals(owner).promise(bytes, self.inner.config.quotas.code_storage);
        promise.ok_or_else(|| code_storage_exceeded_exception("Code storage limit exceeded."))
    }

    /// What an image's name means now. Its layers are fetched later.
    pub(crate) async fn image(&self, uri: String, architecture: Architecture) -> Result<Arc<Image>, Error> {
        let resolved = self.inner.ports.images.resolve(uri, architecture).await;
        resolved.map(Arc::new).map_err(unusable)
    }

    /// Looks into a package.
    pub(crate) async fn check(&self, package: Pieces) -> Result<Checked, Error> {
        self.inner.ports.packages.check(package).await.map_err(refused)
    }

    /// Keeps a package. The caller sees to it that it is not removed before its record is written.
    pub(crate) async fn keep(&self, checked: Checked) -> Result<(), Error> {
        checked.keep.await.map_err(refused)
    }

    /// Code and layers together (spec 1.4).
    pub(crate) fn within_unzipped(&self, definition: &Definition) -> Result<(), Error> {
        let limit = self.inner.config.quotas.code_size_unzipped;
        let Content::Zip(zip) = &definition.content else { return Ok(()) };
        let all = zip.unzipped + zip.layers.iter().map(|layer| layer.unzipped).sum::<u64>();
        if all > limit { Err(too_large(limit)) } else { Ok(()) }
    }
}

/// A package that stays where it is must be a version of its object: else the next upload would take its place (AWS's
/// documents ask for versioning; the text is Hearth's).
fn referred(bucket: String, key: String, version: Option<String>) -> Result<StoredAt, Error> {
    match version.filter(|version| version != "null") {
        Some(version) => Ok(StoredAt { bucket, key, version: Some(version) }),
        None => Err(invalid(format!(
            "S3ObjectStorageMode REFERENCE needs a version of the object, and the bucket {bucket} keeps none of {key}. Enable \
             versioning on the bucket and upload the object again."
        ))),
    }
}

/// Says in the log, and to the caller, what a function asks for that does not come about.
pub(crate) fn tell_of_kept(cx: &Context, name: &FunctionName, definition: &Definition) {
    let names = definition.without_effect();
    if !names.is_empty() {
        tracing::warn!(function = %name, members = names.join(","), "members are kept without effect");
        cx.ignore(names.into_iter().map(str::to_owned));
    }
}

/// Where a request says that a package is.
pub(crate) struct Source {
    pub zip: Option<Blob>,
    pub bucket: Option<String>,
    pub key: Option<String>,
    pub version: Option<String>,
    pub mode: Option<String>,
    pub image: Option<String>,
    /// Kept: an empty text clears it.
    pub kms_key: Option<String>,
}

/// A package on its way in, as far as it is known before it is read.
pub(crate) struct Incoming {
    pub zipped: u64,
    pub package: Pieces,
    pub reference: Option<Box<StoredAt>>,
}

/// What is left of a package that a request has brought.
struct Uploaded(Bytes);

impl Stream for Uploaded {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let length = self.0.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(self.0.split_to(length))))
    }
}

impl Incoming {
    /// Bytes that are to count in the account's storage.
    pub fn stored_size(&self) -> u64 {
        if self.reference.is_none() { self.zipped } else { 0 }
    }
}

/// Bucket and key, where they are the source.
fn stored_in(bucket: Option<String>, key: Option<String>, has_zip: bool) -> Result<Option<(String, String)>, Error> {
    match (bucket, key) {
        (None, None) => Ok(None),
        _ if has_zip => Err(invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")),
        (Some(bucket), Some(key)) => Ok(Some((bucket, key))),
        (Some(_), None) => Err(invalid("Please provide S3Key when providing S3Bucket.")),
        (None, Some(_)) => Err(invalid("Please provide S3Bucket when providing S3Key.")),
    }
}

/// AWS's texts for images (seen in the wild).
fn unusable(error: ImageError) -> Error {
    tracing::info!(%error, "an image was refused");
    match error {
        ImageError::Name { uri, .. } => {
            invalid(format!("Source image {uri} is not valid. Provide a valid source image."))
        }
        ImageError::Missing { uri } => {
            invalid(format!("Source image {uri} does not exist. Provide a valid source image."))
        }
        ImageError::Denied { .. } => Error::new(
            403,
            "AccessDeniedException",
            "Lambda does not have permission to access the ECR image. Check the ECR permissions.",
        ),
        ImageError::Unsupported { uri, .. } | ImageError::Damaged { uri, .. } | ImageError::TooLarge { uri, .. } => {
            invalid(format!(
                "The image manifest, config or layer media type for the source image {uri} is not supported."
            ))
        }
        ImageError::Unavailable { .. } => service_exception(format!("The source image cannot be read now: {error}.")),
    }
}

pub(crate) fn refused(error: AdmitError) -> Error {
    match error {
        AdmitError::NotAZip(reason) => {
            tracing::info!(%reason, "an uploaded package was refused");
            invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")
        }
        AdmitError::TooLarge { limit } => too_large(limit),
        AdmitError::Io(cause) => {
            tracing::error!(%cause, "a package could not be kept");
            service_exception("The package could not be stored; Hearth's log says more.")
        }
    }
}

impl Function {
    /// What a qualifier of a read means: an alias means the version that it points at.
    pub(crate) fn found(&self, qualifier: Option<&str>) -> Option<Found<'_>> {
        let published = |number: u64| Some(Found::Published(number, self.versions.get(&number)?));
        match qualifier {
            None => Some(Found::Latest),
            Some(text) if text == Qualifier::LATEST => Some(Found::Latest),
            Some(text) => match number(text) {
                Some(number) => published(number),
                None => self.aliases.get(text)?.version.map_or(Some(Found::Latest), published),
            },
        }
    }
}

/// AWS's text for what no policy allows.
pub(crate) fn denied(caller: &AccountId, action: &str, resource: &str, partition: &str) -> Error {
    let message = format!(
        "User: arn:{partition}:iam::{caller}:root is not authorized to perform: {action} on resource: {resource} because no \
         resource-based policy allows the {action} action"
    );
    Error::new(403, "AccessDeniedException", message)
}

/// AWS's text for what is not there.
pub(crate) fn no_function(arn: &FunctionArn) -> Error {
    not_found(format!("Function not found: {arn}"))
}

/// Refuses while an update runs (spec 1.5).
pub(crate) fn settled(function: &Function) -> Result<(), Error> {
    let pending = || {
        let text =
            "The operation cannot be performed at this time. The function is currently in the following state: Pending";
        resource_conflict_exception(text)
    };
    match &function.record.update {
        Update::Creating => Err(pending()),
        _ if function.record.rest == Some(Rest::Waking) => Err(pending()),
        Update::InProgress { .. } => Err(in_progress(&function.arn())),
        Update::Successful | Update::Failed { .. } => Ok(()),
    }
}

/// `calls` says where the caller finds the latest revision.
pub(crate) fn same_revision(given: Option<&str>, latest: &str, calls: &str) -> Result<(), Error> {
    match given {
        Some(given) if given != latest => Err(precondition_failed_exception(format!(
            "The Revision Id provided does not match the latest Revision Id. Call the {calls} API to retrieve the latest \
             Revision Id"
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn stored(error: WriteError, arn: &FunctionArn) -> Error {
    match error {
        WriteError::Conflict => in_progress(arn),
        WriteError::Store(error) => {
            tracing::error!(%error, "a record could not be written");
            service_exception("The change could not be stored; Hearth's log says more.")
        }
    }
}

/// As [`stored`], for what is no function.
pub(crate) fn stored_resource(error: WriteError) -> Error {
    match error {
        WriteError::Conflict => resource_conflict_exception("The resource was changed at the same time. Try again."),
        WriteError::Store(error) => {
            tracing::error!(%error, "a record could not be written");
            service_exception("The change could not be stored; Hearth's log says more.")
        }
    }
}

fn in_progress(arn: &FunctionArn) -> Error {
    resource_conflict_exception(format!(
        "The operation cannot be performed at this time. An update is in progress for resource: {}",
        arn.unqualified()
    ))
}

fn too_large(limit: u64) -> Error {
    invalid(format!("Unzipped size must be smaller than {limit} bytes"))
}
