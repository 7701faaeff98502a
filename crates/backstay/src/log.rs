//! Telling `tracing` what happens. A subscriber is somebody else's code: it may panic, and it may block for as long as
//! nobody reads what it writes.

use crate::callback::caught;

/// Runs `log`, which tells `tracing` something, here and now: from a call of the user's, or inside a destructor. A
/// subscriber that panics there would end the process.
pub(crate) fn log_now(log: impl FnOnce()) {
    let _ = caught(log);
}

#[cfg(backstay_loom)]
pub(crate) fn log_in_background(log: impl FnOnce() + Send + 'static) {
    log_now(log);
}

#[cfg(backstay_loom)]
pub(crate) fn flush(_patience: std::time::Duration) {}

#[cfg(not(backstay_loom))]
pub(crate) use aside::{flush, log_in_background};

#[cfg(not(backstay_loom))]
mod aside {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use once_cell::race::OnceBox;

    use super::log_now;
    use crate::process::PerProcess;
    use crate::threads;

    type Line = Box<dyn FnOnce() + Send>;

    /// So many lines wait while the log blocks; what comes then is lost, and counted. A flush always finds room.
    const MOST: usize = 1024;

    /// Has `log` run soon, on the one thread that logs for all threads of the library: who logs so, waits for no log.
    /// No beat is late and no callback loses its turn because nobody reads what a subscriber writes.
    pub(crate) fn log_in_background(log: impl FnOnce() + Send + 'static) {
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        TELLER.get().tell(Box::new(move || tracing::dispatcher::with_default(&subscriber, log)));
    }

    /// Waits until all that was said so far is told, no longer than `patience`.
    pub(crate) fn flush(patience: Duration) {
        TELLER.get().flush(patience);
    }

    static TELLER: PerProcess<Teller> = PerProcess::new();

    #[derive(Default)]
    struct Teller {
        /// Set once a thread could be started.
        thread: OnceBox<Sender<Line>>,
        counts: Arc<Counts>,
    }

    /// Relaxed: they publish nothing but themselves.
    #[derive(Default)]
    struct Counts {
        waiting: AtomicUsize,
        lost: AtomicU64,
    }

    impl Teller {
        /// The thread, started now if there is none. Where the system has none to give, the next line asks again.
        fn thread(&self) -> Option<&Sender<Line>> {
            if self.thread.get().is_none() {
                let (lines, to_tell) = channel();
                let counts = Arc::clone(&self.counts);
                threads::named("backstay-log").spawn(move || tell(&to_tell, &counts)).ok()?;
                // Of several that were started at once one stays; a thread whose sender is dropped here ends.
                let _ = self.thread.set(Box::new(lines));
            }
            self.thread.get()
        }

        /// Whether all that was said so far is told.
        fn flush(&self, patience: Duration) -> bool {
            let (done, wait) = channel();
            self.send(Box::new(move || {
                let _ = done.send(());
            }));
            wait.recv_timeout(patience).is_ok()
        }

        fn tell(&self, line: Line) {
            if self.counts.waiting.load(Ordering::Relaxed) < MOST {
                self.send(line);
            } else {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn send(&self, line: Line) {
            let Some(thread) = self.thread() else { return log_now(line) };
            self.counts.waiting.fetch_add(1, Ordering::Relaxed);
            // The thread ends with the process.
            let _ = thread.send(line);
        }
    }

    fn tell(lines: &Receiver<Line>, counts: &Counts) {
        for line in lines {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            log_now(line);
            let lost = counts.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                log_now(|| tracing::warn!(target: "backstay", lost, "the log blocked, and lines were lost"));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Mutex;
        use std::thread;

        use super::*;

        #[test]
        fn a_log_that_blocks_holds_up_nobody() {
            // One of its own: other tests log through that of the process.
            let teller = Teller::default();
            let (entered, blocks) = channel();
            let (block, blocked) = channel::<()>();
            let told = Arc::new(Mutex::new(Vec::new()));
            teller.tell(Box::new(move || {
                let _ = entered.send(());
                let _ = blocked.recv();
            }));
            // From here on the queue is empty, and nothing takes a line out of it.
            blocks.recv().unwrap();
            for number in 0..2 * MOST {
                let told = Arc::clone(&told);
                teller.tell(Box::new(move || told.lock().unwrap().push(number)));
            }
            assert!(told.lock().unwrap().is_empty());
            assert_eq!(teller.counts.lost.load(Ordering::Relaxed), MOST as u64);
            thread::scope(|scope| {
                // At the end of a program a full queue is waited for like any other.
                let flushed = scope.spawn(|| teller.flush(Duration::from_secs(60)));
                while teller.counts.waiting.load(Ordering::Relaxed) <= MOST && !flushed.is_finished() {
                    thread::yield_now();
                }
                drop(block);
                assert!(flushed.join().unwrap());
            });
            assert!(told.lock().unwrap().iter().copied().eq(0..MOST), "those there was room for, in order");
        }
    }
}
