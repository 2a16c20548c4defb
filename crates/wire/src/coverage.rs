/// An operation that is implemented, and its parameters that do less than AWS's. Parameters that are not named work.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    pub operation: &'static str,
    pub parameters: &'static [Parameter],
}

#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Path of the member: `Code.S3Bucket`.
    pub name: &'static str,
    pub status: ParameterStatus,
    pub note: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterStatus {
    /// Stored and answered, without effect.
    Kept,
    /// Refused by name.
    Refused,
}

impl ParameterStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ParameterStatus::Kept => "kept",
            ParameterStatus::Refused => "refused",
        }
    }
}
