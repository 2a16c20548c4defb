//! Versions of packages, and which is later (deb-version(7)): numbers by their value, letters before other characters,
//! and `~` before everything, even the end.

use std::cmp::Ordering;

/// Compares two versions.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (parts(one), parts(other));
    let epoch = |text: &str| text.parse().unwrap_or(0u64);
    epoch(one.0).cmp(&epoch(other.0)).then_with(|| part(one.1, other.1)).then_with(|| part(one.2, other.2))
}

/// What its makers call it: `3.13.5` of `3.13.5-2+deb13u5`, `18.20.4` of `1:18.20.4+dfsg-1~deb12u2`.
pub fn upstream(version: &str) -> &str {
    let (_, upstream, _) = parts(version);
    upstream.split(['+', '~']).next().unwrap_or(upstream)
}

/// Epoch, upstream version, revision.
fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

fn part(mut one: &str, mut other: &str) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        let (text, number) = (text_length(one), text_length(other));
        let (one_text, other_text) = (&one.as_bytes()[..text], &other.as_bytes()[..number]);
        let differs = (0..text.max(number))
            .map(|at| weight(one_text.get(at)).cmp(&weight(other_text.get(at))))
            .find(|order| order.is_ne());
        if let Some(order) = differs {
            return order;
        }
        (one, other) = (&one[text..], &other[number..]);
        let (one_digits, other_digits) = (digits(one), digits(other));
        let (value, other_value) = (one_digits.trim_start_matches('0'), other_digits.trim_start_matches('0'));
        let order = value.len().cmp(&other_value.len()).then_with(|| value.cmp(other_value));
        if order.is_ne() {
            return order;
        }
        (one, other) = (&one[one_digits.len()..], &other[other_digits.len()..]);
    }
    Ordering::Equal
}

fn text_length(text: &str) -> usize {
    text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len())
}

fn digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

/// Where a character stands; the end stands after `~`.
fn weight(byte: Option<&u8>) -> u16 {
    match byte {
        Some(b'~') => 0,
        None => 1,
        Some(letter) if letter.is_ascii_alphabetic() => u16::from(*letter),
        Some(other) => u16::from(*other) + 256,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_later_of_two_versions_is_known() {
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0.1~rc1",
            "0.1",
            "0.1-1",
            "0.1-1+b1",
            "0.1-1.1",
            "0.1-2",
            "0.2",
            "0.10",
            "1.0a",
            "1.0+dfsg",
            "1.0.1",
            "1.0.01-1",
            "2.31-13+deb11u10",
            "2.31-13+deb11u11",
            "1:0.1",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (beside, other) in ascending.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&beside), "{one} {other}");
            }
        }
        assert_eq!(compare("1.0", "0:1.00"), Ordering::Equal);
        assert_eq!(compare("1.0-0", "1.0"), Ordering::Equal);
    }

    #[test]
    fn what_its_makers_call_it_is_without_what_distributors_add() {
        for (version, expected) in [
            ("3.13.5-2+deb13u5", "3.13.5"),
            ("1:18.20.4+dfsg-1~deb12u2", "18.20.4"),
            ("3.14.8-1", "3.14.8"),
            ("2", "2"),
        ] {
            assert_eq!(upstream(version), expected);
        }
    }

    proptest! {
        #[test]
        fn versions_are_in_one_order(one in "[0-9a~.+:-]{0,8}", other in "[0-9a~.+:-]{0,8}", third in "[0-9a~.+:-]{0,8}") {
            prop_assert_eq!(compare(&one, &other), compare(&other, &one).reverse());
            prop_assert_eq!(compare(&one, &one), Ordering::Equal);
            if compare(&one, &other).is_le() && compare(&other, &third).is_le() {
                prop_assert!(compare(&one, &third).is_le());
            }
        }
    }
}
