//! Names of queues, and the two ways of naming one elsewhere: its URL, `/ACCOUNT/NAME` on whatever host it was asked for by,
//! and its ARN.

use hearth_wire::{Context, Error};

use crate::refusals::{invalid, no_queue};

/// Characters of a name, `.fifo` included.
const LENGTH_MAX: usize = 80;
pub const FIFO: &str = ".fifo";

/// Where a queue is, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub account: String,
    pub region: String,
    pub name: String,
}

impl Place {
    pub fn own(cx: &Context, name: &str) -> Self {
        Place { account: cx.account.clone(), region: cx.region.clone(), name: name.to_owned() }
    }

    /// Only the path of a URL says which queue it is: the same queue is reached by many hosts.
    pub fn of_url(cx: &Context, url: &str) -> Result<Self, Error> {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        let mut parts = path.trim_matches('/').rsplit('/');
        let (Some(name), account) = (parts.next().filter(|name| !name.is_empty()), parts.next()) else {
            return Err(no_queue());
        };
        let account = account.filter(|account| is_account(account)).unwrap_or(&cx.account);
        Ok(Place { account: account.to_owned(), region: cx.region.clone(), name: name.to_owned() })
    }

    pub fn of_arn(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", _, "sqs", region, account, name] = parts.as_slice() else { return None };
        let is_whole = !region.is_empty() && is_account(account) && check(name, name.ends_with(FIFO)).is_ok();
        is_whole.then(|| Place {
            account: (*account).to_owned(),
            region: (*region).to_owned(),
            name: (*name).to_owned(),
        })
    }

    pub fn url(&self, cx: &Context) -> String {
        format!("{}/{}/{}", cx.origin, self.account, self.name)
    }

    pub fn arn(&self) -> String {
        let partition = match &*self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:sqs:{}:{}:{}", self.region, self.account, self.name)
    }

    pub fn partition(&self) -> String {
        format!("{}/{}", self.account, self.region)
    }
}

pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The suffix is part of the name, and what makes it one of a FIFO queue.
pub fn check(name: &str, fifo: bool) -> Result<(), Error> {
    let stem = if fifo { name.strip_suffix(FIFO).unwrap_or_default() } else { name };
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !stem.is_empty() && name.len() <= LENGTH_MAX && stem.chars().all(is_good) {
        return Ok(());
    }
    Err(invalid(if fifo {
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo \
         suffix and be 1 to 80 in length."
    } else {
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_where_the_path_of_its_url_says_on_any_host() {
        let cx = Context::new("000000000000", "eu-west-1", "r", "http://h", None);
        let place = |url: &str| Place::of_url(&cx, url).ok().map(|place| (place.account, place.name));
        let found = |account: &str, name: &str| Some((account.to_owned(), name.to_owned()));
        assert_eq!(place("http://127.0.0.1:4566/123456789012/q"), found("123456789012", "q"));
        assert_eq!(place("/123456789012/q.fifo"), found("123456789012", "q.fifo"));
        assert_eq!(place("q"), found("000000000000", "q"));
        assert_eq!(place("http://host"), None);
        assert_eq!(Place::of_arn("arn:aws:sqs:r:123456789012:q").unwrap().arn(), "arn:aws:sqs:r:123456789012:q");
        assert!(Place::of_arn("arn:aws:sns:r:123456789012:q").is_none());
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(check("a-B_9", false).is_ok() && check("a.fifo", true).is_ok());
        assert!(check("a.fifo", false).is_err() && check("a", true).is_err() && check(".fifo", true).is_err());
        assert!(check(&"a".repeat(81), false).is_err() && check("", false).is_err());
    }
}
