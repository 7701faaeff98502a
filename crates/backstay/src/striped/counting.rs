//! The protocol of [`Striped`], over the atomics of the including module: std's, or loom's in the model.
#![allow(unsafe_code)]

use std::ptr;

use super::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// The most counters of one handle.
const COUNTERS: usize = 4;

/// Two cache lines, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe([AtomicU64; COUNTERS]);

/// The stripes of one handle. Its memory is never freed: it goes back into the pool.
#[derive(Debug)]
pub(super) struct Block {
    stripes: Box<[Stripe]>,
    /// Its place in the pool, from 1.
    number: u64,
    /// The block below it in the pool, or 0.
    below: AtomicU64,
}

impl Block {
    /// Adds for the thread with the number `thread`. The first half of the stripes belongs to the threads that came
    /// first, a stripe to each, and they add without locking the bus; the others share the other half.
    #[inline]
    pub(super) fn add(&self, counter: usize, amount: u64, thread: usize) {
        let owned = self.stripes.len() / 2;
        if thread < owned {
            // There always is a stripe; a path that panics would keep callers from being inlined.
            if let Some(stripe) = self.stripes.get(thread) {
                add_alone(&stripe.0[counter], amount);
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
/// One instruction, which no signal can divide, and which does not lock the bus: that would take ten times as long.
#[cfg(all(target_arch = "x86_64", not(backstay_loom)))]
#[inline]
fn add_alone(count: &AtomicU64, amount: u64) {
    // SAFETY: for all other threads it is a relaxed load and a relaxed store of this atomic, and none of them stores.
    unsafe { std::arch::asm!("add qword ptr [{}], {}", in(reg) count.as_ptr(), in(reg) amount, options(nostack)) }
}

#[cfg(all(not(target_arch = "x86_64"), not(backstay_loom)))]
#[inline]
fn add_alone(count: &AtomicU64, amount: u64) {
    count.fetch_add(amount, Ordering::Relaxed);
}

/// The models have no signals: what they show is that only one thread writes.
#[cfg(backstay_loom)]
fn add_alone(count: &AtomicU64, amount: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Blocks that no handle uses: a stack in one word, from which a signal handler can take as well.
#[derive(Debug)]
pub(super) struct Pool {
    /// The number of the block on top, or 0; above it a count of the changes, so that a word of before never equals one
    /// of after.
    pub(super) top: AtomicU64,
    /// How many blocks there are to be taken.
    pub(super) left: AtomicUsize,
    /// Each is twice as large as the one before.
    pub(super) chunks: [AtomicPtr<Vec<Block>>; CHUNKS],
}

/// 8 + 16 + ... + 1024 blocks. Beyond them handles count without stripes: correctly, but slower.
pub(super) const CHUNKS: usize = 8;
const FIRST_CHUNK: usize = 8;
/// With fewer than so many left, the next handle that is built adds some.
const FEW: usize = 4;
const NUMBER: u64 = u32::MAX as u64;

impl Pool {
    /// Sees to it that there are blocks, of `stripes` stripes each: the only place that allocates.
    pub(super) fn stock(&self, stripes: usize) {
        if self.left.load(Ordering::Relaxed) >= FEW {
            return;
        }
        let Some(chunk) = (0..CHUNKS).find(|chunk| self.chunks[*chunk].load(Ordering::Relaxed).is_null()) else {
            return;
        };
        let block = |offset: usize| Block {
            stripes: (0..stripes).map(|_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)))).collect(),
            number: (first_of(chunk) + offset + 1) as u64,
            below: AtomicU64::new(0),
        };
        let blocks = Box::into_raw(Box::new((0..FIRST_CHUNK << chunk).map(block).collect::<Vec<_>>()));
        let published =
            self.chunks[chunk].compare_exchange(ptr::null_mut(), blocks, Ordering::AcqRel, Ordering::Relaxed);
        if published.is_err() {
            // SAFETY: it came from `Box::into_raw` just now, and was not published.
            drop(unsafe { Box::from_raw(blocks) });
            return;
        }
        // SAFETY: as in `block`.
        unsafe { &*blocks }.iter().for_each(|block| self.give_back(block));
    }

    fn block(&self, number: u64) -> Option<&'static Block> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
        let blocks = self.chunks.get(chunk)?.load(Ordering::Acquire);
        // SAFETY: a pointer here is null or came from `Box::into_raw` in `stock`, where the compare-and-swap published it;
        // what it points to is never freed and never lent mutably.
        unsafe { blocks.as_ref() }?.get(index - first_of(chunk))
    }

    /// Takes a block, all zeros. Neither allocates nor waits.
    fn take(&self) -> Option<&'static Block> {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let block = self.block(top & NUMBER)?;
            // It may have been taken meanwhile and be anywhere: then the word has changed, and this is not used.
            let next = changed(top) | block.below.load(Ordering::Relaxed);
            match self.top.compare_exchange(top, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.left.fetch_sub(1, Ordering::Relaxed);
                    return Some(block);
                }
                Err(current) => top = current,
            }
        }
    }

    /// Gives back a block, all zeros.
    fn give_back(&self, block: &Block) {
        self.left.fetch_add(1, Ordering::Relaxed);
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            block.below.store(top & NUMBER, Ordering::Relaxed);
            match self.top.compare_exchange(top, changed(top) | block.number, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => top = current,
            }
        }
    }
}

/// The count of changes after `top`, with no number below it.
fn changed(top: u64) -> u64 {
    (top & !NUMBER).wrapping_add(NUMBER + 1)
}

/// How many blocks the chunks before have.
fn first_of(chunk: usize) -> usize {
    FIRST_CHUNK * ((1 << chunk) - 1)
}

/// The counts of a handle: `N` counters, which begin inside of it.
#[derive(Debug)]
pub(super) struct Counts<const N: usize> {
    /// Those of the first thread that counted, which adds here until there is a block.
    own: [AtomicU64; N],
    /// Those of all others while there is no block to be had.
    shared: [AtomicU64; N],
    /// The number of the first thread, plus one; 0 before the first addition.
    owner: AtomicUsize,
    block: AtomicPtr<Block>,
}

impl<const N: usize> Counts<N> {
    pub(super) fn new() -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { own: zeros(), shared: zeros(), owner: AtomicUsize::new(0), block: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline]
    fn block(&self) -> Option<&Block> {
        let block = self.block.load(Ordering::Acquire);
        // SAFETY: a pointer here is null, or that of a block of a pool, which is never freed or lent mutably.
        unsafe { block.as_ref() }
    }

    #[inline]
    pub(super) fn add(&self, pool: &Pool, counter: usize, amount: u64, thread: usize) {
        match self.block() {
            Some(block) => block.add(counter, amount, thread),
            None if self.owner.load(Ordering::Relaxed) == thread + 1 => add_alone(&self.own[counter], amount),
            None => self.add_first(pool, counter, amount, thread),
        }
    }

    #[cold]
    fn add_first(&self, pool: &Pool, counter: usize, amount: u64, thread: usize) {
        if self.becomes_owner(thread) {
            add_alone(&self.own[counter], amount);
        } else if let Some(block) = self.take_block(pool) {
            block.add(counter, amount, thread);
        } else {
            self.shared[counter].fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn becomes_owner(&self, thread: usize) -> bool {
        self.owner.compare_exchange(0, thread + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A second thread has come: from now on all add to stripes.
    fn take_block(&self, pool: &Pool) -> Option<&Block> {
        let Some(block) = pool.take() else { return self.block() };
        let ours = ptr::from_ref(block).cast_mut();
        if self.block.compare_exchange(ptr::null_mut(), ours, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            pool.give_back(block);
        }
        self.block()
    }

    pub(super) fn sum(&self, counter: usize) -> u64 {
        let [own, shared] = [&self.own, &self.shared].map(|counts| counts[counter].load(Ordering::Relaxed));
        let inside = own.wrapping_add(shared);
        inside.wrapping_add(self.block().map_or(0, |block| block.sum(counter)))
    }

    /// Gives the block back when the handle is dropped, and no thread can count any more.
    pub(super) fn release(&mut self, pool: &Pool) {
        let block = self.block.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: as in `block`.
        if let Some(block) = unsafe { block.as_ref() } {
            block.clear();
            pool.give_back(block);
        }
    }
}
