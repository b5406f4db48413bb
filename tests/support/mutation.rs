//! Seeded random changes of files, for tests that feed them to readers.

use super::TestResult;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::resume_unwind;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::time::Duration;

/// Time after which a case counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numbers that readers add, multiply or reserve wrongly.
const NUMBERS: [u64; 8] =
    [0, 1, 0xffff, i32::MAX as u64, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX];

/// Number of cases: `OFB_CASES`, default 2,000.
pub fn cases() -> TestResult<u64> {
    cases_or(2000)
}

/// Number of cases: `OFB_CASES`, default `few`.
pub fn cases_or(few: u64) -> TestResult<u64> {
    Ok(std::env::var("OFB_CASES").map_or(Ok(few), |cases| cases.parse())?)
}

/// Returns `original` with one to four random changes, the same for the same case.
pub fn mutated(original: &[u8], case: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(case);
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(1..=4) {
        change(&mut bytes, &mut random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    if bytes.is_empty() {
        bytes.push(random.random());
        return;
    }
    // Half of the changes are near the start, where the headers are, or the end, where the directory
    // of an archive is.
    let (length, edge) = (bytes.len(), bytes.len().min(200));
    let at = match random.random_range(0..6) {
        0..=2 => random.random_range(0..length),
        3 | 4 => random.random_range(0..edge),
        _ => length - 1 - random.random_range(0..bytes.len().min(1000)),
    };
    let end = (at + random.random_range(1..=40)).min(bytes.len());
    match random.random_range(0..9) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = random.random(),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random.random_range(0..6)],
        3 => bytes[at..end].fill([0, 0xff][random.random_range(0..2)]),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..end)),
        // Another length or offset, little-endian.
        7 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_le_bytes();
            let end = (at + [2, 4, 8][random.random_range(0..3)]).min(length);
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        6 => {
            let copied = bytes[at..end].to_vec();
            let to = random.random_range(0..=bytes.len());
            bytes.splice(to..to, copied);
        }
        _ => {
            let inserted: Vec<u8> = (at..end).map(|_| random.random()).collect();
            bytes.splice(at..at, inserted);
        }
    }
}

/// Runs cases 0, 1, … in turn. Fails with the number of a case that panics or hangs, so that
/// `mutated` can make it again.
pub fn run_bounded(cases: u64, mut run: impl FnMut(u64) + Send + 'static) {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        for case in 0..cases {
            run(case);
            if sender.send(case).is_err() {
                return;
            }
        }
    });
    for case in 0..cases {
        match receiver.recv_timeout(PATIENCE) {
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => panic!("case {case} did not end in {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                println!("case {case} panicked");
                resume_unwind(thread.join().expect_err("a case panicked"));
            }
        }
    }
}
