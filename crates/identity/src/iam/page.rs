//! Pages of lists: where one begins, how long it is, and the opaque marker that the next one begins with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_model::AccountId;
use hearth_wire::Error;
use serde::de::DeserializeOwned;

use super::check::invalid;
use crate::identity::Identity;

const SIZE: usize = 100;
const SIZE_MAX: usize = 1000;
/// Records that are read at a time.
const CHUNK: usize = 100;

pub struct Page {
    /// Where the page before ended.
    pub after: Option<String>,
    pub size: usize,
}

/// What a page holds.
pub struct Cut<T> {
    pub items: Vec<T>,
    pub is_truncated: Option<bool>,
    pub marker: Option<String>,
}

impl Page {
    pub fn of(marker: Option<&str>, max_items: Option<i64>) -> Result<Self, Error> {
        let asked = max_items.and_then(|max| usize::try_from(max).ok());
        let size = asked.map_or(SIZE, |asked| asked.clamp(1, SIZE_MAX));
        let after = marker.map(|marker| {
            let bytes = URL_SAFE_NO_PAD.decode(marker).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| invalid("Invalid Marker."))
        });
        Ok(Page { after: after.transpose()?, size })
    }

    /// Of items with their positions, ascending; those before the page are left out here.
    pub fn cut<T>(&self, items: impl IntoIterator<Item = (String, T)>) -> Cut<T> {
        let items = items.into_iter().filter(|(position, _)| self.after.as_ref().is_none_or(|after| position > after));
        self.ended(items.take(self.size + 1).collect())
    }

    /// `found` is one longer than the page when there are more.
    pub fn ended<T>(&self, mut found: Vec<(String, T)>) -> Cut<T> {
        let more = found.len() > self.size;
        found.truncate(self.size);
        let marker = found.last().filter(|_| more).map(|(position, _)| URL_SAFE_NO_PAD.encode(position));
        let items = found.into_iter().map(|(_, item)| item).collect();
        Cut { items, is_truncated: Some(more), marker }
    }
}

impl Identity {
    /// Up to `size + 1` records after `after` that are wanted, with their ids.
    pub(super) async fn scan<T: DeserializeOwned>(
        &self,
        account: &AccountId,
        kind: &'static str,
        mut after: Option<String>,
        size: usize,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<(String, T)>, Error> {
        let mut found = Vec::new();
        while found.len() <= size {
            let chunk = self.list::<T>(account, kind, after, CHUNK).await?;
            let is_last = chunk.len() < CHUNK;
            after = chunk.last().map(|(id, _)| id.clone());
            found.extend(chunk.into_iter().filter(|(_, value)| wanted(value)).take(size + 1 - found.len()));
            if is_last {
                break;
            }
        }
        Ok(found)
    }
}
