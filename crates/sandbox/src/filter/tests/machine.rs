//! Runs a filter as the kernel does, so that the program for another architecture can be asked too.

use std::sync::LazyLock;

use seccompiler::sock_filter;

use super::super::{Architecture, compile_for};

/// A system call as the kernel shows it to a filter.
#[derive(Clone, Copy)]
pub struct Asked {
    pub number: u32,
    pub architecture: u32,
    pub arguments: [u64; 6],
}

impl Asked {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            // Instruction pointer: no filter here looks at it.
            8 | 12 => panic!("the filter looks at the instruction pointer"),
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("the filter looks at offset {offset}"),
        }
    }
}

/// What the kernel would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Errno(i32),
    Kill,
}

pub struct Filter {
    architecture: Architecture,
    program: Vec<sock_filter>,
}

impl Filter {
    pub fn of(architecture: Architecture) -> &'static Self {
        static BOTH: LazyLock<[Filter; 2]> = LazyLock::new(|| {
            [Architecture::X86_64, Architecture::Aarch64]
                .map(|architecture| Filter { architecture, program: compile_for(architecture).unwrap() })
        });
        BOTH.iter().find(|filter| filter.architecture == architecture).unwrap()
    }

    pub fn length(&self) -> usize {
        self.program.len()
    }

    pub fn ask(&self, number: u32, arguments: [u64; 6]) -> Answer {
        self.run(Asked { number, architecture: self.architecture.audit(), arguments }).0
    }

    /// The answer and how many instructions it took.
    pub fn run(&self, asked: Asked) -> (Answer, usize) {
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        for steps in 1..=self.program.len() {
            let sock_filter { code, jt, jf, k } = self.program[at];
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match code {
                0x20 => accumulator = asked.word(k),
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => at += branch(accumulator == k),
                0x25 => at += branch(accumulator > k),
                0x35 => at += branch(accumulator >= k),
                0x06 => return (answer(k), steps),
                _ => panic!("an instruction that no filter here has: {code:#x}"),
            }
        }
        panic!("the filter does not end")
    }
}

fn answer(action: u32) -> Answer {
    match action & 0xffff_0000 {
        0x7fff_0000 => Answer::Allow,
        0x0005_0000 => Answer::Errno((action & 0xffff).cast_signed()),
        0x8000_0000 => Answer::Kill,
        _ => panic!("an action that no filter here has: {action:#x}"),
    }
}
