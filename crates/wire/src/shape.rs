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
        let text = String::deserialize(deserializer)?.into_bytes();
        decoded(text).map(|bytes| Blob(bytes.into())).ok_or_else(|| serde::de::Error::custom("not base64"))
    }
}

/// Base64 decoded where it lies: a package is not copied for it.
fn decoded(mut text: Vec<u8>) -> Option<Vec<u8>> {
    use base64::Engine;
    /// A multiple of four characters, which stand for three bytes each.
    const PIECE: usize = 4096;
    let mut piece = [0; PIECE];
    let mut written = 0;
    for at in (0..text.len()).step_by(PIECE) {
        let end = text.len().min(at + PIECE);
        let count = base64::engine::general_purpose::STANDARD.decode_slice(&text[at..end], &mut piece).ok()?;
        // Only the last piece may end with padding.
        if end < text.len() && count != PIECE / 4 * 3 {
            return None;
        }
        text[written..written + count].copy_from_slice(&piece[..count]);
        written += count;
    }
    text.truncate(written);
    text.shrink_to_fit();
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_decoded_where_it_lies_is_what_it_would_be_elsewhere(length in 0..10_000usize, cut in 0..5usize, at in any::<prop::sample::Index>(), odd in "[=A-Za-z!]") {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            let text = STANDARD.encode(&bytes).into_bytes();
            prop_assert_eq!(decoded(text.clone()), Some(bytes));
            let mut spoiled = text[..text.len().saturating_sub(cut)].to_vec();
            if !spoiled.is_empty() {
                let at = at.index(spoiled.len());
                spoiled[at] = odd.as_bytes()[0];
            }
            prop_assert_eq!(decoded(spoiled.clone()), STANDARD.decode(&spoiled).ok());
        }
    }
}
