//! Which schedules are due when, in memory: what is due next is found without looking at the others. Decisions only.

use std::collections::{BTreeMap, BTreeSet};

use hearth_store::queue::Ms;

use crate::record::Place;

#[derive(Default)]
pub struct Agenda {
    due: BTreeSet<(Ms, Place)>,
    of: BTreeMap<Place, Ms>,
}

impl Agenda {
    /// A schedule is due then, or never.
    pub fn put(&mut self, place: &Place, due: Option<Ms>) {
        let former = match due {
            Some(due) => self.of.insert(place.clone(), due),
            None => self.of.remove(place),
        };
        if let Some(former) = former {
            self.due.remove(&(former, place.clone()));
        }
        if let Some(due) = due {
            self.due.insert((due, place.clone()));
        }
    }

    /// When the first is due.
    pub fn next(&self) -> Option<Ms> {
        self.due.first().map(|(due, _)| *due)
    }

    /// What is due by then, the longest due first.
    pub fn take(&self, now: Ms, limit: usize) -> Vec<Place> {
        self.due.iter().take_while(|(due, _)| *due <= now).take(limit).map(|(_, place)| place.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_due_come_first_and_each_once(told in prop::collection::vec((0..20u8, prop::option::of(0..50u64)), 0..80), now in 0..60u64) {
            let (mut agenda, mut plain) = (Agenda::default(), BTreeMap::new());
            for (name, due) in told {
                let place = Place { partition: "p".into(), group: "g".into(), name: name.to_string() };
                agenda.put(&place, due);
                match due {
                    Some(due) => plain.insert(place, due),
                    None => plain.remove(&place),
                };
            }
            let mut expected: Vec<(Ms, Place)> = plain.iter().map(|(place, due)| (*due, place.clone())).collect();
            expected.sort();
            prop_assert_eq!(agenda.next(), expected.first().map(|(due, _)| *due));
            prop_assert_eq!(agenda.len(), expected.len());
            let expected: Vec<Place> = expected.into_iter().filter(|(due, _)| *due <= now).map(|(_, place)| place).take(7).collect();
            prop_assert_eq!(agenda.take(now, 7), expected);
        }
    }
}
