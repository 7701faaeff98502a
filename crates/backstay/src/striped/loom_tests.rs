//! Every interleaving of the hand-over from a handle's own counters to stripes.

use loom::sync::Arc;
use loom::sync::atomic;
use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use loom::thread;

#[path = "counting.rs"]
mod counting;
use counting::{CHUNKS, Counts, Pool};

fn pool(stocked: bool) -> Pool {
    let chunk = |_| AtomicPtr::new(std::ptr::null_mut());
    let pool =
        Pool { top: AtomicU64::new(0), left: AtomicUsize::new(0), chunks: std::array::from_fn::<_, CHUNKS, _>(chunk) };
    if stocked {
        pool.stock(2);
    }
    pool
}

// RL-10, CB-10: two threads count while the handle is handed over; the total is exact.
#[test]
fn loom_the_owner_moves_to_stripes_and_nothing_is_lost() {
    for stocked in [true, false] {
        loom::model(move || {
            let shared = Arc::new((Counts::<1>::new(), pool(stocked)));
            let other = Arc::clone(&shared);
            let second = thread::spawn(move || other.0.add(&other.1, 0, 1, 1));
            shared.0.add(&shared.1, 0, 1, 0);
            shared.0.add(&shared.1, 0, 1, 0);
            second.join().unwrap();
            assert_eq!(shared.0.sum(0), 3);
        });
    }
}

// RL-10: two handles never have the same block, and a block that comes back is empty.
#[test]
fn loom_a_block_belongs_to_one_handle() {
    loom::model(|| {
        let pool = Arc::new(pool(true));
        let shared = |thread: usize, pool: &Pool| {
            let mut counts = Counts::<1>::new();
            counts.add(pool, 0, 1, thread);
            counts.add(pool, 0, 1, thread + 1);
            let sum = counts.sum(0);
            counts.release(pool);
            sum
        };
        let theirs = Arc::clone(&pool);
        let other = thread::spawn(move || shared(2, &theirs));
        assert_eq!(shared(0, &pool), 2);
        assert_eq!(other.join().unwrap(), 2);
    });
}
