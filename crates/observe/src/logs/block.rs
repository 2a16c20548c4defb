//! Events of one stream, as a file keeps them: many in one row, so that a line costs bytes and not a row.
//!
//! A block is short in time ([`SPAN`]), which makes "which blocks may hold this moment" a range of one index. Inside,
//! events stand in the order in which they were appended, each as four numbers and its text:
//!
//! ```text
//! number − number before · at − block's begin · ingested − at · length · message
//! ```

use bytes::Bytes;

/// Longest time between the earliest and the latest event of a block, milliseconds.
pub const SPAN: i64 = 1000;
/// Text after which a block ends, bytes.
const BYTES_MAX: usize = 256 * 1024;

/// An event as a block holds it: `M` is its text. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<M = Bytes> {
    pub number: u64,
    pub at: i64,
    pub ingested: i64,
    pub message: M,
}

/// A block to be written.
pub struct Block {
    pub from: i64,
    pub events: usize,
    pub data: Vec<u8>,
}

/// The largest number of `entries` that are one block: all of one day, within span and size. At least one.
pub fn cut(entries: &[Entry]) -> usize {
    let (mut first, mut last, mut bytes) = (i64::MAX, i64::MIN, 0);
    let fits = |entry: &&Entry| {
        first = first.min(entry.at);
        last = last.max(entry.at);
        bytes += entry.message.len();
        last - first <= SPAN && day(first) == day(last) && bytes <= BYTES_MAX
    };
    entries.iter().take_while(fits).count().max(1)
}

/// The day of a moment, counted from 1970.
pub fn day(at: i64) -> i64 {
    at.div_euclid(86_400_000)
}

pub fn pack(entries: &[Entry]) -> Block {
    let from = entries.iter().map(|entry| entry.at).min().unwrap_or_default();
    let mut data = Vec::with_capacity(entries.iter().map(|entry| entry.message.len() + 8).sum());
    let mut before = 0;
    for entry in entries {
        put(&mut data, entry.number - before);
        put(&mut data, (entry.at - from).cast_unsigned());
        put(&mut data, zigzag(entry.ingested - entry.at));
        put(&mut data, entry.message.len() as u64);
        data.extend_from_slice(&entry.message);
        before = entry.number;
    }
    Block { from, events: entries.len(), data }
}

/// The entries of a block that begins at `from`. Ends at what is no entry: a file may be damaged.
pub fn unpack(from: i64, data: &[u8]) -> impl Iterator<Item = Entry<&[u8]>> {
    let (mut at, mut number) = (0, 0_u64);
    std::iter::from_fn(move || {
        number = number.checked_add(take(data, &mut at)?)?;
        let moment = from.checked_add_unsigned(take(data, &mut at)?)?;
        let ingested = moment.checked_add(unzigzag(take(data, &mut at)?))?;
        let length = usize::try_from(take(data, &mut at)?).ok()?;
        let end = at.checked_add(length)?;
        let message = data.get(at..end)?;
        at = end;
        Some(Entry { number, at: moment, ingested, message })
    })
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Seven bits a byte, the least first.
fn put(data: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        data.push(value as u8 | 0x80);
        value >>= 7;
    }
    data.push(value as u8);
}

fn take(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn entries()(seed in prop::collection::vec((1..300_u64, -2_000..2_000_i64, -5_000..5_000_i64, prop::collection::vec(any::<u8>(), 0..50)), 1..60)) -> Vec<Entry> {
            let (mut number, mut at) = (0, 1_767_225_600_000);
            seed.into_iter().map(|(step, later, ingested, message)| {
                number += step;
                at += later;
                Entry { number, at, ingested: at + ingested, message: message.into() }
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn blocks_hold_every_event_within_their_span(entries in entries()) {
            let mut rest = &entries[..];
            let mut found = Vec::new();
            while !rest.is_empty() {
                let (these, others) = rest.split_at(cut(rest));
                let block = pack(these);
                prop_assert_eq!(block.events, these.len());
                let owned = |entry: Entry<&[u8]>| Entry {
                    number: entry.number,
                    at: entry.at,
                    ingested: entry.ingested,
                    message: Bytes::copy_from_slice(entry.message),
                };
                let unpacked: Vec<Entry> = unpack(block.from, &block.data).map(owned).collect();
                prop_assert!(unpacked.iter().all(|entry| (block.from..=block.from + SPAN).contains(&entry.at) && day(entry.at) == day(block.from)));
                found.extend(unpacked);
                rest = others;
            }
            prop_assert_eq!(found, entries);
        }

        #[test]
        fn damaged_blocks_end_early(from in any::<i64>(), data in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unpack(from, &data).count() <= 50);
        }
    }
}
