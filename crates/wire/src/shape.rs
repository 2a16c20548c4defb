//! Shapes of a service as data: what a request may hold, from where, and within which constraints.

/// A named shape of a service's model.
#[derive(Debug)]
pub struct Shape {
    pub name: &'static str,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Structure {
        members: &'static [Member],
    },
    List {
        member: &'static Shape,
        min: Option<u64>,
        max: Option<u64>,
    },
    Map {
        key: &'static Shape,
        value: &'static Shape,
        min: Option<u64>,
        max: Option<u64>,
    },
    String {
        pattern: Option<&'static str>,
        min: Option<u64>,
        max: Option<u64>,
        values: &'static [&'static str],
    },
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Double {
        min: Option<f64>,
        max: Option<f64>,
    },
    Boolean,
    /// Epoch seconds.
    Timestamp,
    /// Base64 text in JSON.
    Blob,
}

#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    pub location: Location,
    pub required: bool,
    pub shape: &'static Shape,
}

/// Where a member of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    Body,
    /// A label of the path template.
    Path(&'static str),
    Query(&'static str),
    /// In lower case.
    Header(&'static str),
    /// The whole body.
    Payload,
}

/// Bytes that are base64 in JSON. No `Debug`: they may be code or payloads.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub bytes::Bytes);

impl serde::Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        decoded.map(|bytes| Blob(bytes.into())).map_err(|_| serde::de::Error::custom("not base64"))
    }
}
