//! Our handlers of one signal: what they count, and which handler each of them calls next.
//!
//! A foreign handler may be installed over ours and call it. To get on top again while ours is in such a handler chain,
//! another copy of our handler is used. Invariant: copy n is below every copy above n.
//!
//! Protocol: a signal is *taken* before a handler of ours is put in place, and given back after the previous handler is
//! restored: while ours is in place, each delivery counts. It counts at the first of our handlers that it meets, in one
//! step with the check whether the signal is taken, so that giving back and a handler on another thread agree: a signal
//! that arrives before is reported, one that arrives after has the effect that it has without us.
//!
//! Known limit: a handler that the kernel has started cannot be told from one that a foreign handler has called. If a
//! thread is preempted before the first instruction of ours, and meanwhile the signal is given back and a foreign handler
//! is installed, that signal has no effect: to raise it again would be an endless loop where a foreign handler did call.
//!
//! # Memory ordering
//! All `SeqCst`: signals are rare, and the order between a count, the byte that wakes the dispatcher and the
//! disposition, which the kernel orders for us, is then the one of the program text.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// How many copies of our handler one chain may hold.
pub(super) const COPIES: usize = 4;

/// The system's action for one signal.
pub(super) trait Disposition {
    type Action: Copy + Send + Sync + 'static;

    fn current(&self) -> io::Result<Self::Action>;
    /// Puts `action` in place and returns the one before.
    fn replace(&self, action: &Self::Action) -> io::Result<Self::Action>;
    /// The action of a signal without handlers.
    fn default(&self) -> Self::Action;
    fn is_default(&self, action: &Self::Action) -> bool;
    /// The action that is this copy of our handler.
    fn ours(&self, copy: usize) -> Self::Action;
    /// Which copy of our handler an action is.
    fn copy(&self, action: &Self::Action) -> Option<usize>;
    fn is_same(&self, one: &Self::Action, other: &Self::Action) -> bool;
}

/// The state that the handlers of one signal share.
pub(super) struct Chain<A> {
    /// [`TAKEN`], and how often the signal has arrived since the dispatcher looked, times [`ONE`].
    word: AtomicU32,
    /// How many copies may be in the chain.
    depth: AtomicUsize,
    /// How many copies ever were in place.
    deepest: AtomicUsize,
    /// The action before each copy, which that one calls. Never freed, since a handler may be about to call it.
    previous: [AtomicPtr<A>; COPIES],
}

const TAKEN: u32 = 1;
const ONE: u32 = 2;

impl<A: Copy + Send + Sync + 'static> Chain<A> {
    #[cfg(not(backstay_loom))]
    pub(super) const fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            deepest: AtomicUsize::new(0),
            previous: [const { AtomicPtr::new(ptr::null_mut()) }; COPIES],
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

    /// Counts an arrival, if the signal is taken, and returns whether it is. Async-signal-safe.
    pub(super) fn arrive(&self) -> bool {
        let count = |word: u32| (word & TAKEN != 0).then(|| word.wrapping_add(ONE));
        self.word.fetch_update(SeqCst, SeqCst, count).is_ok()
    }

    /// Async-signal-safe.
    fn is_taken(&self) -> bool {
        self.word.load(SeqCst) & TAKEN != 0
    }

    /// The action before a copy, once that was in place. Async-signal-safe.
    pub(super) fn previous(&self, copy: usize) -> Option<&'static A> {
        // SAFETY: null, or what `remember` leaked.
        unsafe { self.previous[copy].load(SeqCst).as_ref() }
    }

    /// Whether a handler may have been called by another one of ours. Async-signal-safe.
    pub(super) fn is_nested(&self) -> bool {
        self.deepest.load(SeqCst) > 1
    }

    /// Whether a handler of ours may be in place.
    pub(super) fn is_used(&self) -> bool {
        self.depth.load(SeqCst) > 0
    }

    /// How often the signal has arrived since the last call.
    pub(super) fn arrived(&self) -> u32 {
        self.word.fetch_and(TAKEN, SeqCst) / ONE
    }

    /// Forgets what has arrived, and that the signal is taken.
    pub(super) fn forget(&self) {
        self.word.store(0, SeqCst);
    }

    /// Takes the signal, with one of our handlers on top. Only one thread at a time may change the chain.
    pub(super) fn take(&self, system: &impl Disposition<Action = A>) -> io::Result<()> {
        let mut current = system.current()?;
        while let Some(copy) = system.copy(&current) {
            // What was over it, and our copies above that, are gone.
            self.depth.store(copy + 1, SeqCst);
            self.word.fetch_or(TAKEN, SeqCst);
            // `step_aside` may have taken it out before it could see that.
            current = system.current()?;
            if system.copy(&current) == Some(copy) {
                return Ok(());
            }
        }
        let copy = self.depth.load(SeqCst);
        if copy == COPIES {
            self.word.fetch_and(!TAKEN, SeqCst);
            return Err(io::Error::other(
                "four handlers of this library are in its chain already, each below a foreign one",
            ));
        }
        // Known before ours is in place: from its first instant it counts, and calls the previous one.
        self.remember(system, copy, &current);
        self.deepest.fetch_max(copy + 1, SeqCst);
        self.depth.store(copy + 1, SeqCst);
        self.word.fetch_or(TAKEN, SeqCst);
        match system.replace(&system.ours(copy)) {
            Ok(replaced) => {
                self.remember(system, copy, &replaced);
                Ok(())
            }
            Err(error) => {
                self.depth.store(copy, SeqCst);
                self.word.fetch_and(!TAKEN, SeqCst);
                Err(error)
            }
        }
    }

    /// For a delivery to `copy` that does not count and has no previous handler: returns whether the signal must be
    /// raised again to have the effect that it has without us. `ours`: this process is the one that takes signals.
    /// Async-signal-safe.
    ///
    /// Where a foreign handler is on top, it has called ours, and decides what the signal leads to. Where ours is on top
    /// of a signal that is not taken, in a forked child or because a foreign handler over it has gone, nothing else
    /// would remove it: raised again, the signal would come back for ever.
    pub(super) fn step_aside(&self, system: &impl Disposition<Action = A>, copy: usize, ours: bool) -> bool {
        let Ok(current) = system.current() else { return false };
        if system.copy(&current) != Some(copy) {
            return system.is_default(&current);
        }
        let is_taken = || ours && self.is_taken();
        if !is_taken()
            && let Ok(replaced) = system.replace(&system.default())
            && (system.copy(&replaced) != Some(copy) || is_taken())
        {
            // A foreign handler came in between, or `take`, which counts on ours.
            let _ = system.replace(&replaced);
        }
        true
    }

    /// Restores the previous action, if ours is still on top, gives the signal back, and returns how often it has arrived
    /// since the last look. Only one thread at a time may change the chain.
    pub(super) fn give_back(&self, system: &impl Disposition<Action = A>) -> u32 {
        // The system does not reject a signal that it has accepted before.
        let _ = self.restore(system);
        self.word.swap(0, SeqCst) / ONE
    }

    /// Restores the previous action, if ours is still on top.
    pub(super) fn restore(&self, system: &impl Disposition<Action = A>) -> io::Result<()> {
        let Some(copy) = system.copy(&system.current()?) else { return Ok(()) };
        let Some(previous) = self.previous(copy) else { return Ok(()) };
        let replaced = system.replace(previous)?;
        if system.copy(&replaced).is_none() {
            // A foreign handler came in between: it stays.
            system.replace(&replaced)?;
            return Ok(());
        }
        self.depth.store(copy, SeqCst);
        Ok(())
    }

    fn remember(&self, system: &impl Disposition<Action = A>, copy: usize, action: &A) {
        if !self.previous(copy).is_some_and(|known| system.is_same(known, action)) {
            self.previous[copy].store(Box::leak(Box::new(*action)), SeqCst);
        }
    }
}

/// Every interleaving of deliveries with the steps of taking, giving back and changing copies. `run` plays the handlers;
/// [`handle`](super::handler) does the same with the system's calls.
#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use loom::thread;

    const DEFAULT: usize = 0;
    const FOREIGN: usize = 1;
    const OURS: usize = 10;

    /// The system: an action, and what happened to the signals.
    struct System {
        action: AtomicUsize,
        /// What the foreign handler calls on.
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

        /// One signal: counted, fatal, seen by the foreign handler.
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
                let counted = first && chain.arrive();
                system.counted.fetch_add(usize::from(counted), SeqCst);
                match chain.previous(copy).copied().unwrap_or(DEFAULT) {
                    DEFAULT if counted || !first => {}
                    DEFAULT if chain.step_aside(system, copy, true) => deliver(system, chain),
                    DEFAULT => {}
                    previous => run(system, chain, previous, Some(copy)),
                }
            }
        }
    }

    // GS-2, GS-3: a signal during `install` ends the process, as before, or counts. It is never lost.
    #[test]
    fn loom_a_signal_while_it_is_taken_counts_or_has_its_own_effect() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, DEFAULT), Arc::new(Chain::new()));
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            chain.take(&system).unwrap();
            signal.join().unwrap();
            assert!(matches!(system.seen(), (1, 0, 0) | (0, 1, 0)), "{:?}", system.seen());
            assert_eq!(chain.arrived() as usize, system.seen().0);
        });
    }

    // GS-2, GS-3: a signal during `uninstall` is reported to its listeners, or ends the process. None is left over for
    // the next listener.
    #[test]
    fn loom_a_signal_while_it_is_given_back_is_told_or_has_its_own_effect() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, DEFAULT), Arc::new(Chain::new()));
            chain.take(&system).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            let told = chain.arrived() + chain.give_back(&system);
            signal.join().unwrap();
            assert!(matches!(system.seen(), (1, 0, 0) | (0, 1, 0)), "{:?}", system.seen());
            assert_eq!((told as usize, chain.arrived()), (system.seen().0, 0));
            assert_eq!(system.current().unwrap(), DEFAULT);
        });
    }

    // GS-2, GS-3: getting on top of a foreign handler that is over ours: a signal counts once, and reaches the other.
    #[test]
    fn loom_a_signal_while_a_copy_is_added_counts_once() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, OURS), Arc::new(Chain::new()));
            chain.take(&system).unwrap();
            system.replace(&FOREIGN).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            chain.take(&system).unwrap();
            signal.join().unwrap();
            assert_eq!(system.seen(), (1, 0, 1));
            deliver(&system, &chain);
            assert_eq!(system.seen(), (2, 0, 2));
            assert_eq!(chain.arrived(), 2);
        });
    }

    // GS-2, GS-3: giving back under a foreign handler, from a copy above it, and taking again.
    #[test]
    fn loom_a_signal_while_copies_go_and_come_counts_at_most_once_and_reaches_the_other() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, OURS), Arc::new(Chain::new()));
            chain.take(&system).unwrap();
            system.replace(&FOREIGN).unwrap();
            chain.take(&system).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            let mut told = chain.give_back(&system);
            assert_eq!(system.current().unwrap(), FOREIGN);
            chain.take(&system).unwrap();
            signal.join().unwrap();
            told += chain.arrived();
            let (counted, died, foreign) = system.seen();
            assert!(counted <= 1 && died == 0 && foreign == 1, "{:?}", system.seen());
            assert_eq!(told as usize, counted);
        });
    }

    // GS-2, GS-3: a foreign handler over ours that goes after `uninstall` leaves ours in place. A signal then ends the
    // process or, if the signal is taken at that moment, counts; and what is taken stays taken.
    #[test]
    fn loom_a_signal_at_a_handler_left_behind_counts_or_has_its_own_effect() {
        loom::model(|| {
            let (system, chain) = (System::new(DEFAULT, OURS), Arc::new(Chain::new()));
            chain.take(&system).unwrap();
            system.replace(&FOREIGN).unwrap();
            assert_eq!(chain.give_back(&system), 0);
            system.replace(&OURS).unwrap();
            let (theirs, same) = (Arc::clone(&system), Arc::clone(&chain));
            let signal = thread::spawn(move || deliver(&theirs, &same));
            chain.take(&system).unwrap();
            signal.join().unwrap();
            let seen = system.seen();
            assert!(matches!(seen, (1, 0, 0) | (0, 1, 0)), "{seen:?}");
            deliver(&system, &chain);
            assert_eq!(system.seen(), (seen.0 + 1, seen.1, 0));
            assert_eq!(chain.arrived() as usize, seen.0 + 1);
        });
    }
}
