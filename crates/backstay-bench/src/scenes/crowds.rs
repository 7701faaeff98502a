//! What happens to many at once: waiters that all leave, new keys that find no room, watchdogs that all fire; and what a
//! handle and a waiter take.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay::{KeyedRateLimiter, RateLimiter, Watchdog};

use super::growth::{breaker, crowd, random};
use crate::{memory, os};

/// How many wait, and leave together.
pub(crate) const WAITERS: usize = 100_000;
/// How many keys a limiter holds that is full.
const KEYS: u32 = 1 << 20;
/// How many watchdogs fire together.
pub(crate) const WATCHDOGS: usize = 10_000;

/// The worst of three orders in which a crowd leaves: the processor time, and what all but one of 10,000 looks at the
/// statistics took at most meanwhile.
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
            (took, observer.join().expect("it only looks"))
        })
    });
    let of = |part: fn(&(Duration, Duration)) -> Duration| worst.iter().map(part).max().unwrap_or_default();
    (of(|(took, _)| *took), of(|(_, look)| *look))
}

/// How long `f` takes; none if the thread was preempted meanwhile.
fn undisturbed(f: impl FnOnce()) -> Option<Duration> {
    let preemptions = os::preemptions();
    let begin = Instant::now();
    f();
    let took = begin.elapsed();
    (os::preemptions() == preemptions).then_some(took)
}

/// Bytes that one limiter takes, one breaker, and one waiting task, its future included.
pub(crate) fn bytes() -> [f64; 3] {
    const HANDLES: usize = 1000;
    let each = |count: usize, before: isize| (memory::held() - before) as f64 / count as f64;
    let limiter = || RateLimiter::builder(10).per(Duration::from_secs(1)).build().expect("the numbers are sensible");
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

/// New keys for a limiter that is full of limited ones: the median of a call, and what all but one in 10,000 take at
/// most.
pub(crate) fn flood() -> (Duration, Duration) {
    let hour = Duration::from_secs(3600);
    let builder = KeyedRateLimiter::<u64>::builder(1).per(hour).max_keys(KEYS as usize);
    let limiter = builder.hasher(ahash::RandomState::new()).build().expect("the numbers are sensible");
    (0..u64::from(KEYS)).for_each(|key| assert!(limiter.try_acquire(&key)));
    let calls = u64::from(KEYS)..u64::from(KEYS) + 100_000;
    let mut costs: Vec<_> = calls.filter_map(|key| undisturbed(|| assert!(!limiter.try_acquire(&key)))).collect();
    costs.sort_unstable();
    let at = |of: usize| costs.get(costs.len() * of / 10_000).copied().unwrap_or_default();
    (at(5000), at(9999))
}

/// Watchdogs fire together, and each callback blocks until all threads that there will be are blocked: how many are at it
/// at once.
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
            let watchdog = watchdog.build().expect("a second is sensible");
            watchdog.start().expect("a thread for the monitor");
            watchdog
        })
        .collect();
    // Until no more come: threads are added every 10 ms.
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
