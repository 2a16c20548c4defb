//! The vocabulary of Hearth: ids, ARNs, functions, limits, reports, and the ports between rooms.
//!
//! Row 0. No IO, no HTTP, no async runtime: words, rules and traits only. Text from outside becomes one of these
//! types at the edge and is trusted afterwards.

mod arn;
mod bucket;
mod clock;
mod event;
mod function;
mod guard;
mod id;
mod image;
mod invoke;
mod limits;
mod logs;
mod materials;
mod report;
mod resource;
mod runtime;
mod secret;
mod telemetry;
mod trace;
mod units;

pub use arn::{FunctionArn, FunctionRef, RefError};
pub use bucket::Bucket;
pub use clock::{Clock, SystemClock};
pub use event::{AcceptError, AcceptEvents, NewEvent};
pub use function::{
    Architecture, CodeHash, Found, FunctionVersion, Functions, Idle, ImageProgram, InUse, LastUsed, LookupError,
    Program, Provision, Provisioned, Provisioning, Reservation, Target, TenancyError, Version, VersionKey, ZipProgram,
    draw,
};
pub use guard::{Guard, LOOPS_MAX, Lineage, LoopCut, Way};
pub use id::{AccountId, FunctionName, LogStreamId, Qualifier, Region, RequestId, TenantId};
pub use image::{Image, ImageLayer, ImageOverrides, ImageProcess, Packing};
pub use invoke::{
    Body, BodyError, BoxFuture, FunctionError, Head, Invocation, Invoke, InvokeError, Outcome, Response, ResponseMode,
    ThrottleReason, TooLarge,
};
pub use limits::{ASYNC_PAYLOAD_MAX, CLIENT_CONTEXT_MAX, Quotas, RESPONSE_PAYLOAD_MAX, STREAM_MAX, SYNC_PAYLOAD_MAX};
pub use logs::{JsonLogs, LogEvent, LogGroup, LogLevel, LogStreamName};
pub use materials::{
    AdmitError, Admitted, Checked, CodeTree, ContainerImages, ImageError, ImageTree, Materials, MaterialsError,
    Packages, Pieces, Replaced, Root, RootBind, RuntimeEntry, RuntimeTree, RuntimeUsers, RuntimeVersions,
    StoredPackage, StoredPackageError, StoredPackageRef, StoredPackages,
};
pub use report::{
    ErrorType, InitPhase, InitReport, InitStart, Initialization, Labels, PlatformRecord, Report, RuntimeDone,
    RuntimeVersion, Span, Status,
};
pub use resource::{LayerArn, ResourceArn};
pub use runtime::{Family, RUNTIMES, Runtime, UnknownRuntime};
pub use secret::Secret;
pub use telemetry::{Buffering, Destination, Source, TelemetrySchema};
pub use trace::Trace;
pub use units::{Memory, Millis};
