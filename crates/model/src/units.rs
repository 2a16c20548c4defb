//! Quantities with their unit in the type.

use std::fmt;
use std::time::Duration;

/// An amount of memory or disk, in whole mebibytes (what AWS calls MB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Memory(u32);

impl Memory {
    pub const fn mib(mib: u32) -> Self {
        Memory(mib)
    }

    pub const fn as_mib(self) -> u32 {
        self.0
    }

    pub const fn as_bytes(self) -> u64 {
        self.0 as u64 * 1024 * 1024
    }

    /// Whole mebibytes that hold `bytes`, rounded up.
    pub const fn from_bytes_ceil(bytes: u64) -> Self {
        Memory(bytes.div_ceil(1024 * 1024) as u32)
    }

    /// CPU share in proportion to memory: 1,769 MB is one CPU (AWS documentation), in thousandths of a CPU.
    pub const fn millicpus(self) -> u64 {
        self.0 as u64 * 1000 / 1769
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB", self.0)
    }
}

/// A duration printed as AWS's log lines print it: milliseconds with two decimals (`3.01 ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub Duration);

impl Millis {
    /// Rounded up to 1 ms: the unit AWS bills in.
    pub const fn billed(self) -> u64 {
        self.0.as_nanos().div_ceil(1_000_000) as u64
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms", self.0.as_secs_f64() * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cpu_is_1769_megabytes() {
        assert_eq!(Memory::mib(1769).millicpus(), 1000);
        assert_eq!(Memory::mib(128).millicpus(), 72);
    }

    #[test]
    fn durations_print_with_two_decimals_and_are_billed_rounded_up() {
        let d = Millis(Duration::from_micros(3_010));
        assert_eq!(d.to_string(), "3.01 ms");
        assert_eq!(d.billed(), 4);
        assert_eq!(Millis(Duration::from_millis(3)).billed(), 3);
        assert_eq!(Millis(Duration::ZERO).billed(), 0);
    }
}
