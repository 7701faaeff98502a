//! Property tests against a naive bucket, which counts in exact fractions and moves from event to event.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::clock::Moment;

/// The next event. Times are in percent of the time between two tokens.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Lag(u64),
    Take(u32),
    Join(u32),
    /// The waiter with this index, modulo the number of waiters, polls.
    Poll(usize),
    Drop(usize),
    SetRate(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0..30u64, 0..300u64, Just(100), Just(50), 0..3_000u64].prop_map(Step::Pass),
        2 => (0..200u64).prop_map(Step::Lag),
        6 => (1..4u32).prop_map(Step::Take),
        4 => (1..4u32).prop_map(Step::Join),
        3 => (0..8usize).prop_map(Step::Poll),
        3 => (0..8usize).prop_map(Step::Drop),
        1 => prop_oneof![1..10u64, 1..1_000_000u64].prop_map(Step::SetRate),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    per: u64,
    rate: u64,
    /// In quarters of a token.
    burst: u64,
    steps: Vec<Step>,
}

fn case() -> impl Strategy<Value = Case> {
    let per = prop_oneof![Just(1_000_000_000), Just(86_400_000_000_000), Just(1_000), 1_000..1_000_000_000_000u64];
    let rate = prop_oneof![1..10u64, 1..2_000u64, 1..7_000_000u64];
    let burst = prop_oneof![Just(4), 0..40u64, 0..4_000u64];
    (per, rate, burst, prop::collection::vec(step(), 1..120)).prop_map(|(per, rate, burst, steps)| {
        // At most one token per nanosecond.
        Case { per, rate: rate.min(per), burst, steps }
    })
}

/// The limiter and its clock.
struct Tested {
    manual: ManualClock,
    limiter: RateLimiter,
    waiting: Vec<(Reservation, u64, u32)>,
    rate: u64,
    per: u64,
    next: u64,
}

impl Tested {
    fn new(case: &Case) -> Self {
        let gap = Duration::from_nanos(case.per / case.rate);
        // More than the 4 µs by which a take from a full bucket may be counted as earlier.
        let manual = ManualClock::with_staleness((gap * 2).max(Duration::from_nanos(4_001)));
        manual.advance(Duration::from_secs(1_000_000));
        #[allow(clippy::cast_precision_loss)]
        let builder = RateLimiter::builder(case.rate as f64).burst(case.burst as f64 / 4.0);
        let limiter = builder.per(Duration::from_nanos(case.per)).clock(&manual).build().unwrap();
        Self { manual, limiter, waiting: Vec::new(), rate: case.rate, per: case.per, next: 0 }
    }

    fn now(&self) -> u64 {
        self.manual.now().as_nanos()
    }

    fn percent(&self, percent: u64) -> Duration {
        Duration::from_nanos(self.per / self.rate).saturating_mul(u32::try_from(percent).unwrap()) / 100
    }

    fn set_rate(&mut self, rate: u64) {
        self.rate = rate.min(self.per);
        #[allow(clippy::cast_precision_loss)]
        self.limiter.set_rate(self.rate as f64, Duration::from_nanos(self.per)).unwrap();
    }

    fn join(&mut self, tokens: u32) -> Option<u64> {
        let reservation = self.limiter.reserve(tokens, None).ok()?;
        self.next += 1;
        self.waiting.push((reservation, self.next, tokens));
        Some(self.next)
    }

    fn index(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.waiting.len())
    }
}

/// A bucket that counts in quarters of a token times nanoseconds of `per`, and grants in order.
struct Naive {
    now: u64,
    rate: i128,
    token: i128,
    capacity: i128,
    level: i128,
    /// The number and cost of each waiter, and of those that were granted.
    queue: VecDeque<(u64, i128)>,
    granted: Vec<(u64, i128)>,
    /// The tolerance for rounding: two nanoseconds of every rate. A unit is at most half a nanosecond. Each take, the
    /// time, and the level at each change of the rate are rounded by less than a unit.
    tolerance: i128,
}

impl Naive {
    fn new(case: &Case, now: u64) -> Self {
        let per = i128::from(case.per);
        let rate = 4 * i128::from(case.rate);
        let capacity = i128::from(case.burst).max(4) * per;
        let level = i128::from(case.burst) * per;
        let (queue, granted) = Default::default();
        Self { now, rate, token: 4 * per, capacity, level, queue, granted, tolerance: 2 * rate }
    }

    fn fill(&mut self, nanos: u64) {
        self.now += nanos;
        self.level = (self.level + self.rate * i128::from(nanos)).min(self.capacity);
    }

    /// Grants tokens moment by moment, up to `until`.
    fn pass(&mut self, until: u64) {
        self.serve();
        while let Some((_, cost)) = self.queue.front() {
            let missing = (cost - self.level + self.rate - 1) / self.rate;
            let nanos = u64::try_from(missing).unwrap();
            if self.now + nanos > until {
                break;
            }
            // Nothing overflows: lacking tokens are granted in the nanosecond in which they come.
            self.now += nanos;
            self.level += self.rate * i128::from(nanos);
            self.serve();
        }
        self.fill(until - self.now);
    }

    fn serve(&mut self) {
        while let Some((number, cost)) = self.queue.front().copied() {
            if cost > self.level {
                break;
            }
            self.level -= cost;
            self.granted.push((number, cost));
            self.queue.pop_front();
        }
    }

    /// Grants what the tested limiter granted to `number`, which may be earlier by a rounding error.
    fn rounded_up(&mut self, number: u64) -> bool {
        match self.queue.front().copied() {
            Some((first, cost)) if first == number => {
                self.level -= cost;
                self.queue.pop_front();
                self.level >= -self.tolerance
            }
            _ => self.granted.iter().any(|(granted, _)| *granted == number),
        }
    }

    /// `number` leaves; tokens that it got earlier than from the tested limiter, by a rounding error, are refunded.
    fn leave(&mut self, number: u64) {
        if let Some((_, cost)) = self.granted.iter().find(|(granted, _)| *granted == number) {
            self.level = (self.level + cost).min(self.capacity);
        }
        self.queue.retain(|(waiting, _)| *waiting != number);
    }

    fn set_rate(&mut self, rate: u64) {
        self.rate = 4 * i128::from(rate);
        self.tolerance += 2 * self.rate;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    // RL-1, RL-2, RL-3, RL-6, RL-9: the limiter equals the ideal bucket, to the nanosecond, for any staleness.
    #[test]
    fn a_limiter_equals_an_exact_bucket(case in case()) {
        let mut tested = Tested::new(&case);
        let mut naive = Naive::new(&case, tested.now());
        for step in &case.steps {
            match *step {
                Step::Pass(percent) => {
                    tested.manual.advance(tested.percent(percent));
                    naive.pass(tested.now());
                }
                Step::Lag(percent) => tested.manual.lag(tested.percent(percent)),
                Step::Take(tokens) => {
                    let cost = naive.token * i128::from(tokens);
                    let granted = tested.limiter.try_acquire_n(tokens);
                    if granted {
                        prop_assert!(cost <= naive.capacity);
                        prop_assert!(naive.level >= cost - naive.tolerance, "{} < {}", naive.level, cost);
                        prop_assert!(naive.queue.is_empty() || naive.queue[0].1 - naive.level <= naive.tolerance);
                        naive.level -= cost;
                    } else {
                        let waiting: i128 = naive.queue.iter().map(|(_, cost)| cost).sum();
                        prop_assert!(naive.level - waiting < cost + naive.tolerance || cost > naive.capacity);
                    }
                }
                Step::Join(tokens) => match tested.join(tokens) {
                    Some(number) => naive.queue.push_back((number, naive.token * i128::from(tokens))),
                    None => prop_assert!(naive.token * i128::from(tokens) > naive.capacity),
                },
                Step::Poll(number) | Step::Drop(number) => {
                    if let Some(index) = tested.index(number) {
                        let (mut waiter, number, _) = tested.waiting.remove(index);
                        naive.serve();
                        if poll(&mut waiter).is_ready() {
                            prop_assert!(naive.rounded_up(number), "{number} was served too early");
                        } else if matches!(step, Step::Drop(_)) {
                            naive.leave(number);
                        } else {
                            tested.waiting.insert(index, (waiter, number, 0));
                        }
                    }
                }
                Step::SetRate(rate) => {
                    tested.set_rate(rate);
                    naive.set_rate(tested.rate);
                }
            }
            // Waiters are due when the naive bucket says, to a nanosecond and the tolerance.
            naive.serve();
            let tolerance = u64::try_from(naive.tolerance / naive.rate).unwrap() + 1;
            let mut ahead = -naive.level;
            for (number, cost) in &naive.queue {
                ahead += cost;
                let due = naive.now + u64::try_from(ahead / naive.rate).unwrap();
                let waiter = tested.waiting.iter().find(|(_, known, _)| known == number);
                let claimed = tested.now() + u64::try_from(waiter.unwrap().0.remaining().as_nanos()).unwrap();
                prop_assert!(claimed.abs_diff(due) <= tolerance, "due at {claimed}, should be {due}");
            }
        }
    }

    // RL-2: no window gets more than the capacity and the tokens that come within it, with changes of the rate (RL-9)
    // and with waiters that are dropped at any time: before they are due, or long after without a poll.
    #[test]
    fn no_window_gets_too_many_tokens(case in case()) {
        let mut tested = Tested::new(&case);
        // The grants with their times; and the tokens that had come in by each time, in quarters of tokens times
        // `per`.
        let mut grants: Vec<(u64, u64)> = Vec::new();
        let mut rates = vec![(tested.now(), tested.rate)];
        let mut due: Vec<(u64, u64)> = Vec::new();
        for step in &case.steps {
            let pending: Vec<_> = tested.waiting.iter().map(|(waiter, number, _)| (*number, tested.manual.now() + waiter.remaining())).collect();
            match *step {
                Step::Pass(percent) => {
                    tested.manual.advance(tested.percent(percent));
                    let came = pending.into_iter().filter(|(_, moment)| *moment <= tested.manual.now());
                    note_due(&mut due, came);
                }
                Step::Lag(percent) => tested.manual.lag(tested.percent(percent)),
                Step::Take(tokens) => {
                    if tested.limiter.try_acquire_n(tokens) {
                        grants.push((tested.now(), u64::from(tokens)));
                    }
                }
                Step::Join(tokens) => drop(tested.join(tokens)),
                Step::Poll(number) => {
                    if let Some(index) = tested.index(number) && poll(&mut tested.waiting[index].0).is_ready() {
                        let (_, number, tokens) = tested.waiting.remove(index);
                        let moment = due.iter().find(|(known, _)| *known == number).map(|(_, moment)| *moment);
                        grants.push((moment.unwrap(), u64::from(tokens)));
                    }
                }
                Step::Drop(number) => {
                    if let Some(index) = tested.index(number) {
                        drop(tested.waiting.remove(index));
                    }
                }
                Step::SetRate(rate) => {
                    tested.set_rate(rate);
                    rates.push((tested.now(), tested.rate));
                }
            }
            let now = tested.manual.now();
            let usable = tested.waiting.iter().filter(|(waiter, ..)| waiter.remaining().is_zero());
            note_due(&mut due, usable.map(|(_, number, _)| (*number, now)));
        }
        for (_, number, tokens) in &tested.waiting {
            if let Some((_, moment)) = due.iter().find(|(known, _)| known == number) {
                grants.push((*moment, u64::from(*tokens)));
            }
        }
        grants.sort_unstable();
        let capacity = u128::from(case.burst.max(4)) * u128::from(case.per);
        let slack = 4 * rates.iter().map(|(_, rate)| u128::from(*rate)).sum::<u128>();
        for (first, (start, _)) in grants.iter().enumerate() {
            let mut granted = 0;
            for (end, tokens) in &grants[first..] {
                granted += 4 * u128::from(*tokens) * u128::from(case.per);
                let income = income(&rates, *start, *end);
                prop_assert!(granted <= capacity + income + slack, "{granted} in {start}..{end}, {capacity} + {income}: {grants:?}");
            }
        }
    }
}

fn note_due(due: &mut Vec<(u64, u64)>, came: impl Iterator<Item = (u64, Moment)>) {
    for (number, moment) in came {
        if !due.iter().any(|(known, _)| *known == number) {
            due.push((number, moment.as_nanos()));
        }
    }
}

/// The tokens that come in between two moments.
fn income(rates: &[(u64, u64)], start: u64, end: u64) -> u128 {
    let ends = rates.iter().skip(1).map(|(since, _)| *since).chain([u64::MAX]);
    rates.iter().zip(ends).fold(0, |sum, ((since, rate), until)| {
        let nanos = end.min(until).saturating_sub(start.max(*since));
        sum + 4 * u128::from(nanos) * u128::from(*rate)
    })
}
