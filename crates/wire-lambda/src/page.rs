//! Pages of lists: where one begins, how long it is, and the opaque token that the next one begins with (spec 1.15).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_wire::Error;

use crate::errors::invalid_parameter_value_exception as invalid;

/// Longest page of most lists, and the length when none is asked for.
pub const MOST: usize = 50;
/// Longest page of lists that the model gives more.
pub const MANY: usize = 10_000;

pub struct Page {
    /// Where the page before ended.
    pub after: Option<String>,
    pub size: usize,
}

impl Page {
    /// `most` is the longest that this list gives.
    pub fn of(marker: Option<&str>, max_items: Option<i64>, most: usize) -> Result<Self, Error> {
        let asked = max_items.and_then(|max| usize::try_from(max).ok());
        let size = asked.map_or(MOST, |asked| asked.clamp(1, most));
        let after = marker.filter(|marker| !marker.is_empty()).map(position).transpose()?;
        Ok(Page { after, size })
    }

    /// The items of this page, and the marker of the next when there are more. `items` begin after [`Page::after`].
    pub fn take<T>(&self, items: impl Iterator<Item = T>, position: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let mut taken: Vec<T> = items.take(self.size + 1).collect();
        if taken.len() <= self.size {
            return (taken, None);
        }
        taken.truncate(self.size);
        let next = taken.last().map(|last| marker(&position(last)));
        (taken, next)
    }
}

fn marker(position: &str) -> String {
    URL_SAFE_NO_PAD.encode(position)
}

fn position(marker: &str) -> Result<String, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(marker).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad_marker)
}

/// A marker that no list has given.
pub fn bad_marker() -> Error {
    invalid("Invalid Marker.")
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_hold_everything_once_and_in_order(names in prop::collection::btree_set("[a-c:$/]{1,4}", 0..40), size in 1..9i64) {
            let mut seen = Vec::new();
            let mut marker: Option<String> = None;
            loop {
                let page = Page::of(marker.as_deref(), Some(size), MOST).ok().unwrap();
                let from = page.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
                let (taken, next) = page.take(names.range((from, Bound::Unbounded)).cloned(), String::clone);
                prop_assert!(taken.len() <= size as usize && (next.is_none() || taken.len() == size as usize));
                seen.extend(taken);
                match next { Some(next) => marker = Some(next), None => break }
            }
            prop_assert_eq!(seen, names.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_marker_is_trusted(marker in "\\PC{0,40}") {
            let _ = Page::of(Some(&marker), None, MOST);
        }
    }
}
