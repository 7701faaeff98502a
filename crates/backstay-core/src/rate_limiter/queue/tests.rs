use alloc::collections::BTreeSet;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rate_limiter::Quota;

/// A naive queue: each waiter has its own end, which is moved one by one.
#[derive(Default)]
struct Naive {
    /// Id, end, tokens.
    waiters: Vec<(WaiterId, i128, u32)>,
    /// The end of the last reservation since the queue was empty.
    end: Option<i128>,
    listening: BTreeSet<WaiterId>,
}

impl Naive {
    fn position(&self, id: WaiterId) -> usize {
        self.waiters.iter().position(|(known, ..)| *known == id).unwrap()
    }

    fn remove(&mut self, id: WaiterId) {
        self.waiters.retain(|(known, ..)| *known != id);
        self.listening.remove(&id);
        self.end = self.end.filter(|_| !self.waiters.is_empty());
    }

    fn leave(&mut self, scale: &Scale, id: WaiterId, refund: u64) {
        let position = self.position(id);
        self.waiters[position..].iter_mut().for_each(|(_, end, _)| *end -= fractions(scale, refund));
        self.end = self.end.map(|end| end - fractions(scale, refund));
        self.remove(id);
    }

    fn refill(&mut self, scale: &Scale, now: Moment) -> u64 {
        let mut full_at = fractions(scale, scale.units(now));
        for (_, end, tokens) in &mut self.waiters {
            if due(scale, *end) <= now {
                *end -= fractions(scale, scale.capacity);
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

    fn take_due(&mut self, scale: &Scale, now: Moment) -> Vec<WaiterId> {
        let due = self.waiters.iter().filter(|(id, end, _)| self.listening.contains(id) && due(scale, *end) <= now);
        let due: Vec<_> = due.map(|(id, ..)| *id).collect();
        self.listening.retain(|id| !due.contains(id));
        due
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// In milliseconds.
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

    // RL-4, RL-6, RL-8, RL-9: reservations, order and due wakers are those of a plain list.
    #[test]
    fn a_queue_equals_a_list(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 200 })) {
        let (mut queue, mut naive) = (WaiterQueue::<WaiterId>::default(), Naive::default());
        let (mut now, mut scale, mut full_at) = (Moment::from_nanos(1 << 50), self::scale(0), 0);
        for step in steps {
            let chosen = |index: usize| Some(naive.waiters[index.checked_rem(naive.waiters.len())?].0);
            match step {
                Step::Pass(millis) => now = now + Duration::from_millis(millis),
                Step::Take(tokens) => if let super::super::Take::Granted(later) = scale.take(full_at, scale.cost(tokens), crate::time::Reading::exact(now)) {
                    full_at = later;
                },
                Step::Join(tokens) => {
                    let reserved = scale.reserve(full_at, scale.cost(tokens), now);
                    full_at = reserved.full_at;
                    let id = queue.join(&scale, reserved);
                    // A distance that comes from rounding in a conversion is ignored.
                    let adjoins = |end: &i128| reserved.full_at - reserved.cost <= units(&scale, *end);
                    let end = naive.end.filter(adjoins).map_or(fractions(&scale, full_at), |end| end + cost(tokens));
                    naive.end = Some(end);
                    naive.waiters.push((id, end, tokens));
                }
                Step::Listen(index) => if let Some(id) = chosen(index) {
                    let before = queue.listen(id, id, WakeSource::Shared);
                    prop_assert_eq!(before.is_some(), !naive.listening.insert(id));
                },
                Step::Serve(index) => if let Some(id) = chosen(index) {
                    let reserved = queue.reserved(&scale, id).unwrap();
                    if scale.due(reserved) <= now {
                        prop_assert_eq!(queue.serve(id).is_some(), naive.listening.contains(&id));
                        naive.remove(id);
                    }
                },
                Step::Leave(index) => if let Some(id) = chosen(index) {
                    let refund = scale.refund(queue.reserved(&scale, id).unwrap(), full_at, now);
                    full_at = full_at.saturating_sub(refund);
                    prop_assert_eq!(queue.leave(&scale, id, refund).is_some(), naive.listening.contains(&id));
                    naive.leave(&scale, id, refund);
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
                    // No waiter gets more than before, and a new one comes after all that wait.
                    let rounding = scale.tokens(1) + old.tokens(1);
prop_assert!(scale.tokens(scale.level(full_at, now)) <= old.tokens(level) + rounding);
                    if let Some(end) = naive.end {
                        prop_assert!(full_at >= units(&scale, end));
                    }
                }
            }
            prop_assert_eq!(queue.len(), naive.waiters.len());
            for (id, end, tokens) in &naive.waiters {
                let reserved = Reserved { full_at: units(&scale, *end), cost: scale.cost(*tokens) };
                prop_assert_eq!(queue.reserved(&scale, *id), Some(reserved));
            }
            let first = naive.waiters.iter().find(|(id, ..)| naive.listening.contains(id));
            prop_assert_eq!(queue.next_wake(&scale), first.map(|(_, end, _)| due(&scale, *end)));
            let mut taken = Vec::new();
            queue.take_due(&scale, now, 2, &mut taken);
            prop_assert!(taken.len() <= 2);
            queue.take_due(&scale, now, usize::MAX, &mut taken);
            prop_assert_eq!(taken, naive.take_due(&scale, now));
        }
        let listening: Vec<_> = naive.listening.iter().copied().collect();
        let mut taken = Vec::new();
        let behind = listening.first().copied();
        queue.take_after(behind, 3, &mut taken);
        prop_assert_eq!(&taken[..], listening.get(1..).map_or(&[][..], |rest| &rest[..rest.len().min(3)]));
        taken.clear();
        queue.take_after(None, usize::MAX, &mut taken);
        prop_assert!(taken.len() <= listening.len() && queue.next_wake(&scale).is_none());
    }
}

// RL-4: a waiter with a timer of its own need not be woken, unless it moved up.
#[test]
fn a_waiter_with_its_own_timer_is_woken_only_after_it_moves_up() {
    let (now, scale) = (Moment::from_nanos(1 << 40), scale(0));
    let (mut queue, mut full_at) = (WaiterQueue::default(), scale.holding(0.0, now));
    let mut join = |queue: &mut WaiterQueue<u32>| {
        let reserved = scale.reserve(full_at, scale.cost(1), now);
        full_at = reserved.full_at;
        queue.join(&scale, reserved)
    };
    let [first, second, third] = [join(&mut queue), join(&mut queue), join(&mut queue)];
    queue.listen(second, 2, WakeSource::Own);
    assert_eq!(queue.next_wake(&scale), None);
    queue.listen(third, 3, WakeSource::Shared);
    assert_eq!(queue.next_wake(&scale), Some(now + Duration::from_secs(2)));
    assert_eq!(queue.serve(third), Some(3));
    assert_eq!(queue.next_wake(&scale), None);
    queue.leave(&scale, first, scale.cost(1));
    assert_eq!(queue.next_wake(&scale), Some(now + Duration::from_secs(1)));
    assert_eq!(queue.listen(second, 4, WakeSource::Own), Some(2));
    assert_eq!(queue.next_wake(&scale), None);
}

// RL-4: its timer is too late only if its reservation moved while it listened.
#[test]
fn moves_before_a_waiter_listens_do_not_wake_it() {
    let (now, scale) = (Moment::from_nanos(1 << 40), scale(0));
    let (mut queue, mut full_at) = (WaiterQueue::default(), scale.holding(0.0, now));
    let mut join = |queue: &mut WaiterQueue<u32>| {
        let reserved = scale.reserve(full_at, scale.cost(1), now);
        full_at = reserved.full_at;
        queue.join(&scale, reserved)
    };
    let [first, second, third, fourth] = [join(&mut queue), join(&mut queue), join(&mut queue), join(&mut queue)];
    queue.leave(&scale, first, scale.cost(1));
    queue.listen(third, 3, WakeSource::Own);
    assert_eq!(queue.next_wake(&scale), None, "it listens since the others moved");
    let mut taken = Vec::new();
    queue.take_due(&scale, now + Duration::from_secs(9), 9, &mut taken);
    assert_eq!(taken, [], "it wakes by itself");
    queue.leave(&scale, fourth, 0);
    assert_eq!(queue.next_wake(&scale), None, "nothing moved");
    queue.refill(&scale, now);
    assert!(queue.next_wake(&scale).is_some_and(|at| at <= now), "a refill moves all");
    queue.take_due(&scale, now, 9, &mut taken);
    assert_eq!(taken, [3]);
    assert_eq!(queue.listen(third, 4, WakeSource::Own), None);
    assert_eq!(queue.next_wake(&scale), None);
    queue.listen(second, 2, WakeSource::Own);
    queue.convert(&scale, &self::scale(1), now, 0);
    assert!(queue.next_wake(&scale).is_some(), "so does a change of the rate");
    assert_eq!(queue.serve(second), Some(2));
    assert!(queue.next_wake(&scale).is_some(), "the other one listens since before");
    assert_eq!(queue.serve(third), Some(4));
    assert!(queue.next_wake(&scale).is_none());
}

// RL-6: entries of waiters that left are removed once they outnumber the others, not one by one.
#[test]
fn compaction_is_amortized() {
    let (now, scale) = (Moment::ORIGIN, scale(0));
    let mut queue = WaiterQueue::<()>::default();
    let ids: Vec<_> = (1..=1000).map(|_| queue.join(&scale, scale.reserve(0, scale.cost(1), now))).collect();
    let capacity = queue.waiters.capacity();
    for id in &ids {
        queue.serve(*id);
        // Always at most twice the number of waiters, plus 32.
        let kept = match queue.len() {
            485.. => 1000,
            227.. => 484,
            98.. => 226,
            33.. => 97,
            1.. => 32,
            0 => 0,
        };
        assert_eq!(queue.waiters.len(), kept, "{} wait", queue.len());
        // Memory is freed once it is twice what is needed.
        match queue.len() {
            227.. => assert_eq!(queue.waiters.capacity(), capacity),
            98.. => assert!((484..968).contains(&queue.waiters.capacity())),
            _ => {}
        }
    }
}

// RL-6: many waiters that leave keep neither entries nor memory.
#[test]
fn waiters_that_left_are_removed() {
    let (now, scale) = (Moment::ORIGIN, scale(0));
    let mut queue = WaiterQueue::<()>::default();
    let mut full_at = scale.holding(0.0, now);
    let mut ids = Vec::new();
    let crowd = if cfg!(miri) { 200 } else { 20_000 };
    for number in 0..crowd {
        let reserved = scale.reserve(full_at, scale.cost(1), now);
        full_at = reserved.full_at;
        let id = queue.join(&scale, reserved);
        // Every fifth waits forever, the others leave at once.
        if number % 5 == 0 {
            ids.push(id);
        } else {
            queue.leave(&scale, id, scale.cost(1));
        }
        assert!(queue.waiters.len() <= 2 * queue.len() + COMPACT_MIN);
    }
    assert!(queue.waiters.capacity() <= 4 * (2 * queue.len() + COMPACT_MIN), "{}", queue.waiters.capacity());
    for id in ids.into_iter().rev() {
        queue.serve(id);
    }
    assert!(queue.is_empty() && queue.waiters.capacity() <= 2 * COMPACT_MIN, "{}", queue.waiters.capacity());
}
