//! The protocol of [`Striped`], over the atomics of the parent module: std's, or loom's in the models.
//!
//! # Memory ordering
//! A chunk's pointer is published by a compare-and-swap (release) and loaded with acquire. The pool's `top` is loaded
//! with acquire when a block is taken, which pairs with the release of the compare-and-swap that put it back: so its
//! zeros are visible. A handle's pointer to its block is published and loaded in the same way. Everything else is
//! relaxed.
#![allow(unsafe_code)]

use std::ptr;

use super::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The maximum number of counters of a handle.
const COUNTERS: usize = 4;

/// Two cache lines, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTERS]);

/// The stripes of one handle. Its memory is never freed: it returns to the pool.
#[derive(Debug)]
pub(super) struct StripeBlock {
    stripes: Box<[Stripe]>,
    /// Its number in the pool, from 1.
    number: u64,
    /// The number of the next block in the pool, or 0.
    next: AtomicU64,
}

impl StripeBlock {
    /// Adds for the thread with the number `thread`. In the first half of the stripes each belongs to one of the first
    /// threads, which adds without locking the bus. The other threads share the second half.
    #[inline]
    pub(super) fn add(&self, counter: usize, amount: u64, thread: usize) {
        let owned = self.stripes.len() / 2;
        if thread < owned {
            // The stripe always exists; a path that panics would keep callers from being inlined.
            if let Some(stripe) = self.stripes.get(thread) {
                add_unshared(&stripe.0[counter], amount);
            }
        } else if let Some(stripe) = self.stripes.get(owned + (thread & (owned - 1))) {
            stripe.0[counter].fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn sum(&self, counter: usize) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[counter].load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    fn clear(&self) {
        self.stripes.iter().flat_map(|stripe| &stripe.0).for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// Adds to a counter that only this thread writes, and signal handlers that interrupt it.
///
/// One instruction, which no signal can interrupt half-way, and which does not lock the bus: that would take ten times
/// as long.
#[cfg(all(target_arch = "x86_64", not(backstay_loom)))]
#[inline]
fn add_unshared(count: &AtomicU64, amount: u64) {
    // SAFETY: for all other threads it is a relaxed load and a relaxed store of this atomic, and none of them stores.
    unsafe { std::arch::asm!("add qword ptr [{}], {}", in(reg) count.as_ptr(), in(reg) amount, options(nostack)) }
}

#[cfg(all(not(target_arch = "x86_64"), not(backstay_loom)))]
#[inline]
fn add_unshared(count: &AtomicU64, amount: u64) {
    count.fetch_add(amount, Ordering::Relaxed);
}

/// The models have no signals: they show that only one thread writes.
#[cfg(backstay_loom)]
fn add_unshared(count: &AtomicU64, amount: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// The unused blocks: a stack in one word, from which a signal handler can take, too.
#[derive(Debug)]
pub(super) struct BlockPool {
    /// The number of the block on top, or 0; the upper half counts changes, so that an old word never equals a new
    /// one.
    pub(super) top: AtomicU64,
    /// The number of blocks in the pool.
    pub(super) left: AtomicUsize,
    /// Each chunk is twice as large as the one before.
    pub(super) chunks: [AtomicPtr<Vec<StripeBlock>>; CHUNKS],
}

/// 8 + 16 + ... + 1024 blocks. Further handles count without stripes: correctly, but slower.
pub(super) const CHUNKS: usize = 8;
const FIRST_CHUNK: usize = 8;
/// If fewer blocks than this are left, building a handle adds a chunk.
const REFILL_BELOW: usize = 4;
const NUMBER: u64 = u32::MAX as u64;

impl BlockPool {
    /// Adds a chunk of blocks with `stripes` stripes each if few are left: the only place that allocates.
    pub(super) fn refill(&self, stripes: usize) {
        if self.left.load(Ordering::Relaxed) >= REFILL_BELOW {
            return;
        }
        let Some(chunk) = (0..CHUNKS).find(|chunk| self.chunks[*chunk].load(Ordering::Relaxed).is_null()) else {
            return;
        };
        let block = |offset: usize| StripeBlock {
            stripes: (0..stripes).map(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))).collect(),
            number: (first_of(chunk) + offset + 1) as u64,
            next: AtomicU64::new(0),
        };
        let blocks = Box::into_raw(Box::new((0..FIRST_CHUNK << chunk).map(block).collect::<Vec<_>>()));
        let published =
            self.chunks[chunk].compare_exchange(ptr::null_mut(), blocks, Ordering::AcqRel, Ordering::Relaxed);
        if published.is_err() {
            // SAFETY: it came from `Box::into_raw` just now, and was not published.
            drop(unsafe { Box::from_raw(blocks) });
            return;
        }
        // SAFETY: it came from `Box::into_raw`, was published, and is never freed or lent mutably.
        unsafe { &*blocks }.iter().for_each(|block| self.put_back(block));
    }

    fn block(&self, number: u64) -> Option<&'static StripeBlock> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
        let blocks = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: a pointer here is null or came from `Box::into_raw` in `refill`, where the compare-and-swap
        // published it; what it points to is never freed and never lent mutably.
        unsafe { blocks.as_ref() }?.get(index - first_of(chunk))
    }

    /// Takes a block; all its counters are zero. Neither allocates nor waits.
    fn take(&self) -> Option<&'static StripeBlock> {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let block = self.block(top & NUMBER)?;
            // Another thread may have taken the block meanwhile: then `top` has changed, and this value is not used.
            let new = next_version(top) | block.next.load(Ordering::Relaxed);
            match self.top.compare_exchange(top, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.left.fetch_sub(1, Ordering::Relaxed);
                    return Some(block);
                }
                Err(current) => top = current,
            }
        }
    }

    /// Puts back a block; all its counters are zero.
    fn put_back(&self, block: &StripeBlock) {
        self.left.fetch_add(1, Ordering::Relaxed);
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            block.next.store(top & NUMBER, Ordering::Relaxed);
            match self.top.compare_exchange(top, next_version(top) | block.number, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(current) => top = current,
            }
        }
    }
}

/// Returns the next count of changes after `top`, with the block's number zero.
fn next_version(top: u64) -> u64 {
    (top & !NUMBER).wrapping_add(NUMBER + 1)
}

/// Returns the number of blocks in the chunks before.
fn first_of(chunk: usize) -> usize {
    FIRST_CHUNK * ((1 << chunk) - 1)
}

/// The counts of a handle: `N` counters, which begin inside of it.
#[derive(Debug)]
pub(super) struct Counters<const N: usize> {
    /// The counts of the first thread that counted, until there is a block.
    own: [AtomicU64; N],
    /// The counts of all other threads while there is no block.
    shared: [AtomicU64; N],
    /// The number of the first thread, plus one; 0 before the first addition.
    owner: AtomicUsize,
    block: AtomicPtr<StripeBlock>,
}

impl<const N: usize> Counters<N> {
    pub(super) fn new() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { own: zeros(), shared: zeros(), owner: AtomicUsize::new(0), block: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline]
    fn block(&self) -> Option<&StripeBlock> {
        let block = self.block.load(Ordering::Acquire);
        // SAFETY: a pointer here is null or points to a block of a pool, which is never freed or lent mutably.
        unsafe { block.as_ref() }
    }

    #[inline]
    pub(super) fn add(&self, pool: &BlockPool, counter: usize, amount: u64, thread: usize) {
        match self.block() {
            Some(block) => block.add(counter, amount, thread),
            None if self.owner.load(Ordering::Relaxed) == thread + 1 => add_unshared(&self.own[counter], amount),
            None => self.add_first(pool, counter, amount, thread),
        }
    }

    #[cold]
    fn add_first(&self, pool: &BlockPool, counter: usize, amount: u64, thread: usize) {
        if self.try_own(thread) {
            add_unshared(&self.own[counter], amount);
        } else if let Some(block) = self.take_block(pool) {
            block.add(counter, amount, thread);
        } else {
            self.shared[counter].fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn try_own(&self, thread: usize) -> bool {
        self.owner.compare_exchange(0, thread + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes a block for the second thread: from now on all threads add to stripes.
    fn take_block(&self, pool: &BlockPool) -> Option<&StripeBlock> {
        let Some(block) = pool.take() else { return self.block() };
        let ours = ptr::from_ref(block).cast_mut();
        if self.block.compare_exchange(ptr::null_mut(), ours, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            pool.put_back(block);
        }
        self.block()
    }

    pub(super) fn sum(&self, counter: usize) -> u64 {
        let [own, shared] = [&self.own, &self.shared].map(|counts| counts[counter].load(Ordering::Relaxed));
        let inside = own.wrapping_add(shared);
        inside.wrapping_add(self.block().map_or(0, |block| block.sum(counter)))
    }

    /// Returns the block to the pool when the handle is dropped, and no thread can count any more.
    pub(super) fn release(&mut self, pool: &BlockPool) {
        let block = self.block.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: a pointer here is null or points to a block of a pool, which is never freed or lent mutably.
        if let Some(block) = unsafe { block.as_ref() } {
            block.clear();
            pool.put_back(block);
        }
    }
}
