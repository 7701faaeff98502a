//! The classifier, listeners that are added later, and what a breaker shows of itself.

use super::*;

#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    retry_after: Option<Duration>,
}

type Reply = Result<Response, Down>;

fn reply(status: u16) -> Reply {
    if status == 0 { Err(Down) } else { Ok(Response { status, retry_after: None }) }
}

fn by_status(reply: &Reply) -> Outcome {
    match reply {
        Ok(Response { retry_after: Some(time), .. }) => Outcome::FailureFor(*time),
        Ok(Response { status: 500.., .. }) => Outcome::Failure,
        Ok(Response { status: 422, .. }) => Outcome::Ignored,
        other => Outcome::from(other),
    }
}

// CB-16: a 404 is a success, a validation error is ignored, a 500 and a broken connection are failures.
#[test]
fn a_classifier_decides_on_results_and_errors() {
    let (breaker, clock) = breaker();
    let calls = breaker.classify(by_status);
    for status in [404, 422, 200, 500, 0] {
        assert_eq!(calls.call(|| reply(status)).ok(), reply(status).ok(), "the result itself is untouched");
    }
    let stats = breaker.stats();
    assert_eq!((stats.successful, stats.ignored, stats.failed), (2, 1, 2));
    let future = std::pin::pin!(calls.call_async(|| async { reply(503) }));
    assert!(poll(future).is_ready());
    assert_eq!(breaker.state(), CircuitState::Open);
    clock.advance(30 * SECOND);
    calls.call(|| reply(404)).unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed, "an answer closes a half-open breaker");
}

// CB-16: Retry-After opens the circuit at once for that time; a century is clamped to an hour.
#[test]
fn retry_after_opens_for_as_long_as_the_service_asked() {
    let century = 100 * 365 * 86_400 * SECOND;
    for (asked, open) in
        [(7 * SECOND, 7 * SECOND), (century, 3600 * SECOND), (Duration::ZERO, Duration::from_millis(1))]
    {
        let (breaker, clock) = breaker();
        let busy = || Ok(Response { status: 503, retry_after: Some(asked) });
        breaker.classify(by_status).call(busy).unwrap();
        assert_eq!(breaker.try_acquire().unwrap_err().remaining, open);
        clock.advance(open);
        assert!(breaker.try_acquire().is_ok());
        assert_eq!(breaker.stats().failed, 1);
    }
}

// CB-16: a classifier that panics makes the call a failure, and the panic propagates; one may call the breaker.
#[test]
fn a_classifier_may_panic_and_may_call_the_breaker() {
    let (breaker, _) = breaker();
    let calls = breaker.classify(|_: &Reply| -> Outcome { std::panic::resume_unwind(Box::new("classifier")) });
    let panic = catch_unwind(AssertUnwindSafe(|| calls.call(|| reply(200)))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"classifier"));
    let future = AssertUnwindSafe(|| poll(std::pin::pin!(calls.call_async(|| async { reply(200) }))).is_ready());
    catch_unwind(future).unwrap_err();
    assert_eq!(breaker.stats().failed, 2);
    let nested = breaker.classify(|reply: &Reply| {
        breaker.call(|| Ok::<_, Down>(())).unwrap();
        breaker.isolate();
        breaker.reset();
        Outcome::from(reply)
    });
    nested.call(|| reply(200)).unwrap();
    assert_eq!((breaker.stats().successful, breaker.state()), (2, CircuitState::Closed));
}

// CB-18: reading the state computes it, and stores nothing.
#[test]
fn reading_changes_nothing() {
    let (breaker, clock) = breaker();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    breaker.on_state_change(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    open(&breaker);
    clock.advance(30 * SECOND);
    let before = breaker.0.shared.word.load(crate::sync::atomic::Ordering::SeqCst);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.half_open_in), (CircuitState::HalfOpen, None));
    let _ = (format!("{breaker:?}"), breaker.failure_count(), breaker.mode(), breaker.name());
    assert_eq!(breaker.0.shared.word.load(crate::sync::atomic::Ordering::SeqCst), before);
    assert_eq!((breaker.stats().state_changes, heard.load(Ordering::SeqCst)), (1, 1));
    let _permit = breaker.try_acquire().unwrap();
    assert_eq!((breaker.stats().state_changes, heard.load(Ordering::SeqCst)), (2, 2));
}

// CB-22: a snapshot of each state and mode.
#[test]
fn a_snapshot_says_where_the_breaker_stands() {
    let (breaker, clock) = build(|builder| builder.failure_rate(0.5).window(Window::calls(4)).slow_call(SECOND));
    fail(&breaker).unwrap_err();
    succeed(&breaker).unwrap();
    let snapshot = breaker.snapshot();
    let rates = (snapshot.failure_rate, snapshot.slow_call_rate);
    assert_eq!((snapshot.window.unwrap().calls, rates), (2, (Some(0.5), Some(0.0))));
    assert_eq!(
        (breaker.failure_rate(), breaker.window(), breaker.minimum_calls()),
        (Some(0.5), Some(Window::Calls(4)), Some(4))
    );
    assert_eq!((breaker.slow_call(), breaker.slow_call_rate()), (Some(SECOND), Some(1.0)));
    open(&breaker);
    clock.advance(10 * SECOND);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.half_open_in), (CircuitState::Open, Some(20 * SECOND)));
    assert_eq!(snapshot.window.unwrap().calls, 0);
    breaker.isolate();
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.mode, snapshot.half_open_in), (CircuitMode::Isolated, None));
    let (plain, _) = self::breaker();
    let snapshot = plain.snapshot();
    assert_eq!((snapshot.window, snapshot.failure_rate, snapshot.mode), (None, None, CircuitMode::Normal));
    assert_eq!((plain.window(), plain.slow_call(), plain.max_failures()), (None, None, Some(3)));
    assert_eq!((plain.reset_timeout(), plain.half_open_timeout()), (30 * SECOND, 10 * SECOND));
    assert_eq!((plain.half_open_max_calls(), plain.cancellation_is_failure()), (1, false));
}

#[cfg(feature = "serde")]
#[test]
fn a_snapshot_is_serialised() {
    let (breaker, clock) = build(|builder| builder.failure_rate(0.5).minimum_calls(2));
    fail(&breaker).unwrap_err();
    let json = serde_json::to_value(breaker.snapshot()).unwrap();
    assert_eq!((&json["state"], &json["calls"], &json["failure_rate"]), (&"closed".into(), &1.into(), &1.0.into()));
    open(&breaker);
    clock.advance(SECOND);
    assert_eq!(serde_json::to_value(breaker.snapshot()).unwrap()["half_open_in"], 29.0);
}

// CB-22: a listener for calls is told outcome and duration, of calls that were admitted after it was added; one that panics
// is survived, and one may be added at any time.
#[test]
fn listeners_for_calls_can_be_added_later() {
    let (breaker, clock) = build(|builder| builder.name("payment-api"));
    let earlier = breaker.try_acquire().unwrap();
    let heard: Arc<Mutex<Vec<(Outcome, Duration, String)>>> = Arc::default();
    let log = Arc::clone(&heard);
    breaker.on_call(|_| std::panic::resume_unwind(Box::new("a bad listener")));
    breaker.on_call(move |call| {
        log.lock().unwrap().push((call.outcome, call.duration, call.name.unwrap().to_string()));
    });
    earlier.success();
    let permit = breaker.try_acquire().unwrap();
    clock.advance(3 * SECOND);
    permit.failure();
    drop(breaker.try_acquire());
    open(&breaker);
    assert!(breaker.try_acquire().is_err());
    let heard = heard.lock().unwrap();
    assert_eq!(heard[0], (Outcome::Failure, 3 * SECOND, "payment-api".into()));
    let outcomes: Vec<_> = heard.iter().map(|call| call.0).collect();
    assert_eq!(outcomes, [Outcome::Failure, Outcome::Ignored, Outcome::Failure, Outcome::Failure]);
    assert_eq!(breaker.stats().successful, 1);
}

// CB-11, CB-22: a listener for changes that is added later is told those that follow, with their causes.
#[test]
fn listeners_for_changes_can_be_added_later() {
    let (breaker, clock) = breaker();
    open(&breaker);
    let heard: Arc<Mutex<Vec<Cause>>> = Arc::default();
    let log = Arc::clone(&heard);
    breaker.on_state_change(move |change| log.lock().unwrap().push(change.cause));
    clock.advance(30 * SECOND);
    succeed(&breaker).unwrap();
    breaker.isolate();
    assert_eq!(*heard.lock().unwrap(), [Cause::ResetTimeout, Cause::Successes(1), Cause::Manual]);
}
