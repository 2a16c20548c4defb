//! How two values are compared, in filter patterns as in queries.

use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Is,
    IsNot,
    Less,
    LessOrIs,
    More,
    MoreOrIs,
}

impl Comparison {
    /// The one that comes next in a text; `take` takes a symbol when it does.
    pub fn read(mut take: impl FnMut(&str) -> bool) -> Option<Self> {
        // Longer ones first.
        const ALL: [(&str, Comparison); 6] = [
            ("!=", Comparison::IsNot),
            ("<=", Comparison::LessOrIs),
            (">=", Comparison::MoreOrIs),
            ("=", Comparison::Is),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        ALL.into_iter().find(|(text, _)| take(text)).map(|(_, comparison)| comparison)
    }

    /// Whether it holds of values in this order; `None` for those that have none.
    pub fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Comparison::Is => order == Some(Ordering::Equal),
            Comparison::IsNot => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrIs => order.is_some_and(Ordering::is_le),
            Comparison::More => order == Some(Ordering::Greater),
            Comparison::MoreOrIs => order.is_some_and(Ordering::is_ge),
        }
    }
}
