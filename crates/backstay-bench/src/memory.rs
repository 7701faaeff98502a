//! A global allocator that counts the allocations of each thread and the bytes of the process.
#![allow(unsafe_code)] // an allocator cannot be written without; every call goes to the system's

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);
thread_local! { static ALLOCATIONS: Cell<u64> = const { Cell::new(0) } }

/// Returns the bytes that the process has allocated.
pub(crate) fn held() -> isize {
    HELD.load(Ordering::Relaxed)
}

/// Returns how many allocations `f` makes on this thread.
pub(crate) fn allocations(f: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

fn note(bytes: isize) {
    HELD.fetch_add(bytes, Ordering::Relaxed);
    if bytes >= 0 {
        // While a thread exits, its counter is gone and no longer needed.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: every method passes its arguments to the system's allocator, which has the same contract, and returns its
// result.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `System`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `System`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `System`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(-layout.size().cast_signed());
        note(size.cast_signed());
        // SAFETY: the caller upholds the contract of `System`, which is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
