//! Every interleaving of threads that share the count of keys, and look for idle ones in each other's shards.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::ManualClock;
use crate::sync::thread;

const SECOND: Duration = Duration::from_secs(1);

/// One token a second for each key.
fn shards(count: usize, max_keys: usize, hand: &ManualClock) -> Arc<Shards> {
    let quota = Quota::new(1.0, SECOND, None).unwrap();
    Arc::new(Shards::in_shards(count, quota, max_keys, Clock::from(hand), None))
}

/// A key of that shard.
fn key(shard: u64, number: u64) -> u64 {
    shard << 48 | number << 1
}

fn take_elsewhere(shards: &Arc<Shards>, hash: u64) -> thread::JoinHandle<bool> {
    let shards = Arc::clone(shards);
    thread::spawn(move || shards.take(hash, 1))
}

/// What holds whenever no thread is inside.
fn assert_consistent(shards: &Shards) {
    let counted: usize = shards.shards.iter().map(|Shard(table)| table.lock().len()).sum();
    assert_eq!(shards.keys(), counted);
    assert!(counted <= shards.max_keys);
    let known = Some(shards.idle_from.load(Ordering::Relaxed)).filter(|known| *known < MARK).unwrap_or(0);
    for (Shard(table), idle_from) in shards.shards.iter().zip(&shards.idle_from_of) {
        let first_full = table.lock().first_full();
        let idle_from = idle_from.load(Ordering::Relaxed);
        assert!(known <= idle_from && idle_from <= first_full, "an idle key would not be found");
    }
}

// RL-11: the bound on keys holds over all shards.
#[test]
fn loom_of_two_new_keys_one_has_the_last_place() {
    loom::model(|| {
        let shards = shards(2, 1, &ManualClock::new());
        let other = take_elsewhere(&shards, key(1, 1));
        let mine = shards.take(key(0, 1), 1);
        assert!(mine != other.join().unwrap());
        assert_consistent(&shards);
    });
}

// RL-11: full, idle keys make room for as many new ones, whichever thread removes them.
#[test]
fn loom_two_idle_keys_make_room_for_two() {
    for second in [0, 1] {
        loom::model(move || {
            let hand = ManualClock::new();
            let shards = shards(2, 2, &hand);
            assert!(shards.take(key(0, 1), 1) && shards.take(key(second, 2), 1));
            hand.advance(SECOND);
            let other = take_elsewhere(&shards, key(1, 3));
            let mine = shards.take(key(1, 4), 1);
            assert!(mine && other.join().unwrap(), "rejected although there was room");
            assert_consistent(&shards);
        });
    }
}

// RL-8, RL-11: a key that was reset is idle, for every look after that, and is not forgotten by one that goes on.
#[test]
fn loom_a_key_that_is_reset_makes_room() {
    for shard in [0, 1] {
        loom::model(move || {
            let shards = shards(2, 1, &ManualClock::new());
            assert!(shards.take(key(shard, 1), 1));
            let other = take_elsewhere(&shards, key(0, 2));
            shards.reset(key(shard, 1));
            assert!(other.join().unwrap() || shards.take(key(0, 2), 1), "not found");
            assert_consistent(&shards);
        });
    }
}

// RL-11: a key that is being limited is never dropped, while others make room.
#[test]
fn loom_a_limited_key_stays() {
    loom::model(|| {
        let hand = ManualClock::new();
        let shards = shards(1, 2, &hand);
        assert!(shards.take(key(0, 1), 1));
        hand.advance(SECOND);
        assert!(shards.take(key(0, 2), 1));
        // One is idle now, and one is not.
        let other = take_elsewhere(&shards, key(0, 3));
        let mine = shards.take(key(0, 4), 1);
        assert!(mine != other.join().unwrap());
        assert!(!shards.take(key(0, 2), 1), "its token came back before its time");
        assert_consistent(&shards);
    });
}
