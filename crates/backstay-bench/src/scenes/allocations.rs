//! Counts the allocations of a thousand calls of each hot path.

use std::hint::black_box;
use std::time::Duration;

use backstay::circuit_breaker::Window;
use backstay::{CircuitBreaker, KeyedRateLimiter, RateLimiter, Watchdog};

use crate::memory::allocations;

/// Returns each hot path with its allocations in a thousand calls.
pub(crate) fn count() -> Vec<(&'static str, u64)> {
    let hour = Duration::from_secs(3600);
    let bucket = || RateLimiter::builder(1).per(hour).burst(100_000).build().expect("the arguments are valid");
    let (granting, refusing) = (bucket(), bucket());
    assert!(refusing.try_acquire_n(100_000));
    let breaker = || {
        let builder = CircuitBreaker::builder().name("payment-api").max_failures(1).half_open_max_calls(1);
        builder.reset_timeout(hour).build().expect("the arguments are valid")
    };
    let rated = |window| {
        let builder = CircuitBreaker::builder().failure_rate(1.0).window(window).slow_call(hour / 4);
        builder.build().expect("the numbers are sensible")
    };
    let (in_time, in_calls) = (rated(Window::default()), rated(Window::calls(100)));
    let cycling = CircuitBreaker::builder().max_failures(1).reset_timeout(Duration::from_micros(1)).failure_rate(1.0);
    let cycling = cycling.build().expect("the numbers are sensible");
    let (closed, open) = (breaker(), breaker());
    let _ = open.call(|| Err::<(), _>(()));
    let watchdog = Watchdog::builder().timeout(hour).build().expect("an hour is valid");
    watchdog.start().expect("the monitor thread starts");
    let keyed = KeyedRateLimiter::<u64>::builder(1).per(hour).burst(1000).max_keys(16).build();
    let keyed = keyed.expect("the arguments are valid");
    assert!(keyed.try_acquire(&7));

    let thousand = |mut f: Box<dyn FnMut() -> bool>| {
        f();
        allocations(|| {
            for _ in 0..1000 {
                black_box(f());
            }
        })
    };
    vec![
        ("limiter granted", thousand(Box::new(move || granting.try_acquire()))),
        ("limiter rejected", thousand(Box::new(move || refusing.try_acquire()))),
        ("breaker closed", thousand(Box::new(move || closed.call(|| Ok::<_, ()>(1)).is_ok()))),
        (
            "breaker in a window of time, failing and succeeding",
            thousand(Box::new(move || {
                in_time.call(|| Err::<(), _>(1)).is_err() && in_time.call(|| Ok::<_, ()>(1)).is_ok()
            })),
        ),
        (
            "breaker in a window of calls, failing and succeeding",
            thousand(Box::new(move || {
                in_calls.call(|| Err::<(), _>(1)).is_err() && in_calls.call(|| Ok::<_, ()>(1)).is_ok()
            })),
        ),
        (
            "breaker that opens and closes",
            thousand(Box::new(move || {
                let _ = cycling.call(|| Err::<(), _>(()));
                while cycling.call(|| Ok::<_, ()>(1)).is_err() {}
                true
            })),
        ),
        ("breaker open", thousand(Box::new(move || open.call(|| Ok::<_, ()>(1)).is_ok()))),
        ("keyed, a known key", thousand(Box::new(move || keyed.try_acquire(&7)))),
        (
            "watchdog ping",
            thousand(Box::new(move || {
                watchdog.ping();
                true
            })),
        ),
    ]
}
