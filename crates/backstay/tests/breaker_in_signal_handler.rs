//! A breaker that is called from a signal handler, which interrupts the breaker's own calls.
#![cfg(unix)]
#![allow(unsafe_code, clippy::unwrap_used, missing_docs)]

use std::process::abort;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use backstay::CircuitBreaker;

static BREAKER: OnceLock<CircuitBreaker> = OnceLock::new();
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_: libc::c_int) {
    if let Some(breaker) = BREAKER.get() {
        // Each kind of call: a failure that may open it, a success that may close it, a rejection, a permit dropped.
        let _ = breaker.call(|| Err::<(), ()>(()));
        let _ = breaker.call(|| Ok::<(), ()>(()));
        drop(breaker.try_acquire());
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }
}

// CB-8: a handler that interrupts a call, a change of state included, neither deadlocks nor loses count.
#[test]
fn a_handler_may_call_what_it_interrupts() {
    let builder = CircuitBreaker::builder().max_failures(2).half_open_max_calls(1);
    let breaker = BREAKER.get_or_init(|| builder.reset_timeout(Duration::from_micros(20)).build().unwrap());
    let (done, finished) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if finished.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            abort();
        }
    });
    let tick = libc::timeval { tv_sec: 0, tv_usec: 200 };
    let stop = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the handler does nothing but atomics and clock readings, the library having neither listeners nor a
    // subscriber here; the timer is stopped below.
    unsafe {
        libc::signal(libc::SIGALRM, handle as extern "C" fn(libc::c_int) as libc::sighandler_t);
        let every = libc::itimerval { it_interval: tick, it_value: tick };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const every, std::ptr::null_mut()), 0);
    }
    let mut asked = 0;
    while HANDLED.load(Ordering::SeqCst) < 1000 {
        let _ = breaker.call(|| Err::<(), ()>(()));
        let _ = breaker.call(|| Ok::<(), ()>(()));
        asked += 2;
    }
    // SAFETY: as above.
    unsafe {
        let never = libc::itimerval { it_interval: stop, it_value: stop };
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const never, std::ptr::null_mut()), 0);
        libc::signal(libc::SIGALRM, libc::SIG_IGN);
    }
    done.send(()).unwrap();
    let stats = breaker.stats();
    assert_eq!(stats.total, asked + 3 * u64::from(HANDLED.load(Ordering::SeqCst)));
    assert!(stats.state_changes > 100 && stats.rejected > 0, "{stats:?}");
}
