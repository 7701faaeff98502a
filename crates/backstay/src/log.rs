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
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
    use std::time::Duration;

    use once_cell::race::OnceBox;

    use super::log_now;
    use crate::per_process::PerProcess;
    use crate::threads;

    type Line = Box<dyn FnOnce() + Send>;

    /// So many lines wait while the log blocks; what comes then is lost, and counted.
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
        thread: OnceBox<SyncSender<Line>>,
        lost: Arc<AtomicU64>,
    }

    impl Teller {
        /// The thread, started now if there is none. Where the system has none to give, the next line asks again.
        fn thread(&self) -> Option<&SyncSender<Line>> {
            if self.thread.get().is_none() {
                let (lines, to_tell) = sync_channel(MOST);
                let counted = Arc::clone(&self.lost);
                threads::named("backstay-log").spawn(move || tell(&to_tell, &counted)).ok()?;
                // Of several that were started at once one stays; a thread whose sender is dropped here ends.
                let _ = self.thread.set(Box::new(lines));
            }
            self.thread.get()
        }

        /// Whether all that was said so far is told.
        fn flush(&self, patience: Duration) -> bool {
            let (done, wait) = channel();
            self.tell(Box::new(move || {
                let _ = done.send(());
            }));
            wait.recv_timeout(patience).is_ok()
        }

        fn tell(&self, line: Line) {
            let Some(thread) = self.thread() else { return log_now(line) };
            if let Err(TrySendError::Full(_)) = thread.try_send(line) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn tell(lines: &Receiver<Line>, lost: &AtomicU64) {
        for line in lines {
            log_now(line);
            let lost = lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                log_now(|| tracing::warn!(target: "backstay", lost, "the log blocked, and lines were lost"));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Mutex;

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
            assert_eq!(teller.lost.load(Ordering::Relaxed), MOST as u64);
            drop(block);
            // Until the thread has taken a line out, there is no room for a flush.
            while !teller.flush(Duration::from_secs(60)) {}
            assert!(told.lock().unwrap().iter().copied().eq(0..MOST), "those there was room for, in order");
        }
    }
}
