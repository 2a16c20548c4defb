//! What a request wants to be true first: `If-Match` and its like, in the order of RFC 9110.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::error;

/// Of a read. The names are those of the headers.
#[derive(Default)]
pub struct Reading {
    pub matches: Option<ETagCondition>,
    pub none_match: Option<ETagCondition>,
    pub modified_since: Option<Timestamp>,
    pub unmodified_since: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Go,
    NotModified,
    Failed,
}

impl Reading {
    /// For GET and HEAD.
    pub fn check(&self, etag: &str, modified_ms: u64) -> S3Result<()> {
        match self.judge(etag, modified_ms) {
            Verdict::Go => Ok(()),
            Verdict::NotModified => Err(error::not_modified(etag)),
            Verdict::Failed => Err(error::precondition()),
        }
    }

    /// For the source of a copy, where nothing can be left unanswered.
    pub fn check_source(&self, etag: &str, modified_ms: u64) -> S3Result<()> {
        if self.judge(etag, modified_ms) == Verdict::Go { Ok(()) } else { Err(error::precondition()) }
    }

    fn judge(&self, etag: &str, modified_ms: u64) -> Verdict {
        // Times of HTTP are whole seconds.
        let modified = Timestamp::from(UNIX_EPOCH + Duration::from_secs(modified_ms / 1000));
        match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) if !meets(condition, etag) => return Verdict::Failed,
            (None, Some(since)) if modified > *since => return Verdict::Failed,
            _ => {}
        }
        match (&self.none_match, &self.modified_since) {
            (Some(condition), _) if meets(condition, etag) => Verdict::NotModified,
            (None, Some(since)) if modified <= *since => Verdict::NotModified,
            _ => Verdict::Go,
        }
    }
}

fn meets(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

/// Of a write; `current` is the tag of what is there.
pub fn of_write(
    matches: Option<&ETagCondition>,
    none_match: Option<&ETagCondition>,
    current: Option<&str>,
) -> S3Result<()> {
    match none_match {
        None => {}
        Some(ETagCondition::Any) if current.is_some() => return Err(error::precondition()),
        Some(ETagCondition::Any) => {}
        Some(ETagCondition::ETag(_)) => {
            let message = "A header you provided implies functionality that is not implemented";
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, message));
        }
    }
    match (matches, current) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(error::no_key()),
        (Some(condition), Some(etag)) if meets(condition, etag) => Ok(()),
        _ => Err(error::precondition()),
    }
}

pub fn strong(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Option<Timestamp> {
        Some(Timestamp::from(UNIX_EPOCH + Duration::from_secs(second)))
    }

    fn tag(text: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(strong(text)))
    }

    #[test]
    fn a_tag_goes_before_a_time() {
        let judge = |reading: Reading| reading.judge("a", 10_500);
        assert_eq!(judge(Reading::default()), Verdict::Go);
        assert_eq!(judge(Reading { matches: tag("b"), ..Reading::default() }), Verdict::Failed);
        assert_eq!(judge(Reading { matches: tag("a"), unmodified_since: at(5), ..Reading::default() }), Verdict::Go);
        assert_eq!(judge(Reading { unmodified_since: at(9), ..Reading::default() }), Verdict::Failed);
        assert_eq!(judge(Reading { unmodified_since: at(10), ..Reading::default() }), Verdict::Go);
        assert_eq!(judge(Reading { none_match: tag("a"), ..Reading::default() }), Verdict::NotModified);
        assert_eq!(judge(Reading { none_match: tag("b"), modified_since: at(20), ..Reading::default() }), Verdict::Go);
        assert_eq!(judge(Reading { modified_since: at(10), ..Reading::default() }), Verdict::NotModified);
        assert_eq!(judge(Reading { modified_since: at(9), ..Reading::default() }), Verdict::Go);
    }

    #[test]
    fn a_write_may_want_that_there_is_nothing_or_that_it_is_this() {
        assert!(of_write(None, Some(&ETagCondition::Any), None).is_ok());
        assert!(of_write(None, Some(&ETagCondition::Any), Some("a")).is_err());
        assert!(of_write(tag("a").as_ref(), None, Some("a")).is_ok());
        assert!(of_write(tag("a").as_ref(), None, Some("b")).is_err());
        assert!(of_write(tag("a").as_ref(), None, None).is_err());
        assert!(of_write(None, tag("a").as_ref(), None).is_err());
    }
}
