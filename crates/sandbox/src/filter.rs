//! The system calls that functions may make: an allow-list, compiled to one program that the kernel runs at each call.
//!
//! `calls` is the table, `rules` says which arguments are allowed. `clone3` answers `ENOSYS`, because a filter cannot
//! look into its argument; every C library then falls back to `clone`, whose flags are checked: no new namespaces. Left
//! out on purpose: mounts, modules, `bpf`, `io_uring`, `userfaultfd`, keys, `ptrace` and its kin, `perf_event_open`,
//! `kexec`, `reboot`, swap, accounting, clock setting, System V and POSIX message queues.
//!
//! The program finds a number by binary search, in about eight steps: the kernel runs it once for every number when it is
//! installed, to learn which calls are always allowed and need not be looked at again.

mod calls;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use libc::{ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS};
use seccompiler::{BpfProgram, Error, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter};

use calls::{Arguments, CALLS, Call, NEWEST};
use rules::{Condition, Rules, Test};

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    #[cfg_attr(not(any(test, target_arch = "x86_64")), expect(dead_code))]
    X86_64,
    #[cfg_attr(not(any(test, target_arch = "aarch64")), expect(dead_code))]
    Aarch64,
}

impl Architecture {
    #[cfg(target_arch = "x86_64")]
    const HERE: Self = Architecture::X86_64;
    #[cfg(target_arch = "aarch64")]
    const HERE: Self = Architecture::Aarch64;

    /// As the kernel names it to a filter: ELF machine, 64 bits, little-endian.
    const fn audit(self) -> u32 {
        0xc000_0000
            | match self {
                Architecture::X86_64 => 62,
                Architecture::Aarch64 => 183,
            }
    }

    const fn number(self, call: &Call) -> Option<u32> {
        match self {
            Architecture::X86_64 => call.x86_64,
            Architecture::Aarch64 => call.aarch64,
        }
    }
}

/// The filter of this machine's architecture.
pub fn compile() -> Result<BpfProgram, Error> {
    compile_for(Architecture::HERE)
}

/// What is to be done about a range of numbers.
#[derive(Clone, Copy)]
enum Verdict {
    Return(u32),
    Look(&'static Rules),
}

const fn errno(error: i32) -> u32 {
    SECCOMP_RET_ERRNO | error.cast_unsigned()
}

fn compile_for(architecture: Architecture) -> Result<BpfProgram, Error> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        jump(JUMP_EQUAL, architecture.audit(), 1, 0),
        statement(RETURN, SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER),
    ];
    program.extend(search(&ranges(architecture))?);
    Ok(program)
}

/// Every number there is, as ranges with one verdict each: first number, verdict.
fn ranges(architecture: Architecture) -> Vec<(u32, Verdict)> {
    let known: BTreeMap<u32, &Call> =
        CALLS.iter().filter_map(|call| Some((architecture.number(call)?, call))).collect();
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=NEWEST {
        let verdict = match known.get(&number).map(|call| &call.arguments) {
            Some(Arguments::Any) => Verdict::Return(SECCOMP_RET_ALLOW),
            Some(Arguments::Only(rules)) => Verdict::Look(rules),
            Some(Arguments::Never(error)) => Verdict::Return(errno(*error)),
            None => Verdict::Return(errno(EPERM)),
        };
        match (ranges.last(), verdict) {
            (Some((_, Verdict::Return(last))), Verdict::Return(this)) if *last == this => {}
            _ => ranges.push((number, verdict)),
        }
    }
    // The table's own end; also the numbers of the x32 variant, which begin far above.
    ranges.push((NEWEST + 1, Verdict::Return(errno(ENOSYS))));
    ranges
}

/// Instructions that find the range of the number in the accumulator and act on it.
fn search(ranges: &[(u32, Verdict)]) -> Result<BpfProgram, Error> {
    match ranges {
        [] => Ok(Vec::new()),
        [(_, Verdict::Return(action))] => Ok(vec![statement(RETURN, *action)]),
        [(_, Verdict::Look(rules))] => look(rules),
        _ => {
            let (below, from) = ranges.split_at(ranges.len() / 2);
            let (below, middle) = (search(below)?, from[0].0);
            let mut program = match u8::try_from(below.len()) {
                Ok(distance) => vec![jump(JUMP_NOT_BELOW, middle, distance, 0)],
                Err(_) => vec![jump(JUMP_NOT_BELOW, middle, 0, 1), statement(JUMP, below.len() as u32)],
            };
            program.extend(below);
            program.extend(search(from)?);
            Ok(program)
        }
    }
}

/// Instructions that allow the call if one of the rules holds.
fn look(rules: &Rules) -> Result<BpfProgram, Error> {
    let mut program = Vec::new();
    for rule in rules.allowed {
        for conditions in combinations(rule)? {
            // A rule goes on to the next instruction if it holds, and to the one after that if not.
            program.extend(BpfProgram::from(SeccompRule::new(conditions)?));
            program.push(statement(RETURN, SECCOMP_RET_ALLOW));
        }
    }
    program.push(statement(RETURN, errno(rules.otherwise)));
    Ok(program)
}

/// A rule with every choice of its alternatives.
fn combinations(rule: &[Condition]) -> Result<Vec<Vec<SeccompCondition>>, Error> {
    let mut all = vec![Vec::new()];
    for condition in rule {
        let choices = choices(condition)?;
        all = all
            .iter()
            .flat_map(|begun| choices.iter().map(|choice| [begun.as_slice(), std::slice::from_ref(choice)].concat()))
            .collect();
    }
    Ok(all)
}

fn choices(condition: &Condition) -> Result<Vec<SeccompCondition>, Error> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let compare = |length, operator, value: u64| SeccompCondition::new(condition.argument, length, operator, value);
    let integer = |operator, value: u32| compare(SeccompCmpArgLen::Dword, operator, u64::from(value));
    Ok(match condition.test {
        Test::Is(value) => vec![integer(Eq, value)?],
        Test::IsNot(value) => vec![integer(Ne, value)?],
        Test::OneOf(values) => values.iter().map(|value| integer(Eq, *value)).collect::<Result<_, _>>()?,
        Test::Bits { mask, are } => vec![integer(MaskedEq(u64::from(mask)), are)?],
        Test::Null => vec![compare(SeccompCmpArgLen::Qword, Eq, 0)?],
    })
}

/// Offsets into what the kernel shows a filter.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Instructions of classic BPF.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
