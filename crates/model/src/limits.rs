//! Quotas. Hearth's defaults are AWS's (spec 11.1); what an operator may raise is a setting.

/// Largest request payload of a synchronous call, bytes.
pub const SYNC_PAYLOAD_MAX: usize = 6_291_456;
/// Largest response payload of a buffered call, bytes (spec 2.1).
pub const RESPONSE_PAYLOAD_MAX: usize = 6_291_556;
/// Largest response payload of a streamed call, bytes (spec 2.1).
pub const STREAM_MAX: usize = 200 * 1024 * 1024;
/// Largest request payload of an asynchronous call, bytes.
pub const ASYNC_PAYLOAD_MAX: usize = 1_048_576;
/// Longest `X-Amz-Client-Context`, base64 characters.
pub const CLIENT_CONTEXT_MAX: usize = 3_583;

/// The raisable quotas of every account of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    pub concurrent_executions: u32,
    /// Bytes of code, all functions, versions and layers together.
    pub code_storage: u64,
    pub code_size_zipped: u64,
    pub code_size_unzipped: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            concurrent_executions: 1_000,
            code_storage: 80_530_636_800,
            code_size_zipped: 52_428_800,
            code_size_unzipped: 262_144_000,
        }
    }
}
