//! The breaker beside a plain reference, in any interleaving of calls, outcomes, drops, time and commands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_core::circuit_breaker::{Cause, Outcome, Window, WindowCounts};
use proptest::prelude::*;

use super::{CircuitBreaker, ManualClock, Permit};
use crate::circuit_breaker::CircuitState;

const RESET: u64 = 50;
const HALF_OPEN: u64 = 30;
const SLOW: u64 = 7;

#[derive(Clone, Debug)]
enum Step {
    Ask,
    /// The outcome, or `None` for a permit that is dropped.
    Report(usize, Option<Outcome>),
    Pass(u64),
    Look,
    Reset,
    Isolate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        6 => Just(Some(Outcome::Failure)),
        6 => Just(Some(Outcome::Success)),
        2 => Just(Some(Outcome::Ignored)),
        1 => (1_u64..4000).prop_map(|seconds| Some(Outcome::FailureFor(Duration::from_secs(seconds)))),
        2 => Just(None),
    ];
    let step = prop_oneof![
        8 => Just(Step::Ask),
        8 => (0_usize..6, outcome).prop_map(|(which, outcome)| Step::Report(which, outcome)),
        4 => prop_oneof![1_u64..12, Just(HALF_OPEN), Just(RESET)].prop_map(Step::Pass),
        2 => Just(Step::Look),
        1 => Just(Step::Reset),
        1 => Just(Step::Isolate),
    ];
    proptest::collection::vec(step, 1..150)
}

/// How the circuit opens.
#[derive(Clone, Copy, Debug)]
struct Rules {
    max_failures: Option<u32>,
    /// Window, minimum, failure rate, slow rate.
    rates: Option<(Window, usize, f64, f64)>,
}

fn rules() -> impl Strategy<Value = Rules> {
    let window = prop_oneof![
        (1_u64..8).prop_map(|seconds| Window::time(Duration::from_secs(10 * seconds))),
        (1_u32..9).prop_map(Window::calls),
    ];
    let share = || (1_u32..=10).prop_map(|tenths| f64::from(tenths) / 10.0);
    let rates = (window, 1_usize..6, share(), share()).prop_map(|(window, minimum, failed, slow)| {
        let longest = if let Window::Calls(calls) = window { calls as usize } else { minimum };
        (window, minimum.min(longest), failed, slow)
    });
    prop_oneof![
        (1_u32..4).prop_map(|failures| Rules { max_failures: Some(failures), rates: None }),
        rates.clone().prop_map(|rates| Rules { max_failures: None, rates: Some(rates) }),
        (2_u32..4, rates).prop_map(|(failures, rates)| Rules { max_failures: Some(failures), rates: Some(rates) }),
    ]
}

/// A call under way.
#[derive(Clone, Copy)]
struct Call {
    id: usize,
    period: usize,
    begun: u64,
    /// Until when it holds a slot, if it is a half-open call.
    slot_until: Option<u64>,
}

/// What the rules say, written down as plainly as possible: everything remembered, nothing packed.
struct Reference {
    rules: Rules,
    slots: usize,
    now: u64,
    lag: u64,
    state: CircuitState,
    /// Counts the periods; an outcome decides only in its own.
    period: usize,
    failures: u32,
    successes: usize,
    open_until: Option<u64>,
    calls: Vec<Call>,
    /// The outcomes of the closed period: second, failed, slow.
    outcomes: VecDeque<(u64, bool, bool)>,
    causes: Vec<Cause>,
}

impl Reference {
    fn enter(&mut self, state: CircuitState, cause: Cause) {
        if self.state != state {
            self.causes.push(cause);
        }
        self.state = state;
        self.period += 1;
        (self.failures, self.successes) = (0, 0);
        self.outcomes.clear();
    }

    fn open(&mut self, seconds: u64, cause: Cause) {
        self.enter(CircuitState::Open, cause);
        self.open_until = Some(self.now + seconds);
    }

    fn is_over(&self) -> bool {
        self.state == CircuitState::Open && self.open_until.is_some_and(|until| self.now >= until)
    }

    /// What is seen of the state, without changing it.
    fn look(&self) -> CircuitState {
        if self.is_over() { CircuitState::HalfOpen } else { self.state }
    }

    fn ask(&mut self, id: usize) -> bool {
        if self.is_over() {
            self.enter(CircuitState::HalfOpen, Cause::ResetTimeout);
        }
        let (now, period) = (self.now, self.period);
        let holds = |call: &&Call| call.period == period && call.slot_until.is_some_and(|until| now < until);
        let (admitted, slot_until) = match self.state {
            CircuitState::Closed => (true, None),
            CircuitState::Open => (false, None),
            CircuitState::HalfOpen => (self.calls.iter().filter(holds).count() < self.slots, Some(now + HALF_OPEN)),
        };
        if admitted {
            self.calls.push(Call { id, period, begun: now, slot_until });
        }
        admitted
    }

    fn report(&mut self, which: usize, outcome: Option<Outcome>) -> usize {
        let call = self.calls.remove(which);
        let slow = self.rules.rates.is_some() && self.now - call.begun > SLOW;
        let Some(outcome) = outcome.filter(|outcome| *outcome != Outcome::Ignored && call.period == self.period) else {
            return call.id;
        };
        match (self.state, outcome) {
            (_, Outcome::FailureFor(time)) => {
                let seconds = time.as_secs().min(3600);
                self.open(seconds, Cause::RetryAfter(Duration::from_secs(seconds)));
            }
            (CircuitState::Closed, outcome) => self.closed(outcome == Outcome::Failure, slow),
            (_, Outcome::Success) if !slow => {
                self.successes += 1;
                if self.successes == self.slots {
                    self.enter(CircuitState::Closed, Cause::Successes(u32::try_from(self.slots).unwrap()));
                }
            }
            _ => self.open(RESET, Cause::HalfOpenFailure),
        }
        call.id
    }

    fn closed(&mut self, failed: bool, slow: bool) {
        self.failures = if failed { self.failures + 1 } else { 0 };
        self.outcomes.push_back((self.now - self.lag, failed, slow));
        if self.rules.max_failures.is_some_and(|limit| failed && self.failures >= limit) {
            return self.open(RESET, Cause::ConsecutiveFailures(self.failures));
        }
        let Some((_, minimum, failure_rate, slow_rate)) = self.rules.rates else { return };
        let WindowCounts { calls, failed: failures, slow: slows, .. } = self.window(self.now - self.lag);
        let is_many = |part: u64, share: f64| calls >= minimum as u64 && part as f64 / calls as f64 >= share;
        if failed && is_many(failures, failure_rate) {
            self.open(RESET, Cause::FailureRate { failed: failures, calls });
        } else if slow && is_many(slows, slow_rate) {
            self.open(RESET, Cause::SlowCallRate { slow: slows, calls });
        }
    }

    /// Every outcome in the window, counted again.
    fn window(&self, now: u64) -> WindowCounts {
        let Some((window, ..)) = self.rules.rates else { return WindowCounts::default() };
        let skipped = match window {
            Window::Calls(calls) => self.outcomes.len().saturating_sub(calls as usize),
            Window::Time(length) => {
                let width = length.as_secs() / 10;
                self.outcomes.iter().filter(|outcome| outcome.0 / width + 9 < now / width).count()
            }
        };
        let inside = || self.outcomes.iter().skip(skipped);
        let count = |count: usize| count as u64;
        WindowCounts {
            calls: count(inside().count()),
            failed: count(inside().filter(|outcome| outcome.1).count()),
            slow: count(inside().filter(|outcome| outcome.2).count()),
        }
    }
}

fn build(rules: Rules, slots: u32, clock: &ManualClock, causes: &Arc<Mutex<Vec<Cause>>>) -> CircuitBreaker {
    let mut builder = CircuitBreaker::builder()
        .reset_timeout(Duration::from_secs(RESET))
        .half_open_max_calls(slots)
        .half_open_timeout(Duration::from_secs(HALF_OPEN))
        .clock(clock);
    if let Some(failures) = rules.max_failures {
        builder = builder.max_failures(failures);
    }
    if let Some((window, minimum, failed, slow)) = rules.rates {
        builder = builder.failure_rate(failed).window(window).minimum_calls(u32::try_from(minimum).unwrap());
        builder = builder.slow_call(Duration::from_secs(SLOW)).slow_call_rate(slow);
    }
    let causes = Arc::clone(causes);
    builder.on_state_change(move |change| causes.lock().unwrap().push(change.cause)).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    // CB-1, CB-3 to CB-7, CB-9, CB-10, CB-13 to CB-16, CB-22: any interleaving does what the reference says.
    #[test]
    fn the_breaker_does_what_the_reference_says(
        rules in rules(), slots in 1_u32..4, lag in 0_u64..9, steps in steps(),
    ) {
        let clock = ManualClock::with_staleness(Duration::from_secs(8));
        clock.advance(Duration::from_secs(100));
        clock.lag(Duration::from_secs(lag));
        let causes = Arc::default();
        let breaker = build(rules, slots, &clock, &causes);
        let mut reference = Reference {
            rules, slots: slots as usize, now: 100, lag, state: CircuitState::Closed, period: 0, failures: 0, successes: 0,
            open_until: None, calls: Vec::new(), outcomes: VecDeque::new(), causes: Vec::new(),
        };
        let mut permits: Vec<Option<Permit<&CircuitBreaker>>> = Vec::new();
        let mut expected = [0_u64; 4];
        for step in steps {
            match step {
                Step::Ask => {
                    let admitted = reference.ask(permits.len());
                    let permit = breaker.try_acquire();
                    prop_assert_eq!(permit.is_ok(), admitted, "{:?}", permit);
                    expected[3] += u64::from(!admitted);
                    permits.push(permit.ok());
                }
                Step::Report(which, outcome) if which < reference.calls.len() => {
                    let permit = permits[reference.report(which, outcome)].take().unwrap();
                    match outcome {
                        Some(outcome) => permit.report(outcome),
                        None => drop(permit),
                    }
                    expected[match outcome {
                        Some(Outcome::Success) => 0,
                        Some(Outcome::Failure | Outcome::FailureFor(_)) => 1,
                        Some(Outcome::Ignored) | None => 2,
                    }] += 1;
                }
                Step::Report(..) => {}
                Step::Pass(seconds) => {
                    reference.now += seconds;
                    clock.advance(Duration::from_secs(seconds));
                }
                Step::Look => prop_assert_eq!(breaker.state(), reference.look()),
                Step::Reset => {
                    reference.enter(CircuitState::Closed, Cause::Manual);
                    breaker.reset();
                }
                Step::Isolate => {
                    reference.enter(CircuitState::Open, Cause::Manual);
                    reference.open_until = None;
                    breaker.isolate();
                }
            }
            let (stats, snapshot) = (breaker.stats(), breaker.snapshot());
            prop_assert_eq!([stats.successful, stats.failed, stats.ignored, stats.rejected], expected);
            prop_assert_eq!(stats.total, expected.iter().sum::<u64>());
            prop_assert_eq!(snapshot.state, reference.look());
            prop_assert_eq!(snapshot.window, rules.rates.map(|_| reference.window(reference.now)));
            let left = reference.open_until.filter(|until| reference.state == CircuitState::Open && *until > reference.now);
            prop_assert_eq!(snapshot.half_open_in, left.map(|until| Duration::from_secs(until - reference.now)));
        }
        prop_assert_eq!(&*causes.lock().unwrap(), &reference.causes);
        prop_assert_eq!(breaker.stats().state_changes, reference.causes.len() as u64);
    }
}
