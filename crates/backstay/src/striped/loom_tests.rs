//! Models of the move from a handle's own counters to stripes.

use loom::sync::Arc;
use loom::sync::atomic;
use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use loom::thread;

#[path = "counting.rs"]
mod counting;
use counting::{BlockPool, CHUNKS, Counters};

fn pool(stocked: bool) -> BlockPool {
    let chunk = |_| AtomicPtr::new(std::ptr::null_mut());
    let pool = BlockPool {
        top: AtomicU64::new(0),
        left: AtomicUsize::new(0),
        chunks: std::array::from_fn::<_, CHUNKS, _>(chunk),
    };
    if stocked {
        pool.refill(2);
    }
    pool
}

// RL-10, CB-10: two threads count while the counters move to stripes; the total is exact.
#[test]
fn loom_no_addition_is_lost_in_the_move_to_stripes() {
    for stocked in [true, false] {
        loom::model(move || {
            let shared = Arc::new((Counters::<1>::new(), pool(stocked)));
            let other = Arc::clone(&shared);
            let second = thread::spawn(move || other.0.add(&other.1, 0, 1, 1));
            shared.0.add(&shared.1, 0, 1, 0);
            shared.0.add(&shared.1, 0, 1, 0);
            second.join().unwrap();
            assert_eq!(shared.0.sum(0), 3);
        });
    }
}

// RL-10: no block belongs to two handles, and a block that was put back is empty.
#[test]
fn loom_a_block_belongs_to_one_handle() {
    loom::model(|| {
        let pool = Arc::new(pool(true));
        let shared = |thread: usize, pool: &BlockPool| {
            let mut counts = Counters::<1>::new();
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
