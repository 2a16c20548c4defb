//! What of each operation works. Tables of these are made with [`works`], [`kept`], [`refused`] and
//! [`beyond`].

/// An operation that is implemented, and its parameters that do less than AWS's. Parameters that are not named work.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    pub operation: &'static str,
    pub parameters: &'static [Parameter],
}

impl Coverage {
    /// Nothing of the operation's own is missing: each parameter works, or is kept for the reason that its note says, or
    /// is refused as a part of another feature.
    pub fn is_complete(&self) -> bool {
        self.parameters.iter().all(|parameter| parameter.status == ParameterStatus::Kept || parameter.is_beyond)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Path of the member: `Code.S3Bucket`.
    pub name: &'static str,
    pub status: ParameterStatus,
    pub note: &'static str,
    /// It is refused with the whole feature that it is a part of, which the note names.
    pub is_beyond: bool,
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
    Parameter { name, status: ParameterStatus::Kept, note, is_beyond: false }
}

pub const fn refused(name: &'static str, note: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Refused, note, is_beyond: false }
}

/// A parameter of another feature, which is not built.
pub const fn beyond(name: &'static str, feature: &'static str) -> Parameter {
    Parameter { name, status: ParameterStatus::Refused, note: feature, is_beyond: true }
}
