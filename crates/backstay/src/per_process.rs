//! State of the process as a whole, that a forked child must not take over.
//!
//! A child inherits the parent's memory, but none of its threads, and its locks as they happened to be. Whatever is
//! guarded by such a lock or served by such a thread, the child must have anew. What tells the two processes apart is
//! [`this_process`].
//!
//! # Memory ordering
//! [`PerProcess`]: the compare-and-swap publishes the value (release), and each load of the pointer sees it complete
//! (acquire). Likewise the pointer to the mark. The mark and `LAST` publish nothing but themselves: relaxed.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One `T` in every process; for a `static`.
///
/// The parent's stays where it is, in the child's memory: its state is unknown there.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Owned<T>>);

struct Owned<T> {
    process: u32,
    value: T,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's own. Never waits, not even the first time.
    pub(crate) fn get(&'static self) -> &'static T {
        let process = this_process();
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

/// A number of this process, never 0, that differs from the number of each process it was forked from.
///
/// On Linux a process id does not: in a new pid namespace it may be the parent's, and a long chain of forks may meet it
/// again. So the number lies in a page of memory that the kernel zeroes in a forked child (`MADV_WIPEONFORK`), however
/// the child was made; a hook (`pthread_atfork`) would not run for `clone`, `_Fork` or a system call. A page that is zero
/// gets the next number. Without such pages (before Linux 4.14, some emulators, other systems) it is the process id.
///
/// Takes no lock and may be called in a signal handler; after the first time it is a load.
pub(crate) fn this_process() -> u32 {
    mark::get().map_or_else(std::process::id, mark::number)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod mark {
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

    const SIZE: usize = size_of::<AtomicU32>();

    /// Null until it is known whether this system can do it; then the mark, or [`NONE`].
    static MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
    static NONE: AtomicU32 = AtomicU32::new(0);
    /// The highest number so far. A child inherits it, so it never gives out a number that is known in its memory.
    static LAST: AtomicU32 = AtomicU32::new(0);

    #[inline]
    pub(super) fn get() -> Option<&'static AtomicU32> {
        let known = MARK.load(Ordering::Acquire);
        let mark = if known.is_null() { set_up() } else { known };
        // SAFETY: not null, and so `NONE` or a page that `map` mapped and that is never unmapped.
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
        // Another thread may have been first.
        mark.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|theirs| theirs, |_| number)
    }

    /// Decides once for the process and those forked from it: a change of the kind of number would look like a fork.
    #[cold]
    fn set_up() -> *const AtomicU32 {
        let none = (&raw const NONE).cast_mut();
        let mapped = map();
        let mark = mapped.unwrap_or(none);
        match MARK.compare_exchange(ptr::null_mut(), mark, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => mark,
            Err(theirs) => {
                if let Some(page) = mapped {
                    unmap(page);
                }
                theirs
            }
        }
    }

    /// A page that is zero in each forked child.
    fn map() -> Option<*mut AtomicU32> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at no particular address.
        let page = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: our own page. An emulator that ignores advice says yes to any, also to one that does not exist.
        let advise = |advice| unsafe { libc::madvise(page, SIZE, advice) } == 0;
        if advise(libc::MADV_WIPEONFORK) && !advise(-1) {
            return Some(page.cast());
        }
        unmap(page.cast());
        None
    }

    fn unmap(page: *mut AtomicU32) {
        // SAFETY: mapped by `map` with this size, and not published.
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
        // SAFETY: the child calls nothing but what is async-signal-safe, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let number = this_process().to_ne_bytes();
            let written = std::io::Write::write_all(&mut &writer, &number).is_ok();
            // SAFETY: ends the process, no more.
            unsafe { libc::_exit(i32::from(!written)) };
        }
        drop(writer);
        let mut number = [0; 4];
        std::io::Read::read_exact(&mut &reader, &mut number).expect("the child's number");
        // SAFETY: `child` is ours, and nothing is written.
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
