//! `X-Amzn-Trace-Id`: which trace an invocation belongs to (spec 9.2).

use crate::{FunctionArn, Lineage};

/// Longest `Lineage` that is passed on.
const LINEAGE_MAX: usize = 256;
const LINEAGE: &str = ";Lineage=";

/// A trace header, as the runtime sees it and as the caller gets it back.
#[derive(Debug, PartialEq, Eq)]
pub struct Trace {
    pub for_runtime: String,
    pub for_caller: String,
}

impl Trace {
    /// Takes the caller's trace header up, or makes one. `now_s` is the time in seconds; `chance` 128 random bits.
    pub fn of(given: Option<&str>, now_s: u64, chance: u128) -> Self {
        let part = |name: &str| {
            let mut parts = given.unwrap_or_default().split(';').filter_map(|part| part.trim().split_once('='));
            parts.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let (own_root, own_segment) = (chance >> 32, chance as u64);
        let root = match part("Root").filter(|root| is_root(root)) {
            Some(root) => root.to_owned(),
            None => format!("1-{now_s:08x}-{own_root:024x}"),
        };
        let sampled = part("Sampled").filter(|sampled| matches!(*sampled, "0" | "1")).unwrap_or("0");
        let lineage = part("Lineage").filter(|lineage| lineage.len() <= LINEAGE_MAX);
        let lineage = lineage.map(|lineage| format!("{LINEAGE}{lineage}")).unwrap_or_default();
        Trace {
            for_runtime: format!("Root={root};Parent={own_segment:016x};Sampled={sampled}{lineage}"),
            for_caller: format!("Root={root};Sampled={sampled}"),
        }
    }

    /// A run of a function begins: see [`Lineage::enter`].
    pub fn enter(&mut self, function: &FunctionArn, again: bool) -> u32 {
        let mut lineage = Self::lineage(&self.for_runtime);
        let runs = lineage.enter(function, again);
        let end = self.for_runtime.find(LINEAGE).unwrap_or(self.for_runtime.len());
        self.for_runtime.truncate(end);
        self.for_runtime += LINEAGE;
        self.for_runtime += &lineage.written();
        runs
    }

    /// What a header that was made here says of its chain.
    pub fn lineage(header: &str) -> Lineage {
        header.split_once(LINEAGE).map(|(_, lineage)| Lineage::parse(lineage)).unwrap_or_default()
    }
}

/// `1-` 8 hex digits `-` 24 hex digits.
fn is_root(text: &str) -> bool {
    let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts.as_slice(), ["1", time, chance] if is_hex(time, 8) && is_hex(chance, 24))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "1-67891233-abcdef012345678912345678";

    #[test]
    fn a_trace_is_taken_up_with_a_segment_of_its_own() {
        let given = format!("Sampled=1; Root={ROOT};Parent=53995c3f42cd8ad8;Lineage=1:abcd1234:0;Other=x");
        let trace = Trace::of(Some(&given), 0, 0x11);
        assert_eq!(trace.for_runtime, format!("Root={ROOT};Parent=0000000000000011;Sampled=1;Lineage=1:abcd1234:0"));
        assert_eq!(trace.for_caller, format!("Root={ROOT};Sampled=1"));
    }

    #[test]
    fn without_a_trace_one_is_made_and_not_sampled() {
        for given in [None, Some("Root=nonsense"), Some("Root=1-0-0;Sampled=maybe")] {
            let trace = Trace::of(given, 0x6789_1233, 0xabcd_ef01_2345_6789_1234_5678_0000_0001);
            assert_eq!(trace.for_caller, "Root=1-67891233-abcdef012345678912345678;Sampled=0");
            assert!(trace.for_runtime.contains(";Parent=1234567800000001;Sampled=0"), "{}", trace.for_runtime);
        }
    }

    proptest! {
        #[test]
        fn no_trace_header_breaks_the_line(given in "[ -~]{0,80}") {
            let trace = Trace::of(Some(&given), 1, 2);
            prop_assert!(trace.for_runtime.starts_with("Root=1-") && trace.for_runtime.len() < 400);
        }
    }
}
