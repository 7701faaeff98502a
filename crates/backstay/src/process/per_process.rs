//! Per-process state: state that a forked child does not inherit.
//!
//! A child inherits the parent's memory with locks in their current state, but none of its threads. So it needs new
//! state wherever the state depends on a lock or a thread. [`this_process`] tells the two processes apart.
//!
//! # Memory ordering
//! [`PerProcess`]: the compare-and-swap publishes the value (release), and each load of the pointer sees it complete
//! (acquire). The same holds for the pointer `MARK`. The mark itself and `LAST` publish nothing else and are relaxed.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A `static` with one `T` in each process.
///
/// In a child's memory the parent's value is leaked, because its state is unknown there.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Owned<T>>);

struct Owned<T> {
    process: u32,
    value: T,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns this process's value, created by the first call. Never blocks.
    pub(crate) fn get(&'static self) -> &'static T {
        let process = this_process();
        loop {
            let seen = self.0.load(Ordering::Acquire);
            // SAFETY: the pointer is null or was made by `Box::into_raw` and published by the compare-and-swap below.
            // Its target is never freed and never borrowed mutably.
            if let Some(owned) = unsafe { seen.as_ref() }
                && owned.process == process
            {
                return &owned.value;
            }
            let fresh = Box::into_raw(Box::new(Owned { process, value: T::default() }));
            if self.0.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: it was made by `Box::into_raw` above and was not published.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}

/// Returns a number of this process, never 0, that differs from those of all processes it was forked from.
///
/// A process id is not such a number: in a new pid namespace it can be the parent's, and it can be reused along a chain
/// of forks. So the number is stored in a page that the kernel zeroes in each forked child (`MADV_WIPEONFORK`). A
/// zeroed page gets the next number. A hook (`pthread_atfork`) does not serve, because `clone`, `_Fork` and bare system
/// calls skip it.
///
/// Without such pages (Linux before 4.14, some emulators, other systems) it is the process id.
///
/// It takes no lock and may be called in a signal handler. After the first call it costs a load.
pub(crate) fn this_process() -> u32 {
    mark::get().map_or_else(std::process::id, mark::number)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod mark {
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

    const SIZE: usize = size_of::<AtomicU32>();

    /// The mark, which holds the number; [`NONE`] if the system has no such pages; null until that is known.
    static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
    static NONE: AtomicU32 = AtomicU32::new(0);
    /// The last number used. A child inherits it and continues from there, so it uses no number of its ancestors.
    static LAST: AtomicU32 = AtomicU32::new(0);

    #[inline]
    pub(super) fn get() -> Option<&'static AtomicU32> {
        let known = MARK.load(Ordering::Acquire);
        let mark = if known.is_null() { set_up() } else { known };
        // SAFETY: not null, so it is `NONE` or a page from `map` that is never unmapped.
        (!ptr::eq(mark, &raw const NONE)).then(|| unsafe { &*mark })
    }

    #[inline]
    pub(super) fn number(mark: &AtomicU32) -> u32 {
        match mark.load(Ordering::Relaxed) {
            0 => next(mark),
            number => number,
        }
    }

    #[cold]
    fn next(mark: &AtomicU32) -> u32 {
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        // Another thread may have stored its number first.
        mark.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|other| other, |_| number)
    }

    /// Decides once, also for all children: a change between the two kinds of number would look like a fork.
    #[cold]
    fn set_up() -> *const AtomicU32 {
        let none = (&raw const NONE).cast_mut();
        let mapped = map();
        let mark = mapped.unwrap_or(none);
        match MARK.compare_exchange(ptr::null_mut(), mark, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mark,
            Err(other) => {
                if let Some(page) = mapped {
                    unmap(page);
                }
                other
            }
        }
    }

    /// Maps a page that is zeroed in each forked child.
    fn map() -> Option<*mut AtomicU32> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address that the kernel chooses.
        let page = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: this page was mapped above.
        // An emulator that ignores advice accepts any, even the invalid advice -1.
        let advise = |advice| unsafe { libc::madvise(page, SIZE, advice) } == 0;
        if advise(libc::MADV_WIPEONFORK) && !advise(-1) {
            return Some(page.cast());
        }
        unmap(page.cast());
        None
    }

    fn unmap(page: *mut AtomicU32) {
        // SAFETY: mapped by `map` with this size and not published.
        unsafe { libc::munmap(page.cast(), SIZE) };
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod mark {
    use std::convert::Infallible;

    pub(super) fn get() -> Option<Infallible> {
        None
    }

    pub(super) fn number(never: Infallible) -> u32 {
        match never {}
    }
}

#[cfg(all(test, unix, not(backstay_loom)))]
mod tests {
    use super::*;

    fn number_in_a_child() -> u32 {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // SAFETY: the child calls only async-signal-safe functions and ends with `_exit`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let number = this_process().to_ne_bytes();
            let written = std::io::Write::write_all(&mut &writer, &number).is_ok();
            // SAFETY: `_exit` only ends the process.
            unsafe { libc::_exit(i32::from(!written)) };
        }
        drop(writer);
        let mut number = [0; 4];
        std::io::Read::read_exact(&mut &reader, &mut number).expect("the child's number");
        // SAFETY: `child` is our child, and no status is written.
        unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
        u32::from_ne_bytes(number)
    }

    #[test]
    fn a_forked_child_has_another_number_and_the_parent_keeps_its_own() {
        let here = this_process();
        assert_ne!(here, 0);
        let child = number_in_a_child();
        assert!(child != 0 && child != here);
        assert_eq!(std::thread::spawn(this_process).join().unwrap(), here);
        assert_eq!(this_process(), here);
    }
}
