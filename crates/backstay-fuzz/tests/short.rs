//! The short form of `scripts/fuzz`, for any toolchain: every target with its corpus and with mutated copies of it. The
//! inputs are the same in every run, so that a failure repeats.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use backstay_fuzz::{TARGETS, Target};

/// Number of mutated inputs for each target.
const ROUNDS: usize = 2_000;

/// Tokens of the formats, which random bytes would seldom contain.
const WORDS: &[&str] = &[
    "\n",
    "=",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    "&a ",
    "*a",
    "!!",
    "# ",
    "|\n",
    "null",
    "true",
    ".inf",
    ".nan",
    "-1",
    "0",
    "1e308",
    "1e-308",
    "18446744073709551616",
    "0.1",
    "1m 30s",
    "P1D",
    "resilience:\n",
    "instances:",
    "timeout",
    "\u{feff}",
    "\u{0}",
    "\u{1f525}",
    "\\u0000",
    "BACKSTAY_",
    "__",
    "READY=1",
    "WATCHDOG=trigger",
    "WATCHDOG_USEC=",
    "STATUS=",
    "\"metadata\":",
    "\"timestamp\":\"-009999-01-01T00:00:00Z\",",
    "\"pid\":",
    "\"status\":\"stopped\"",
];

/// A xorshift generator with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0) % bound.max(1)
    }

    /// Mutates `input` in one place.
    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let from = self.below(input.len() + 1);
        let to = (from + self.below(16)).min(input.len());
        let new: Vec<u8> = match self.below(6) {
            0 => Vec::new(),
            1 => WORDS[self.below(WORDS.len())].into(),
            2 => input[from..to].repeat(1 + self.below(20)),
            3 => vec![u8::try_from(self.below(256)).unwrap_or(0)],
            4 => input[from..to].iter().map(|byte| byte ^ (1 << self.below(8))).collect(),
            _ => {
                let other = &corpus[self.below(corpus.len())];
                other[self.below(other.len())..].to_vec()
            }
        };
        input.splice(from..to, new);
        input.truncate(4096);
    }
}

fn run((name, target): Target) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty());

    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mutated = (0..ROUNDS).map(|round| {
        let mut input = corpus[round % corpus.len()].clone();
        (0..=random.below(4)).for_each(|_| random.mutate(&mut input, &corpus));
        input
    });
    for input in [Vec::new()].into_iter().chain(corpus.iter().cloned()).chain(mutated) {
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            panic!("{name} fails for b\"{}\"", input.escape_ascii());
        }
    }
}

// HB-6, HB-7: no state file causes a panic, or makes a dead service alive.
#[test]
fn heartbeat() {
    run(TARGETS[0]);
}

// CF-4: an invalid file is an error with a message, and accepted values are within bounds.
#[test]
fn config() {
    run(TARGETS[1]);
}

// CF-1, CF-5
#[test]
fn environment() {
    run(TARGETS[2]);
}

// ALL-1
#[test]
fn notify() {
    run(TARGETS[3]);
}
