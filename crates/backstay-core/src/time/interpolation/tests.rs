//! A model of a clock that is slewed, and of the counter beside it.

use proptest::prelude::*;

use super::*;

/// A clock whose rate changes now and then, in parts per million of the counter's; times in picoseconds.
struct World {
    picos: u64,
    ticks: u64,
    /// Picoseconds per tick.
    period: f64,
    ppm: f64,
    remainder: f64,
}

impl World {
    #[allow(clippy::cast_possible_truncation)] // it is what is wanted
    fn pass(&mut self, ticks: u64) {
        self.ticks = self.ticks.wrapping_add(ticks);
        let picos = ticks as f64 * self.period * (1.0 + self.ppm / 1e6) + self.remainder;
        self.picos += picos as u64;
        self.remainder = picos.fract();
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.picos / 1000)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Nothing for so many ticks, then a reading.
    Read(u64),
    /// An anchor: ticks before the clock is read, and after.
    Anchor(u64, u64),
    /// The clock is steered: parts per million.
    Slew(i32),
    /// The counter is set to something else, as when a machine moves or is suspended.
    Jump(u64),
    /// Time that the counter does not count, or that the clock does not.
    Suspend(u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let pause = || prop_oneof![0..3_000u64, 0..4_000_000u64, 2_000_000..30_000_000u64, 0..10_000_000_000u64];
    prop_oneof![
        8 => pause().prop_map(Step::Read),
        8 => (0..400u64, 0..400u64).prop_map(|(before, after)| Step::Anchor(before, after)),
        1 => (-250..=250i32).prop_map(Step::Slew),
    ]
}

fn disturbed() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => step(),
        1 => any::<u64>().prop_map(Step::Jump),
        1 => (10_000_000..u64::MAX >> 20, any::<bool>()).prop_map(|(ticks, counts)| Step::Suspend(ticks, counts)),
    ]
}

/// Runs `steps`, with an anchor wherever one is asked for.
fn run(hertz: f64, steps: &[Step], check: impl Fn(&World, Reading) -> bool) {
    let mut world = World { picos: 1 << 40, ticks: 1 << 40, period: 1e12 / hertz, ppm: 0.0, remainder: 0.0 };
    let mut follows = Interpolation::NONE;
    let anchor = |world: &mut World, follows: &mut Interpolation, before, after| {
        let begin = world.ticks;
        world.pass(before);
        let now = world.now();
        world.pass(after);
        follows.anchor(begin, now, world.ticks);
    };
    for step in steps {
        match *step {
            Step::Read(pause) => {
                world.pass(pause);
                match follows.read(world.ticks) {
                    Some(reading) => {
                        assert!(check(&world, reading), "{reading:?} at {:?}, {follows:?}", world.now());
                    }
                    None => anchor(&mut world, &mut follows, 50, 50),
                }
            }
            Step::Anchor(before, after) => anchor(&mut world, &mut follows, before, after),
            Step::Slew(ppm) => world.ppm = ppm.into(),
            Step::Jump(ticks) => world.ticks = ticks,
            Step::Suspend(ticks, true) => world.ticks = world.ticks.wrapping_add(ticks),
            Step::Suspend(ticks, false) => world.picos += ticks,
        }
    }
}

proptest! {
    #![proptest_config(crate::cases(512))]

    // RL-2: while the clock is steered as NTP and `adjtime` do it, it shows a time in the range of each reading.
    #[test]
    fn the_time_is_in_the_range(hertz in 1.01e9..5e9f64, steps in prop::collection::vec(step(), 1..200)) {
        run(hertz, &steps, |world, reading| (reading.earliest..=reading.latest()).contains(&world.now()));
    }

    // RL-2: whatever becomes of counter and clock, a reading is not earlier than its anchor, and at most 9 ms after it.
    #[test]
    fn a_jump_is_noticed_at_the_next_anchor(hertz in 1.01e9..5e9f64, steps in prop::collection::vec(disturbed(), 1..200)) {
        run(hertz, &steps, |_, reading| reading.staleness() < 20_000);
    }

    // ALL-1
    #[test]
    fn nothing_overflows(anchors in prop::collection::vec((any::<u64>(), 0..600u64, any::<u64>(), any::<u64>()), 1..20)) {
        let mut follows = Interpolation::NONE;
        for (before, took, now, ticks) in anchors {
            follows.anchor(before, Moment::from_nanos(now), before.wrapping_add(took));
            let _ = (follows.read(ticks), follows.read(before.wrapping_add(took)));
        }
    }
}

/// An anchor each millisecond of a counter with `hertz`, which takes `took` ticks to read.
fn anchored(hertz: u64, took: u64, milliseconds: impl IntoIterator<Item = (u64, u64)>) -> Interpolation {
    let mut follows = Interpolation::NONE;
    for (counted, shown) in milliseconds {
        let ticks = counted * hertz / 1000;
        follows.anchor(ticks - took, Moment::from_nanos(shown * 1_000_000), ticks);
    }
    follows
}

// RL-2: it is sharp right after an anchor, within microseconds as long as it is followed, and not used beyond that.
#[test]
fn a_reading_is_as_sharp_as_its_anchor_is_young() {
    let follows = anchored(2_000_000_000, 100, [(2, 2), (4, 4), (6, 6)]);
    let staleness = |nanos: u64| follows.read(12_000_000 + 2 * nanos).map(Reading::staleness);
    assert_eq!([0, 1_024_000, 4_194_303].map(staleness), [Some(306), Some(306 + 1998), Some(306 + 8183)]);
    assert_eq!([4_194_304, u64::MAX / 4].map(staleness), [None; 2]);
    assert_eq!(follows.read(11_999_999), None);
}

// RL-2: a counter is followed once two measurements agree, and no longer when one does not.
#[test]
fn a_counter_is_followed_while_measurements_agree() {
    let follows = |milliseconds: &[(u64, u64)]| {
        let after = milliseconds.last().map_or(0, |(counted, _)| counted * 2_000_000);
        anchored(2_000_000_000, 100, milliseconds.iter().copied()).read(after).is_some()
    };
    assert!(!follows(&[(2, 2), (4, 4)]), "one measurement");
    assert!(follows(&[(2, 2), (4, 4), (6, 6)]));
    assert!(!follows(&[(2, 2), (4, 4), (6, 7)]), "the clock went faster");
    assert!(!follows(&[(2, 2), (4, 4), (6, 6), (6006, 6006)]), "an old measurement");
    assert!(follows(&[(2, 2), (4, 4), (6, 6), (6006, 6006), (6008, 6008)]));
    assert!(!follows(&[(2, 2), (4, 4), (6, 6), (8, 6), (10, 6)]), "the clock stands");
    let slow = anchored(900_000_000, 100, (1..=9).map(|time| (time * 3, time * 3)));
    assert_eq!(slow.read(9 * 3 * 900_000), None, "a counter of less than 1 GHz");
    let interrupted = anchored(2_000_000_000, 513, (1..=9).map(|time| (time, time)));
    assert_eq!(interrupted.read(18_000_000), None, "too long to read");
}
