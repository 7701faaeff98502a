//! Measures large numbers at once: waiters that all leave, new keys without space, watchdogs that all fire; and the
//! memory of a handle and of a waiter.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay::{KeyedRateLimiter, RateLimiter, Watchdog};

use super::growth::{breaker, crowd, random};
use crate::{memory, os};

/// The number of waiters that leave together.
pub(crate) const WAITERS: usize = 100_000;
/// The number of keys of the full limiter.
const KEYS: u32 = 1 << 20;
/// The number of watchdogs that fire together.
pub(crate) const WATCHDOGS: usize = 10_000;

/// Measures waiters that leave in three orders. Returns the worst processor time, and the worst 99.99th percentile of
/// concurrent `stats()` calls.
pub(crate) fn leave() -> (Duration, Duration) {
    let worst = ["front", "back", "random"].map(|order| {
        let (limiter, mut tasks) = crowd(WAITERS);
        match order {
            "back" => tasks.reverse(),
            "random" => {
                let mut random = random(WAITERS);
                (0..WAITERS).for_each(|place| tasks.swap(place, random()));
            }
            _ => {}
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let observer = scope.spawn(|| {
                let mut looks = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    looks.extend(undisturbed(|| _ = black_box(limiter.stats())));
                }
                looks.sort_unstable();
                looks.get(looks.len() * 9999 / 10_000).copied().unwrap_or_default()
            });
            let begin = os::thread_time();
            tasks.iter_mut().for_each(|task| drop(task.take()));
            let took = os::thread_time().saturating_sub(begin);
            over.store(true, Ordering::Relaxed);
            (took, observer.join().expect("the observer does not panic"))
        })
    });
    let of = |part: fn(&(Duration, Duration)) -> Duration| worst.iter().map(part).max().unwrap_or_default();
    (of(|(took, _)| *took), of(|(_, look)| *look))
}

/// Returns how long `f` takes, or `None` if the thread was preempted meanwhile.
fn undisturbed(f: impl FnOnce()) -> Option<Duration> {
    let preemptions = os::preemptions();
    let begin = Instant::now();
    f();
    let took = begin.elapsed();
    (os::preemptions() == preemptions).then_some(took)
}

/// Returns the bytes of a limiter, of a breaker, and of a waiting task with its future.
pub(crate) fn bytes() -> [f64; 3] {
    const HANDLES: usize = 1000;
    let each = |count: usize, before: isize| (memory::held() - before) as f64 / count as f64;
    let limiter = || RateLimiter::builder(10).per(Duration::from_secs(1)).build().expect("the arguments are valid");
    // The first handles fill the pool of stripes.
    drop((limiter(), breaker()));
    let mut limiters = Vec::with_capacity(HANDLES);
    let before = memory::held();
    limiters.extend((0..HANDLES).map(|_| limiter()));
    assert!(limiters.iter().all(RateLimiter::try_acquire));
    let of_limiter = each(HANDLES, before);
    let mut breakers = Vec::with_capacity(HANDLES);
    let before = memory::held();
    breakers.extend((0..HANDLES).map(|_| breaker()));
    assert!(breakers.iter().all(|breaker| breaker.call(|| Ok::<_, ()>(1)).is_ok()));
    let of_breaker = each(HANDLES, before);
    let before = memory::held();
    let (_limiter, tasks) = crowd(WAITERS);
    let handles = (tasks.capacity() * size_of_val(&tasks[0])) as isize;
    [of_limiter, of_breaker, each(WAITERS, before + handles)]
}

/// Measures new keys for a limiter that is full of limited ones. Returns the median and the 99.99th percentile of a
/// call.
pub(crate) fn flood() -> (Duration, Duration) {
    let hour = Duration::from_secs(3600);
    let builder = KeyedRateLimiter::<u64>::builder(1).per(hour).max_keys(KEYS as usize);
    let limiter = builder.hasher(ahash::RandomState::new()).build().expect("the arguments are valid");
    (0..u64::from(KEYS)).for_each(|key| assert!(limiter.try_acquire(&key)));
    let calls = u64::from(KEYS)..u64::from(KEYS) + 100_000;
    let mut costs: Vec<_> = calls.filter_map(|key| undisturbed(|| assert!(!limiter.try_acquire(&key)))).collect();
    costs.sort_unstable();
    let at = |of: usize| costs.get(costs.len() * of / 10_000).copied().unwrap_or_default();
    (at(5000), at(9999))
}

/// Fires all watchdogs together, with callbacks that block. Returns how many callbacks run at once.
pub(crate) fn fire() -> usize {
    #[derive(Default)]
    struct Blocked {
        now: AtomicUsize,
        open: Mutex<bool>,
        opened: Condvar,
    }
    let blocked = Arc::new(Blocked::default());
    let herd: Vec<_> = (0..WATCHDOGS)
        .map(|_| {
            let blocked = Arc::clone(&blocked);
            let callback = move |_: &_| {
                blocked.now.fetch_add(1, Ordering::SeqCst);
                let open = blocked.open.lock().unwrap_or_else(PoisonError::into_inner);
                drop(blocked.opened.wait_while(open, |open| !*open));
            };
            let watchdog = Watchdog::builder().timeout(Duration::from_secs(1)).on_timeout(callback);
            let watchdog = watchdog.build().expect("a second is valid");
            watchdog.start().expect("the monitor thread starts");
            watchdog
        })
        .collect();
    // Waits until the number no longer grows: threads are added every 10 ms.
    let mut before = 0;
    let most = loop {
        std::thread::sleep(Duration::from_millis(500));
        match blocked.now.load(Ordering::SeqCst) {
            now if now > 0 && now == before => break now,
            now => before = now,
        }
    };
    *blocked.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
    blocked.opened.notify_all();
    herd.iter().for_each(Watchdog::stop);
    most
}
