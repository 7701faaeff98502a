//! Failure rate and slow calls: the documented examples of resilience4j and Polly, worked out by hand.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn end(breaker: &CircuitBreaker, outcomes: &str) {
    for outcome in outcomes.chars() {
        let permit = breaker.try_acquire().unwrap();
        if outcome == 'x' { permit.failure() } else { permit.success() }
    }
}

/// A call that takes so long, and whether it was admitted.
fn take(breaker: &CircuitBreaker, clock: &ManualClock, time: Duration) -> bool {
    let Ok(permit) = breaker.try_acquire() else { return false };
    clock.advance(time);
    permit.success();
    true
}

fn rated(change: impl FnOnce(CircuitBreakerBuilder) -> CircuitBreakerBuilder) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(1000 * SECOND);
    let builder = CircuitBreaker::builder().reset_timeout(5 * SECOND).clock(&clock);
    (change(builder).build().unwrap(), clock)
}

fn causes(breaker: &CircuitBreaker) -> Arc<Mutex<Vec<Cause>>> {
    let causes: Arc<Mutex<Vec<Cause>>> = Arc::default();
    let heard = Arc::clone(&causes);
    breaker.on_state_change(move |change| heard.lock().unwrap().push(change.cause));
    causes
}

// CB-13, CB-14: Polly's example with minimum throughput 10: failure ratio 0.5, sampling duration 10 s, break duration 5 s.
// Nine calls are fewer than ten, however many fail; of ten calls five failed: the share is 0.5.
#[test]
fn pollys_failure_ratio() {
    let (breaker, clock) =
        rated(|builder| builder.failure_rate(0.5).window(Window::time(10 * SECOND)).minimum_calls(10));
    let causes = causes(&breaker);
    // (outcomes, seconds after them, calls and failures in the window then, open?)
    let table = [
        ("xxxx", 0, (4, 4), false), // 4 calls
        ("....", 3, (8, 4), false), // 8 calls, 4 / 8 = 0.5, but fewer than 10
        (".", 0, (9, 4), false),    // 4 / 9
        ("x", 0, (10, 5), true),    // 5 / 10 = 0.5
    ];
    for (outcomes, seconds, (calls, failed), open) in table {
        end(&breaker, outcomes);
        clock.advance(seconds * SECOND);
        if !open {
            let window = breaker.snapshot().window.unwrap();
            assert_eq!((window.calls, window.failed), (calls, failed));
        }
        assert_eq!(breaker.state() == CircuitState::Open, open, "{outcomes}");
    }
    assert_eq!(*causes.lock().unwrap(), [Cause::FailureRate { failed: 5, calls: 10 }]);
    assert_eq!(breaker.try_acquire().unwrap_err().remaining, 5 * SECOND);
    clock.advance(5 * SECOND);
    end(&breaker, ".");
    assert_eq!((breaker.state(), breaker.snapshot().window), (CircuitState::Closed, Some(WindowCounts::default())));
}

// CB-13: the window moves on by its tenths, and the failures of the past leave it.
#[test]
fn failures_leave_a_window_of_time() {
    let (breaker, clock) = rated(|builder| builder.failure_rate(0.5).minimum_calls(10));
    end(&breaker, "xxxxxxxxx");
    clock.advance(9 * SECOND);
    assert_eq!(breaker.snapshot().window.unwrap().failed, 9, "nine buckets before this one");
    clock.advance(SECOND);
    assert_eq!(breaker.snapshot().window.unwrap(), WindowCounts::default());
    end(&breaker, ".........x"); // 1 / 10
    assert_eq!((breaker.state(), breaker.snapshot().failure_rate), (CircuitState::Closed, Some(0.1)));
}

// CB-13, CB-14: resilience4j's example: COUNT_BASED, sliding window size 10, minimum calls 10, threshold 50 %. Its ring is
// evaluated at the tenth call: with five failures of ten it opens. With the ring full of 10, an eleventh call replaces the first.
#[test]
fn resilience4js_count_based_window() {
    let count_based = || rated(|builder| builder.failure_rate(0.5).window(Window::calls(10)).minimum_calls(10)).0;
    // (outcomes, open after the last): the last ten of them, worked out
    let table = [
        ("xxxxxxxxx", false),    // nine calls: fewer than the minimum
        ("xxxx.....x", true),    // 5 of 10
        ("xxxx......", false),   // 4 of 10
        ("xxxxx.....", false),   // 5 of 10, but no failure is reported at the tenth
        ("xxxxx.....x", true),   // the last ten: xxxx.....x, 5 of 10
        ("xxxx......x", false),  // the last ten: xxx......x, 4 of 10
        ("xxxx......xx", false), // the last ten: xx......xx, 4 of 10
        ("....xxxx...x", true),  // the last ten: ..xxxx...x, 5 of 10
    ];
    for (outcomes, open) in table {
        let breaker = count_based();
        end(&breaker, outcomes);
        assert_eq!(breaker.state() == CircuitState::Open, open, "{outcomes}");
    }
}

// CB-15: resilience4j's slow calls: duration threshold 2 s, rate threshold 100 %, minimum calls 5. Exactly 2 s is not slow;
// one fast call of five makes 80 %.
#[test]
fn resilience4js_slow_calls() {
    let (breaker, clock) = rated(|builder| builder.slow_call(2 * SECOND).minimum_calls(5).window(Window::calls(5)));
    let causes = causes(&breaker);
    for milliseconds in [3000, 3000, 3000, 3000, 2000] {
        assert!(take(&breaker, &clock, milliseconds * MILLISECOND));
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.slow_call_rate, snapshot.failure_rate),
        (CircuitState::Closed, Some(0.8), Some(0.0))
    );
    for _ in 0..4 {
        assert!(take(&breaker, &clock, 2001 * MILLISECOND));
    }
    assert_eq!(breaker.state(), CircuitState::Closed, "the fast one is the first of the last five");
    assert!(take(&breaker, &clock, 2001 * MILLISECOND));
    assert_eq!(*causes.lock().unwrap(), [Cause::SlowCallRate { slow: 5, calls: 5 }]);
    clock.advance(5 * SECOND);
    assert!(take(&breaker, &clock, 3 * SECOND), "CB-15: a slow half-open call");
    assert_eq!(causes.lock().unwrap().last(), Some(&Cause::HalfOpenFailure));
    assert_eq!(breaker.stats().successful, 11, "a slow call is not a failure in the statistics");
}

// CB-15: limits below 200 ms are measured exactly, others within the staleness of the coarse clock.
#[test]
fn durations_are_measured_by_the_right_clock() {
    for (limit, exact) in [(100 * MILLISECOND, true), (200 * MILLISECOND, false)] {
        let clock = ManualClock::with_staleness(16 * MILLISECOND);
        let builder = CircuitBreaker::builder().slow_call(limit).minimum_calls(1).clock(&clock);
        let breaker = builder.build().unwrap();
        let permit = breaker.try_acquire().unwrap();
        clock.advance(limit + MILLISECOND);
        clock.lag(16 * MILLISECOND); // the coarse clock has not seen the last of it
        permit.success();
        assert_eq!(breaker.state() == CircuitState::Open, exact, "{limit:?}");
    }
}

// CB-14: with a failure rate, consecutive failures open only if they are given too; then either opens.
#[test]
fn consecutive_failures_beside_a_rate() {
    let (breaker, _) = rated(|builder| builder.failure_rate(1.0).minimum_calls(8));
    end(&breaker, "xxxxxxx");
    assert_eq!((breaker.state(), breaker.failure_count(), breaker.max_failures()), (CircuitState::Closed, 0, None));
    end(&breaker, "x");
    assert_eq!(breaker.state(), CircuitState::Open);
    let (breaker, _) = rated(|builder| builder.failure_rate(1.0).minimum_calls(8).max_failures(3));
    end(&breaker, "xx.xx.xx");
    assert_eq!(breaker.state(), CircuitState::Closed);
    let causes = causes(&breaker);
    end(&breaker, "x");
    assert_eq!(*causes.lock().unwrap(), [Cause::ConsecutiveFailures(3)]);
    let (breaker, _) = rated(|builder| builder.slow_call(SECOND));
    assert_eq!(breaker.max_failures(), Some(5), "slow calls alone leave the default");
}

// CB-13: neither ignored calls nor rejections are in the window, nor outcomes of another period.
#[test]
fn what_is_not_in_the_window() {
    for window in [Window::default(), Window::calls(100)] {
        let (breaker, clock) = rated(|builder| builder.failure_rate(1.0).minimum_calls(2).window(window));
        let [late, later] = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
        breaker.try_acquire().unwrap().ignore();
        drop(breaker.try_acquire());
        end(&breaker, "x");
        assert_eq!(breaker.snapshot().window.unwrap(), WindowCounts { calls: 1, failed: 1, slow: 0 });
        end(&breaker, "x");
        assert!(breaker.try_acquire().is_err());
        late.failure();
        clock.advance(5 * SECOND);
        end(&breaker, ".");
        later.success();
        assert_eq!(breaker.snapshot().window.unwrap(), WindowCounts::default());
        end(&breaker, ".x");
        breaker.reset();
        assert_eq!(breaker.snapshot().window.unwrap(), WindowCounts::default(), "reset empties it");
        let stats = breaker.stats();
        assert_eq!((stats.total, stats.successful, stats.failed, stats.ignored, stats.rejected), (10, 3, 4, 2, 1));
    }
}

// CB-10, CB-13: threads that hammer one breaker: no call is lost, neither in the statistics nor in the window.
#[test]
fn nothing_is_lost_in_a_crowd() {
    const THREADS: u64 = 8;
    const CALLS: u64 = 5_000;
    for window in [Window::default(), Window::calls(1_000_000)] {
        let (breaker, clock) = rated(|builder| builder.failure_rate(1.0).minimum_calls(1_000_000).window(window));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (breaker, clock) = (&breaker, &clock);
                scope.spawn(move || {
                    for call in 0..CALLS {
                        end(breaker, if call % 4 == 0 { "x" } else { "." });
                        if thread == 0 && call % 1000 == 0 {
                            clock.advance(SECOND);
                        }
                    }
                });
            }
        });
        let (stats, window) = (breaker.stats(), breaker.snapshot().window.unwrap());
        assert_eq!((stats.successful, stats.failed), (THREADS * CALLS / 4 * 3, THREADS * CALLS / 4));
        assert_eq!((window.calls, window.failed), (THREADS * CALLS, THREADS * CALLS / 4));
    }
}

// CB-14: of failures that threads report at the same time the last one opens the circuit.
#[test]
fn failures_at_the_same_time_open() {
    for window in [Window::default(), Window::calls(8)] {
        for _ in 0..200 {
            let (breaker, _) = rated(|builder| builder.failure_rate(1.0).minimum_calls(4).window(window));
            let barrier = Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let permit = breaker.try_acquire().unwrap();
                        barrier.wait();
                        permit.failure();
                    });
                }
            });
            assert_eq!(breaker.state(), CircuitState::Open);
        }
    }
}

// CB-13 to CB-15, ALL-1: what is invalid together is an error that names the argument.
#[test]
fn bad_rates() {
    let error = |change: fn(CircuitBreakerBuilder) -> CircuitBreakerBuilder| {
        change(CircuitBreaker::builder()).build().unwrap_err().to_string()
    };
    assert!(error(|builder| builder.failure_rate(f64::NAN)).starts_with("`failure_rate` is NaN"));
    assert!(error(|builder| builder.window(Window::calls(5))).starts_with("`window_calls` is 5"));
    assert!(error(|builder| builder.failure_rate(0.5).slow_call_rate(0.5)).starts_with("`slow_call_rate` is 0.5"));
    assert_eq!(
        error(|builder| builder.failure_rate(0.5).window(Window::calls(5)).minimum_calls(6)),
        "`minimum_calls` is 6, but must be at most the window of 5 calls"
    );
}
