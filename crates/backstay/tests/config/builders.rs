//! Builders with a configuration.

use std::time::Duration;

use backstay::circuit_breaker::Window;

use backstay::config::Config;
use backstay::rate_limiter::RateLimiterBuilder;
use backstay::{CircuitBreaker, CircuitState, GracefulShutdown, Heartbeat, KeyedRateLimiter, RateLimiter, Watchdog};

use crate::load;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    load(
        "\
resilience:
  circuit_breaker: {max_failures: 2, instances: {payment-api: {max_failures: 3}}}
  rate_limiter: {default_rate: 7, default_per: 60, instances: {search: {rate: 3, per: 9, burst: 4}}}
  shutdown: {timeout: 60}
  heartbeat: {interval: 20}
  watchdog: {timeout: 20, instances: {worker: {timeout: 5}}}
",
    )
    .unwrap()
}

fn failures(breaker: &CircuitBreaker) -> usize {
    (1..).find(|_| breaker.call(|| Err::<(), _>(())).is_err() && breaker.state() == CircuitState::Open).unwrap()
}

// CF-1: argument, configuration, default, in this order.
#[test]
fn an_argument_precedes_the_configuration() {
    let config = &config();
    let breaker = || CircuitBreaker::builder().config(config);
    assert_eq!(failures(&breaker().build().unwrap()), 2);
    assert_eq!(failures(&breaker().max_failures(1).build().unwrap()), 1);

    let limiter = RateLimiterBuilder::default().config(config).build().unwrap();
    assert_eq!((limiter.rate(), limiter.per(), limiter.burst()), (7.0, 60 * SECOND, 7.0));
    let limiter = RateLimiter::builder(10).config(config).burst(1).build().unwrap();
    assert_eq!((limiter.rate(), limiter.per(), limiter.burst()), (10.0, 60 * SECOND, 1.0));
    let keyed = KeyedRateLimiter::<u32>::builder(10).config(config).build().unwrap();
    assert_eq!((keyed.quota().rate(), keyed.quota().per()), (10.0, 60 * SECOND));

    let shutdown = || GracefulShutdown::builder().config(config);
    assert_eq!(shutdown().build().unwrap().timeout(), 60 * SECOND);
    assert_eq!(shutdown().timeout(SECOND).build().unwrap().timeout(), SECOND);

    let heartbeat = || Heartbeat::builder().config(config);
    assert_eq!(heartbeat().build().unwrap().interval(), 20 * SECOND);
    assert_eq!(heartbeat().interval(SECOND).build().unwrap().interval(), SECOND);

    let watchdog = || Watchdog::builder().config(config);
    assert_eq!(watchdog().build().unwrap().timeout(), 20 * SECOND);
    assert_eq!(watchdog().timeout(SECOND).build().unwrap().timeout(), SECOND);

    let empty = &Config::default();
    assert_eq!(failures(&CircuitBreaker::builder().config(empty).build().unwrap()), 5);
    assert_eq!(Watchdog::builder().config(empty).build().unwrap().timeout(), 30 * SECOND);
}

// CF-3: a builder with the name of an instance prefers its settings, whether `name` or `config` is called first.
#[test]
fn a_name_selects_the_instance() {
    let config = &config();
    assert_eq!(failures(&CircuitBreaker::builder().name("payment-api").config(config).build().unwrap()), 3);
    assert_eq!(failures(&CircuitBreaker::builder().config(config).name("payment-api").build().unwrap()), 3);
    assert_eq!(failures(&CircuitBreaker::builder().config(config).name("other").build().unwrap()), 2);
    let limiter = RateLimiter::builder(10).config(config).name("search").build().unwrap();
    assert_eq!((limiter.rate(), limiter.per(), limiter.burst()), (10.0, 9 * SECOND, 4.0));
    let keyed = KeyedRateLimiter::<u32>::builder(10).config(config).name("search").build().unwrap();
    assert_eq!((keyed.quota().per(), keyed.quota().burst()), (9 * SECOND, Some(4.0)));
    assert_eq!(Watchdog::builder().name("worker").config(config).build().unwrap().timeout(), 5 * SECOND);
}

// CF-4: values that are invalid only in combination are an error of the builder.
#[test]
fn values_that_are_invalid_together_are_an_error() {
    let config = load("resilience: {rate_limiter: {default_rate: 1e300}}").unwrap();
    let error = RateLimiterBuilder::default().config(&config).build().unwrap_err();
    assert!(error.to_string().contains("rate"), "{error}");
}

// CF-1, CB-13 to CB-15: the window of the instance comes before that of the section, whichever of the two keys each
// has; what has no effect on a breaker is no error, and a configured minimum is at most the window of calls.
#[test]
fn rates_come_from_the_configuration() {
    let config = &load(
        "\
resilience:
  circuit_breaker:
    window_calls: 10
    minimum_calls: 50
    slow_call_rate: 0.5
    instances:
      rated: {failure_rate: 0.25}
      timed: {failure_rate: 0.5, window: 30, max_failures: 9}
      slow: {slow_call: 2}
",
    )
    .unwrap();
    let breaker = |name: &str| CircuitBreaker::builder().config(config).name(name).build().unwrap();
    let rated = breaker("rated");
    let found = (rated.failure_rate(), rated.window(), rated.minimum_calls(), rated.max_failures(), rated.slow_call());
    assert_eq!(found, (Some(0.25), Some(Window::Calls(10)), Some(10), None, None));
    let timed = breaker("timed");
    let found = (timed.failure_rate(), timed.window(), timed.minimum_calls(), timed.max_failures());
    assert_eq!(found, (Some(0.5), Some(Window::Time(30 * SECOND)), Some(50), Some(9)));
    let slow = breaker("slow");
    let found = (slow.slow_call(), slow.slow_call_rate(), slow.failure_rate(), slow.max_failures());
    assert_eq!(found, (Some(2 * SECOND), Some(0.5), None, Some(5)));
    assert_eq!(breaker("other").window(), None);
    let given = CircuitBreaker::builder().config(config).window(Window::calls(7));
    assert_eq!(given.failure_rate(1.0).build().unwrap().minimum_calls(), Some(7));
}
