/// A value that must never reach a log line or an error text (invariant 7): it has no `Debug` and no `Display`.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself; call it only where the value is used (a process environment, an answer to its owner).
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
