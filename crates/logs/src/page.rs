//! Pages: how long one is, and the opaque tokens that the next one begins with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_observe::{Position, Way};
use hearth_wire::Error;
use hearth_wire_logs::errors::invalid_parameter_exception as invalid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Digits of a position: as many as AWS's event ids have.
const TIME_DIGITS: usize = 20;
const NUMBER_DIGITS: usize = 36;

pub fn bad_token() -> Error {
    invalid("The specified nextToken is invalid.")
}

/// How many items a page has; constraints were checked.
pub fn size(limit: Option<i64>, usual: usize) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usual)
}

/// Where a list goes on.
pub fn token(mark: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(mark).unwrap_or_default())
}

pub fn mark<T: DeserializeOwned>(token: &str) -> Result<T, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad_token())?;
    serde_json::from_slice(&bytes).map_err(|_| bad_token())
}

/// As an event id: 56 digits that sort as events do.
pub fn digits(position: Position) -> String {
    format!("{:0time$}{:0number$}", position.at.max(0), position.number, time = TIME_DIGITS, number = NUMBER_DIGITS)
}

pub fn position(digits: &str) -> Option<Position> {
    if digits.len() != TIME_DIGITS + NUMBER_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (at, number) = digits.split_at(TIME_DIGITS);
    Some(Position { at: at.parse().ok()?, number: number.parse().ok()? })
}

/// `f/DIGITS/s` goes forwards, `b/DIGITS/s` backwards.
pub fn way_token(way: Way) -> String {
    match way {
        Way::After(position) => format!("f/{}/s", digits(position)),
        Way::Before(position) => format!("b/{}/s", digits(position)),
    }
}

pub fn way(token: &str) -> Result<Way, Error> {
    let inner = token.strip_suffix("/s").unwrap_or(token);
    let (direction, digits) = inner.split_once('/').ok_or_else(bad_token)?;
    let position = position(digits).ok_or_else(bad_token)?;
    match direction {
        "f" => Ok(Way::After(position)),
        "b" => Ok(Way::Before(position)),
        _ => Err(bad_token()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_read_back_as_they_are_written(at in 0..i64::MAX, number in any::<u64>(), forwards in any::<bool>()) {
            let position = Position { at, number };
            let way = if forwards { Way::After(position) } else { Way::Before(position) };
            let token = way_token(way);
            prop_assert_eq!(token.len(), 60);
            prop_assert_eq!(super::way(&token).ok(), Some(way));
        }

        #[test]
        fn digits_sort_as_positions_do(one in (0..i64::MAX, any::<u64>()), other in (0..i64::MAX, any::<u64>())) {
            let position = |(at, number)| Position { at, number };
            let (one, other) = (position(one), position(other));
            prop_assert_eq!(digits(one).cmp(&digits(other)), one.cmp(&other));
        }

        #[test]
        fn no_token_is_trusted(token in "\\PC{0,80}") {
            let _ = (way(&token), mark::<Vec<String>>(&token));
        }
    }
}
