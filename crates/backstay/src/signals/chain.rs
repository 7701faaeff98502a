//! The handler chain of one signal: what our handlers count, and which handler each of them calls next.
//!
//! A foreign handler may be installed over ours and call it. To get on top of such a chain again, another copy of our
//! handler is installed. Invariant: in the chain, copy n is below copy n + 1.
//!
//! Protocol: the flag [`COUNTING`] is set before a handler of ours is installed, and cleared after the previous handler
//! is restored, so that each delivery counts while ours is installed. A delivery counts at the first of our handlers
//! that it reaches, in one atomic step with the check of the flag. So `uninstall` and a handler on another thread
//! agree: a signal before the flag is cleared is reported to the listeners; a signal after that has its own effect, the
//! effect that it has without our handler.
//!
//! Known limit: a handler cannot find out whether the kernel or a foreign handler has called it. If a thread is
//! preempted before the first instruction of our handler, and our handler is uninstalled and a foreign one installed in
//! the meantime, that signal has no effect. If a foreign handler did call ours, raising it again would loop forever.
//!
//! # Memory ordering
//! All `SeqCst`: signals are rare, and then the order between a count, the byte that wakes the dispatcher and the
//! disposition, which the kernel orders for us, is that of the program text.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// The most copies of our handler that one chain can hold.
pub(super) const MAX_COPIES: usize = 4;

/// The system's action for one signal.
pub(super) trait Disposition {
    type Action: Copy + Send + Sync + 'static;

    fn current(&self) -> io::Result<Self::Action>;
    /// Installs `action` and returns the one before.
    fn replace(&self, action: &Self::Action) -> io::Result<Self::Action>;
    /// Returns the action of a signal without handlers.
    fn default(&self) -> Self::Action;
    fn is_default(&self, action: &Self::Action) -> bool;
    /// Returns the action that calls this copy of our handler.
    fn ours(&self, copy: usize) -> Self::Action;
    /// Returns the copy of our handler that `action` calls, if it calls one.
    fn copy(&self, action: &Self::Action) -> Option<usize>;
    fn is_same(&self, one: &Self::Action, other: &Self::Action) -> bool;
}

/// The state that the handlers of one signal share.
pub(super) struct Chain<A> {
    /// [`COUNTING`], plus [`ONE`] for each signal that has arrived since the dispatcher took the count.
    word: AtomicU32,
    /// The number of copies that may be in the chain.
    depth: AtomicUsize,
    /// The highest `depth` so far.
    deepest: AtomicUsize,
    /// The action before each copy, which the copy calls. Never freed: a handler may be about to call it.
    previous: [AtomicPtr<A>; MAX_COPIES],
}

/// Flag: deliveries count.
const COUNTING: u32 = 1;
const ONE: u32 = 2;

impl<A: Copy + Send + Sync + 'static> Chain<A> {
    #[cfg(not(backstay_loom))]
    pub(super) const fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            deepest: AtomicUsize::new(0),
            previous: [const { AtomicPtr::new(ptr::null_mut()) }; MAX_COPIES],
        }
    }

    #[cfg(backstay_loom)]
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            deepest: AtomicUsize::new(0),
            previous: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Counts an arrival if [`COUNTING`] is set, and returns whether it is. Async-signal-safe.
    pub(super) fn count_arrival(&self) -> bool {
        let count = |word: u32| (word & COUNTING != 0).then(|| word.wrapping_add(ONE));
        self.word.fetch_update(SeqCst, SeqCst, count).is_ok()
    }

    /// Returns whether deliveries count. Async-signal-safe.
    fn is_counting(&self) -> bool {
        self.word.load(SeqCst) & COUNTING != 0
    }

    /// Returns the action before `copy`, if that copy was ever installed. Async-signal-safe.
    pub(super) fn previous(&self, copy: usize) -> Option<&'static A> {
        // SAFETY: null, or what `set_previous` leaked.
        unsafe { self.previous[copy].load(SeqCst).as_ref() }
    }

    /// Returns whether one of our handlers may have called another one. Async-signal-safe.
    pub(super) fn is_nested(&self) -> bool {
        self.deepest.load(SeqCst) > 1
    }

    /// Returns whether a handler of ours may be installed.
    pub(super) fn is_used(&self) -> bool {
        self.depth.load(SeqCst) > 0
    }

    /// Returns how often the signal has arrived since the last call.
    pub(super) fn take_count(&self) -> u32 {
        self.word.fetch_and(COUNTING, SeqCst) / ONE
    }

    /// Clears the count and the flag.
    pub(super) fn reset(&self) {
        self.word.store(0, SeqCst);
    }

    /// Installs one of our handlers on top of the chain. Only one thread at a time may change the chain.
    pub(super) fn install(&self, system: &impl Disposition<Action = A>) -> io::Result<()> {
        let mut current = system.current()?;
        while let Some(copy) = system.copy(&current) {
            // The foreign handler over this copy, and our copies above that handler, are gone.
            self.depth.store(copy + 1, SeqCst);
            self.word.fetch_or(COUNTING, SeqCst);
            // `needs_reraise` may have removed this copy before the flag was set.
            current = system.current()?;
            if system.copy(&current) == Some(copy) {
                return Ok(());
            }
        }
        let copy = self.depth.load(SeqCst);
        if copy == MAX_COPIES {
            self.word.fetch_and(!COUNTING, SeqCst);
            return Err(io::Error::other(
                "four handlers of this library are already in its chain, each below a foreign one",
            ));
        }
        // Stored before ours is installed: from its first instant it counts, and calls the previous handler.
        self.set_previous(system, copy, &current);
        self.deepest.fetch_max(copy + 1, SeqCst);
        self.depth.store(copy + 1, SeqCst);
        self.word.fetch_or(COUNTING, SeqCst);
        match system.replace(&system.ours(copy)) {
            Ok(replaced) => {
                self.set_previous(system, copy, &replaced);
                Ok(())
            }
            Err(error) => {
                self.depth.store(copy, SeqCst);
                self.word.fetch_and(!COUNTING, SeqCst);
                Err(error)
            }
        }
    }

    /// Returns whether a signal must be raised again to have its own effect. Async-signal-safe.
    ///
    /// For a delivery to `copy` that does not count and has no previous handler. `ours`: this process is the one whose
    /// dispatcher reads the counts.
    ///
    /// A foreign handler on top has called ours, and decides about the signal. If ours is on top although deliveries do
    /// not count (in a forked child, or because the foreign handler over it has gone), this removes it: otherwise the
    /// raised signal would call it again, forever.
    pub(super) fn needs_reraise(&self, system: &impl Disposition<Action = A>, copy: usize, ours: bool) -> bool {
        let Ok(current) = system.current() else { return false };
        if system.copy(&current) != Some(copy) {
            return system.is_default(&current);
        }
        let is_counting = || ours && self.is_counting();
        if !is_counting()
            && let Ok(replaced) = system.replace(&system.default())
            && (system.copy(&replaced) != Some(copy) || is_counting())
        {
            // Another thread has installed a foreign handler in between, or is in `install`, which relies on ours.
            let _ = system.replace(&replaced);
        }
        true
    }

    /// Restores the previous action if ours is still on top, and stops counting. Returns how often the signal has
    /// arrived since the last call of `take_count`. Only one thread at a time may change the chain.
    pub(super) fn uninstall(&self, system: &impl Disposition<Action = A>) -> u32 {
        // Cannot fail: the system has accepted this signal before.
        let _ = self.restore(system);
        self.word.swap(0, SeqCst) / ONE
    }

    /// Restores the previous action if ours is still on top.
    pub(super) fn restore(&self, system: &impl Disposition<Action = A>) -> io::Result<()> {
        let Some(copy) = system.copy(&system.current()?) else { return Ok(()) };
        let Some(previous) = self.previous(copy) else { return Ok(()) };
        let replaced = system.replace(previous)?;
        if system.copy(&replaced).is_none() {
            // A foreign handler was installed in between: it stays.
            system.replace(&replaced)?;
            return Ok(());
        }
        self.depth.store(copy, SeqCst);
        Ok(())
    }

    fn set_previous(&self, system: &impl Disposition<Action = A>, copy: usize, action: &A) {
        if !self.previous(copy).is_some_and(|known| system.is_same(known, action)) {
            self.previous[copy].store(Box::leak(Box::new(*action)), SeqCst);
        }
    }
}

/// Every interleaving of deliveries with `install` and `uninstall`. `run` models [`handle`](super::handler).
#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use loom::thread;

    const DEFAULT: usize = 0;
    const FOREIGN: usize = 1;
    const OURS: usize = 10;

    /// A model of the system: the action of one signal, and the effects of the signals so far.
    struct System {
        action: AtomicUsize,
        /// The action that the foreign handler calls.
        foreign_calls: usize,
        foreign: AtomicUsize,
        counted: AtomicUsize,
        died: AtomicUsize,
    }

    impl System {
        fn new(action: usize, foreign_calls: usize) -> Arc<Self> {
            Arc::new(Self {
                action: AtomicUsize::new(action),
                foreign_calls,
                foreign: AtomicUsize::new(0),
                counted: AtomicUsize::new(0),
                died: AtomicUsize::new(0),
            })
        }

        /// Returns how many signals were counted, were fatal, and reached the foreign handler.
        fn seen(&self) -> (usize, usize, usize) {
            (self.counted.load(SeqCst), self.died.load(SeqCst), self.foreign.load(SeqCst))
        }
    }

    impl Disposition for Arc<System> {
        type Action = usize;

        fn current(&self) -> io::Result<usize> {
            Ok(self.action.load(SeqCst))
        }

        fn replace(&self, action: &usize) -> io::Result<usize> {
            Ok(self.action.swap(*action, SeqCst))
        }

        fn default(&self) -> usize {
            DEFAULT
        }

        fn is_default(&self, action: &usize) -> bool {
            *action == DEFAULT
        }

        fn ours(&self, copy: usize) -> usize {
            OURS + copy
        }

        fn copy(&self, action: &usize) -> Option<usize> {
            action.checked_sub(OURS)
        }

        fn is_same(&self, one: &usize, other: &usize) -> bool {
            one == other
        }
    }

    fn deliver(system: &Arc<System>, chain: &Chain<usize>) {
        run(system, chain, system.action.load(SeqCst), None);
    }

    fn run(system: &Arc<System>, chain: &Chain<usize>, action: usize, caller: Option<usize>) {
        match action {
            DEFAULT => _ = system.died.fetch_add(1, SeqCst),
            FOREIGN => {
                system.foreign.fetch_add(1, SeqCst);
                if system.foreign_calls >= OURS {
                    run(system, chain, system.foreign_calls, caller);
                }
            }
            ours => {
                let copy = ours - OURS;
                let first = !chain.is_nested() || caller.is_none_or(|caller| caller <= copy);
                let counted = first && chain.count_arrival();
                system.counted.fetch_add(usize::from(counted), SeqCst);
                match chain.previous(copy).copied().unwrap_or(DEFAULT) {
                    DEFAULT if counted || !first => {}
                    DEFAULT if chain.needs_reraise(system, copy, true) => deliver(system, chain),
                    DEFAULT => {}
                    previous => run(system, chain, previous, Some(copy)),
                }
            }
        }
    }

    // GS-2, GS-3: a signal during `install` ends the process, as before, or counts. It is never lost.
    #[test]
    fn loom_a_signal_during_install_counts_or_has_its_own_effect() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, DEFAULT), Arc::new(Chain::new()));
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            chain.install(&system).unwrap();
            signal.join().unwrap();
            assert!(matches!(system.seen(), (1, 0, 0) | (0, 1, 0)), "{:?}", system.seen());
            assert_eq!(chain.take_count() as usize, system.seen().0);
        });
    }

    // GS-2, GS-3: a signal during `uninstall` is reported to the listeners, or ends the process. No count is left for
    // the next listener.
    #[test]
    fn loom_a_signal_during_uninstall_is_reported_or_has_its_own_effect() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, DEFAULT), Arc::new(Chain::new()));
            chain.install(&system).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            let reported = chain.take_count() + chain.uninstall(&system);
            signal.join().unwrap();
            assert!(matches!(system.seen(), (1, 0, 0) | (0, 1, 0)), "{:?}", system.seen());
            assert_eq!((reported as usize, chain.take_count()), (system.seen().0, 0));
            assert_eq!(system.current().unwrap(), DEFAULT);
        });
    }

    // GS-2, GS-3: while a second copy is installed, a signal counts once, and reaches the foreign handler below it.
    #[test]
    fn loom_a_signal_while_a_copy_is_added_counts_once() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, OURS), Arc::new(Chain::new()));
            chain.install(&system).unwrap();
            system.replace(&FOREIGN).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            chain.install(&system).unwrap();
            signal.join().unwrap();
            assert_eq!(system.seen(), (1, 0, 1));
            deliver(&system, &chain);
            assert_eq!(system.seen(), (2, 0, 2));
            assert_eq!(chain.take_count(), 2);
        });
    }

    // GS-2, GS-3: a copy of ours over a foreign handler is uninstalled, and one is installed again.
    #[test]
    fn loom_a_signal_during_uninstall_and_install_counts_at_most_once_and_reaches_the_foreign_handler() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, OURS), Arc::new(Chain::new()));
            chain.install(&system).unwrap();
            system.replace(&FOREIGN).unwrap();
            chain.install(&system).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            let mut reported = chain.uninstall(&system);
            assert_eq!(system.current().unwrap(), FOREIGN);
            chain.install(&system).unwrap();
            signal.join().unwrap();
            reported += chain.take_count();
            let (counted, died, foreign) = system.seen();
            assert!(counted <= 1 && died == 0 && foreign == 1, "{:?}", system.seen());
            assert_eq!(reported as usize, counted);
        });
    }

    // GS-2, GS-3: a foreign handler over ours is removed after `uninstall`, and ours is on top again. A signal then
    // ends the process or, during an `install`, counts; the handler stays installed.
    #[test]
    fn loom_a_signal_at_a_handler_left_behind_counts_or_has_its_own_effect() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, OURS), Arc::new(Chain::new()));
            chain.install(&system).unwrap();
            system.replace(&FOREIGN).unwrap();
            assert_eq!(chain.uninstall(&system), 0);
            system.replace(&OURS).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            chain.install(&system).unwrap();
            signal.join().unwrap();
            let seen = system.seen();
            assert!(matches!(seen, (1, 0, 0) | (0, 1, 0)), "{seen:?}");
            deliver(&system, &chain);
            assert_eq!(system.seen(), (seen.0 + 1, seen.1, 0));
            assert_eq!(chain.take_count() as usize, seen.0 + 1);
        });
    }
}
