//! The handlers of one signal: what they count, and what lies under each.
//!
//! Foreign handlers may come to lie over ours and call it in their turn. To get on top again while we are in such a
//! chain, a second handler of ours is used (another level). Invariant: level n lies under every level above it.
//!
//! Protocol: a signal is *taken* before a handler of ours is put in place, and given back after what was there before
//! is: while ours is in place, each delivery counts. It counts where it meets the first of our handlers, and in one
//! step with the question whether the signal is taken, so that giving back and a handler on another thread agree: what
//! came before is told, what comes after has the effect that it has without us.
//!
//! # Memory ordering
//! All `SeqCst`: signals are rare, and the order between a count, the byte that wakes the dispatcher and the
//! disposition, which the kernel orders for us, is then the one of the program text.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::SeqCst};

/// How often others may come to lie over us in one chain.
pub(super) const LEVELS: usize = 4;

/// The system's table of actions, at one signal.
pub(super) trait Disposition {
    type Action: Copy + Send + Sync + 'static;

    fn current(&self) -> io::Result<Self::Action>;
    /// Puts `action` in place; what was there.
    fn replace(&self, action: &Self::Action) -> io::Result<Self::Action>;
    /// The action that is our handler of this level.
    fn ours(&self, level: usize) -> Self::Action;
    /// Which of our levels an action is.
    fn level(&self, action: &Self::Action) -> Option<usize>;
    fn is_same(&self, one: &Self::Action, other: &Self::Action) -> bool;
}

/// What the handlers of one signal know.
pub(super) struct Chain<A> {
    /// [`TAKEN`], and how often the signal has arrived since the dispatcher looked, times [`ONE`].
    word: AtomicU32,
    /// How many levels may be in the chain.
    depth: AtomicUsize,
    /// How many levels ever were in place.
    deepest: AtomicUsize,
    /// What lies under each level and is called on. Never freed, since a handler may be about to call it.
    under: [AtomicPtr<A>; LEVELS],
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
            under: [const { AtomicPtr::new(ptr::null_mut()) }; LEVELS],
        }
    }

    #[cfg(backstay_loom)]
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            depth: AtomicUsize::new(0),
            deepest: AtomicUsize::new(0),
            under: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Counts an arrival, unless the signal is not taken. Async-signal-safe.
    pub(super) fn arrive(&self) -> bool {
        let count = |word: u32| (word & TAKEN != 0).then(|| word.wrapping_add(ONE));
        self.word.fetch_update(SeqCst, SeqCst, count).is_ok()
    }

    /// What lies under a level, once that was in place. Async-signal-safe.
    pub(super) fn under(&self, level: usize) -> Option<&'static A> {
        // SAFETY: null, or what `remember` leaked.
        unsafe { self.under[level].load(SeqCst).as_ref() }
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
        let current = system.current()?;
        if let Some(level) = system.level(&current) {
            // What lay over it, and our levels above that, are gone.
            self.depth.store(level + 1, SeqCst);
            self.word.fetch_or(TAKEN, SeqCst);
            return Ok(());
        }
        let level = self.depth.load(SeqCst);
        if level == LEVELS {
            return Err(io::Error::other("too many handlers lie over one another"));
        }
        // Known before ours is in place: it counts, and calls on, from its first instant.
        self.remember(system, level, &current);
        self.deepest.fetch_max(level + 1, SeqCst);
        self.depth.store(level + 1, SeqCst);
        self.word.fetch_or(TAKEN, SeqCst);
        match system.replace(&system.ours(level)) {
            Ok(replaced) => {
                self.remember(system, level, &replaced);
                Ok(())
            }
            Err(error) => {
                self.depth.store(level, SeqCst);
                self.word.fetch_and(!TAKEN, SeqCst);
                Err(error)
            }
        }
    }

    /// Puts back what lies under our handler, where that is still on top, and gives the signal back. How often it has
    /// arrived since the last look. Only one thread at a time may change the chain.
    pub(super) fn give_back(&self, system: &impl Disposition<Action = A>) -> u32 {
        // The system refuses no signal that it has granted once.
        let _ = self.restore(system);
        self.word.swap(0, SeqCst) / ONE
    }

    /// Puts back what lies under our handler, where that is still on top.
    pub(super) fn restore(&self, system: &impl Disposition<Action = A>) -> io::Result<()> {
        let Some(level) = system.level(&system.current()?) else { return Ok(()) };
        let Some(under) = self.under(level) else { return Ok(()) };
        let replaced = system.replace(under)?;
        if system.level(&replaced).is_none() {
            // A foreign handler came in between: it stays.
            system.replace(&replaced)?;
            return Ok(());
        }
        self.depth.store(level, SeqCst);
        Ok(())
    }

    fn remember(&self, system: &impl Disposition<Action = A>, level: usize, action: &A) {
        if !self.under(level).is_some_and(|known| system.is_same(known, action)) {
            self.under[level].store(Box::leak(Box::new(*action)), SeqCst);
        }
    }
}

/// Every interleaving of deliveries with the steps of taking, giving back and changing levels. The handlers are played;
/// [`handle`](super::handler) does the same with the system's calls.
#[cfg(all(test, backstay_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;
    use loom::thread;

    const DEFAULT: usize = 0;
    const FOREIGN: usize = 1;
    const OURS: usize = 10;

    /// The table of actions, and what became of the signals.
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

        fn ours(&self, level: usize) -> usize {
            OURS + level
        }

        fn level(&self, action: &usize) -> Option<usize> {
            action.checked_sub(OURS)
        }

        fn is_same(&self, one: &usize, other: &usize) -> bool {
            one == other
        }
    }

    fn deliver(system: &System, chain: &Chain<usize>) {
        run(system, chain, system.action.load(SeqCst), None);
    }

    fn run(system: &System, chain: &Chain<usize>, action: usize, caller: Option<usize>) {
        match action {
            DEFAULT => _ = system.died.fetch_add(1, SeqCst),
            FOREIGN => {
                system.foreign.fetch_add(1, SeqCst);
                if system.foreign_calls >= OURS {
                    run(system, chain, system.foreign_calls, caller);
                }
            }
            ours => {
                let level = ours - OURS;
                let first = !chain.is_nested() || caller.is_none_or(|caller| caller <= level);
                let counted = first && chain.arrive();
                system.counted.fetch_add(usize::from(counted), SeqCst);
                match chain.under(level).copied().unwrap_or(DEFAULT) {
                    DEFAULT if counted || !first => {}
                    // Raised again, unless a foreign handler has called this one.
                    DEFAULT if ![DEFAULT, ours].contains(&system.action.load(SeqCst)) => {}
                    DEFAULT => deliver(system, chain),
                    under => run(system, chain, under, Some(level)),
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

    // GS-2, GS-3: a signal during `uninstall` is told to those who listened, or ends the process. None is left over for
    // those who take the signal next.
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

    // GS-2, GS-3: getting on top of a foreign handler that lies over ours: a signal counts once, and reaches the other.
    #[test]
    fn loom_a_signal_while_a_level_is_added_counts_once() {
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

    // GS-2, GS-3: going from under a foreign handler, from a level above it, and coming again.
    #[test]
    fn loom_a_signal_while_levels_go_and_come_counts_at_most_once_and_reaches_the_other() {
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
}
