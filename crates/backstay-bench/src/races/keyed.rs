//! Measures keyed limiters with a million keys in random order: mostly a matter of memory.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay::KeyedRateLimiter;
use governor::Quota;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;

use crate::harness::{Contestant, Side};
use crate::memory;

/// The number of keys.
const KEYS: u32 = 1 << 20;
/// One token per hour, so no key becomes idle, and none is removed during the measurement.
const PER: Duration = Duration::from_secs(3600);
const BURST: u32 = 10_000;

type Governor = governor::RateLimiter<u64, DashMapStateStore<u64, ahash::RandomState>, DefaultClock>;

/// Both limiters, full of keys, and the bytes of a key in each, ours first.
pub(crate) struct Filled {
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) bytes: [f64; 2],
}

/// Builds the limiters, and takes a token of every key once.
pub(crate) fn filled() -> Filled {
    let before = memory::held();
    let ours = Arc::new(ours(ahash::RandomState::new()));
    (0..KEYS).for_each(|number| assert!(ours.try_acquire(&key(number))));
    let between = memory::held();
    let burst = NonZeroU32::new(BURST).expect("it is not zero");
    let quota = Quota::with_period(PER).expect("an hour is not zero").allow_burst(burst);
    let governor = Arc::new(Governor::dashmap_with_hasher(quota, ahash::RandomState::new()));
    (0..KEYS).for_each(|number| assert!(governor.check_key(&key(number)).is_ok()));
    let after = memory::held();
    let default = Arc::new(self::ours(RandomState::new()));
    (0..KEYS).for_each(|number| assert!(default.try_acquire(&key(number))));

    let bytes = [between - before, after - between].map(|bytes| bytes as f64 / f64::from(KEYS));
    let contestants = vec![
        Contestant::with(Side::Ours, "backstay + ahash", random, move |keys| {
            black_box(&ours).try_acquire(&keys.next())
        }),
        Contestant::with(Side::OursToo, "backstay, std's hash", random, move |keys| {
            black_box(&default).try_acquire(&keys.next())
        }),
        Contestant::with(Side::Peer, "governor + ahash", random, move |keys| {
            black_box(&governor).check_key(&keys.next()).is_ok()
        }),
        Contestant::with(Side::Floor, "choosing a key", random, |keys| {
            black_box(keys.next());
            true
        }),
    ];
    Filled { contestants, bytes }
}

/// A thousand keys, each with a full bucket at every call.
pub(crate) fn idle() -> Vec<Contestant> {
    const FAST: u32 = super::limiter::FAST;
    fn ours<S: BuildHasher>(hasher: S) -> KeyedRateLimiter<u64, S> {
        let builder = KeyedRateLimiter::<u64>::builder(FAST).burst(FAST).max_keys(100_000);
        builder.hasher(hasher).build().expect("the arguments are valid")
    }
    let fast = NonZeroU32::new(FAST).expect("it is not zero");
    let governor = Governor::dashmap_with_hasher(Quota::per_second(fast), ahash::RandomState::new());
    let (chosen, default) = (ours(ahash::RandomState::new()), ours(RandomState::new()));
    let keys = |_| 0_u32;
    fn next(number: &mut u32) -> u64 {
        *number = (*number + 1) % 1000;
        u64::from(*number)
    }
    vec![
        Contestant::with(Side::Ours, "backstay + ahash", keys, move |number| {
            black_box(&chosen).try_acquire(&next(number))
        }),
        Contestant::with(Side::OursToo, "backstay, std's hash", keys, move |number| {
            black_box(&default).try_acquire(&next(number))
        }),
        Contestant::with(Side::Peer, "governor + ahash", keys, move |number| {
            black_box(&governor).check_key(&next(number)).is_ok()
        }),
    ]
}

fn ours<S: BuildHasher>(hasher: S) -> KeyedRateLimiter<u64, S> {
    let builder = KeyedRateLimiter::<u64>::builder(1).per(PER).burst(BURST).max_keys(KEYS as usize);
    builder.hasher(hasher).build().expect("the arguments are valid")
}

/// Returns a key; keys are spread over all 64 bits, and equal for all contestants.
fn key(number: u32) -> u64 {
    let mut key = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// Keys in an order that the processor can't predict.
struct Random(u64);

/// Returns a new order each time, so that the caches don't learn it.
fn random(_thread: usize) -> Random {
    static SEED: AtomicU32 = AtomicU32::new(1);
    Random(key(SEED.fetch_add(1, Ordering::Relaxed)) | 1)
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[allow(clippy::cast_possible_truncation)] // the upper half is the better one
        key((self.0 >> 32) as u32 % KEYS)
    }
}
