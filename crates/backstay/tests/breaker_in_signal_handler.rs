//! A breaker that is called from a signal handler, which interrupts the breaker's own calls.
#![cfg(feature = "circuit-breaker")]
#![cfg(unix)]
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::process::abort;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use backstay::CircuitBreaker;

static BREAKER: OnceLock<CircuitBreaker> = OnceLock::new();
static WELL: OnceLock<CircuitBreaker> = OnceLock::new();
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_: libc::c_int) {
    if let Some(breaker) = BREAKER.get() {
        // Each kind of call: a failure that may open it, a success that may close it, a rejection, a permit dropped.
        let _ = breaker.call(|| Err::<(), ()>(()));
        let _ = breaker.call(|| Ok::<(), ()>(()));
        drop(breaker.try_acquire());
    }
    // A call that is nearly all counting, so that it is often interrupted in the middle of that.
    if let Some(well) = WELL.get() {
        let _ = well.call(|| Ok::<(), ()>(()));
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }
}

// CB-8: a handler that interrupts a call, a change of state included, neither deadlocks nor loses count.
#[test]
fn a_handler_may_call_what_it_interrupts() {
    let builder = CircuitBreaker::builder().max_failures(2).half_open_max_calls(1);
    let breaker = BREAKER.get_or_init(|| builder.reset_timeout(Duration::from_micros(20)).build().unwrap());
    let well = WELL.get_or_init(|| CircuitBreaker::builder().build().unwrap());
    let (done, finished) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if finished.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            abort();
        }
    });
    // SAFETY: the handler does nothing but atomics and clock readings, the library having neither listeners nor a
    // subscriber here.
    unsafe { libc::signal(libc::SIGALRM, handle as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    // SAFETY: no preconditions.
    let here = unsafe { libc::pthread_self() };
    // To this thread: a signal to the process would interrupt another one, which waits.
    let interrupting = std::thread::spawn(move || {
        while handled() < 4000 {
            // SAFETY: the thread lives, it joins this one.
            assert_eq!(unsafe { libc::pthread_kill(here, libc::SIGALRM) }, 0);
            std::thread::park_timeout(Duration::from_micros(50));
        }
    });
    let (mut asked, mut asked_well) = (0, 0);
    while handled() < 1000 {
        let _ = breaker.call(|| Err::<(), ()>(()));
        let _ = breaker.call(|| Ok::<(), ()>(()));
        asked += 2;
    }
    while handled() < 4000 {
        for _ in 0..100 {
            let _ = well.call(|| Ok::<(), ()>(()));
        }
        asked_well += 100;
    }
    interrupting.join().unwrap();
    done.send(()).unwrap();
    assert_eq!(well.stats().successful, asked_well + handled());
    let stats = breaker.stats();
    assert_eq!(stats.total, asked + 3 * handled());
    assert!(stats.state_changes > 100 && stats.rejected > 0, "{stats:?}");
}

fn handled() -> u64 {
    HANDLED.load(Ordering::SeqCst).into()
}
