//! Loops of functions: how often one has been run in one chain of requests, and when that is too often (spec 9.1).
//!
//! The number travels in the trace header, `Lineage=1:HASH:COUNT|HASH:COUNT`, counted up with each run that a service
//! begins for what a function has sent it. SDKs of AWS pass the header on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::{FunctionArn, Trace};

/// Runs of one function in one chain; the next is cut.
pub const LOOPS_MAX: u32 = 16;
/// Functions of a chain that are counted. Of more, those that ran least are forgotten.
const ENTRIES_MAX: usize = 14;
/// Highest count that is written.
const COUNT_MAX: u32 = 65_535;

/// How often each function of a chain has been run again, by a hash of its ARN. 0 is the first run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    entries: Vec<(String, u32)>,
}

impl Lineage {
    /// What cannot be read counts nothing.
    pub fn parse(text: &str) -> Self {
        let entry = |part: &str| {
            let (rest, count) = part.rsplit_once(':')?;
            // In front of the first one may stand the version.
            let hash = rest.rsplit(':').next().filter(|hash| !hash.is_empty())?;
            Some((hash.to_owned(), count.parse().ok()?))
        };
        let mut entries: Vec<(String, u32)> = text.split('|').filter_map(entry).collect();
        entries.truncate(ENTRIES_MAX);
        Lineage { entries }
    }

    /// A run of a function begins. With `again` it counts, else only that there was one. Answers how often it has been run
    /// before, as far as that counts.
    pub fn enter(&mut self, function: &FunctionArn, again: bool) -> u32 {
        let hash = hash(function);
        if let Some((_, count)) = self.entries.iter_mut().find(|(of, _)| *of == hash) {
            *count = (*count + u32::from(again)).min(COUNT_MAX);
            return *count;
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            self.entries.truncate(ENTRIES_MAX - 1);
        }
        self.entries.push((hash, 0));
        0
    }

    pub fn written(&self) -> String {
        let entries: Vec<String> = self.entries.iter().map(|(hash, count)| format!("{hash}:{count}")).collect();
        format!("1:{}", entries.join("|"))
    }
}

/// Eight hex digits for a function, whatever its version (FNV-1a).
fn hash(function: &FunctionArn) -> String {
    let text = function.unqualified().to_string();
    let hash = text.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// How a run comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Somebody called the function.
    Called,
    /// A service runs it for what it was sent.
    Sent,
}

/// A run was cut: the function had been run so often in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function was run {runs} times in one chain of requests")]
pub struct LoopCut {
    pub runs: u32,
}

/// Cuts loops, and counts what it has cut.
#[derive(Default)]
pub struct Guard {
    /// Also loops of functions that call one another.
    all: bool,
    cut: Mutex<BTreeMap<FunctionArn, u64>>,
}

impl Guard {
    pub fn new(all: bool) -> Self {
        Guard { all, cut: Mutex::default() }
    }

    /// Whether calls count, too.
    pub fn means_all(&self) -> bool {
        self.all
    }

    /// A run of a function is about to begin: its trace says so from here on. `allowed`: its owner wants loops. Answers how
    /// often it has been run before, as far as that counts.
    pub fn enter(
        &self,
        trace: &mut Trace,
        function: &FunctionArn,
        way: Way,
        allowed: impl FnOnce() -> bool,
    ) -> Result<u32, LoopCut> {
        let counts = way == Way::Sent || self.all;
        let runs = trace.enter(function, counts);
        if !counts || runs < LOOPS_MAX || allowed() {
            return Ok(runs);
        }
        self.count(function);
        Err(LoopCut { runs })
    }

    /// Whether a run that has entered already must not begin.
    pub fn cuts(&self, trace: &str, function: &FunctionArn, allowed: impl FnOnce() -> bool) -> Result<(), LoopCut> {
        if !self.all {
            return Ok(());
        }
        let runs = Trace::lineage(trace).enter(function, false);
        if runs < LOOPS_MAX || allowed() {
            return Ok(());
        }
        self.count(function);
        Err(LoopCut { runs })
    }

    fn count(&self, function: &FunctionArn) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        *cut.entry(function.unqualified()).or_default() += 1;
    }

    /// Runs that were cut, by function.
    pub fn counted(&self) -> BTreeMap<FunctionArn, u64> {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{AccountId, FunctionName, Qualifier, Region};

    fn arn(name: &str) -> FunctionArn {
        let (account, region) = (AccountId::default_account(), Region::default_region());
        FunctionArn { account, region, name: FunctionName::parse(name).unwrap(), qualifier: None }
    }

    #[test]
    fn a_loop_runs_sixteen_times_and_then_no_more() {
        let guard = Guard::new(false);
        let mut given: Option<String> = None;
        let mut runs = 0;
        loop {
            let mut trace = Trace::of(given.as_deref(), 0, 7);
            // Between two runs the header goes through another function.
            if guard.enter(&mut trace, &arn("loop"), Way::Sent, || false).is_err() {
                break;
            }
            runs += 1;
            guard.enter(&mut trace, &arn("other"), Way::Called, || false).unwrap();
            given = Some(trace.for_runtime);
        }
        assert_eq!((runs, guard.counted().get(&arn("loop"))), (16, Some(&1)));
        let mut trace = Trace::of(given.as_deref(), 0, 7);
        assert!(guard.enter(&mut trace, &arn("loop"), Way::Sent, || true).is_ok());
    }

    #[test]
    fn calls_count_only_where_all_loops_are_meant() {
        for (all, expected) in [(false, 40), (true, 16)] {
            let guard = Guard::new(all);
            let mut trace = Trace::of(None, 0, 7);
            let mut enter = || guard.enter(&mut trace, &arn("f"), Way::Called, || false);
            let runs = (0..40).take_while(|_| enter().is_ok()).count();
            assert_eq!(runs, expected);
        }
    }

    #[test]
    fn versions_of_a_function_are_one_function_and_the_first_count_is_zero() {
        let mut lineage = Lineage::default();
        assert_eq!(lineage.enter(&arn("f").qualified(Qualifier::new("7")), true), 0);
        assert!(lineage.written().starts_with("1:") && lineage.written().ends_with(":0"));
        assert_eq!(lineage.enter(&arn("f"), true), 1);
        assert_eq!(Lineage::parse("foo:1|bar:65535").entries, [("foo".to_owned(), 1), ("bar".to_owned(), 65_535)]);
        assert_eq!(Lineage::parse("1:abcd1234:0").entries, [("abcd1234".to_owned(), 0)]);
    }

    proptest! {
        #[test]
        fn whatever_is_given_what_is_written_reads_the_same_and_is_short(given in "[ -~]{0,300}", names in proptest::collection::vec("[a-z]{1,3}", 0..30)) {
            let mut lineage = Lineage::parse(&given);
            for name in names {
                lineage.enter(&arn(&name), true);
            }
            prop_assert!(lineage.entries.len() <= ENTRIES_MAX);
            prop_assert_eq!(&Lineage::parse(&lineage.written()), &lineage);
        }
    }
}
