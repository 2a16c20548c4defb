//! AWS's rules beyond the model's constraints, with its texts.

use std::collections::BTreeMap;

use hearth_wire::Error;
use hearth_wire_iam::errors::{invalid_input_exception, limit_exceeded_exception};
use hearth_wire_iam::types::Tag;

/// Tags of one resource.
const TAGS_MAX: usize = 50;

/// A name that the model's length has let through. `member` is as error texts name it.
pub fn name<'a>(member: &str, name: Option<&'a str>) -> Result<&'a str, Error> {
    let name = name.unwrap_or_default();
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)) {
        return Ok(name);
    }
    Err(invalid(format!(
        "The specified value for {member} is invalid. It must contain only alphanumeric characters and/or the following: \
         +=,.@_-"
    )))
}

pub fn invalid(message: impl Into<String>) -> Error {
    Error::new(400, "ValidationError", message)
}

/// `old` with these tags: a key is the same whatever its case.
pub fn tags(old: &BTreeMap<String, String>, given: Option<Vec<Tag>>) -> Result<BTreeMap<String, String>, Error> {
    let (mut all, mut seen) = (old.clone(), Vec::new());
    for Tag { key, value } in given.unwrap_or_default() {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        let lower = key.to_lowercase();
        if seen.contains(&lower) {
            return Err(invalid_input_exception(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
        all.retain(|old, _| old.to_lowercase() != lower);
        all.insert(key, value);
        seen.push(lower);
    }
    if all.len() > TAGS_MAX { Err(quota("TagsPerRole", TAGS_MAX)) } else { Ok(all) }
}

/// `None` where there are none.
pub fn listed_tags(tags: &BTreeMap<String, String>) -> Option<Vec<Tag>> {
    let tag = |(key, value): (&String, &String)| Tag { key: Some(key.clone()), value: Some(value.clone()) };
    Some(tags.iter().map(tag).collect()).filter(|tags: &Vec<Tag>| !tags.is_empty())
}

pub fn quota(name: &str, max: usize) -> Error {
    limit_exceeded_exception(format!("Cannot exceed quota for {name}: {max}"))
}
