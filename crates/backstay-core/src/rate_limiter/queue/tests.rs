use alloc::collections::BTreeSet;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rate_limiter::Quota;

/// The same queue, written down naively: each waiter with its own end, moved one by one.
#[derive(Default)]
struct Naive {
    /// Ticket, end, tokens.
    waiters: Vec<(Ticket, i128, u32)>,
    /// Where the last one ends that came since the queue was empty.
    end: Option<i128>,
    listening: BTreeSet<Ticket>,
}

impl Naive {
    fn position(&self, ticket: Ticket) -> usize {
        self.waiters.iter().position(|(known, ..)| *known == ticket).unwrap()
    }

    fn remove(&mut self, ticket: Ticket) {
        self.waiters.retain(|(known, ..)| *known != ticket);
        self.listening.remove(&ticket);
        self.end = self.end.filter(|_| !self.waiters.is_empty());
    }

    fn leave(&mut self, scale: &Scale, ticket: Ticket, refund: u64) {
        let position = self.position(ticket);
        self.waiters[position..].iter_mut().for_each(|(_, end, _)| *end -= fine(scale, refund));
        self.end = self.end.map(|end| end - fine(scale, refund));
        self.remove(ticket);
    }

    fn refill(&mut self, scale: &Scale, now: Moment) -> u64 {
        let mut full_at = fine(scale, scale.units(now));
        for (_, end, tokens) in &mut self.waiters {
            if due(scale, *end) <= now {
                *end -= fine(scale, scale.capacity);
            } else {
                full_at += cost(*tokens);
                *end = full_at;
            }
        }
        self.end = self.waiters.last().map(|(_, end, _)| *end);
        units(scale, full_at)
    }

    fn convert(&mut self, old: &Scale, new: &Scale, now: Moment) {
        for (_, end, _) in &mut self.waiters {
            *end = horizon(new, now) - (horizon(old, now) - *end);
        }
        self.end = self.end.map(|end| horizon(new, now) - (horizon(old, now) - end));
    }

    fn take_due(&mut self, scale: &Scale, now: Moment) -> Vec<Ticket> {
        let due =
            self.waiters.iter().filter(|(ticket, end, _)| self.listening.contains(ticket) && due(scale, *end) <= now);
        let due: Vec<_> = due.map(|(ticket, ..)| *ticket).collect();
        self.listening.retain(|ticket| !due.contains(ticket));
        due
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Milliseconds.
    Pass(u64),
    Take(u32),
    Join(u32),
    Listen(usize),
    Serve(usize),
    Leave(usize),
    Refill,
    Rate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..900u64).prop_map(Step::Pass),
        1 => (1..4u32).prop_map(Step::Take),
        8 => (1..4u32).prop_map(Step::Join),
        6 => (0..64usize).prop_map(Step::Listen),
        4 => (0..64usize).prop_map(Step::Serve),
        4 => (0..64usize).prop_map(Step::Leave),
        1 => Just(Step::Refill),
        1 => (0..4usize).prop_map(Step::Rate),
    ]
}

const RATES: [f64; 4] = [1.0, 7.0, 0.3, 1e6];

fn scale(rate: usize) -> Scale {
    Quota::new(RATES[rate], Duration::from_secs(1), Some(4.0)).unwrap().scale()
}

proptest! {
    #![proptest_config(crate::cases(256))]

    // RL-4, RL-6, RL-8, RL-9: places, order and whom to wake are those of a plain list.
    #[test]
    fn a_queue_is_a_list(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 200 })) {
        let (mut queue, mut naive) = (Queue::<Ticket>::default(), Naive::default());
        let (mut now, mut scale, mut full_at) = (Moment::from_nanos(1 << 50), self::scale(0), 0);
        for step in steps {
            let chosen = |index: usize| Some(naive.waiters[index.checked_rem(naive.waiters.len())?].0);
            match step {
                Step::Pass(millis) => now = now + Duration::from_millis(millis),
                Step::Take(tokens) => if let super::super::Take::Granted(later) = scale.take(full_at, scale.cost(tokens), crate::time::Reading::exact(now)) {
                    full_at = later;
                },
                Step::Join(tokens) => {
                    let place = scale.reserve(full_at, scale.cost(tokens), now);
                    full_at = place.full_at;
                    let ticket = queue.join(&scale, place);
                    // What a conversion rounded is no distance.
                    let adjoins = |end: &i128| place.full_at - place.cost <= units(&scale, *end);
                    let end = naive.end.filter(adjoins).map_or(fine(&scale, full_at), |end| end + cost(tokens));
                    naive.end = Some(end);
                    naive.waiters.push((ticket, end, tokens));
                }
                Step::Listen(index) => if let Some(ticket) = chosen(index) {
                    let before = queue.listen(ticket, ticket, Alarm::Shared);
                    prop_assert_eq!(before.is_some(), !naive.listening.insert(ticket));
                },
                Step::Serve(index) => if let Some(ticket) = chosen(index) {
                    let place = queue.place(&scale, ticket).unwrap();
                    if scale.due(place) <= now {
                        prop_assert_eq!(queue.served(ticket).is_some(), naive.listening.contains(&ticket));
                        naive.remove(ticket);
                    }
                },
                Step::Leave(index) => if let Some(ticket) = chosen(index) {
                    let refund = scale.refund(queue.place(&scale, ticket).unwrap(), full_at, now);
                    full_at = full_at.saturating_sub(refund);
                    prop_assert_eq!(queue.leave(&scale, ticket, refund).is_some(), naive.listening.contains(&ticket));
                    naive.leave(&scale, ticket, refund);
                },
                Step::Refill => {
                    full_at = queue.refill(&scale, now);
                    prop_assert_eq!(full_at, naive.refill(&scale, now));
                }
                Step::Rate(rate) => {
                    let old = scale;
                    let level = old.level(full_at, now);
                    scale = self::scale(rate);
                    full_at = queue.convert(&old, &scale, now, full_at);
                    naive.convert(&old, &scale, now);
                    // Nobody gets more by it, and whoever comes next comes after all who wait.
                    let rounding = scale.tokens(1) + old.tokens(1);
prop_assert!(scale.tokens(scale.level(full_at, now)) <= old.tokens(level) + rounding);
                    if let Some(end) = naive.end {
                        prop_assert!(full_at >= units(&scale, end));
                    }
                }
            }
            prop_assert_eq!(queue.len(), naive.waiters.len());
            for (ticket, end, tokens) in &naive.waiters {
                let place = Place { full_at: units(&scale, *end), cost: scale.cost(*tokens) };
                prop_assert_eq!(queue.place(&scale, *ticket), Some(place));
            }
            let first = naive.waiters.iter().find(|(ticket, ..)| naive.listening.contains(ticket));
            prop_assert_eq!(queue.alarm_at(&scale), first.map(|(_, end, _)| due(&scale, *end)));
            let mut taken = Vec::new();
            queue.take_due(&scale, now, 2, &mut taken);
            prop_assert!(taken.len() <= 2);
            queue.take_due(&scale, now, usize::MAX, &mut taken);
            prop_assert_eq!(taken, naive.take_due(&scale, now));
        }
        let listening: Vec<_> = naive.listening.iter().copied().collect();
        let mut taken = Vec::new();
        let behind = listening.first().copied();
        queue.take_behind(behind, 3, &mut taken);
        prop_assert_eq!(&taken[..], listening.get(1..).map_or(&[][..], |rest| &rest[..rest.len().min(3)]));
        taken.clear();
        queue.take_behind(None, usize::MAX, &mut taken);
        prop_assert!(taken.len() <= listening.len() && queue.alarm_at(&scale).is_none());
    }
}

// RL-4: whoever has an alarm of its own need not be woken, unless it moved up.
#[test]
fn an_alarm_of_ones_own_is_enough_until_the_waiter_moves_up() {
    let (now, scale) = (Moment::from_nanos(1 << 40), scale(0));
    let (mut queue, mut full_at) = (Queue::default(), scale.holding(0.0, now));
    let mut join = |queue: &mut Queue<u32>| {
        let place = scale.reserve(full_at, scale.cost(1), now);
        full_at = place.full_at;
        queue.join(&scale, place)
    };
    let [first, second, third] = [join(&mut queue), join(&mut queue), join(&mut queue)];
    queue.listen(second, 2, Alarm::Own);
    assert_eq!(queue.alarm_at(&scale), None);
    queue.listen(third, 3, Alarm::Shared);
    assert_eq!(queue.alarm_at(&scale), Some(now + Duration::from_secs(2)));
    assert_eq!(queue.served(third), Some(3));
    assert_eq!(queue.alarm_at(&scale), None);
    queue.leave(&scale, first, scale.cost(1));
    assert_eq!(queue.alarm_at(&scale), Some(now + Duration::from_secs(1)));
    assert_eq!(queue.listen(second, 4, Alarm::Own), Some(2));
    assert_eq!(queue.alarm_at(&scale), None);
}

// RL-4: only a move while such a waiter listens makes its alarm late.
#[test]
fn an_alarm_of_ones_own_is_enough_where_nobody_moved_since() {
    let (now, scale) = (Moment::from_nanos(1 << 40), scale(0));
    let (mut queue, mut full_at) = (Queue::default(), scale.holding(0.0, now));
    let mut join = |queue: &mut Queue<u32>| {
        let place = scale.reserve(full_at, scale.cost(1), now);
        full_at = place.full_at;
        queue.join(&scale, place)
    };
    let [first, second, third, fourth] = [join(&mut queue), join(&mut queue), join(&mut queue), join(&mut queue)];
    queue.leave(&scale, first, scale.cost(1));
    queue.listen(third, 3, Alarm::Own);
    assert_eq!(queue.alarm_at(&scale), None, "it listens since the others moved");
    let mut taken = Vec::new();
    queue.take_due(&scale, now + Duration::from_secs(9), 9, &mut taken);
    assert_eq!(taken, [], "it wakes by itself");
    queue.leave(&scale, fourth, 0);
    assert_eq!(queue.alarm_at(&scale), None, "nothing moved");
    queue.refill(&scale, now);
    assert!(queue.alarm_at(&scale).is_some_and(|at| at <= now), "a refill moves all");
    queue.take_due(&scale, now, 9, &mut taken);
    assert_eq!(taken, [3]);
    assert_eq!(queue.listen(third, 4, Alarm::Own), None);
    assert_eq!(queue.alarm_at(&scale), None);
    queue.listen(second, 2, Alarm::Own);
    queue.convert(&scale, &self::scale(1), now, 0);
    assert!(queue.alarm_at(&scale).is_some(), "so does a change of the rate");
    assert_eq!(queue.served(second), Some(2));
    assert!(queue.alarm_at(&scale).is_some(), "the other one listens since before");
    assert_eq!(queue.served(third), Some(4));
    assert!(queue.alarm_at(&scale).is_none());
}

// RL-6: those that left are forgotten when they are as many as the others, and not one by one.
#[test]
fn forgetting_pays() {
    let (now, scale) = (Moment::ORIGIN, scale(0));
    let mut queue = Queue::<()>::default();
    let tickets: Vec<_> = (1..=1000).map(|_| queue.join(&scale, scale.reserve(0, scale.cost(1), now))).collect();
    let capacity = queue.waiters.capacity();
    for ticket in &tickets {
        queue.served(*ticket);
        // Twice those that are left and 32, at each time.
        let kept = match queue.len() {
            485.. => 1000,
            227.. => 484,
            98.. => 226,
            33.. => 97,
            1.. => 32,
            0 => 0,
        };
        assert_eq!(queue.waiters.len(), kept, "{} wait", queue.len());
        // Memory goes back once it is twice what is needed.
        match queue.len() {
            227.. => assert_eq!(queue.waiters.capacity(), capacity),
            98.. => assert!((484..968).contains(&queue.waiters.capacity())),
            _ => {}
        }
    }
}

// RL-6: a crowd leaves nothing behind, neither entries nor memory.
#[test]
fn those_who_left_are_forgotten() {
    let (now, scale) = (Moment::ORIGIN, scale(0));
    let mut queue = Queue::<()>::default();
    let mut full_at = scale.holding(0.0, now);
    let mut tickets = Vec::new();
    let crowd = if cfg!(miri) { 200 } else { 20_000 };
    for number in 0..crowd {
        let place = scale.reserve(full_at, scale.cost(1), now);
        full_at = place.full_at;
        let ticket = queue.join(&scale, place);
        // Every fifth waits for ever, the others leave at once.
        if number % 5 == 0 {
            tickets.push(ticket);
        } else {
            queue.leave(&scale, ticket, scale.cost(1));
        }
        assert!(queue.waiters.len() <= 2 * queue.len() + FEW);
    }
    assert!(queue.waiters.capacity() <= 4 * (2 * queue.len() + FEW), "{}", queue.waiters.capacity());
    for ticket in tickets.into_iter().rev() {
        queue.served(ticket);
    }
    assert!(queue.is_empty() && queue.waiters.capacity() <= 2 * FEW, "{}", queue.waiters.capacity());
}
