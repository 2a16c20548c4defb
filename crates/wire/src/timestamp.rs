/// A moment as XML protocols write it: ISO 8601, whole seconds. Seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_second(self.0) {
            Ok(moment) => serializer.collect_str(&moment),
            Err(error) => Err(serde::ser::Error::custom(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_iso_8601() {
        assert_eq!(serde_json::to_value(Timestamp(1_767_225_600)).unwrap(), "2026-01-01T00:00:00Z");
    }
}
