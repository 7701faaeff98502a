//! Models of threads that share the count of keys, and search each other's shards for idle ones.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::sync::thread;

const SECOND: Duration = Duration::from_secs(1);

/// One token per second and key.
fn shards(count: usize, max_keys: usize, manual: &ManualClock) -> Arc<Shards> {
    let quota = Quota::new(1.0, SECOND, None).unwrap();
    Arc::new(Shards::with_shards(count, quota, max_keys, Clock::from(manual), None))
}

/// Returns the hash of a key in `shard`.
fn key(shard: u64, number: u64) -> u64 {
    shard << 48 | number << 1
}

fn take_elsewhere(shards: &Arc<Shards>, hash: u64) -> thread::JoinHandle<bool> {
    let shards = Arc::clone(shards);
    thread::spawn(move || shards.take(hash, 1))
}

/// What holds whenever no thread is inside a call.
fn assert_consistent(shards: &Shards) {
    let counted: usize = shards.shards.iter().map(|Shard(table)| table.lock().len()).sum();
    assert_eq!(shards.keys(), counted);
    assert!(counted <= shards.max_keys);
    let known = Some(shards.idle_from.load(Ordering::Relaxed)).filter(|known| *known < MARK).unwrap_or(0);
    for (Shard(table), idle_from) in shards.shards.iter().zip(&shards.shard_idle_from) {
        let first_full = table.lock().first_full();
        let idle_from = idle_from.load(Ordering::Relaxed);
        assert!(known <= idle_from && idle_from <= first_full, "an idle key would not be found");
    }
}

// RL-11: the maximum number of keys holds over all shards.
#[test]
fn loom_of_two_new_keys_one_gets_the_last_space() {
    loom::model(|| {
        let shards = shards(2, 1, &ManualClock::new());
        let other = take_elsewhere(&shards, key(1, 1));
        let mine = shards.take(key(0, 1), 1);
        assert!(mine != other.join().unwrap());
        assert_consistent(&shards);
    });
}

// RL-11: two idle keys make room for two new ones, whichever thread removes them.
#[test]
fn loom_two_idle_keys_make_room_for_two() {
    for second in [0, 1] {
        loom::model(move || {
            let manual = ManualClock::new();
            let shards = shards(2, 2, &manual);
            assert!(shards.take(key(0, 1), 1) && shards.take(key(second, 2), 1));
            manual.advance(SECOND);
            let other = take_elsewhere(&shards, key(1, 3));
            let mine = shards.take(key(1, 4), 1);
            assert!(mine && other.join().unwrap(), "rejected although there was room");
            assert_consistent(&shards);
        });
    }
}

// RL-8, RL-11: after its reset a key is idle for each later search, and for one in progress.
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

// RL-11: a limited key is not removed while other threads make room.
#[test]
fn loom_a_limited_key_stays() {
    loom::model(|| {
        let manual = ManualClock::new();
        let shards = shards(1, 2, &manual);
        assert!(shards.take(key(0, 1), 1));
        manual.advance(SECOND);
        assert!(shards.take(key(0, 2), 1));
        // One key is idle now, the other is limited.
        let other = take_elsewhere(&shards, key(0, 3));
        let mine = shards.take(key(0, 4), 1);
        assert!(mine != other.join().unwrap());
        assert!(!shards.take(key(0, 2), 1), "its token came back before its time");
        assert_consistent(&shards);
    });
}
