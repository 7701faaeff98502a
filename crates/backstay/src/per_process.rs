//! State of the process as a whole, that a forked child must not take over.
//!
//! A child inherits the parent's memory, but none of its threads, and its locks as they happened to be. Whatever is
//! guarded by such a lock or served by such a thread, the child must have anew.
#![allow(unsafe_code)]

use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One `T` in every process; for a `static`.
///
/// The parent's stays where it is, in the child's memory: nobody can tell what state it is in.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Owned<T>>);

struct Owned<T> {
    process: u32,
    value: T,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's own. Waits for nobody, not even the first time.
    pub(crate) fn get(&'static self) -> &'static T {
        let process = process::id();
        loop {
            let seen = self.0.load(Ordering::Acquire);
            // SAFETY: a pointer here is null, or came from `Box::into_raw` below and was published by the
            // compare-and-swap; what it points to is never freed and never lent mutably.
            if let Some(owned) = unsafe { seen.as_ref() }
                && owned.process == process
            {
                return &owned.value;
            }
            let fresh = Box::into_raw(Box::new(Owned { process, value: T::default() }));
            if self.0.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: it came from `Box::into_raw` just now, and was not published.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}
