//! Pages of lists, and the opaque token that the next one begins with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_store::{Record, Records};
use hearth_wire::Error;
use hearth_wire_scheduler::errors::validation_exception as invalid;

use crate::schedules::unstored;

/// Longest page, and the length when none is asked for.
const MOST: usize = 100;
/// Records that are read at once: a schedule's input is up to 256 KB.
const READ: usize = 50;

pub struct List<'a> {
    pub partition: &'a str,
    pub kind: &'static str,
    /// Ids that begin so.
    pub prefix: String,
    pub token: Option<&'a str>,
    pub max: Option<i64>,
}

impl List<'_> {
    /// The page of what `wanted` makes something of, and the token of the next when there is more.
    pub async fn read<T>(
        &self,
        records: &dyn Records,
        wanted: impl Fn(&Record) -> Option<T>,
    ) -> Result<(Vec<T>, Option<String>), Error> {
        let size = self.max.and_then(|max| usize::try_from(max).ok()).map_or(MOST, |max| max.clamp(1, MOST));
        let begin = (!self.prefix.is_empty()).then(|| self.prefix.clone());
        let mut after = self.token.map(position).transpose()?.max(begin);
        let (mut items, mut last) = (Vec::new(), String::new());
        loop {
            let page = records.list(self.partition.to_owned(), self.kind, after, READ).await.map_err(unstored)?;
            for record in &page {
                if !record.id.starts_with(&self.prefix) {
                    return Ok((items, None));
                }
                let Some(item) = wanted(record) else { continue };
                if items.len() == size {
                    return Ok((items, Some(URL_SAFE_NO_PAD.encode(last))));
                }
                items.push(item);
                last.clone_from(&record.id);
            }
            match page.last() {
                Some(read) if page.len() == READ => after = Some(read.id.clone()),
                _ => return Ok((items, None)),
            }
        }
    }
}

fn position(token: &str) -> Result<String, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| invalid("Invalid NextToken."))
}
