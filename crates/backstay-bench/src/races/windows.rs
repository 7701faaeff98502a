//! Measures the circuit breaker with a window, next to peers that have one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use backstay::CircuitBreaker;
use backstay::circuit_breaker::{CircuitBreakerBuilder, Window};
use backstay::clock::Clock;
use failsafe::CircuitBreaker as _;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use super::breaker::{TestService, call, fail, ours, recloser, succeed};
use crate::harness::{Contestant, Side};

const WINDOW: Duration = Duration::from_secs(10);
/// The lower bound: a call of a breaker without a window, and a coarse reading of the clock.
pub(crate) const COUNT_AND_CLOCK: &str = "backstay, a count and a coarse clock";

fn rated(change: impl FnOnce(CircuitBreakerBuilder) -> CircuitBreakerBuilder) -> CircuitBreaker {
    let builder = CircuitBreaker::builder().failure_rate(1.0).reset_timeout(Duration::from_secs(3600));
    change(builder).build().expect("the arguments are valid")
}

fn closed(side: Side, name: &'static str, breaker: CircuitBreaker) -> Contestant {
    Contestant::new(side, name, move || black_box(&breaker).call(succeed).is_ok())
}

fn tower(name: &'static str, kind: SlidingWindowType) -> Contestant {
    let builder = CircuitBreakerLayer::builder().sliding_window_type(kind).sliding_window_size(100);
    let layer = builder.sliding_window_duration(WINDOW).build().expect("the arguments are valid");
    let service = layer.layer_fn(TestService(true));
    Contestant::with(Side::Peer, name, move |_| service.clone(), move |service| call(service).is_ok())
}

fn failsafe_in_time() -> Contestant {
    let backoff = failsafe::backoff::constant(Duration::from_secs(3600));
    let policy = failsafe::failure_policy::success_rate_over_time_window(0.1, 20, WINDOW, backoff);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    Contestant::new(Side::Peer, "failsafe", move || black_box(&breaker).call(succeed).is_ok())
}

/// Calls that succeed, in a window of ten seconds.
pub(crate) fn time() -> Vec<Contestant> {
    let (count, clock) = (ours(None), Clock::system());
    vec![
        closed(Side::Ours, "backstay", rated(|builder| builder.window(Window::time(WINDOW)))),
        closed(
            Side::OursToo,
            "backstay, slow calls of 1 s",
            rated(|builder| builder.slow_call(Duration::from_secs(1))),
        ),
        closed(
            Side::OursToo,
            "backstay, slow calls of 100 ms",
            rated(|builder| builder.slow_call(Duration::from_millis(100))),
        ),
        closed(Side::OursToo, "backstay, without a window", ours(None)),
        failsafe_in_time(),
        tower("tower-resilience", SlidingWindowType::TimeBased),
        Contestant::new(Side::Floor, COUNT_AND_CLOCK, move || {
            black_box(clock.coarse());
            black_box(&count).call(succeed).is_ok()
        }),
    ]
}

/// Calls that succeed, in a window of a hundred calls.
pub(crate) fn calls() -> Vec<Contestant> {
    let recloser = recloser();
    vec![
        closed(Side::Ours, "backstay", rated(|builder| builder.window(Window::calls(100)))),
        Contestant::new(Side::Peer, "recloser", move || black_box(&recloser).call(succeed).is_ok()),
        tower("tower-resilience", SlidingWindowType::CountBased),
    ]
}

fn failing(side: Side, name: &'static str, breaker: CircuitBreaker) -> Contestant {
    Contestant::new(side, name, move || {
        let breaker = black_box(&breaker);
        breaker.call(fail).is_err() && breaker.call(succeed).is_ok()
    })
}

/// A call that fails, for which the window is evaluated, and one that succeeds.
pub(crate) fn failures() -> Vec<Contestant> {
    vec![
        failing(Side::Ours, "backstay, window of time", rated(|builder| builder.window(Window::time(WINDOW)))),
        failing(Side::OursToo, "backstay, window of calls", rated(|builder| builder.window(Window::calls(100)))),
        Contestant::new(Side::Floor, "Instant::now", || {
            black_box(Instant::now());
            true
        }),
    ]
}

/// A failure that opens the circuit for a microsecond, rejections until it is half-open, and the call that closes it.
pub(crate) fn half_open() -> Vec<Contestant> {
    let cycle = |side, name, builder: CircuitBreakerBuilder| {
        let builder = builder.max_failures(1).reset_timeout(Duration::from_micros(1));
        let breaker = builder.build().expect("the arguments are valid");
        Contestant::with(
            side,
            name,
            |_| (),
            move |()| {
                let breaker = black_box(&breaker);
                let _ = breaker.call(fail);
                while breaker.call(succeed).is_err() {}
                true
            },
        )
    };
    vec![
        cycle(Side::Ours, "backstay", CircuitBreaker::builder()),
        cycle(Side::OursToo, "backstay, window of time", CircuitBreaker::builder().failure_rate(1.0)),
        cycle(
            Side::OursToo,
            "backstay, window of 100 calls",
            CircuitBreaker::builder().failure_rate(1.0).window(Window::calls(100)),
        ),
    ]
}
