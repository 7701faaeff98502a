//! The breaker against a plain reference, in any interleaving of calls, outcomes, drops and time.

use std::time::Duration;

use proptest::prelude::*;

use super::{CircuitBreaker, ManualClock, Outcome, Permit};
use crate::circuit_breaker::CircuitState;

const MAX_FAILURES: u32 = 2;
const RESET: u64 = 50;
const PLACE: u64 = 30;

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Report(usize, Option<Outcome>),
    Pass(u64),
    Look,
    Reset,
    Isolate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        3 => Just(Some(Outcome::Failure)),
        2 => Just(Some(Outcome::Success)),
        1 => Just(Some(Outcome::Ignored)),
        1 => Just(None),
    ];
    let step = prop_oneof![
        8 => Just(Step::Ask),
        8 => (0_usize..6, outcome).prop_map(|(which, outcome)| Step::Report(which, outcome)),
        4 => prop_oneof![1_u64..12, Just(PLACE), Just(RESET)].prop_map(Step::Pass),
        2 => Just(Step::Look),
        1 => Just(Step::Reset),
        1 => Just(Step::Isolate),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What the rules say, written down as plainly as possible: everything remembered, nothing packed.
struct Reference {
    slots: usize,
    now: u64,
    state: CircuitState,
    /// Counts the periods; a outcome decides only in its own.
    period: usize,
    failures: u32,
    successes: usize,
    open_until: Option<u64>,
    /// Calls under way: an identity, their period, and until when they hold a slot if they are half-open calls.
    calls: Vec<(usize, usize, Option<u64>)>,
    changes: u64,
}

impl Reference {
    fn enter(&mut self, state: CircuitState) {
        self.changes += u64::from(self.state != state);
        self.state = state;
        self.period += 1;
        (self.failures, self.successes) = (0, 0);
    }

    fn open(&mut self) {
        self.enter(CircuitState::Open);
        self.open_until = Some(self.now + RESET);
    }

    fn look(&mut self) -> CircuitState {
        if self.state == CircuitState::Open && self.open_until.is_some_and(|until| self.now >= until) {
            self.enter(CircuitState::HalfOpen);
        }
        self.state
    }

    fn ask(&mut self, id: usize) -> bool {
        self.look();
        let (now, period) = (self.now, self.period);
        let holds = |call: &&(usize, usize, Option<u64>)| call.1 == period && call.2.is_some_and(|until| now < until);
        let (admitted, until) = match self.state {
            CircuitState::Closed => (true, None),
            CircuitState::Open => (false, None),
            CircuitState::HalfOpen => (self.calls.iter().filter(holds).count() < self.slots, Some(now + PLACE)),
        };
        if admitted {
            self.calls.push((id, self.period, until));
        }
        admitted
    }

    fn report(&mut self, which: usize, outcome: Option<Outcome>) -> usize {
        let (id, period, _) = self.calls.remove(which);
        match (period == self.period, self.state, outcome) {
            (true, CircuitState::Closed, Some(Outcome::Success)) => self.failures = 0,
            (true, CircuitState::Closed, Some(Outcome::Failure)) => {
                self.failures += 1;
                if self.failures == MAX_FAILURES {
                    self.open();
                }
            }
            (true, CircuitState::HalfOpen, Some(Outcome::Failure)) => self.open(),
            (true, CircuitState::HalfOpen, Some(Outcome::Success)) => {
                self.successes += 1;
                if self.successes == self.slots {
                    self.enter(CircuitState::Closed);
                }
            }
            _ => {}
        }
        id
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    // CB-1, CB-3, CB-4, CB-5, CB-6, CB-7, CB-9, CB-10: any interleaving does what the reference says.
    #[test]
    fn the_breaker_does_what_the_reference_says(slots in 1_u32..4, lag in 0_u64..9, steps in steps()) {
        let clock = ManualClock::with_staleness(Duration::from_secs(8));
        clock.advance(Duration::from_secs(100));
        clock.lag(Duration::from_secs(lag));
        let breaker = CircuitBreaker::builder()
            .max_failures(MAX_FAILURES)
            .reset_timeout(Duration::from_secs(RESET))
            .half_open_max_calls(slots)
            .half_open_timeout(Duration::from_secs(PLACE))
            .clock(&clock)
            .build()
            .unwrap();
        let mut reference = Reference {
            slots: slots as usize, now: 100, state: CircuitState::Closed, period: 0, failures: 0, successes: 0,
            open_until: None, calls: Vec::new(), changes: 0,
        };
        let mut permits: Vec<Option<Permit<&CircuitBreaker>>> = Vec::new();
        let (mut reported, mut rejected) = (0, 0);
        for step in steps {
            match step {
                Step::Ask => {
                    let admitted = reference.ask(permits.len());
                    let permit = breaker.try_acquire();
                    prop_assert_eq!(permit.is_ok(), admitted, "{:?}", permit);
                    rejected += u64::from(!admitted);
                    permits.push(permit.ok());
                }
                Step::Report(which, outcome) if which < reference.calls.len() => {
                    let permit = permits[reference.report(which, outcome)].take().unwrap();
                    match outcome {
                        Some(outcome) => permit.report(outcome),
                        None => drop(permit),
                    }
                    reported += 1;
                }
                Step::Report(..) => {}
                Step::Pass(seconds) => {
                    reference.now += seconds;
                    clock.advance(Duration::from_secs(seconds));
                }
                Step::Look => {
                    reference.look();
                    let _ = breaker.state();
                }
                Step::Reset => {
                    reference.enter(CircuitState::Closed);
                    breaker.reset();
                }
                Step::Isolate => {
                    reference.enter(CircuitState::Open);
                    reference.open_until = None;
                    breaker.isolate();
                }
            }
            let stats = breaker.stats();
            prop_assert_eq!(stats.total, reported + rejected);
            prop_assert_eq!(stats.rejected, rejected);
        }
        prop_assert_eq!(breaker.state(), reference.look());
        prop_assert_eq!(breaker.stats().state_changes, reference.changes);
    }
}
