//! What of each operation works. Tables of these are made with [`works`], [`kept`] and [`refused`].

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

/// An operation with every parameter.
pub const fn works(operation: &'static str) -> Coverage {
    Coverage { operation, parameters: &[] }
}

pub const fn kept(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Kept, note }
}

pub const fn refused(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Refused, note }
}
