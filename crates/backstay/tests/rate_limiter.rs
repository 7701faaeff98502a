//! The rate limiter in use: real threads, real time, tasks with and without a runtime.
#![cfg(feature = "rate-limiter")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use backstay::clock::{Clock, ManualClock};
use backstay::{CallError, KeyedRateLimiter, RateLimiter};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a future to completion on this thread, without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

// RL-2: with many threads, on the real coarse clock, and with waiters that give up, no window gets too many tokens.
// Each thread notes a time before and after; a window certainly contains the takes that began and ended in it.
#[test]
fn no_window_gets_too_many_tokens_with_many_threads() {
    let (rate, burst) = (20_000.0, 10.0);
    let limiter = RateLimiter::builder(rate).burst(burst).build().unwrap();
    let clock = Clock::system();
    let end = clock.now() + SECOND / 2;
    let work = |number: u32| {
        let (limiter, clock) = (limiter.clone(), clock.clone());
        move || {
            let mut grants = Vec::new();
            loop {
                let before = clock.now();
                let granted = match number % 3 {
                    0 => limiter.try_acquire(),
                    1 => limiter.acquire_timeout(Duration::from_millis(2)).is_ok(),
                    _ => {
                        drop(limiter.reserve(1, None));
                        limiter.acquire_timeout(Duration::from_micros(100)).is_ok()
                    }
                };
                if granted {
                    grants.push((before.as_nanos(), clock.now().as_nanos()));
                }
                if before >= end {
                    return grants;
                }
            }
        }
    };
    let threads: Vec<_> = (0..6).map(|number| thread::spawn(work(number))).collect();
    let mut grants: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(!grants.is_empty());
    grants.sort_unstable_by_key(|(_, after)| *after);
    for (start, _) in grants.iter().step_by(grants.len().div_ceil(100)) {
        let within = grants.iter().filter(|(before, _)| before >= start);
        for (granted, (_, end)) in (1_u32..).zip(within) {
            #[allow(clippy::cast_precision_loss)]
            let nanos = (end - start) as f64;
            assert!(f64::from(granted) <= burst + rate * (nanos + 1.0) / 1e9, "{granted} in {nanos} ns");
        }
    }
}

// RL-2: a bucket that gets no tokens grants those that it has, for any number of callers and any staleness.
#[test]
fn threads_create_no_tokens() {
    let manual = ManualClock::with_staleness(SECOND);
    manual.advance(SECOND * 60);
    manual.lag(SECOND);
    let limiter = RateLimiter::builder(5000).burst(5000).clock(&manual).build().unwrap();
    let keyed = KeyedRateLimiter::<u32>::builder(500).clock(&manual).build().unwrap();
    let (granted, granted_to_keys) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..10_000 {
                    granted.fetch_add(limiter.try_acquire().into(), Ordering::Relaxed);
                    granted_to_keys.fetch_add(keyed.try_acquire(&(number % 4)).into(), Ordering::Relaxed);
                    if number % 16 == 0 {
                        drop(limiter.reserve(1, None));
                    }
                }
            });
        }
    });
    assert_eq!((granted.into_inner(), granted_to_keys.into_inner()), (5000, 2000));
}

// RL-9: the rate changes back and forth during takes, and creates no tokens.
#[test]
fn changing_the_rate_creates_no_tokens() {
    const CHANGES: usize = 1000;
    let manual = ManualClock::new();
    let limiter = RateLimiter::builder(3).burst(5000).clock(&manual).build().unwrap();
    let granted = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    granted.fetch_add(limiter.try_acquire().into(), Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            for rate in [1e-3, 1e6, 3.3, 2e5].into_iter().cycle().take(CHANGES) {
                limiter.set_rate(rate, SECOND).unwrap();
            }
        });
    });
    // Each change rounds the level down, by at most two units. A unit is at most a nanosecond: a thousandth of a token
    // at the fastest of these rates, so that all changes together lose less than two tokens.
    let granted = granted.into_inner();
    assert!((4998..=5000).contains(&granted), "{granted}");
}

// RL-4: real time, threads and tasks without a runtime in one queue; no waiter is served early.
#[test]
fn threads_and_tasks_wait_in_real_time() {
    let limiter = RateLimiter::builder(200).burst(1).build().unwrap();
    let clock = Clock::system();
    let start = clock.now();
    thread::scope(|scope| {
        for number in 0..10 {
            let limiter = &limiter;
            scope.spawn(move || {
                for _ in 0..4 {
                    if number % 2 == 0 { limiter.acquire() } else { block_on(limiter.acquire_async()) }
                }
            });
        }
    });
    assert!(clock.now().since(start) >= SECOND * 39 / 200);
    let stats = limiter.stats();
    assert_eq!((stats.acquired, stats.rejected, stats.waiting), (40, 0, 0));
}

// RL-4: a task that is never polled again delays no other waiter. RL-6: dropping it lets later waiters go on.
#[test]
fn an_unpolled_task_delays_no_other_waiter() {
    let limiter = RateLimiter::builder(1).per(SECOND * 3600).burst(1).build().unwrap();
    assert!(limiter.try_acquire());
    let mut forgotten = Box::pin(limiter.acquire_async());
    assert!(forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    thread::scope(|scope| {
        // The wait would take two hours, without the reset and the waiters that give up.
        let waiting = scope.spawn(|| block_on(limiter.acquire_async()));
        while limiter.stats().waiting < 2 {
            thread::yield_now();
        }
        // The task that is not polled gets the token, and leaves it unused.
        limiter.reset();
        drop(forgotten);
        limiter.reset();
        waiting.join().unwrap();
    });
    assert_eq!(limiter.stats().acquired, 2);
}

#[test]
fn a_call_without_a_token_is_not_made() {
    let limiter = RateLimiter::builder(1).per(SECOND * 3600).name("once").build().unwrap();
    assert_eq!(limiter.call(|| Ok::<_, String>(1)), Ok(1));
    let refused = limiter.call(|| -> Result<(), String> { panic!("it was called") }).unwrap_err();
    assert!(refused.rejection().unwrap().retry_after() > SECOND * 3500);
    limiter.reset();
    assert_eq!(block_on(limiter.call_async(|| async { Err::<(), _>("no") })), Err(CallError::Inner("no")));
    assert!(block_on(limiter.call_async(|| async { Ok::<_, String>(1) })).is_err());
}

// RL-5: for event loops that wait in slices.
#[test]
fn a_reservation_can_be_awaited_in_slices() {
    let limiter = RateLimiter::builder(1).per(SECOND * 3600).build().unwrap();
    limiter.acquire();
    let mut reservation = limiter.reserve(1, None).unwrap();
    for _ in 0..3 {
        assert_eq!(reservation.wait_timeout(Duration::from_millis(1)), None);
    }
    limiter.reset();
    assert_eq!(reservation.wait_timeout(SECOND), Some(Ok(())));
    assert_eq!(reservation.wait(), Ok(()));
}

#[cfg(feature = "tokio")]
mod on_tokio {
    use super::*;
    use tokio::time::{Instant, timeout};

    fn paused(rate: f64, burst: f64) -> RateLimiter {
        RateLimiter::builder(rate).burst(burst).clock(Clock::tokio()).build().unwrap()
    }

    // RL-3, RL-4: tasks get the whole rate, evenly, on tokio's paused time.
    #[tokio::test(start_paused = true)]
    async fn twenty_tasks_share_the_whole_rate() {
        let limiter = paused(1000.0, 1.0);
        let start = Instant::now();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let limiter = limiter.clone();
                tokio::spawn(async move {
                    let mut worst = Duration::ZERO;
                    let mut count = 0;
                    while start.elapsed() < SECOND * 5 {
                        let before = Instant::now();
                        limiter.acquire_async().await;
                        worst = worst.max(before.elapsed());
                        count += 1;
                    }
                    (count, worst)
                })
            })
            .collect();
        let mut total = 0;
        for task in tasks {
            let (count, worst) = task.await.unwrap();
            assert!((249..=252).contains(&count), "{count}");
            assert!(worst <= Duration::from_millis(20), "{worst:?}");
            total += count;
        }
        assert!(total >= 4995, "{total}");
    }

    // RL-5, RL-6: cancelled tasks use no tokens.
    #[tokio::test(start_paused = true)]
    async fn cancelled_tasks_use_no_tokens() {
        let limiter = paused(10.0, 1.0);
        limiter.acquire_async().await;
        let start = Instant::now();
        for _ in 0..40 {
            let late = timeout(Duration::from_nanos(1), limiter.acquire_async());
            assert!(late.await.is_err());
        }
        limiter.acquire_async().await;
        // Each of the forty took a millisecond or two, the resolution of tokio's timers, and none took a token.
        assert!(start.elapsed() <= Duration::from_millis(101), "{:?}", start.elapsed());
        assert!(limiter.acquire_timeout_async(Duration::from_millis(99)).await.is_err());
        assert_eq!(limiter.acquire_timeout_async(Duration::from_millis(100)).await, Ok(()));
    }

    // RL-4: on the system's clock, with any runtime.
    #[test]
    fn a_runtime_without_timers_is_enough() {
        let limiter = RateLimiter::builder(100).burst(1).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for _ in 0..5 {
                limiter.acquire_async().await;
            }
        });
        assert_eq!(limiter.stats().acquired, 5);
    }
}
