//! Patterns: `*` is any text, `?` any one character.

/// Linear in time whatever the pattern: only the last `*` is ever tried again.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

/// As [`matches`], whatever the case.
pub fn matches_any_case(pattern: &str, text: &str) -> bool {
    matches(&pattern.to_lowercase(), &text.to_lowercase())
}

/// ARNs, part by part: `*` does not reach over the first five colons.
pub fn matches_arn(pattern: &str, arn: &str) -> bool {
    let (wanted, parts): (Vec<&str>, Vec<&str>) = (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    wanted.len() == 6 && parts.len() == 6 && wanted.iter().zip(&parts).all(|(wanted, part)| matches(wanted, part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.com*", "x.com.com", true),
            ("lambda:*", "lambda:InvokeFunction", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(matches_arn("arn:aws:lambda:*:1:function:*", "arn:aws:lambda:us-east-1:1:function:f:2"));
        assert!(!matches_arn("arn:aws:*:function:f", "arn:aws:lambda:us-east-1:1:function:f"));
    }

    proptest! {
        #[test]
        fn every_text_matches_itself_and_every_cut_of_it(text in "[a-c]{0,12}", from in 0..12usize, length in 0..12usize) {
            prop_assert!(matches(&text, &text));
            let (from, to) = (from.min(text.len()), (from + length).min(text.len()));
            let pattern = [&text[..from], &text[to.max(from)..]].join("*");
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn it_agrees_with_a_regular_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn slow(p: &[u8], t: &[u8]) -> bool {
                match (p.first(), t.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => slow(&p[1..], t) || (!t.is_empty() && slow(p, &t[1..])),
                    (Some(b'?'), Some(_)) => slow(&p[1..], &t[1..]),
                    (Some(a), Some(b)) if a == b => slow(&p[1..], &t[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
