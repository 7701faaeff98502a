//! The hot paths allocate nothing: an allocator of this test's own counts.
#![cfg(all(feature = "circuit-breaker", feature = "rate-limiter", feature = "watchdog"))]
#![cfg(not(backstay_loom))]
#![allow(unsafe_code, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use backstay::{CallError, CircuitBreaker, KeyedRateLimiter, RateLimiter, Watchdog};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! { static ALLOCATIONS: Cell<u64> = const { Cell::new(0) } }

// SAFETY: both methods hand their arguments to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Allocations of this thread in many calls, the very first included.
fn allocations<T>(mut f: impl FnMut() -> T) -> u64 {
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        std::hint::black_box(f());
    }
    ALLOCATIONS.get() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| Box::new(1)), 1000);
}

#[test]
fn a_token_granted_or_refused() {
    let limiter = RateLimiter::builder(1).per(HOUR).burst(1000).name("exchange").build().unwrap();
    assert_eq!(allocations(|| assert!(limiter.try_acquire())), 0);
    assert_eq!(allocations(|| assert!(!limiter.try_acquire())), 0);
    assert_eq!(allocations(|| assert!(limiter.check().is_err())), 0);
}

#[test]
fn a_call_made_or_turned_away() {
    let builder = CircuitBreaker::builder().name("payment-api").max_failures(1).half_open_max_calls(1);
    let breaker = builder.reset_timeout(HOUR).build().unwrap();
    assert_eq!(allocations(|| breaker.call(|| Ok::<_, ()>(1)).unwrap()), 0);
    let _ = breaker.call(|| Err::<(), _>(()));
    let turned_away = || assert!(matches!(breaker.call(|| Ok::<_, ()>(1)), Err(CallError::Rejected(_))));
    assert_eq!(allocations(turned_away), 0);
}

// CB-8: the second thread's first call moves the counters into stripes, perhaps in a signal handler.
#[test]
fn a_second_thread() {
    let limiter = RateLimiter::builder(1).per(HOUR).burst(10_000).build().unwrap();
    let breaker = CircuitBreaker::builder().reset_timeout(HOUR).max_failures(1).half_open_max_calls(1).build().unwrap();
    let both = || {
        assert!(limiter.try_acquire());
        breaker.call(|| Ok::<_, ()>(1)).unwrap();
    };
    assert_eq!(allocations(both), 0);
    std::thread::scope(|scope| scope.spawn(|| assert_eq!(allocations(both), 0)).join().unwrap());
    assert_eq!((limiter.stats().acquired, breaker.stats().successful), (2000, 2000));
}

#[test]
fn a_known_key() {
    let limiter = KeyedRateLimiter::<u64>::builder(1).per(HOUR).burst(1000).build().unwrap();
    assert!(limiter.try_acquire_n(&7, 1));
    assert_eq!(allocations(|| limiter.try_acquire(&7)), 0);
    assert_eq!(allocations(|| assert!(!limiter.try_acquire(&7))), 0);
}

#[test]
fn a_ping() {
    let watchdog = Watchdog::builder().timeout(HOUR).build().unwrap();
    watchdog.start().unwrap();
    assert_eq!(allocations(|| watchdog.ping()), 0);
    assert_eq!(allocations(|| watchdog.try_ping().unwrap()), 0);
}
